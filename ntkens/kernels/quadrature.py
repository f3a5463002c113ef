"""Gaussian expectations of any elementwise function, by panels that end where it has kinks.

z = sqrt(K) x with x standard normal, and the line of x is cut at

- points of a fixed grid, for the density is smooth on the scale 1,
- points of a grid in z, divided by sqrt(K), for an activation is smooth on the scale of |z|,
- the kinks, where the function or a derivative of it jumps.

In each panel stands a Gauss-Legendre rule. The panels move with K, and so what they give is
differentiable in K also where the function jumps. All is pure JAX: K may be traced.
"""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from ntkens.checks import check_finite, is_concrete

REACH = 16.0  # in standard deviations: the density falls to 1e-56
GRID = np.array([1.5, 3.5, 6.0, 9.0, 12.0])
STEPS = np.array([1.0, 2.5, 6.0, 15.0, 40.0])
NODES = 20


def expectation(
    function: Callable[[Array], Array],
    variance: Float[ArrayLike, "*shape"],
    *,
    kinks: Sequence[float] = (0.0,),
) -> Float[Array, "*shape"]:
    """E[F(z)] for z ~ N(0, K).

    At K = 0 it is the limit from above: F(0), or the mean of both sides of a jump there; its
    derivative in K is then that at K = 2e-12 (in float64): F''(0) / 2 to about 1e-10, and where F
    itself has a kink at 0 a large number, for the limit is infinite.

    Every call also measures how well F is resolved: by the last Legendre coefficients in each
    panel, which a kink leaves large, and by what is left of F times the density at 16 sigma.

    Args:
        function: F, elementwise, with values of the shape and dtype of its argument.
        variance: K >= 0, of any shape; may be traced.
        kinks: where F or a derivative of it jumps; 0 is always counted as one.

    Returns:
        The expectations, in the dtype of K. Under jit those that are not resolved are NaN.

    Raises:
        ValueError: a variance is negative or not finite; F is not elementwise; an expectation is
            infinite or too much of it lies in the tail; F has a kink that is not named.
        TypeError: F computes in another dtype than that of K.
    """
    kinks = checked_kinks(kinks)
    variance = checked_variance("variance", variance)
    return _judged(*_integral(function, variance, kinks), kinks)


def expectation_and_slope(
    function: Callable[[Array], Array],
    variance: Float[ArrayLike, "*shape"],
    *,
    kinks: Sequence[float] = (0.0,),
) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """E[F(z)] for z ~ N(0, K), and its derivative in K, E[F(z) (z^2 - K)] / 2K^2.

    All is as for `expectation`; that an expectation is not resolved is an error here also for the
    derivative, where `jax.grad` of `expectation` would be NaN.
    """
    kinks = checked_kinks(kinks)
    variance = checked_variance("variance", variance)
    (mean, tail, end), (slope, _, _) = jax.jvp(
        lambda variance: _integral(function, variance, kinks),
        (variance,),
        (jnp.ones_like(variance),),
    )
    mean = _judged(mean, tail, end, kinks)
    return mean, jnp.where(jnp.isnan(mean), jnp.nan, slope)


def _integral(function, variance, kinks) -> tuple[Array, Array, Array]:
    """The expectation, and by how much it may be wrong; see `_reduce`."""
    zero = variance == 0
    floor = float(jnp.finfo(variance.dtype).eps) ** 0.75
    scale = jnp.sqrt(jnp.where(zero, variance + floor, variance))[..., None]
    cuts = _last_axis(np.concatenate([STEPS, -STEPS, kinks]), scale) / scale
    x, weights = _rule(_edges(cuts))
    z = scale[..., None] * x
    values = function(z)
    _check_values(values, z)
    mean, tail, end = _reduce(values, weights, x)
    tiny = float(jnp.finfo(variance.dtype).tiny)
    limit = jnp.mean(function(jnp.array([-tiny, tiny], variance.dtype)))
    return jnp.where(zero, limit + (mean - jax.lax.stop_gradient(mean)), mean), tail, end


def checked_kinks(kinks: Sequence[float]) -> tuple[float, ...]:
    """The kinks as numbers; a `ValueError` if one is not finite."""
    kinks = tuple(float(kink) for kink in kinks)
    if not all(math.isfinite(kink) for kink in kinks):
        raise ValueError(f"kinks: got {kinks}, wants finite numbers")
    return kinks


def checked_variance(name: str, variance: ArrayLike) -> Array:
    """A variance as a floating array; a `ValueError` if it is known not to be one."""
    check_finite(name, variance)
    variance = jnp.asarray(variance)
    variance = variance.astype(jnp.promote_types(variance.dtype, jnp.float32))
    if is_concrete(variance) and np.any(np.asarray(variance) < 0):
        raise ValueError(f"{name}: got {np.min(np.asarray(variance)):.6g}; a variance is >= 0")
    return variance


def _last_axis(constants: np.ndarray, like: Array) -> Array:
    """Constants along the last axis, in the rank and dtype of another array."""
    return jnp.asarray(constants, like.dtype).reshape(*[1] * (like.ndim - 1), -1)


def _edges(cuts: Array) -> Array:
    """The ends of the panels, [... panels+1], in order; cuts out of reach make empty panels."""
    fixed = _last_axis(np.concatenate([-GRID, GRID, [0.0, -REACH, REACH]]), cuts)
    fixed = jnp.broadcast_to(fixed, (*cuts.shape[:-1], fixed.shape[-1]))
    return jnp.sort(jnp.clip(jnp.concatenate([fixed, cuts], axis=-1), -REACH, REACH), axis=-1)


def _rule(edges: Array) -> tuple[Array, Array]:
    """Nodes and weights, with the density, of Gauss-Legendre in each panel: [... panels nodes]."""
    left, right = edges[..., :-1, None], edges[..., 1:, None]
    points, weights = (_last_axis(each, left) for each in _legendre(NODES)[:2])
    half = (right - left) / 2
    x = (left + right) / 2 + half * points
    return x, half * weights * jnp.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)


def _reduce(values: Array, weights: Array, x: Array) -> tuple[Array, Array, Array]:
    """The integral, and two shares of that of |F|: unresolved in the panels, and far out.

    The last two Legendre coefficients of an integrand that is analytic around its panel are about
    the root of the relative error of the rule; a kink of order r leaves nodes^-(r+1).
    """
    products = values * weights
    tests = jnp.asarray(_legendre(NODES)[2], values.dtype)
    last = jnp.abs(jnp.einsum("...n,nk->...k", products, tests, precision="highest"))
    total = jnp.sum(jnp.abs(products), axis=(-2, -1))
    size = jnp.where(total > 0, total, 1)
    far = jnp.sum(jnp.where(jnp.abs(x) > GRID[-1], jnp.abs(products), 0), axis=(-2, -1))
    return jnp.sum(products, axis=(-2, -1)), last.sum(-2).max(-1) / size, far / size


def _legendre(nodes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points, weights, and (2k + 1) P_k at the points for the last two k."""
    points, weights = np.polynomial.legendre.leggauss(nodes)
    orders = np.arange(nodes - 2, nodes)
    return (
        points,
        weights,
        np.polynomial.legendre.legvander(points, nodes - 1)[:, -2:] * (2 * orders + 1),
    )


def _tolerance(dtype) -> float:
    """Of the last coefficients, about the root of what the rule then leaves."""
    return 1e-6 if dtype == jnp.float64 else 1e-4


def _judged(mean: Array, tail: Array, end: Array, kinks: tuple[float, ...]) -> Array:
    tolerance = _tolerance(mean.dtype)
    bad = ~((tail <= tolerance) & (end <= tolerance) & jnp.isfinite(mean))
    if is_concrete(bad) and np.any(np.asarray(bad)):
        if not np.all(np.asarray(end) <= tolerance):
            raise ValueError(
                "function: E[F(z)] is infinite, NaN or too much of it lies in the tail: "
                f"{np.max(np.asarray(end)):.1e} of E|F(z)| beyond 12 sigma; take a function that "
                "grows less, or a smaller variance"
            )
        raise ValueError(
            f"kinks: got {kinks}, with which panels leave {np.max(np.asarray(tail)):.1e} of "
            "E|F(z)| unresolved; name every point where F or a derivative of it jumps (if there "
            "is none, F oscillates too fast at this variance)"
        )
    return jnp.where(bad, jnp.nan, mean)


def _check_values(values: Array, z: Array) -> None:
    if jnp.shape(values) != z.shape:
        raise ValueError(
            f"function: got values of shape {jnp.shape(values)} at points of shape {z.shape}; "
            "wants an elementwise function"
        )
    if values.dtype != z.dtype:
        raise TypeError(
            f"function: gave {values.dtype} for {z.dtype}; wants values of the dtype of its "
            "argument: write its constants as Python numbers"
        )
