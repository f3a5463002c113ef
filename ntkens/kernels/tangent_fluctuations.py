"""The tangent kernel of random networks: its mean in any layer, and how finite width shakes it.

With learning rates lambda_b of biases and lambda_W / n_{l-1} of weights, the tangent kernel of
z^{l+1} = b + W sigma(z^l) is, for outputs i and j at one input,

    Theta_ij^{l+1} = delta_ij (lambda_b + lambda_W mean(sigma^2))
                     + sum_kk' W_ik W_jk' sigma'_k sigma'_k' Theta_kk'^l.

Given the layer below, Theta_ii has mean H and, to leading order in the width n and for i != j,

    Var(H) = A / n,    E[Theta_ij^2] = B / n,    Cov(G, H) = D / n,    E[z_i z_j Theta_ij] = F / n,

which makes Var(Theta_ii) = (A + 2B) / n and Cov(z_i^2, Theta_ii) = (D + 2F) / n. Notation, and the
variance G of outputs, as in `finite_width`. Roberts, Yaida and Hanin 2022, arXiv:2106.10165,
chapters 8 and 9; Monte Carlo: `models.preactivation_tangents`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ntkens.kernels import Kernel
from ntkens.kernels.criticality import Nonlinearity
from ntkens.kernels.dual import Dual
from ntkens.kernels.finite_width import (
    checked_layers,
    checked_means,
    derivative_of_mean,
    width_ratios,
)


class TangentFluctuations(NamedTuple):
    """Statistics of outputs and tangent kernel at each layer l = 1, ..., L; n is n_{l-1}.

    Attributes:
        kernel: K, E[z_i^2] at infinite width.
        tangent: Theta, E[Theta_ii] at infinite width.
        shift: E[Theta_ii] - Theta, to order 1 / n.
        four_point: V = n Var(G).
        diagonal: A = n Var(H).
        exchange: B = n E[Theta_ij^2].
        mixed: D = n Cov(G, H).
        mixed_exchange: F = n E[z_i z_j Theta_ij].
    """

    kernel: Float[Array, " depth"]
    tangent: Float[Array, " depth"]
    shift: Float[Array, " depth"]
    four_point: Float[Array, " depth"]
    diagonal: Float[Array, " depth"]
    exchange: Float[Array, " depth"]
    mixed: Float[Array, " depth"]
    mixed_exchange: Float[Array, " depth"]


def tangent_kernels(
    dual: Dual,
    covariance: Float[Array, "n n"],
    bias_variance: float,
    weight_variance: float,
    depth: int,
    *,
    bias_rate: Float[Array, " depth"] | float = 1.0,
    weight_rate: Float[Array, " depth"] | float = 1.0,
) -> Kernel:
    """Kernel and mean tangent kernel of all layers at infinite width, for any rates.

    Theta^{l+1} = lambda_b + lambda_W <sigma sigma> + C_W <sigma' sigma'> Theta^l, from
    Theta^1 = lambda_b + lambda_W (K^1 - C_b) / C_W. With lambda_b = C_b and lambda_W = C_W it is
    the NTK of `fully_connected`, which is the one for many inputs: here pairs that are nearer than
    sqrt(eps) in angle lose digits to a kink. At a critical scale-invariant activation and constant
    rates Theta grows as the depth; in the class K* = 0 rates lambda_b of 1 / l give all layers the
    same share of it (the book's principle of equivalence).

    Args:
        dual: the activation; `quadrature.dual` makes one of any.
        covariance: K^1 of the inputs, in the first layer.
        bias_variance: C_b.
        weight_variance: C_W, above 0.
        depth: L, layers of preactivations.
        bias_rate: lambda_b, of all layers or of each.
        weight_rate: lambda_W, the same.

    Returns:
        The kernels with a leading axis of layers, [depth n n].

    Raises:
        ValueError: a covariance that is not square; a depth below 1; rates of another length.
    """
    covariance = jnp.asarray(covariance)
    if covariance.ndim != 2 or covariance.shape[0] != covariance.shape[1]:
        raise ValueError(f"covariance: got shape {covariance.shape}; want [inputs inputs]")
    rates = _rates(bias_rate, weight_rate, depth, covariance.dtype)
    same = jnp.eye(len(covariance), dtype=bool)

    def step(carry, rates):
        covariance, tangent = carry
        bias_rate, weight_rate = rates
        root = jnp.sqrt(jnp.diagonal(covariance))
        gap = jnp.where(same, 0, root[:, None] * root[None, :] - jnp.abs(covariance))
        pairs = root[:, None] ** 2, root[None, :] ** 2, covariance, jnp.where(gap < 0, 0, gap)
        power = dual.covariance(*pairs)
        tangent = (
            bias_rate + weight_rate * power + weight_variance * dual.derivative(*pairs) * tangent
        )
        covariance = bias_variance + weight_variance * power
        return (covariance, tangent), (covariance, tangent)

    first = rates[0][0] + rates[1][0] * (covariance - bias_variance) / weight_variance
    later = [rate[1:] for rate in rates]
    _, layers = jax.lax.scan(step, (covariance, first), later)
    return Kernel(
        *(
            jnp.concatenate([start[None], rest])
            for start, rest in zip((covariance, first), layers, strict=True)
        )
    )


def tangent_fluctuations(
    nonlinearity: Nonlinearity,
    kernel: Float[Array, ""] | float,
    bias_variance: float,
    weight_variance: float,
    widths: Sequence[int] | Array,
    *,
    bias_rate: Float[Array, " depth"] | float = 1.0,
    weight_rate: Float[Array, " depth"] | float = 1.0,
) -> TangentFluctuations:
    """The tensors of one input to leading order in 1 / width.

    With Omega = lambda_W sigma^2 + C_W Theta sigma'^2, its derivative at fixed Theta
    Omega' = d<Omega>/dK, chi_parallel and chi_perpendicular of the layer, and r = n_l / n_{l-1},

        F^{l+1} = r chi_parallel^2 F + C_W^2 <sigma^2 sigma'^2> Theta,
        B^{l+1} = r chi_perpendicular^2 B + C_W^2 <sigma'^4> Theta^2,
        D^{l+1} = r chi_parallel (Omega' V + chi_perpendicular D) + C_W Cov(sigma^2, Omega),
        A^{l+1} = r (Omega'^2 V + 2 Omega' chi_perpendicular D + chi_perpendicular^2 A)
                  + Var(Omega),

    from 0 at l = 1. The mean moves by 1 / n_{l-1} times
    Omega' k1 + Omega'' V / 2 + chi_perpendicular' (D + 2F) + chi_perpendicular shift, where k1 is
    that of `finite_width.moments`. With equal widths all but `shift` are free of them.

    Args:
        nonlinearity: sigma.
        kernel: K^1 > 0.
        bias_variance: C_b.
        weight_variance: C_W, above 0.
        widths: n_1, ..., n_L.
        bias_rate: lambda_b, of all layers or of each.
        weight_rate: lambda_W, the same.

    Raises:
        ValueError: a kernel that is not above 0; widths below 1; rates of another length; means
            that are infinite, or of a kink that is not named (see `finite_width`).
    """
    kernel = checked_layers(kernel, widths)
    apply, derivative, kinks = nonlinearity
    rates = _rates(bias_rate, weight_rate, len(widths), kernel.dtype)
    sizes = jnp.asarray(widths, kernel.dtype)
    fan_in = jnp.concatenate([sizes[:1], sizes[:-1]])

    def step(carry, now):
        at, first = carry
        ratio, fan_in, bias_rate, weight_rate = now

        def mean(function, order=0):
            return derivative_of_mean(function, at.kernel, order, kinks)

        def omega(z):
            return weight_rate * apply(z) ** 2 + weight_variance * at.tangent * derivative(z) ** 2

        def power_left(z):
            return apply(z) ** 2 - power

        def omega_left(z):
            return omega(z) - level

        def spread(first, second, scale):
            """Resolved beside the scale: sin^2 + cos^2 has none, and its rounding no resolution."""
            floor = scale * float(jnp.finfo(scale.dtype).eps) ** 0.5
            return mean(lambda z: first(z) * second(z) + floor) - floor

        power, slope, bend = (mean(lambda z: apply(z) ** 2, order) for order in range(3))
        tilt, turn = (mean(lambda z: derivative(z) ** 2, order) for order in range(2))
        level, rise, curl = (mean(omega, order) for order in range(3))
        parallel, perpendicular, turn = (weight_variance * each for each in (slope, tilt, turn))
        tangents = (
            rise * first + curl * at.four_point / (2 * fan_in)
            + turn * (at.mixed + 2 * at.mixed_exchange) / fan_in
        )  # fmt: skip
        after = TangentFluctuations(
            kernel=bias_variance + weight_variance * power,
            tangent=bias_rate + level,
            shift=tangents + perpendicular * at.shift,
            four_point=ratio * parallel**2 * at.four_point
            + weight_variance**2 * mean(lambda z: (apply(z) ** 2 - power) ** 2),
            diagonal=ratio
            * (
                rise**2 * at.four_point
                + 2 * rise * perpendicular * at.mixed
                + perpendicular**2 * at.diagonal
            )
            + spread(omega_left, omega_left, level**2),
            exchange=ratio * perpendicular**2 * at.exchange
            + weight_variance**2 * at.tangent**2 * mean(lambda z: derivative(z) ** 4),
            mixed=ratio * parallel * (rise * at.four_point + perpendicular * at.mixed)
            + weight_variance * spread(power_left, omega_left, power * level),
            mixed_exchange=ratio * parallel**2 * at.mixed_exchange
            + weight_variance**2 * at.tangent * mean(lambda z: (apply(z) * derivative(z)) ** 2),
        )
        first = parallel * first + weight_variance * bend * at.four_point / (2 * fan_in)
        return (after, first), after

    zero = jnp.zeros_like(kernel)
    tangent = rates[0][0] + rates[1][0] * (kernel - bias_variance) / weight_variance
    start = TangentFluctuations(kernel, tangent, *[zero] * 6)
    # step l -> l + 1 takes r = n_l / n_{l-1} and n_{l-1} of layer l, and the rates of layer l + 1
    later = (width_ratios(widths, kernel.dtype)[:-1], fan_in[:-1], *(rate[1:] for rate in rates))
    _, layers = jax.lax.scan(step, (start, zero), later)
    return checked_means(nonlinearity, _joined(start, layers))


def scale_invariant_fluctuations(
    above: float,
    below: float,
    kernel: Float[Array, ""] | float,
    weight_variance: float,
    widths: Sequence[int] | Array,
    *,
    bias_rate: Float[Array, " depth"] | float = 1.0,
    weight_rate: Float[Array, " depth"] | float = 1.0,
) -> TangentFluctuations:
    """The same exactly, at any widths, for slopes a+ above 0 and a- below, and C_b = 0.

    A row of weights and its negative are equally likely, which turns sigma'_k = a+ into a- and
    leaves z_k^2, Theta_kk and z_k z_k' Theta_kk' sigma'_k sigma_k alike: so sigma'_k^2 is
    independent of them, of moments A_2 = (a+^2 + a-^2) / 2 and A_4, and given the layer below all
    is quadratic in Gaussian weights. Hence, in Phi = E[z_k z_k' Theta_kk'] and B = E[Theta_kk'^2],

        Phi' = (C_W^2 / n) [A_4 (GH + 2 Phi) + (n - 1) A_2^2 Phi],
        B'   = (C_W^2 / n) [A_4 (H^2 + 2 B)  + (n - 1) A_2^2 B],

    and likewise E[G^2], E[GH] and E[H^2]: a closed linear recursion in their means.

    Args:
        above: a+.
        below: a-.
        kernel: K^1 > 0.
        weight_variance: C_W, above 0; not only the critical one.
        widths: n_1, ..., n_L.
        bias_rate: lambda_b, of all layers or of each.
        weight_rate: lambda_W, the same.

    Returns:
        As `tangent_fluctuations`, whose formulas are the limit of n to infinity; `shift` is 0.
    """
    kernel = checked_layers(kernel, widths)
    rates = _rates(bias_rate, weight_rate, len(widths), kernel.dtype)
    square, fourth = (above**2 + below**2) / 2, (above**4 + below**4) / 2

    def step(carry, now):
        g, h, gg, gh, hh, phi, exchange = carry
        size, bias_rate, weight_rate = now
        own, other = fourth / size, square**2 * (size - 1) / size
        c, w = weight_variance, weight_rate
        # the mean over neurons of e_k (w z_k^2 + c Theta_kk), which is H less bias_rate
        mean = square * (w * g + c * h)
        mean_square = (
            own * (3 * w**2 * gg + 2 * w * c * (gh + 2 * phi) + c**2 * (hh + 2 * exchange))
            + other * (w**2 * gg + 2 * w * c * gh + c**2 * hh)
        )  # fmt: skip
        after = (
            c * square * g,
            bias_rate + mean,
            c**2 * (3 * own + other) * gg,
            bias_rate * c * square * g
            + c * (own * (3 * w * gg + c * (gh + 2 * phi)) + other * (w * gg + c * gh)),
            bias_rate**2 + 2 * bias_rate * mean + mean_square,
            c**2 * (own * (gh + 2 * phi) + other * phi),
            c**2 * (own * (hh + 2 * exchange) + other * exchange),
        )
        return after, after

    h = rates[0][0] + rates[1][0] * kernel / weight_variance
    zero = jnp.zeros_like(kernel)
    start = kernel, h, kernel**2, kernel * h, h**2, zero, zero
    sizes = jnp.asarray(widths, kernel.dtype)
    later = sizes[:-1], *(rate[1:] for rate in rates)
    layers = _joined(start, jax.lax.scan(step, start, later)[1])
    g, h, gg, gh, hh, phi, exchange = layers
    fan_in = jnp.concatenate([sizes[:1], sizes[:-1]])
    return TangentFluctuations(
        kernel=g,
        tangent=h,
        shift=jnp.zeros_like(g),
        four_point=fan_in * (gg - g**2),
        diagonal=fan_in * (hh - h**2),
        exchange=fan_in * exchange,
        mixed=fan_in * (gh - g * h),
        mixed_exchange=fan_in * phi,
    )


def _joined(first, rest):
    """The first layer before the others."""
    return jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), first, rest)


def _rates(bias_rate, weight_rate, depth, dtype):
    """One rate for each layer, [depth], of both kinds."""
    if depth < 1:
        raise ValueError(f"depth: got {depth}; want at least one layer of preactivations")
    for name, rate in (("bias_rate", bias_rate), ("weight_rate", weight_rate)):
        if jnp.shape(rate) not in ((), (depth,)):
            raise ValueError(f"{name}: got shape {jnp.shape(rate)}; want one rate, or {depth}")
    return [jnp.broadcast_to(jnp.asarray(rate, dtype), depth) for rate in (bias_rate, weight_rate)]
