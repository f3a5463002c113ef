"""The acute angle psi between two vectors from their versine v = 1 - cos psi, as polynomials.

    psi = 2 arcsin sqrt(v / 2) = sqrt(2 v) P(v),      P(v) = sum_k p_k v^k,
    sin psi - psi cos psi = sqrt(2 v) v Q(v),         Q(v) = sum_k p_k v^k / (k + 3/2),
    p_k = C(2k, k) / ((2k + 1) 8^k),

since the derivative of the second in v is psi. All terms are positive, so nothing cancels and
both keep their relative accuracy down to v = 0. The series, summed far past the rounding of
float64, are cut to the degree that the dtype needs by economisation (Lanczos 1938): the leading
Chebyshev polynomial of [0, 1] is taken off until a term more would show. A library's arc-cosine
costs a division, a branch and an arc-tangent; these cost one square root and run in vector units.
"""

import functools
from fractions import Fraction
from math import comb

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

TERMS = 64  # the first term left out is 3e-23 at v = 1
DEGREES = {2: 4, 4: 7, 8: 18}  # by bytes of the dtype: truncation below a quarter of its epsilon


@jax.custom_jvp
def angle(versine: Float[Array, "..."]) -> Float[Array, "..."]:
    """psi in [0, pi/2] from v = 1 - cos psi in [0, 1].

    Its derivative, 1 / sin psi, is given as 0 at 0: the symmetric one at a coincidence, where the
    angle between two moving points has a kink.
    """
    return jnp.sqrt(2 * versine) * _polynomial(0, versine)


@angle.defjvp
def _(primals, tangents):
    (versine,), (dversine,) = primals, tangents
    square = versine * (2 - versine)
    sine = jnp.sqrt(jnp.where(square > 0, square, 1))
    return angle(versine), jnp.where(square > 0, dversine / sine, 0)


@jax.custom_jvp
def sine_less_arc(versine: Float[Array, "..."]) -> Float[Array, "..."]:
    """sin psi - psi cos psi = psi^3 / 3 - ..., psi in [0, pi/2], from v = 1 - cos psi."""
    return jnp.sqrt(2 * versine) * versine * _polynomial(1, versine)


@sine_less_arc.defjvp
def _(primals, tangents):
    (versine,), (dversine,) = primals, tangents
    return sine_less_arc(versine), angle(versine) * dversine


def _polynomial(integrals: int, versine):
    """P (no integral) or Q (one), by Horner's rule."""
    *rest, leading = economised(integrals, DEGREES[versine.dtype.itemsize])
    total = jnp.full_like(versine, leading)
    for coefficient in reversed(rest):
        total = total * versine + coefficient
    return total


@functools.cache
def economised(integrals: int, degree: int) -> tuple[float, ...]:
    """The coefficients of P or Q on [0, 1] at a degree, in exact arithmetic until the end."""
    series = [Fraction(comb(2 * k, k), (2 * k + 1) * 8**k) for k in range(TERMS)]
    if integrals:
        series = [term / (k + Fraction(3, 2)) for k, term in enumerate(series)]
    while len(series) > degree + 1:
        chebyshev = _shifted_chebyshev(len(series) - 1)
        scale = series[-1] / chebyshev[-1]
        series = [term - scale * other for term, other in zip(series[:-1], chebyshev, strict=False)]
    return tuple(float(term) for term in series)


@functools.cache
def _shifted_chebyshev(degree: int) -> list[int]:
    """Integer coefficients of T_n(2 v - 1), by the three-term recurrence."""
    if degree < 2:
        return [[1], [-1, 2]][degree]
    one, two = np.array(_shifted_chebyshev(degree - 1), object), _shifted_chebyshev(degree - 2)
    following = np.zeros(degree + 1, object)
    following[1:] += 4 * one
    following[:-1] -= 2 * one
    following[: degree - 1] -= two
    return following.tolist()
