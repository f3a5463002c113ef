"""How the kernel of a wide network flows with depth, and where it does not: criticality.

The preactivations of a network of infinite width are Gaussian, z^1 ~ N(0, K^1) and

    K^(l+1) = C_b + C_W <sigma(z) sigma(z)>_(K^l),

with biases of variance C_b, weights of variance C_W / width, and <.>_K the mean over N(0, K). A
perturbation of one input along itself grows per layer by chi_parallel, the distance of two
nearby inputs by chi_perpendicular; both are 1 at a critical point, and depth neither blows up
nor forgets what it is given. Roberts, Yaida and Hanin 2022, arXiv:2106.10165, chapters 4 and 5.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from ntkens.kernels import quadrature


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
    skip, bias_variance, weight_variance = map(jnp.asarray, (skip, bias_variance, weight_variance))
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
    """
    kernel = quadrature.checked_variance("kernel", kernel)

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
    skip, weight_variance = jnp.asarray(skip), jnp.asarray(weight_variance)
    return Susceptibilities(
        skip**2 + weight_variance * parallel, skip**2 + weight_variance * perpendicular
    )


def _square(function):
    return lambda z: function(z) ** 2
