"""Dual activations: what an activation is to a network of infinite width.

A layer of infinite width sees its activation phi only through Gaussian moments. For (u, v)
centred Gaussian with variances q1, q2 and covariance c, a `Dual` holds the closed forms of
E[phi(u) phi(v)] and E[phi'(u) phi'(v)].

Beside the covariance goes the `gap` g = sqrt(q1 q2) - |c|, the distance to perfect (anti-)
correlation. Near duplicates have g << c, and forming g by subtraction leaves sqrt(eps) of the
angle between them, which the kink of a ReLU passes on to the NTK. A caller that knows g better
passes it; `None` means: by subtraction. `Dual.gap` carries it on to the next layer.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ntkens.kernels.arc_cosine import angle, sine_less_arc

Moment = Callable[..., Array]
"""`moment(variance1, variance2, covariance, gap=None)`: arrays that broadcast at equal rank."""


class Dual(NamedTuple):
    """The Gaussian moments of an activation phi.

    Attributes:
        covariance: `(variance1, variance2, covariance, gap=None)` -> E[phi(u) phi(v)].
        derivative: the same for the derivative, E[phi'(u) phi'(v)].
        gap: the same for sqrt(E[phi(u)^2] E[phi(v)^2]) - |E[phi(u) phi(v)]|.
        cosine: the map of cosines it induces at unit variance, rho -> E[phi(u) phi(v)] / E[phi^2].
        slopes: (a, b) if phi(x) is a x above 0 and b x below, else None: such a network knows no
            scale, and without biases its kernels are functions of the angle (see `angular`).
    """

    covariance: Moment
    derivative: Moment
    gap: Moment
    cosine: Callable[[Float[Array, "..."]], Float[Array, "..."]]
    slopes: tuple[float, float] | None = None


def from_moments(covariance: Moment, derivative: Moment, gap: Moment | None = None) -> Dual:
    """A `Dual` from its two moments.

    Without `gap` it is formed by subtraction: enough for a smooth activation, whose moments do
    not feel an error of sqrt(eps) in the angle.
    """

    def subtracted_gap(variance1, variance2, moment, gap=None):
        power1 = covariance(variance1, variance1, variance1, jnp.zeros_like(variance1))
        power2 = covariance(variance2, variance2, variance2, jnp.zeros_like(variance2))
        difference = _mean(power1, power2) - magnitude(
            covariance(variance1, variance2, moment, gap)
        )
        return jnp.where(difference < 0, 0, difference)  # Cauchy-Schwarz: below zero is rounding

    def cosine(rho):
        one = jnp.ones_like(rho)
        return covariance(one, one, rho) / covariance(one, one, one, jnp.zeros_like(rho))

    return Dual(covariance, derivative, gap or subtracted_gap, cosine)


def check_dual(dual) -> None:
    """A `TypeError` unless this is one: `dual.relu` without its brackets is not."""
    if not isinstance(dual, Dual):
        raise TypeError(
            f"dual: got {getattr(dual, '__name__', repr(dual))}; want a `Dual`, as `dual.relu()` "
            "makes one"
        )


def normalised(dual: Dual) -> Dual:
    """The dual of phi / sqrt(E[phi(Z)^2]), Z standard normal: unit variance stays unit variance.

    Raises:
        TypeError: this is no `Dual`.
        ValueError: E[phi(Z)^2] is 0, infinite or NaN.
    """
    check_dual(dual)
    one = jnp.ones(())
    power = float(dual.covariance(one, one, one, jnp.zeros(())))
    if not power > 0 or not math.isfinite(power):
        raise ValueError(f"dual: E[phi(Z)^2] is {power}; only a positive finite one can be scaled")

    def scaled(moment):
        return lambda *arguments, **keywords: moment(*arguments, **keywords) / power

    moments = scaled(dual.covariance), scaled(dual.derivative), scaled(dual.gap)
    slopes = dual.slopes
    if slopes is not None:
        slopes = (slopes[0] / math.sqrt(power), slopes[1] / math.sqrt(power))
    return Dual(*moments, dual.cosine, slopes)


def relu() -> Dual:
    """max(x, 0): the arc-cosine kernel of order 1.

    With theta the angle, E[phi phi] = sqrt(q1 q2) [sin theta + (pi - theta) cos theta] / 2 pi and
    E[phi' phi'] = (pi - theta) / 2 pi. Cho and Saul 2009, Eqs. (3)-(6).
    """
    return _piecewise_linear(1.0, 0.0)


def leaky_relu(negative_slope: float = 0.01) -> Dual:
    """x for x > 0, `negative_slope` x below."""
    if not math.isfinite(negative_slope):
        raise ValueError(f"negative_slope: got {negative_slope}; want a finite number")
    return _piecewise_linear(1.0, float(negative_slope))


def abs() -> Dual:
    """|x|."""
    return _piecewise_linear(1.0, -1.0)


def linear() -> Dual:
    """The identity: a linear layer."""
    return _piecewise_linear(1.0, 1.0)


def erf() -> Dual:
    """The error function.

    E[phi phi] = (2/pi) arcsin(2c / sqrt((1 + 2 q1)(1 + 2 q2))), Williams 1997, Eq. (11), and
    E[phi' phi'] = (4/pi) / sqrt((1 + 2 q1)(1 + 2 q2) - 4 c^2).
    """

    def spread(variance1, variance2, covariance, gap):
        scale, gap = _scale_and_gap(variance1, variance2, covariance, gap)
        return _norm_and_spread(2 * variance1, 2 * variance2, 2 * scale, 2 * gap)[1]

    def covariance_(variance1, variance2, covariance, gap=None):
        cosine = spread(variance1, variance2, covariance, gap)
        return (2 / math.pi) * jnp.arctan2(2 * covariance, cosine)

    def derivative(variance1, variance2, covariance, gap=None):
        return (4 / math.pi) / spread(variance1, variance2, covariance, gap)

    return from_moments(covariance_, derivative)


def sin() -> Dual:
    """sin(x): E[phi phi] = exp(-(q1 + q2)/2) sinh(c), E[phi' phi'] = exp(-(q1 + q2)/2) cosh(c).

    (q1 + q2)/2 - |c| = (sqrt q1 - sqrt q2)^2 / 2 + g, and so no exponent is ever above zero.
    """

    def decay(variance1, variance2, covariance, gap):
        _, gap = _scale_and_gap(variance1, variance2, covariance, gap)
        return jnp.exp(-((root(variance1) - root(variance2)) ** 2) / 2 - gap) / 2

    def covariance_(variance1, variance2, covariance, gap=None):
        growth = -jnp.expm1(-2 * magnitude(covariance))
        growth = jnp.where(covariance >= 0, growth, -growth)
        return decay(variance1, variance2, covariance, gap) * growth

    def derivative(variance1, variance2, covariance, gap=None):
        growth = 1 + jnp.exp(-2 * magnitude(covariance))
        return decay(variance1, variance2, covariance, gap) * growth

    return from_moments(covariance_, derivative)


def gelu() -> Dual:
    """x Phi(x), with Phi the standard normal distribution function (the exact GELU).

    With N^2 = (1 + q1)(1 + q2), S^2 = N^2 - c^2 and
    P = E[Phi(u) Phi(v)] = 1/4 + arcsin(c / N) / 2 pi, Stein's lemma gives
    E[phi phi] = c P + [(c/N)^2 / S + S q1 q2 / N^2] / 2 pi and
    E[phi' phi'] = P + c [1/(1 + q1) + 1/(1 + q2) + 1/S^2] / (2 pi S).
    """

    def covariance_(variance1, variance2, covariance, gap=None):
        scale, gap = _scale_and_gap(variance1, variance2, covariance, gap)
        norm, spread = _norm_and_spread(variance1, variance2, scale, gap)
        quadrant = 0.25 + jnp.arctan2(covariance, spread) / (2 * math.pi)
        bend = (covariance / norm) ** 2 / spread + spread * (scale / norm) ** 2
        return covariance * quadrant + bend / (2 * math.pi)

    def derivative(variance1, variance2, covariance, gap=None):
        scale, gap = _scale_and_gap(variance1, variance2, covariance, gap)
        _, spread = _norm_and_spread(variance1, variance2, scale, gap)
        quadrant = 0.25 + jnp.arctan2(covariance, spread) / (2 * math.pi)
        inverses = 1 / (1 + variance1) + 1 / (1 + variance2) + 1 / spread**2
        return quadrant + covariance / spread * inverses / (2 * math.pi)

    return from_moments(covariance_, derivative)


def monomial(degree: int) -> Dual:
    """x^p: E[u^p v^p] = sum_j j! C(p, j)^2 ((p-j-1)!!)^2 (q1 q2)^((p-j)/2) c^j, p - j even."""
    if not isinstance(degree, int | np.integer) or degree < 1:
        raise ValueError(f"degree: got {degree}; a monomial has an integer degree of at least 1")

    def moment(degree, variance1, variance2, covariance):
        total = jnp.zeros_like(variance1 * variance2 * covariance)
        for power in range(degree % 2, degree + 1, 2):
            pairs = (degree - power) // 2
            rest = math.factorial(degree - power) // (2**pairs * math.factorial(pairs))
            weight = math.factorial(power) * (math.comb(degree, power) * rest) ** 2
            total = total + weight * (variance1 * variance2) ** pairs * covariance**power
        return total

    def covariance_(variance1, variance2, covariance, gap=None):
        return moment(degree, variance1, variance2, covariance)

    def derivative(variance1, variance2, covariance, gap=None):
        return degree**2 * moment(degree - 1, variance1, variance2, covariance)

    return from_moments(covariance_, derivative)


def magnitude(covariance: Float[Array, "..."]) -> Float[Array, "..."]:
    """|c| with derivative 1 at 0, where the moments below take the branch c >= 0."""
    return jnp.where(covariance >= 0, covariance, -covariance)


def _piecewise_linear(above: float, below: float) -> Dual:
    """`above` x for x > 0, `below` x for x < 0: all moments in the acute angle psi and sign of c.

    With s(psi) = sin psi - psi cos psi and m = sqrt(q1 q2), every term is free of cancellation:
    E[phi phi] = (a-b)^2 m s / 2 pi + |c| (a^2 + b^2)/2 for c >= 0, and - a b |c| for c < 0.
    """
    power = (above**2 + below**2) / 2
    kink = (above - below) ** 2 / (2 * math.pi)

    def covariance_(variance1, variance2, covariance, gap=None):
        scale, versine = _versine(variance1, variance2, covariance, gap)
        line = jnp.where(covariance >= 0, power, above * below) * covariance
        return line + kink * scale * sine_less_arc(versine)

    def derivative(variance1, variance2, covariance, gap=None):
        _, versine = _versine(variance1, variance2, covariance, gap)
        turn = kink * angle(versine)
        return jnp.where(covariance >= 0, power - turn, above * below + turn)

    def gap_(variance1, variance2, covariance, gap=None):
        scale, versine = _versine(variance1, variance2, covariance, gap)
        bend = kink * sine_less_arc(versine)
        opposed = power - bend  # c < 0: the moment is scale * (bend - a b (1 - versine))
        if above * below:
            opposed = jnp.where(
                bend >= above * below * (1 - versine),
                (above + below) ** 2 / 2 - above * below * versine - bend,
                (above - below) ** 2 / 2 + above * below * versine + bend,
            )
        return scale * jnp.where(covariance >= 0, power * versine - bend, opposed)

    it = from_moments(covariance_, derivative, gap_)
    return it._replace(slopes=(above, below))


def _mean(variance1, variance2):
    """sqrt(q1 q2), the geometric mean.

    Of the roots: the product leaves the range of float32 at variances of 1e19 and 1e-19, and in a
    matrix of pairs roots of a row and of a column cost less than one of each pair.
    """
    return root(variance1) * root(variance2)


def _scale_and_gap(variance1, variance2, covariance, gap):
    """sqrt(q1 q2), and the gap, by subtraction if it is not known better."""
    scale = _mean(variance1, variance2)
    return scale, scale - magnitude(covariance) if gap is None else gap


def _norm_and_spread(variance1, variance2, scale, gap):
    """N = sqrt((1 + q1)(1 + q2)) and sqrt(N^2 - c^2), whose squares may overflow."""
    norm = _mean(1 + variance1, 1 + variance2)
    square = (1 + variance1 + variance2) / norm + gap * ((2 * scale - gap) / norm)  # over N
    return norm, jnp.sqrt(norm) * jnp.sqrt(square)


def _versine(variance1, variance2, covariance, gap):
    """sqrt(q1 q2) and 1 - cos psi, psi in [0, pi/2] the acute angle; 0 where a variance is 0."""
    scale, gap = _scale_and_gap(variance1, variance2, covariance, gap)
    versine = gap * _inverse_root(variance1) * _inverse_root(variance2)
    return scale, jnp.where(versine < 0, 0, versine)  # below zero is rounding


def _inverse_root(variance):
    """1 / sqrt(q), and 0 at 0: of a row or a column, so that no pair needs a division."""
    return jnp.where(variance > 0, 1 / root(jnp.where(variance > 0, variance, 1)), 0)


@jax.custom_jvp
def root(x):
    """The square root, with derivative 0 at 0: the symmetric one of sqrt(q1 q2) at a zero input."""
    return jnp.sqrt(x)


@root.defjvp
def _(primals, tangents):
    (x,), (dx,) = primals, tangents
    return root(x), jnp.where(x > 0, dx / (2 * root(jnp.where(x > 0, x, 1))), 0)
