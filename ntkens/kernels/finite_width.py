"""What a finite width does to the outputs of random networks: the vertex, and where theory ends.

A layer is z^1 ~ N(0, K^1) and z^{l+1} = gamma z^l + b + W sigma(z^l), with b ~ N(0, C_b) and
W ~ N(0, C_W / n_l). In a plain network (gamma = 0) the components of z^l are independent given the
layer below, of one random variance G^l = C_b + C_W mean(sigma(z^{l-1})^2): its mean is the kernel
and its variance is the four-point vertex,

    V^l / n_{l-1} = Cov(z_i^2, z_j^2) = Var(G^l),      E[z_i^4] - 3 E[z_i^2]^2 = 3 V^l / n_{l-1},

and V^l / (n K^2), which grows as depth / width, is how far a network is from a Gaussian process.
G^1, G^2, ... is a Markov chain, and all here follows from that: given G, the next one has mean
g(G) = C_b + C_W <sigma^2>_G and variance s(G) / n = C_W^2 (<sigma^4>_G - <sigma^2>_G^2) / n.
There is one input, and `kernel` is K^1. Roberts, Yaida and Hanin 2022, arXiv:2106.10165, chapters
4 and 5, and the epilogue. Monte Carlo: `models.preactivations`.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ntkens.checks import check_float64, is_concrete
from ntkens.kernels import quadrature
from ntkens.kernels.criticality import Nonlinearity


class Vertices(NamedTuple):
    """Leading corrections to Gaussian preactivations, at each layer l = 1, ..., L.

    Attributes:
        kernel: K^l at infinite width.
        four_point: V^l, Cov(z_i^2, z_j^2) = V^l / n_{l-1}.
        three_point: T^l, E[z_i z_j^2] = T^l / n_{l-1}; 0 without a skip.
    """

    kernel: Float[Array, " depth"]
    four_point: Float[Array, " depth"]
    three_point: Float[Array, " depth"]


class Moments(NamedTuple):
    """Cumulants of the variance G^l of a layer's components, at each layer l = 1, ..., L.

    Attributes:
        kernel: K^l, the mean at infinite width.
        mean: E[G^l], to order 1 / n.
        variance: Var(G^l) = V^l / n_{l-1}, to order 1 / n^2.
        third: the third cumulant, to order 1 / n^2.
    """

    kernel: Float[Array, " depth"]
    mean: Float[Array, " depth"]
    variance: Float[Array, " depth"]
    third: Float[Array, " depth"]


class AspectRatios(NamedTuple):
    """Depths over widths.

    Attributes:
        cutoff: where V / (n K^2) reaches 1, and corrections are as large as what they correct.
        optimal: where the book's mutual information between halves of the outputs is largest.
    """

    cutoff: float
    optimal: float


def four_point_vertex(
    nonlinearity: Nonlinearity,
    kernel: Float[Array, ""] | float,
    bias_variance: float,
    weight_variance: float,
    widths: Sequence[int] | Array,
    *,
    skip: float = 0.0,
) -> Vertices:
    """The four-point vertex to leading order in 1 / width; equal widths cancel.

    V^{l+1} = (n_l / n_{l-1}) chi^2 V^l + C_W^2 (<sigma^4> - <sigma^2>^2), V^1 = 0, with
    chi = C_W d<sigma^2>/dK = chi_parallel: chapter 4 of the book. With a skip gamma,
    chi = gamma^2 + C_W d<sigma^2>/dK, the source gains 4 gamma^2 K^2 (chi - gamma^2), and

        T^{l+1} = gamma chi T^l + gamma C_W <z sigma^2>

    joins it by 4 C_W <sigma sigma'> chi T^l: with a skip, z -> -z is no symmetry of a network whose
    sigma^2 is not even, and for ReLU this term is as large as the others.

    Args:
        nonlinearity: sigma.
        kernel: K^1 > 0.
        bias_variance: C_b.
        weight_variance: C_W.
        widths: n_1, ..., n_L of the layers of preactivations; they may be traced.
        skip: gamma.

    Raises:
        ValueError: a kernel that is not above 0; no widths, or such below 1, or widths that differ
            under a skip; means that are infinite, or of a kink that is not named (see
            `quadrature.expectation`; under jit the layers are NaN from there on).
        TypeError: so small a kernel that float32 does not resolve the fluctuations.
    """
    kernel = checked_layers(kernel, widths)
    is_plain = is_concrete(skip) and skip == 0
    if not is_plain and is_concrete(widths) and len({int(width) for width in widths}) > 1:
        raise ValueError(f"widths: got {widths}; a layer that is skipped to is as wide")
    apply, derivative, kinks = nonlinearity

    def step(carry, ratio):
        kernel, four, three = carry
        slope = weight_variance * derivative_of_mean(lambda z: apply(z) ** 2, kernel, 1, kinks)

        def mean(function):
            return quadrature.expectation(function, kernel, kinks=kinks)

        power = mean(lambda z: apply(z) ** 2)
        spread = mean(lambda z: (apply(z) ** 2 - power) ** 2)
        cubic, tilt = mean(lambda z: z * apply(z) ** 2), mean(lambda z: apply(z) * derivative(z))
        chi = skip**2 + slope
        source = weight_variance**2 * spread + 4 * skip**2 * kernel**2 * slope
        mixed = 4 * weight_variance * tilt * chi * three
        now = (
            skip**2 * kernel + bias_variance + weight_variance * power,
            ratio * chi**2 * four + source + mixed,
            skip * chi * three + skip * weight_variance * cubic,
        )
        return now, carry

    zero = jnp.zeros_like(kernel)
    ratios = width_ratios(widths, kernel.dtype)
    found = Vertices(*jax.lax.scan(step, (kernel, zero, zero), ratios)[1])
    return checked_means(nonlinearity, found)


def moments(
    nonlinearity: Nonlinearity,
    kernel: Float[Array, ""] | float,
    bias_variance: float,
    weight_variance: float,
    widths: Sequence[int] | Array,
) -> Moments:
    """Mean, variance and third cumulant of G, one order in 1 / width beyond the leading ones.

    With d the deviation of G^l from K^l, of cumulants k1, k2 and k3, and derivatives at K^l, the
    laws of total cumulance give, for n = n_l,

        k1' = g' k1 + g'' k2 / 2,
        k2' = (s + s' k1 + s'' k2 / 2) / n + (g'^2 + 2 g' g'' k1) k2 + g' g'' k3
              + (g''^2 / 2 + g' g''') k2^2,
        k3' = t / n^2 + 3 g' s' k2 / n + g'^3 k3 + 3 g'^2 g'' k2^2,

    t = C_W^3 times the third cumulant of sigma^2. k1 is the kernel's correction K^{[1]} / n of the
    book, ch. 4.3; errors are of order n^-2 in k1 and n^-3 in k2 and k3. Where g is linear and s
    quadratic, as for scale-invariant activations without biases, k1 = 0 and k2 is exact at any
    width: `resummed_vertex` in closed form.

    Args and errors are those of `four_point_vertex`; plain networks only. Third derivatives lose
    digits as eps / K^2 at small K: float64 for K below 0.01.
    """
    kernel = checked_layers(kernel, widths)
    apply, _, kinks = nonlinearity
    inverse_widths = 1 / jnp.asarray(widths, kernel.dtype)

    def step(carry, inverse_width):
        kernel, first, second, third = carry
        power = [
            derivative_of_mean(lambda z: apply(z) ** 2, kernel, order, kinks) for order in range(4)
        ]
        fourth = [
            derivative_of_mean(lambda z: apply(z) ** 4, kernel, order, kinks) for order in range(3)
        ]
        sixth = derivative_of_mean(lambda z: apply(z) ** 6, kernel, 0, kinks)
        g1, g2, g3 = (weight_variance * each for each in power[1:])
        s0, s1, s2 = (
            weight_variance**2 * each
            for each in (
                fourth[0] - power[0] ** 2,
                fourth[1] - 2 * power[0] * power[1],
                fourth[2] - 2 * power[0] * power[2] - 2 * power[1] ** 2,
            )
        )
        t = weight_variance**3 * (sixth - 3 * fourth[0] * power[0] + 2 * power[0] ** 3)
        now = (
            bias_variance + weight_variance * power[0],
            g1 * first + g2 * second / 2,
            inverse_width * (s0 + s1 * first + s2 * second / 2)
            + (g1**2 + 2 * g1 * g2 * first) * second
            + g1 * g2 * third
            + (g2**2 / 2 + g1 * g3) * second**2,
            inverse_width**2 * t
            + 3 * inverse_width * g1 * s1 * second
            + g1**3 * third
            + 3 * g1**2 * g2 * second**2,
        )
        return now, carry

    zero = jnp.zeros_like(kernel)
    start = kernel, zero, zero, zero
    kernels, first, second, third = jax.lax.scan(step, start, inverse_widths)[1]
    return checked_means(nonlinearity, Moments(kernels, kernels + first, second, third))


def resummed_vertex(
    growth: float, kernel: float, widths: Sequence[int]
) -> Float[np.ndarray, " depth"]:
    """V^l of a critical scale-invariant network, exactly at any width.

    V^l / n_{l-1} = (prod_{k<l} (1 + nu / n_k) - 1) K^2, which at one width is
    n [(1 + nu / n)^(l-1) - 1] K^2: given the layer below, G^{l+1} is G^l times an independent
    factor of mean 1 and variance nu / n_l.

    Args:
        growth: nu, of `universality.vertex_growth`: 5 of ReLU, 2 of a linear network.
        kernel: K, the same in all layers.
        widths: n_1, ..., n_L.
    """
    widths_below = np.asarray([widths[0], *widths[:-1]], float)
    logs = np.log1p(growth / np.asarray(widths[:-1], float))
    return widths_below * np.expm1(np.concatenate([[0.0], np.cumsum(logs)])) * kernel**2


def cutoff_depth(growth: float, width: int) -> float:
    """The depth at which the resummed V / (n K^2) reaches 1: 1 + log 2 / log(1 + nu / n).

    About 0.69 n / nu; to leading order in 1 / n, where V / (n K^2) = nu l / n, it is n / nu.

    Raises:
        ValueError: a growth that is not above 0; a width below 1.
    """
    _check_growth(growth)
    if not width >= 1:
        raise ValueError(f"width: got {width}; want at least 1")
    return 1 + math.log(2) / math.log1p(growth / width)


def mutual_information(ratio: float, first: int, second: int) -> float:
    """Of two groups of outputs of sizes m_1 and m_2 at one input, in nats, to the third order.

    m_1 m_2 [v^2 / 8 - (20 + 3 (m_1 + m_2)) v^3 / 48] with v = V / (n K^2). Outputs are independent
    given G, so of its moments the expansion of the entropy in Laguerre polynomials of |z|^2 has
    only the variance v to this order. The book's epilogue maximises it in the depth.
    """
    return first * second * ratio**2 * (1 / 8 - (20 + 3 * (first + second)) * ratio / 48)


def aspect_ratios(growth: float, outputs: int) -> AspectRatios:
    """Depth over width at the cutoff, 1 / nu, and at the book's optimum, 4 / (20 + 3 n_L) / nu.

    The optimum is quoted from memory of the book, and is here derived anew: it is the maximum of
    `mutual_information` in v, with v = nu L / n to leading order. That is the maximum of a series
    cut off where its terms are equal: of outputs that share a log-normal G, as those of
    scale-invariant networks do where L, n -> infinity, the information itself has no maximum, and
    keeps growing with L / n.

    Args:
        growth: nu: 5 of ReLU, 2 of linear, 2/3 in the class K* = 0.
        outputs: n_L.

    Raises:
        ValueError: a growth that is not above 0; fewer than one output.
    """
    _check_growth(growth)
    if not outputs >= 1:
        raise ValueError(f"outputs: got {outputs}; want at least 1")
    return AspectRatios(1 / growth, 4 / (20 + 3 * outputs) / growth)


def derivative_of_mean(function, kernel: Array, order: int, kinks: Sequence[float]) -> Array:
    """The derivative d^m <F>_K / dK^m = <F(z) He_2m(z / sqrt K)>_K / (2K)^m of one K > 0.

    By the heat equation, d/dK = (1/2) d^2/dz^2 of the density: F itself may jump.
    """

    def integrand(z):
        square = z**2 / kernel
        hermite = (1, square - 1, square**2 - 6 * square + 3,
                   square**3 - 15 * square**2 + 45 * square - 15)[order]  # fmt: skip
        return function(z) * hermite

    return quadrature.expectation(integrand, kernel, kinks=kinks) / (2 * kernel) ** order


def checked_means(nonlinearity: Nonlinearity, layers):
    """The layers; where they are known to be NaN, the error that says which mean is at fault.

    Compiled loops pass on a NaN: what the activation did in the last good layer is done again.
    """
    if is_concrete(layers):
        is_bad = np.isnan(np.asarray(layers)).any(axis=0)
        if is_bad.any():
            kernel = layers.kernel[max(0, int(np.argmax(is_bad)) - 1)]
            for function in (nonlinearity.apply, nonlinearity.derivative):
                quadrature.expectation(
                    lambda z, function=function: function(z) ** 6, kernel, kinks=nonlinearity.kinks
                )
            check_float64("finite width corrections of so small a kernel")
    return layers


def _check_growth(growth):
    if not 0 < growth < math.inf:
        raise ValueError(f"growth: got {growth}; want a finite rate above 0")


def width_ratios(widths, dtype) -> Array:
    """n_l / n_{l-1}; the first is of no consequence, for nothing fluctuates there yet."""
    sizes = jnp.asarray(widths, dtype)
    return jnp.concatenate([jnp.ones(1, dtype), sizes[1:] / sizes[:-1]])


def checked_layers(kernel, widths) -> Array:
    """The kernel of the first layer as an array above 0; a `ValueError` of it or of the widths."""
    kernel = quadrature.checked_variance("kernel", kernel)
    if kernel.ndim or (is_concrete(kernel) and not float(kernel) > 0):
        raise ValueError(f"kernel: got {kernel}; want one variance above 0, under vmap for more")
    if not len(widths) or (is_concrete(widths) and not np.all(np.asarray(widths) >= 1)):
        raise ValueError(f"widths: got {widths}; want n_1, ..., n_L, each at least 1")
    return kernel
