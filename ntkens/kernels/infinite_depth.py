"""The limit of infinite depth: which classifier an infinitely wide and deep network is.

On the unit sphere, with the activation scaled to E[phi(Z)^2] = 1 and without biases, a layer maps
the cosine of two inputs by f(t) = E[phi(u) phi(v)], (u, v) standard normal with correlation t,
f(t) = sum_i a_i t^i with a_i >= 0 and f(1) = 1. Depth iterates f, and so the sign of
y' K_L(X, X)^-1 K_L(X, x) for L -> infinity is read off f at 0 and at 1. Radhakrishnan, Belkin and
Uhler 2023, arXiv:2204.14126. The kernels K_L themselves, at any depth, are in `deep`.
"""

import math
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from ntkens.kernels.dual import Dual, check_dual, normalised

Kind = Literal[
    "nearest_neighbour", "singular", "logarithmic", "majority", "flat", "linear", "constant"
]


class DepthLimit(NamedTuple):
    """What depth makes of an activation; f is the map of cosines at unit variance.

    With f(0) = 0 cosines tend to 0 and the diagonal outgrows the rest, for cosines in [0, 1):

    - "nearest_neighbour": f'(0) = 0. Kernels fall doubly exponentially, the nearest one last.
    - "singular": 0 < f'(0) < 1 < f'(1) < infinity. K_L / f'(0)^L grows like r^-exponent at small
      distance r: sign(sum_i y_i k(x, x_i)), consistent on S^d if the exponent is d.
    - "logarithmic": the same with f'(1) infinite, phi = sign for one: the singularity of the NNGP
      is weaker than any power, exponent 0, and there is no NTK.
    - "linear": f(t) = t. A linear model at every depth.

    With f(0) > 0 cosines tend to the fixed point in (0, 1]:

    - "majority": f'(1) >= 1. All pairs of different inputs become alike; the larger class wins.
    - "flat": f'(1) < 1. All pairs, the diagonal too, tend to one at the rate f'(1)^L, and what
      differs among them keeps its shape: an interpolant with a free intercept, not the majority.
    - "constant": f = 1. The kernel is of rank one and defines no interpolant.

    Attributes:
        kind: the limiting classifier.
        exponent: alpha = -2 ln f'(0) / ln f'(1), infinite for the nearest neighbour; None where
            nothing is singular.
        power: E[phi(Z)^2], by which the activation was scaled; 1 for a normalised one.
        value_at_zero: f(0) = E[phi]^2 / power.
        slope_at_zero: f'(0) = E[phi']^2 / power.
        slope_at_one: f'(1) = E[phi'^2] / power; the diagonal of the NTK is sum_(j<=L) f'(1)^j, and
            infinite means that phi has no weak derivative: there is an NNGP but no NTK.
        fixed_point: the cosine that attracts all of (-1, 1); of a linear network, where every
            cosine stays where it is, 0.
        rate: f'(fixed_point), by which the distance to it shrinks per layer; with 1, as
            a power of the depth.
    """

    kind: Kind
    exponent: float | None
    power: float
    value_at_zero: float
    slope_at_zero: float
    slope_at_one: float
    fixed_point: float
    rate: float


def limit(dual: Dual, *, tolerance: float | None = None) -> DepthLimit:
    """The classifier that an infinitely wide network becomes with depth, from its dual alone.

    The activation is scaled to E[phi(Z)^2] = 1 first. Departs from Theorem 1 of arXiv:2204.14126
    in naming the cases on its edges, "flat" among them, which has f(0) > 0 and is no majority.

    Args:
        dual: the activation, `dual.relu()` for one.
        tolerance: f(0) and f'(0) up to it are rounding and count as 0; f(0), f'(0) and f'(1) this
            near to 1 count as 1. Default: 100 times the machine epsilon of the default dtype,
            2e-14 in float64. A mean of phi below sqrt(tolerance) is thus taken for none, and
            the singular activation of S^92 for a nearest neighbour; an exact dual may have 0.

    Raises:
        ValueError: E[phi(Z)^2] is zero, infinite or NaN; or no activation has this dual, for
            f(0) + f'(0) <= 1 and f(0) + f'(1) >= 1 are broken.
        TypeError: this is no `Dual`.
    """
    check_dual(dual)
    epsilon = float(jnp.finfo(jnp.zeros(()).dtype).eps)
    tolerance = 100 * epsilon if tolerance is None else float(tolerance)
    if not 0 <= tolerance < 0.1:
        raise ValueError(f"tolerance: got {tolerance}; wants a small number, at least 0")
    value_and_slope, power = _value_and_slope(dual)
    value, low = (0.0 if abs(x) <= tolerance else x for x in value_and_slope(0.0))
    _, high = value_and_slope(1.0)
    value, low, high = (1.0 if abs(x - 1) <= tolerance else x for x in (value, low, high))
    slack = max(tolerance, 1000 * epsilon)
    if not (value >= 0 and low >= 0 and value + low <= 1 + slack and value + high >= 1 - slack):
        raise ValueError(
            f"dual: f(0) = {value:.6g}, f'(0) = {low:.6g} and f'(1) = {high:.6g} at unit variance; "
            "E[phi(u) phi(v)] of an activation is a power series with no coefficient below zero"
        )
    kind, exponent = _classify(value, low, high)
    fixed_point, rate = 0.0, low
    if value > 0:
        fixed_point, rate = 1.0, high
    if kind == "majority" and high > 1:
        fixed_point = _inner_fixed_point(value_and_slope, epsilon)
        rate = value_and_slope(fixed_point)[1]
    return DepthLimit(kind, exponent, power, value, low, high, fixed_point, rate)


@jax.ensure_compile_time_eval()
def _value_and_slope(dual: Dual):
    """cosine -> (f, f'), numbers also while JAX traces; and E[phi(Z)^2]."""
    one, zero = jnp.ones(()), jnp.zeros(())
    scaled, power = normalised(dual), float(dual.covariance(one, one, one, zero))

    @jax.ensure_compile_time_eval()
    def value_and_slope(cosine):
        point = (jnp.ones(()), jnp.ones(()), jnp.asarray(cosine), jnp.asarray(1 - abs(cosine)))
        return float(scaled.covariance(*point)), float(scaled.derivative(*point))

    return value_and_slope, power


def _classify(value: float, low: float, high: float) -> tuple[Kind, float | None]:
    """From f(0), f'(0) and f'(1), by which all is decided."""
    if value == 1:
        return "constant", None
    if value > 0:
        return ("flat" if high < 1 else "majority"), None
    if low == 1 or high == 1:
        return "linear", None
    if low == 0:
        return "nearest_neighbour", math.inf
    if high == math.inf:
        return "logarithmic", 0.0
    return "singular", -2 * math.log(low) / math.log(high)


def _inner_fixed_point(value_and_slope, epsilon: float) -> float:
    """The root of f(t) = t in (0, 1), by Newton from 0: f is convex, and so from below only."""
    point = 0.0
    for _ in range(200):
        value, slope = value_and_slope(point)
        step = (value - point) / (1 - slope)
        point += step
        if not step > 4 * epsilon * point:
            break
    return point
