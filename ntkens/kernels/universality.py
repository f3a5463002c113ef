"""Universality classes of activations: how a critical kernel moves with depth, in a few numbers.

What a deep network at criticality does depends on its activation only through a class and a few
coefficients. Roberts, Yaida and Hanin 2022, arXiv:2106.10165, chapter 5; vertices, chapter 4.

In every class the four-point vertex, V^(l+1) = chi_parallel^2 V^l + C_W^2 (<sigma^4> - <sigma^2>^2)
with V^1 = 0, comes to V^l -> growth * l (K^l)^2. A residual layer z' = s z + b + W sigma(z) with
w = 1 - s^2 has the point (w C_b, w C_W, K*), and in place of nu, the growth of V / K^2 per layer at
a kernel that stands still,

    w^2 nu + 4 s^2 w + 4 s (1 + s) w tau,    tau = <z sigma^2> <sigma sigma'> / (K <sigma'^2>)^2.

The second term is the covariance of z_i^2 with the power that neuron i itself sends to its
neighbours; the third comes from E[z_i z_j^2], which settles at s C_W <z sigma^2> / (1 - s) in units
of 1 / width (derived in `finite_width.four_point_vertex`). tau is 0 where sigma^2 is even.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ntkens.kernels import quadrature

KERNELS = np.logspace(-6, 4, 256)  # where a critical point is looked for


class ScaleInvariant(NamedTuple):
    """sigma(z) = a z above 0 and b z below: every kernel stands still.

    Attributes:
        slopes: (a, b).
        growth: nu = 3 A_4 / A_2^2 - 1, A_k = (a^k + b^k) / 2, so that V^l = nu (l - 1) K^2: 5 for
            ReLU, 2 for a linear network.
    """

    slopes: tuple[float, float]
    growth: float


class Vanishing(NamedTuple):
    """A critical point at K = 0: near it K' = K + a K^(1+s), chi_perpendicular = 1 + b K^s.

    With slopes, second and third derivatives sigma_1+-, sigma_2+-, sigma_3+- on both sides of 0
    and A_2 the mean of sigma_1^2: if sigma_1 sigma_2 jumps at 0, then s = 1/2 and

        a = b = sqrt(2/pi) (sigma_1+ sigma_2+ - sigma_1- sigma_2-) / A_2,

    as for ELU; otherwise s = 1, a = mean(3/4 sigma_2^2 + sigma_1 sigma_3) / A_2 and
    b = mean(sigma_2^2 + sigma_1 sigma_3) / A_2, of a smooth activation the a_1 and b_1 of the book.
    With a < 0 depth drives the kernel to zero, K^l -> (-a s l)^(-1/s), chi_parallel ->
    1 - (1 + 1/s)/l and chi_perpendicular -> 1 - (b / a s)/l. With a > 0 the point repels. With
    a = 0 the kernel stands still in this order, as for a network that is linear around 0.

    Attributes:
        power: s.
        drift: a.
        perpendicular: b.
        growth: of the vertex, nu/3 with nu = 3 A_4 / A_2^2 - 1, for every s (derived here from the
            recursion: K ~ l^(-1/s) and chi_parallel give V = v l K^2 with 3 v = nu); 2/3 for equal
            slopes. NaN unless a < 0.
    """

    power: float
    drift: float
    perpendicular: float
    growth: float


class HalfStable(NamedTuple):
    """A critical point at K* > 0, with d = K - K*: d' = d + c d^2.

    It attracts from the side where c d < 0, as d^l -> -1/(c l), and repels on the other.

    Attributes:
        curvature: c = (C_W / 2) d^2 <sigma^2> / dK^2.
        perpendicular: d chi_perpendicular / dK.
        growth: nu = C_W^2 (<sigma^4> - <sigma^2>^2) / K*^2 of a network that starts at K*; of one
            that tends to it, chi_parallel -> 1 - 2/l and the growth is nu/5.
    """

    curvature: float
    perpendicular: float
    growth: float


def scale_invariant_slopes(apply: Callable[[Array], Array]) -> tuple[float, float] | None:
    """(a, b) if sigma(z) is a z above 0 and b z below, for |z| from 1e-6 to 1e6; else None."""
    z = np.logspace(-6, 6, 241)  # 1 is one of them
    values = np.asarray(apply(jnp.asarray(np.concatenate([-z, [0.0], z]))))
    below, zero, above = values[:241] / -z, values[241], values[242:] / z
    one = len(z) // 2
    straight = all(
        np.all(np.abs(side - side[one]) <= 1e-12 * np.abs(side[one])) for side in (above, below)
    )
    return (float(above[one]), float(below[one]) + 0.0) if straight and zero == 0 else None


def vertex_growth(slopes: tuple[float, float], skip: float) -> float:
    """Of two slopes and a skip s, with nu = 3 A_4 / A_2^2 - 1, tau = (a^2 - b^2)^2 / pi A_2^2."""
    second, fourth = (sum(slope**power for slope in slopes) / 2 for power in (2, 4))
    tilt = (slopes[0] ** 2 - slopes[1] ** 2) ** 2 / math.pi / second**2
    return with_skip(3 * fourth / second**2 - 1, tilt, skip)


def with_skip(growth: float, tilt: float, skip: float) -> float:
    """The growth of the vertex of a residual layer, of nu and tau of its branch alone."""
    branch = 1 - skip**2
    return branch**2 * growth + 4 * skip * branch * (skip + (1 + skip) * tilt)


def vanishing(
    apply: Callable[[Array], Array], derivative: Callable[[Array], Array], skip: float
) -> tuple[float, Vanishing] | None:
    """A_2 and the coefficients of the point K = 0; None if sigma has none there."""
    above, below = _sides(apply, derivative)
    if not np.isfinite([above[:2], below[:2]]).all() or abs(above[0]) + abs(below[0]) > 1e-200:
        return None
    power = (above[1] ** 2 + below[1] ** 2) / 2
    if not power > 1e-200:  # a root of z has a slope at 1e-300
        return None
    jump = math.sqrt(2 / math.pi) * (above[1] * above[2] - below[1] * below[2]) / power
    branch = 1 - skip**2
    if abs(jump) > 1e-12:
        order, drift, perpendicular = 0.5, branch * jump, branch * jump
    else:
        bend = (above[2] ** 2 + below[2] ** 2) / 2
        product = (above[1] * above[3] + below[1] * below[3]) / 2
        order, drift = 1.0, branch * (0.75 * bend + product) / power
        perpendicular = branch * (bend + product) / power
    growth = vertex_growth((above[1], below[1]), skip) / 3 if drift < 0 else math.nan
    return power, Vanishing(order, drift, perpendicular, growth)


def _sides(apply, derivative) -> tuple[list[float], ...]:
    """sigma and its first three derivatives just above and just below 0."""

    def differentiated(function):
        return lambda z: jax.jvp(function, (z,), (jnp.ones_like(z),))[1]

    @jax.jit
    def table(z):
        second = differentiated(derivative)
        orders = (apply, derivative, second, differentiated(second))
        return jnp.stack([order(z) for order in orders], axis=-1)

    return tuple(side.tolist() for side in np.asarray(table(jnp.array([1e-300, -1e-300]))))


def half_stable(
    apply: Callable[[Array], Array],
    derivative: Callable[[Array], Array],
    kinks: tuple[float, ...],
    skip: float,
) -> tuple[float, float, float, HalfStable] | str:
    """K*, C_b, C_W and the coefficients of the critical point at the smallest K > 0, or why none.

    The root of chi_parallel / chi_perpendicular = 1, on a grid and on ever finer ones.
    """

    @jax.jit
    def moments(kernel):
        """<sigma^2>, <sigma'^2> and chi_parallel / chi_perpendicular - 1."""
        power, slope = quadrature.expectation_and_slope(_square(apply), kernel, kinks=kinks)
        perpendicular = quadrature.expectation(_square(derivative), kernel, kinks=kinks)
        return power, perpendicular, slope / perpendicular - 1

    powers, perpendiculars, excess = (np.asarray(each) for each in moments(KERNELS))
    known = np.isfinite(excess)
    if not known.any():
        return "sigma' vanishes: chi_perpendicular = 0"
    biases = (KERNELS - powers / perpendiculars)[known]
    if np.all(np.abs(excess[known]) < 1e-10):
        return (
            "chi_parallel = chi_perpendicular at every K, but a fixed point there wants "
            f"C_b = {biases[-1]:.3g} < 0"
        )
    off = np.abs(excess) > 1e-13  # less is rounding, where sigma is linear
    crossings = np.flatnonzero(off[:-1] & off[1:] & (excess[:-1] * excess[1:] < 0))
    rejected = []
    for index in crossings:
        kernel = _refine(lambda kernels: np.asarray(moments(kernels)[2]), index)
        power, perpendicular, _ = (float(each[0]) for each in moments(kernel + 0 * KERNELS))
        bias = kernel - power / perpendicular
        if bias >= 0:
            branch = 1 - skip**2
            weight = branch / perpendicular
            coefficients = _half_stable(apply, derivative, kinks, kernel, weight, skip)
            return kernel, branch * bias, weight, coefficients
        rejected.append(f"at K = {kernel:.6g}, where both are 1, C_b would be {bias:.3g} < 0")
    if rejected:
        return "; ".join(rejected)
    sign = "<" if np.all(excess[known] < 1e-10) else ">"
    low, high = KERNELS[known][[0, -1]]
    return f"chi_parallel {sign} chi_perpendicular at every K from {low:.0e} to {high:.0e}"


def roughness(
    apply: Callable[[Array], Array],
    derivative: Callable[[Array], Array],
    kinks: tuple[float, ...],
) -> str | None:
    """Why <sigma'^2> is infinite, if sigma jumps at a kink or its slope grows without bound."""
    for kink in sorted({0.0, *kinks}):
        step = max(1.0, abs(kink))
        z = kink + step * jnp.array([-1e-10, 1e-10, -1e-5, 1e-5])
        values, slopes = np.asarray(apply(z)), np.abs(np.asarray(derivative(z)))
        if abs(values[1] - values[0]) > max(1e-8, abs(values[3] - values[2]) / 2):
            return f"sigma jumps at {kink:g}: chi_perpendicular is infinite"
        if not slopes[:2].max() <= 1 + 3 * slopes[2:].max():
            return f"sigma' grows without bound at {kink:g}: chi_perpendicular is infinite"
    return None


def _refine(excess, index) -> float:
    """The root between two of `KERNELS`, by grids of as many points between ever nearer ends."""
    kernels = KERNELS[index : index + 2]
    values = np.zeros(2)
    for _ in range(4):
        kernels = np.linspace(kernels[0], kernels[-1], len(KERNELS))
        values = excess(kernels)
        first = np.argmax(values * values[0] <= 0)
        kernels, values = kernels[first - 1 : first + 1], values[first - 1 : first + 1]
    return float(kernels[0] - values[0] * (kernels[1] - kernels[0]) / (values[1] - values[0]))


def _half_stable(apply, derivative, kinks, kernel, weight, skip) -> HalfStable:
    """From d^k <F>_K / dK^k = <F He_2k(z / sqrt(K))> / (2K)^k, which asks nothing of F."""
    square, slope_square = _square(apply), _square(derivative)

    @jax.jit
    def moments(kernel):
        def mean(function):
            return quadrature.expectation(function, kernel, kinks=kinks)

        bend = mean(lambda z: square(z) * ((z**2 / kernel - 6) * z**2 / kernel + 3))
        tilt = mean(lambda z: slope_square(z) * (z**2 / kernel - 1))
        spread = mean(lambda z: square(z) ** 2) - mean(square) ** 2
        mixed = mean(lambda z: z * square(z)) * mean(lambda z: apply(z) * derivative(z))
        return bend / (2 * kernel) ** 2, tilt / (2 * kernel), spread, mixed

    second, perpendicular, spread, mixed = map(float, moments(kernel))
    unit = (weight / (1 - skip**2) / kernel) ** 2
    growth = with_skip(unit * spread, unit * mixed, skip)
    return HalfStable(weight * second / 2, weight * perpendicular, growth)


def _square(function):
    return lambda z: function(z) ** 2
