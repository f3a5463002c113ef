"""Hermite series of activations: coefficients, a dual from a series, an activation from a dual.

With h_i = He_i / sqrt(i!) the normalised probabilists' Hermite polynomials, orthonormal under
the standard normal Z, an activation is phi = sum_i b_i h_i, b_i = E[phi(Z) h_i(Z)], and for
(u, v) normal with unit variances and correlation rho, E[phi(u) phi(v)] = sum_i b_i^2 rho^i.
Daniely, Frostig and Singer 2016, arXiv:1602.05897.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from ntkens.kernels.dual import Dual, from_moments

REACH = 38.0  # the standard normal density underflows beyond


class Activation(NamedTuple):
    """An elementwise activation and what it is at infinite width.

    Attributes:
        apply: `inputs -> outputs`, of one shape and dtype.
        dual: its Gaussian moments.
    """

    apply: Callable[[Float[Array, "*shape"]], Float[Array, "*shape"]]
    dual: Dual


def coefficients(
    activation: Callable[[ArrayLike], ArrayLike],
    degree: int,
    *,
    kinks: Sequence[float] = (0.0,),
) -> Float[np.ndarray, " degree+1"]:
    """b_i = E[phi(Z) h_i(Z)], i = 0, ..., degree, by quadrature between the kinks.

    Gauss-Legendre panels that end at the kinks, on |z| <= 38, in NumPy and float64. The activation
    may be written in NumPy or SciPy, whatever the setting of jax_enable_x64, or in JAX with x64
    on. The error for ReLU is below 1e-15 up to degree 1000 (measured).

    Args:
        activation: elementwise; it may grow like a polynomial or an exponential.
        degree: of the last coefficient, at least 0.
        kinks: where the activation or a derivative of it jumps; `()` for a smooth one.

    Raises:
        ValueError: the degree is negative; a kink or a value of the activation is not finite; the
            activation is not elementwise, or of infinite second moment; or it has a kink that is
            not named.
        TypeError: the activation computes in less than float64.
    """
    if not isinstance(degree, int | np.integer) or degree < 0:
        raise ValueError(f"degree: got {degree}; a degree is an integer of at least 0")
    if not np.isfinite(np.asarray(kinks, np.float64)).all():
        raise ValueError(f"kinks: got {kinks}, wants finite numbers")
    fine, coarse = (_project(activation, degree, kinks, nodes) for nodes in (40, 32))
    error = np.max(np.abs(fine - coarse)) / np.max(np.abs(fine), initial=1e-300)
    if error > 1e-11:
        raise ValueError(
            f"kinks: got {tuple(kinks)}, with which two quadratures differ by {error:.1e} of the "
            "largest coefficient; name every point where the activation or its derivative jumps"
        )
    return fine


def dual(coefficients: Float[ArrayLike, " degree+1"]) -> Dual:
    """The dual of phi = sum_i b_i h_i, exact at every variance.

    phi is a polynomial; with beta_j(q) = E[phi^(j)(sqrt(q) Z)] / sqrt(j!), that is
    beta_j(q) = sum_k b_(j+2k) sqrt((j+2k)! / j!) / (k! 2^k) (q - 1)^k,

        E[phi(u) phi(v)] = sum_j beta_j(q1) beta_j(q2) c^j,
        E[phi'(u) phi'(v)] = its derivative in c,

    polynomials in q1, q2 and c, with all derivatives at c = +-sqrt(q1 q2) and at q = 0. Rounding
    stays below 1e-14 of E[phi^2] up to degree 100 and for variances of 0.25 to 3 (measured).

    The truncated series of another activation is that activation's dual up to unit variance only.
    Beyond, it is exact for a polynomial that is another function: at variance 1.1 the series of
    ReLU has E[phi^2] = 0.5503 at degree 30 and 5.01 at degree 100, where ReLU has 0.55.

    Args:
        coefficients: b_0, ..., b_degree, known numbers (not traced).

    Raises:
        ValueError: not a vector, not finite, or all zero.
    """
    series = _checked_series("coefficients", coefficients)
    series = np.append(series, 0.0) if len(series) == 1 else series  # a slope for the constant, too
    heat = _heat_table(series)
    orders = np.arange(len(series))
    power = np.sum(series**2)

    def expand(variance):
        """beta_j(q), stacked on a new leading axis."""
        powers = [jnp.ones_like(variance)]
        for _ in range(heat.shape[1] - 1):
            powers.append(powers[-1] * (variance - 1))
        table = jnp.asarray(heat, variance.dtype)
        return jnp.tensordot(table, jnp.stack(powers), axes=1, precision="highest")

    def covariance(variance1, variance2, covariance, gap=None):
        return _horner(expand(variance1), expand(variance2), covariance)

    def derivative(variance1, variance2, covariance, gap=None):
        first = expand(variance1)
        order = jnp.asarray(orders[1:], first.dtype).reshape(-1, *[1] * variance1.ndim)
        return _horner(order * first[1:], expand(variance2)[1:], covariance)

    def cosine(rho):
        return jnp.polyval(jnp.asarray(series[::-1] ** 2 / power, rho.dtype), rho)

    return from_moments(covariance, derivative)._replace(cosine=cosine)


def activation(cosine_coefficients: Float[ArrayLike, " degree+1"]) -> Activation:
    """An activation whose map of cosines is the wanted one, rho -> sum_i a_i rho^i.

    phi = sum_i sqrt(a_i) h_i. By Schoenberg 1942 the maps that keep every Gram matrix of unit
    vectors positive semi-definite are those with all a_i >= 0, and each is reached. The scale is
    kept, E[phi(Z)^2] = sum_i a_i: pass a_i that sum to one for a normalised activation.

    Args:
        cosine_coefficients: a_0, ..., a_degree, known numbers (not traced).

    Raises:
        ValueError: not a vector, not finite, all zero, or one is negative.
    """
    wanted = _checked_series("cosine_coefficients", cosine_coefficients)
    if wanted.min() < 0:
        index = int(np.argmax(wanted < 0))
        raise ValueError(
            f"cosine_coefficients: number {index} is {wanted[index]:.6g}; each is the square of a "
            "Hermite coefficient, and with one below zero the map is no kernel in high dimension"
        )
    series = np.sqrt(wanted)
    weights = series.tolist()  # Python numbers leave the dtype to the inputs

    def apply(inputs):
        previous, current = jnp.zeros_like(inputs), jnp.ones_like(inputs)
        total = weights[0] * current
        for order, weight in enumerate(weights[1:]):
            following = inputs * current - math.sqrt(order) * previous
            previous, current = current, following / math.sqrt(order + 1)
            total = total + weight * current
        return total

    return Activation(apply, dual(series))


def activation_for_exponent(exponent: float, *, slope_at_one: float = 2.0) -> Activation:
    """A polynomial activation whose infinitely deep network is singular with a wanted exponent.

    With alpha the exponent and b = `slope_at_one`, its map of cosines has f(0) = 0,
    f'(0) = a = b^(-alpha/2) and f'(1) = b, hence alpha = -2 ln f'(0) / ln f'(1). The rest, 1 - a,
    lies on the one or two degrees beside m = (b - a) / (1 - a), their mean: no other choice has
    a lower degree at this slope. As b falls to 1, m falls to 1 + 2/alpha, below which no polynomial
    has the exponent, but distances grow by b per layer, and it takes 1/ln b as many layers to see.

    Args:
        exponent: alpha > 0, of the kernel r^-alpha at small distances r.
        slope_at_one: b > 1 and at least 2 - a; 2 does for every exponent.

    Raises:
        ValueError: the exponent or the slope is out of range, or f'(0) below 1e-280.
    """
    if not 0 < exponent < np.inf:
        raise ValueError(f"exponent: got {exponent}; wants a positive finite number")
    if not 1 < slope_at_one < np.inf:
        raise ValueError(f"slope_at_one: got {slope_at_one}; wants a finite number above 1")
    low = slope_at_one ** (-exponent / 2)
    if low < 1e-280:
        raise ValueError(
            f"exponent: got {exponent}, for which f'(0) = {low:.1e} is lost in float64; pass "
            "activation([0, 0, 1]), the nearest neighbour, which is the limit"
        )
    mean = 1 + (slope_at_one - 1) / (1 - low)
    nearest = round(mean)
    mean = nearest if abs(mean - nearest) < 1e-12 * mean else mean  # a - 1 is rounded, m not
    if mean < 2:
        raise ValueError(
            f"slope_at_one: got {slope_at_one}, too small for the exponent {exponent}; wants at "
            f"least 2 - f'(0) = {2 - low:.6g}"
        )
    cosines = np.zeros(math.ceil(mean) + 1)
    cosines[1] = low
    cosines[math.floor(mean)] += (1 - low) * (1 - mean % 1)
    cosines[math.ceil(mean)] += (1 - low) * (mean % 1)
    return activation(cosines)


def optimal_activation(dimension: int) -> Activation:
    """The activation that makes the infinitely deep network consistent on the sphere S^d.

    Its exponent is d, that of the Hilbert kernel r^-d, and E[phi(Z)^2] = 1:

        d = 1: phi = (h_1 + h_7) / sqrt(2),
        d >= 2: phi = 2^(-d/4) h_1 + (1 - 2^(1 - d/2))^(1/2) h_2 + 2^(-d/4) h_3.

    Radhakrishnan, Belkin and Uhler 2023, arXiv:2204.14126. A finite network needs a width far
    above depth times E[phi(Z)^4], `coefficients(lambda z: phi.apply(z) ** 4, 0)[0]`: 59 for
    d = 2, but 69,474 for d = 1, where `activation_for_exponent(1)` has 364, and 45 at a
    `slope_at_one` of 1.5.

    Args:
        dimension: d, of the sphere in R^(d+1), at least 1.

    Raises:
        ValueError: the dimension is no integer of at least 1, or above 1860.
    """
    if not isinstance(dimension, int | np.integer) or dimension < 1:
        raise ValueError(f"dimension: got {dimension}; the sphere S^d has d = 1, 2, ...")
    return activation_for_exponent(int(dimension), slope_at_one=4.0 if dimension == 1 else 2.0)


def _project(activation, degree, kinks, nodes):
    """The coefficients by `nodes` Gauss-Legendre nodes in each panel.

    h_i oscillates at most sqrt(i) times as fast as the unit wave, hence the width of the panels.
    """
    inner = [kink for kink in kinks if abs(kink) < REACH]
    ends = np.unique(np.asarray([-REACH, *inner, REACH], np.float64))
    width = min(0.5, 16 / math.sqrt(degree + 1))
    counts = np.ceil(np.diff(ends) / width).astype(int)
    pieces = zip(ends[:-1], ends[1:], counts + 1, strict=True)
    edges = np.unique(np.concatenate([np.linspace(*piece) for piece in pieces]))
    left, right = edges[:-1, None], edges[1:, None]
    points, weights = np.polynomial.legendre.leggauss(nodes)
    z = ((left + right) / 2 + (right - left) / 2 * points).ravel()
    weights = ((right - left) / 2 * weights).ravel()
    with jax.ensure_compile_time_eval():
        values = np.asarray(activation(z))
    if jnp.issubdtype(values.dtype, jnp.floating) and values.dtype != np.float64:
        raise TypeError(
            f"activation: gave {values.dtype} for float64, and its coefficients would have as few "
            "digits; write it in NumPy, or turn on x64: "
            'jax.config.update("jax_enable_x64", True)'
        )
    if values.shape != z.shape or np.iscomplexobj(values) or not np.isfinite(values).all():
        raise ValueError(
            f"activation: wants finite real numbers of the shape of its inputs, {z.shape}, on "
            f"|z| <= {REACH:g}; got shape {values.shape}, {np.isnan(values).sum()} NaN, "
            f"{np.isinf(values).sum()} infinite"
        )
    root = np.exp(-(z**2) / 4) / (2 * math.pi) ** 0.25  # of the density: h_i root stays bounded
    values = values * root
    peak, ends_at = np.abs(values).max(), np.abs(values[[0, -1]]).max()
    if ends_at > 1e-6 * peak:
        raise ValueError(
            f"activation: |phi(z)| exp(-z^2 / 4) at |z| = {REACH:g} is still {ends_at / peak:.1e} "
            "of its largest value; E[phi(Z)^2] is infinite, or too much of it lies in the tail"
        )
    values = values * weights
    previous, current = np.zeros_like(z), root
    projections = [values @ current]
    for order in range(degree):
        following = z * current - math.sqrt(order) * previous
        previous, current = current, following / math.sqrt(order + 1)
        projections.append(values @ current)
    return np.asarray(projections)


def _heat_table(series):
    """T[j, k] = b_(j+2k) sqrt((j+2k)! / j!) / (k! 2^k): beta_j(q) = sum_k T[j, k] (q - 1)^k."""
    table = np.zeros((len(series), (len(series) + 1) // 2))
    for j in range(len(series)):
        factor = 1.0
        for k in range((len(series) - 1 - j) // 2 + 1):
            table[j, k] = factor * series[j + 2 * k]
            factor *= math.sqrt((j + 2 * k + 1) * (j + 2 * k + 2)) / (2 * (k + 1))
    return table


def _horner(first, second, covariance):
    """sum_j first_j second_j c^j."""
    total = jnp.zeros_like(first[0] * second[0] * covariance)
    (total, _), _ = jax.lax.scan(
        _horner_step, (total, covariance), (first, second), reverse=True, unroll=16
    )
    return total


def _horner_step(carry, factors):
    total, covariance = carry
    return (total * covariance + factors[0] * factors[1], covariance), None


def _checked_series(name, series):
    series = np.atleast_1d(np.asarray(series, np.float64))
    if series.ndim != 1 or not np.isfinite(series).all() or not series.any():
        raise ValueError(
            f"{name}: got shape {series.shape}, {np.count_nonzero(series)} not zero, wants a "
            "vector of finite numbers that are not all zero"
        )
    return series
