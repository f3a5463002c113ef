"""How the kernel of a wide network flows with depth, and where it does not: criticality.

The preactivations of a network of infinite width are Gaussian, z^1 ~ N(0, K^1) and

    K^(l+1) = C_b + C_W <sigma(z) sigma(z)>_(K^l),

with biases of variance C_b, weights of variance C_W / width, and <.>_K the mean over N(0, K). A
perturbation of one input along itself grows per layer by chi_parallel, the distance of two
nearby inputs by chi_perpendicular; both are 1 at a critical point, and depth neither blows up
nor forgets what it is given. Roberts, Yaida and Hanin 2022, arXiv:2106.10165, chapters 4 and 5.
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from ntkens.checks import check_float64, is_concrete
from ntkens.kernels import quadrature, universality
from ntkens.kernels.universality import HalfStable, ScaleInvariant, Vanishing

Universality = Literal["scale_invariant", "zero", "half_stable", "none"]


class Nonlinearity(NamedTuple):
    """An elementwise activation.

    Attributes:
        apply: sigma.
        derivative: sigma'.
        kinks: where sigma or a derivative of it jumps; 0 need not be named.
    """

    apply: Callable[[Array], Array]
    derivative: Callable[[Array], Array]
    kinks: tuple[float, ...] = ()


class Susceptibilities(NamedTuple):
    """Growth per layer of small perturbations.

    Attributes:
        parallel: chi_parallel = d K^(l+1) / d K^l = (C_W / 2K^2) <sigma^2 (z^2 - K)>_K.
        perpendicular: chi_perpendicular = C_W <sigma'^2>_K.
    """

    parallel: Float[Array, "*shape"]
    perpendicular: Float[Array, "*shape"]


class CriticalPoint(NamedTuple):
    """Where chi_parallel = chi_perpendicular = 1 at a fixed point of the kernel.

    Attributes:
        bias_variance: C_b; NaN if there is no such point.
        weight_variance: C_W; NaN likewise.
        kernel: K*; NaN likewise. 1 stands for all of them in the scale-invariant class.
        universality: "scale_invariant", "zero" (K* = 0), "half_stable" or "none".
        coefficients: of the class; None for "none".
        reason: what decided, in words.
    """

    bias_variance: float
    weight_variance: float
    kernel: float
    universality: Universality
    coefficients: ScaleInvariant | Vanishing | HalfStable | None
    reason: str


def nonlinearity(
    apply: Callable[[Array], Array],
    *,
    derivative: Callable[[Array], Array] | None = None,
    kinks: Sequence[float] = (),
) -> Nonlinearity:
    """An activation with its derivative, by automatic differentiation if it is not given.

    Args:
        apply: sigma, elementwise, in JAX; its values of the dtype of its argument.
        derivative: sigma', the same.
        kinks: where sigma or a derivative of it jumps; 0 need not be named.

    Raises:
        ValueError: a kink is not finite.
    """

    @jax.jit  # not op by op where it is evaluated outside of jit
    def slope(z):
        return jax.jvp(apply, (z,), (jnp.ones_like(z),))[1]

    return Nonlinearity(apply, derivative or slope, quadrature.checked_kinks(kinks))


def kernel_step(
    nonlinearity: Nonlinearity,
    kernel: Float[ArrayLike, "*shape"],
    bias_variance: Float[ArrayLike, "*shape"],
    weight_variance: Float[ArrayLike, "*shape"],
    *,
    skip: Float[ArrayLike, ""] = 0.0,
) -> Float[Array, "*shape"]:
    """The kernel of the next layer, K' = skip^2 K + C_b + C_W <sigma^2>_K.

    Args:
        nonlinearity: sigma.
        kernel: K >= 0, of one input, in arrays of any shape.
        bias_variance: C_b.
        weight_variance: C_W, of the weights times the width.
        skip: of a residual layer z' = skip z + b + W sigma(z); 0 for a plain one.

    Raises:
        ValueError, TypeError: as `quadrature.expectation`.
    """
    kernel = quadrature.checked_variance("kernel", kernel)
    power = quadrature.expectation(_square(nonlinearity.apply), kernel, kinks=nonlinearity.kinks)
    bias_variance = _coefficient("bias_variance", bias_variance)
    weight_variance = _coefficient("weight_variance", weight_variance)
    skip = jnp.asarray(skip)
    return skip**2 * kernel + bias_variance + weight_variance * power


def flow(
    nonlinearity: Nonlinearity,
    kernel: Float[ArrayLike, "*shape"],
    bias_variance: Float[ArrayLike, "*shape"],
    weight_variance: Float[ArrayLike, "*shape"],
    depth: int,
    *,
    skip: Float[ArrayLike, ""] = 0.0,
) -> Float[Array, "depth *shape"]:
    """The kernels K^1, ..., K^depth, the first of them given; one compiled loop.

    A flow that leaves the range of the floating point numbers, or that of the quadrature, is NaN
    from there on.

    Raises:
        ValueError: the depth is no integer of at least 1; or as `kernel_step` at the first layer.
    """
    if not isinstance(depth, int | np.integer) or depth < 1:
        raise ValueError(f"depth: got {depth}; layers are counted 1, 2, ...")
    kernel = quadrature.checked_variance("kernel", kernel)
    bias_variance = _coefficient("bias_variance", bias_variance)
    weight_variance = _coefficient("weight_variance", weight_variance)

    def step(kernel, _):
        return kernel_step(nonlinearity, kernel, bias_variance, weight_variance, skip=skip), kernel

    return jax.lax.scan(step, kernel, length=depth)[1]


def susceptibilities(
    nonlinearity: Nonlinearity,
    kernel: Float[ArrayLike, "*shape"],
    weight_variance: Float[ArrayLike, "*shape"],
    *,
    skip: Float[ArrayLike, ""] = 0.0,
) -> Susceptibilities:
    """The growth of perturbations at the kernel K; a skip adds skip^2 to both."""
    kernel = quadrature.checked_variance("kernel", kernel)
    _, parallel = quadrature.expectation_and_slope(
        _square(nonlinearity.apply), kernel, kinks=nonlinearity.kinks
    )
    perpendicular = quadrature.expectation(
        _square(nonlinearity.derivative), kernel, kinks=nonlinearity.kinks
    )
    skip, weight_variance = jnp.asarray(skip), _coefficient("weight_variance", weight_variance)
    return Susceptibilities(
        skip**2 + weight_variance * parallel, skip**2 + weight_variance * perpendicular
    )


def pair_step(
    nonlinearity: Nonlinearity,
    kernels: Float[ArrayLike, "*batch 2 2"],
    bias_variance: Float[ArrayLike, ""],
    weight_variance: Float[ArrayLike, ""],
    *,
    skip: float = 0.0,
) -> Float[Array, "*batch 2 2"]:
    """The kernels of two inputs at the next layer, skip^2 K + C_b + C_W <sigma sigma'>_K.

    The mean is over the plane, by `quadrature.dual`. That of two near duplicates loses digits to
    the subtraction of what they share; `fully_connected.kernel_fn(quadrature.dual(sigma), depth)`
    carries their distance along and loses none.

    Raises:
        ValueError: not symmetric 2 x 2 matrices, or not positive semi-definite (where known); or
            as `quadrature.expectation`.
    """
    kernels = _checked_pairs(kernels)
    variance1, variance2 = kernels[..., 0, 0], kernels[..., 1, 1]
    dual = quadrature.dual(nonlinearity.apply, kinks=nonlinearity.kinks)
    power1, power2 = (
        quadrature.expectation(_square(nonlinearity.apply), variance, kinks=nonlinearity.kinks)
        for variance in (variance1, variance2)
    )
    product = dual.covariance(variance1, variance2, kernels[..., 0, 1])
    powers = jnp.stack(
        [jnp.stack([power1, product], axis=-1), jnp.stack([product, power2], axis=-1)], axis=-2
    )
    bias_variance = _coefficient("bias_variance", bias_variance)
    weight_variance = _coefficient("weight_variance", weight_variance)
    return skip**2 * kernels + bias_variance + weight_variance * powers


def critical_point(nonlinearity: Nonlinearity, *, skip: float = 0.0) -> CriticalPoint:
    """The critical point of an activation, its universality class and coefficients.

    In this order: scale-invariant activations have C_b = 0, C_W = 1 / A_2 and every K. An
    activation with sigma(0) = 0 and a slope there has the point K = 0, C_b = 0, C_W = 1 / A_2; it
    is taken if it attracts. Else K* > 0 is the root of chi_parallel = chi_perpendicular, that is
    <sigma^2 (z^2 - K)>_K = 2K^2 <sigma'^2>_K, with C_W = 1 / <sigma'^2> and
    C_b = K* - C_W <sigma^2> >= 0, looked for in 1e-6 < K < 1e4 and found to about 1e-13 relative
    (of several the smallest); else the point K = 0 that does not attract; else there is none.

    Under a skip s the conditions are those of C / (1 - s^2): the point moves to
    ((1 - s^2) C_b, (1 - s^2) C_W, K*).

    Args:
        nonlinearity: sigma, in float64.
        skip: of a residual layer z' = skip z + b + W sigma(z), |skip| < 1.

    Raises:
        ValueError: the skip is out of range; <sigma^2> at K = 1 is infinite, or sigma has a kink
            that is not named.
        TypeError: float64 is off.
    """
    check_float64("critical_point")
    if not abs(skip) < 1:
        raise ValueError(
            f"skip: got {skip}; wants |skip| < 1: at 1 both susceptibilities are above 1 for every "
            "C_W > 0"
        )
    apply, derivative, kinks = nonlinearity
    branch = 1 - skip**2
    slopes = universality.scale_invariant_slopes(apply)
    if slopes == (0, 0):
        return _none("sigma is zero")
    if slopes is not None:
        coefficients = ScaleInvariant(slopes, universality.vertex_growth(slopes, skip))
        weight_variance = branch / (sum(slope**2 for slope in slopes) / 2)
        reason = f"sigma(z) is {slopes[0]:g} z above 0 and {slopes[1]:g} z below: every K is fixed"
        return CriticalPoint(0.0, weight_variance, 1.0, "scale_invariant", coefficients, reason)
    rough = universality.roughness(apply, derivative, kinks)
    if rough is not None:
        return _none(rough)
    for function in (apply, derivative):  # whose moments are infinite or not resolved says why
        quadrature.expectation(_square(function), 1.0, kinks=kinks)
    vanishing = universality.vanishing(apply, derivative, skip)
    above_zero = None
    if vanishing is None or not vanishing[1].drift < 0:
        above_zero = universality.half_stable(apply, derivative, kinks, skip)
    if isinstance(above_zero, tuple):
        kernel, bias_variance, weight_variance, coefficients = above_zero
        side = "above" if coefficients.curvature < 0 else "below"
        reason = f"chi_parallel = chi_perpendicular = 1 at K = {kernel:.6g}; attracts from {side}"
        return CriticalPoint(
            bias_variance, weight_variance, kernel, "half_stable", coefficients, reason
        )
    if vanishing is None:
        return _none(f"K = 0 is no critical point, and {above_zero}")
    power, coefficients = vanishing
    reason = "K = 0 attracts"
    if above_zero is not None:
        moves = "repels" if coefficients.drift > 0 else "neither attracts nor repels in this order"
        reason = f"K = 0 {moves}, and {above_zero}"
    return CriticalPoint(0.0, branch / power, 0.0, "zero", coefficients, reason)


def _none(reason: str) -> CriticalPoint:
    return CriticalPoint(math.nan, math.nan, math.nan, "none", None, reason)


def _coefficient(name: str, variance) -> Array:
    """A variance whose dtype, if it is a Python number, is left to what it multiplies."""
    quadrature.checked_variance(name, variance)
    return jnp.asarray(variance)


def _checked_pairs(kernels) -> Array:
    kernels = jnp.asarray(kernels)
    if kernels.shape[-2:] != (2, 2):
        raise ValueError(f"kernels: got shape {kernels.shape}; wants matrices [... 2 2]")
    quadrature.checked_variance("kernels", jnp.diagonal(kernels, axis1=-2, axis2=-1))
    if is_concrete(kernels):
        known = np.asarray(kernels)
        scale = np.sqrt(known[..., 0, 0] * known[..., 1, 1])
        rounding = 1e-6 if kernels.dtype == np.float32 else 1e-12
        if not np.all(
            (np.abs(known[..., 0, 1]) <= (1 + rounding) * scale)
            & (np.abs(known[..., 0, 1] - known[..., 1, 0]) <= rounding * scale)
        ):
            raise ValueError("kernels: wants symmetric positive semi-definite matrices [... 2 2]")
    return kernels


def _square(function):
    return lambda z: function(z) ** 2
