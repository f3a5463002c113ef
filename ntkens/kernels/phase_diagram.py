"""The plane of (C_W, C_b): where the kernel of a deep network comes to rest, and in which phase.

At a fixed point K* = C_b + C_W <sigma^2>_(K*) two nearby inputs draw together where
chi_perpendicular < 1 (ordered) and part where it is above 1 (chaotic). The line between is known
in closed form along K*. Poole et al. 2016; Roberts, Yaida and Hanin 2022, arXiv:2106.10165,
chapter 5.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from ntkens.checks import check_float64
from ntkens.kernels import quadrature
from ntkens.kernels.criticality import Nonlinearity, susceptibilities

PHASES = ("ordered", "critical", "chaotic", "divergent", "unknown")
DECADES, PER_DECADE = 8, 100  # around the start, where fixed points are looked for


class CriticalLine(NamedTuple):
    """Points of the plane at which chi_perpendicular = 1 at the fixed point K*.

    Attributes:
        kernel: K*.
        bias_variance: C_b; below zero there is no such network.
        weight_variance: C_W.
        parallel: chi_parallel; the fixed point is stable where it is below 1, and a point with 1
            is critical.
    """

    kernel: Float[Array, " n"]
    bias_variance: Float[Array, " n"]
    weight_variance: Float[Array, " n"]
    parallel: Float[Array, " n"]


class PhaseDiagram(NamedTuple):
    """Fixed points on a grid of biases [b] and weights [w].

    Attributes:
        kernel: K*, infinite where the kernel diverges.
        parallel: chi_parallel there; NaN where the kernel diverges.
        perpendicular: chi_perpendicular, likewise.
        phase: index into `PHASES`; "unknown" where the quadrature ends before the flow does.
        converged: whether K* is one to 1e-10, or known to diverge.
    """

    kernel: Float[Array, "b w"]
    parallel: Float[Array, "b w"]
    perpendicular: Float[Array, "b w"]
    phase: Int[Array, "b w"]
    converged: Array


def critical_line(
    nonlinearity: Nonlinearity, kernel: Float[ArrayLike, " n"], *, skip: float = 0.0
) -> CriticalLine:
    """The line chi_perpendicular = 1, at given fixed points K*.

    C_W = (1 - skip^2) / <sigma'^2>_K and C_b = (1 - skip^2) K - C_W <sigma^2>_K.

    Raises:
        ValueError, TypeError: as `quadrature.expectation`.
    """
    kernel = quadrature.checked_variance("kernel", kernel)
    power = quadrature.expectation(
        lambda z: nonlinearity.apply(z) ** 2, kernel, kinks=nonlinearity.kinks
    )
    parallel, perpendicular = susceptibilities(nonlinearity, kernel, 1.0)
    weight_variance = (1 - skip**2) / perpendicular
    bias_variance = (1 - skip**2) * kernel - weight_variance * power
    return CriticalLine(
        kernel, bias_variance, weight_variance, skip**2 + weight_variance * parallel
    )


def phase_diagram(
    nonlinearity: Nonlinearity,
    bias_variances: Float[ArrayLike, " b"],
    weight_variances: Float[ArrayLike, " w"],
    *,
    start: float = 1.0,
    skip: float = 0.0,
    tolerance: float = 1e-6,
) -> PhaseDiagram:
    """Where the flow that starts at K^1 = `start` comes to rest, and its phase; compiled.

    The fixed point is the nearest root of K = skip^2 K + C_b + C_W <sigma^2>_K in the direction of
    the first step, which is where the flow ends if <sigma^2> grows with K. It is bracketed on a
    grid of 100 kernels per decade, eight decades up (beyond it counts as divergent) and eight down,
    and polished by Newton's method: no iteration slows down at criticality. Two roots within 2%
    of each other are passed over, and a drift below 2e-14 K per layer counts as rest.

    Args:
        nonlinearity: sigma.
        bias_variances: C_b >= 0.
        weight_variances: C_W >= 0.
        start: K^1 > 0.
        skip: of a residual layer z' = skip z + b + W sigma(z).
        tolerance: |chi_perpendicular - 1| up to it is "critical".

    Raises:
        ValueError: a variance is negative or not finite, not a vector; the start is not positive;
            or as `quadrature.expectation` at the start.
        TypeError: float64 is off.
    """
    check_float64("phase_diagram")
    biases = quadrature.checked_variance("bias_variances", bias_variances)
    weights = quadrature.checked_variance("weight_variances", weight_variances)
    if biases.ndim != 1 or weights.ndim != 1:
        raise ValueError(
            f"bias_variances, weight_variances: got shapes {biases.shape} and {weights.shape}; "
            "wants two vectors"
        )
    if not 0 < start < np.inf:
        raise ValueError(f"start: got {start}; a kernel to start from is positive and finite")
    susceptibilities(nonlinearity, float(start), 1.0)  # whose moments are not resolved says why
    biases, weights = biases.astype(jnp.float64), weights.astype(jnp.float64)
    return _diagram(nonlinearity, biases, weights, start, skip, tolerance)


@functools.partial(jax.jit, static_argnums=0)
def _diagram(nonlinearity, biases, weights, start, skip, tolerance) -> PhaseDiagram:
    steps = np.arange(-DECADES * PER_DECADE, DECADES * PER_DECADE + 1) / PER_DECADE
    kernels = start * jnp.asarray(np.concatenate([[0.0], 10**steps]), biases.dtype)
    origin = DECADES * PER_DECADE + 1

    def step(kernel):
        return quadrature.expectation_and_slope(
            lambda z: nonlinearity.apply(z) ** 2, kernel, kinks=nonlinearity.kinks
        )

    powers, _ = step(kernels)
    index = jnp.arange(len(kernels))

    def bracket(bias, weight):
        """Two neighbours among the kernels, and whether a root is there, nowhere or unknown."""
        drift = bias + weight * powers - (1 - skip**2) * kernels
        slack = 100 * jnp.finfo(kernels.dtype).eps * kernels
        up = drift[origin] > 0
        above = jnp.argmax((index > origin) & ~(drift > slack))
        below = len(index) - 1 - jnp.argmax(((index < origin) & ~(drift < -slack))[::-1])
        stop = jnp.where(up, above, below)
        rest = jnp.abs(drift[origin]) <= slack[origin]
        stop = jnp.where(rest, origin, stop)
        other = jnp.clip(jnp.where(rest, origin, jnp.where(up, stop - 1, stop + 1)), 0)
        divergent = up & ~rest & (above == 0)
        settled = drift[stop] == 0
        return kernels[stop], kernels[other], divergent, settled | rest, jnp.isnan(drift[stop])

    def row(bias):
        end, inner, divergent, settled, unknown = jax.vmap(bracket, (None, 0))(bias, weights)
        low, high = jnp.minimum(end, inner), jnp.maximum(end, inner)

        def polish(kernel, _):
            power, slope = step(kernel)
            drift = bias + weights * power - (1 - skip**2) * kernel
            growth = weights * slope - (1 - skip**2)
            moved = jnp.clip(kernel - drift / jnp.where(growth == 0, 1, growth), low, high)
            return jnp.where(settled, end, moved), None

        kernel, _ = jax.lax.scan(polish, jnp.where(settled, end, inner), length=8)
        power, _ = step(kernel)
        drift = bias + weights * power - (1 - skip**2) * kernel
        converged = jnp.abs(drift) <= 1e-10 * (kernel + bias)
        parallel, perpendicular = susceptibilities(nonlinearity, kernel, weights, skip=skip)
        phase = jnp.where(perpendicular > 1 + tolerance, 2, 1)
        phase = jnp.where(perpendicular < 1 - tolerance, 0, phase)
        phase = jnp.where(divergent, 3, jnp.where(unknown, 4, phase))
        gone = divergent | unknown
        return PhaseDiagram(
            jnp.where(divergent, jnp.inf, jnp.where(unknown, jnp.nan, kernel)),
            jnp.where(gone, jnp.nan, parallel),
            jnp.where(gone, jnp.nan, perpendicular),
            phase,
            jnp.where(gone, divergent, converged),
        )

    return jax.lax.map(row, biases)
