"""Gaussian expectations of any elementwise function, by panels that end where it has kinks.

z = sqrt(K) x with x standard normal, and the line of x is cut at

- points of a fixed grid, for the density is smooth on the scale 1,
- points of a grid in z, divided by sqrt(K), for an activation is smooth on the scale of |z|,
- the kinks, where the function or a derivative of it jumps.

In each panel stands a Gauss-Legendre rule. The panels move with K, and so what they give is
differentiable in K also where the function jumps. All is pure JAX: K may be traced.

Every call also measures how well the function is resolved: by the last Legendre coefficients in
each panel, which a kink leaves large, and by how much of the integral lies far out.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from ntkens.checks import check_finite, is_concrete
from ntkens.kernels.dual import Dual, from_moments, magnitude, root


class Rule(NamedTuple):
    """Where the line is cut, on both sides of 0, and how many nodes a panel has.

    Attributes:
        grid: in standard deviations; the last is where the line ends, and what lies beyond the
            last but one is far out.
        steps: in z, around each zero of z; not round, for a kink there would hide.
        nodes: of Gauss-Legendre in each panel.
        tolerance: of the last Legendre coefficients, in float64.
    """

    grid: tuple[float, ...]
    steps: tuple[float, ...]
    nodes: int
    tolerance: float


LINE = Rule((1.5, 3.5, 6.0, 9.0, 12.0, 16.0), (1.03, 2.57, 6.21, 15.3, 41.7), 20, 1e-6)
PLANE = Rule((2.0, 4.5, 8.0, 12.0), (1.03, 3.11, 9.37, 30.7), 14, 1e-5)


class Sums(NamedTuple):
    """An integral with the density, and what it is judged by.

    Attributes:
        value: the integral of F.
        size: that of |F|.
        unresolved: the last Legendre coefficients, summed over the panels. Of an integrand that
            is analytic around its panel they are about the root of the error of the rule; a kink
            in the derivative of order r leaves nodes^-(r+1).
        far: the part of `size` that lies far out.
    """

    value: Array
    size: Array
    unresolved: Array
    far: Array


def expectation(
    function: Callable[[Array], Array],
    variance: Float[ArrayLike, "*shape"],
    *,
    kinks: Sequence[float] = (0.0,),
) -> Float[Array, "*shape"]:
    """E[F(z)] for z ~ N(0, K).

    To 1e-14 relative in float64 for K from 1e-8 to 1e4, where F is smooth on the scale of |z|
    between its kinks (measured); oscillations of unit frequency are resolved up to K = 20.

    At K = 0 it is the limit from above: F(0), or the mean of both sides of a jump there; its
    derivative in K is then that at K = 2e-12 (in float64): F''(0) / 2 to about 1e-10, and where F
    itself has a kink at 0 a large number, for the limit is infinite.

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
    return _judged(_integral(function, variance, kinks), kinks, LINE)


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
    sums, slopes = jax.jvp(
        lambda variance: _integral(function, variance, kinks),
        (variance,),
        (jnp.ones_like(variance),),
    )
    mean = _judged(sums, kinks, LINE)
    return mean, jnp.where(jnp.isnan(mean), jnp.nan, slopes.value)


def dual(activation: Callable[[Array], Array], *, kinks: Sequence[float] = (0.0,)) -> Dual:
    """The dual of any elementwise activation, at every variance, by quadrature over the plane.

    With u, v of variances q1, q2 and cosine +-(1 - w), w = g / sqrt(q1 q2), and a, b independent
    standard normal,

        u = sqrt(q1) (C a + S b),  v = +-sqrt(q2) (C a - S b),  C^2 = 1 - w/2,  S^2 = w/2.

    The kinks of both factors are lines; for each b the panels in a end on them, and those in b
    where two of them meet. Near duplicates, w -> 0, are as exact as the rest. The gap is
    E[(phi(u) / |phi|_1 -+ phi(v) / |phi|_2)^2] |phi|_1 |phi|_2 / 2, with |phi|^2 = E[phi^2]:
    without cancellation but that of phi(u) - phi(v), eps / sqrt(w) of it.

    In float64 moments are right to 2e-13 of sqrt(E[phi(u)^2] E[phi(v)^2]) (measured against the
    closed forms at variances from 1e-3 to 1e4). Each costs a pair 1.4e5 values of the activation:
    this is for small Gram matrices, and to test closed forms. `hermite.dual` is fast where all
    variances are at most 1.

    Args:
        activation: phi, elementwise, in JAX, values of the dtype of its argument.
        kinks: where phi or a derivative of it jumps; 0 is always counted as one.

    Returns:
        A `Dual`; pairs that the quadrature does not resolve are NaN.

    Raises:
        ValueError, TypeError: as `expectation`, of phi, phi^2 and phi' at unit variance.
    """
    kinks = checked_kinks(kinks)

    @jax.jit
    def slope(z):
        return jax.jvp(activation, (z,), (jnp.ones_like(z),))[1]

    with jax.ensure_compile_time_eval():
        for function in (activation, lambda z: activation(z) ** 2, slope):
            expectation(function, jnp.ones(()), kinks=kinks)

    def product(function):
        def moment(variance1, variance2, covariance, gap=None):
            norm1, norm2 = (norm(function, each) for each in (variance1, variance2))
            sums = _over_plane(
                lambda u, v: function(u) * function(v), variance1, variance2, covariance, gap, kinks
            )
            return _judged(sums._replace(size=norm1 * norm2), kinks, PLANE)

        return moment

    def norm(function, variance):
        return root(_integral(lambda z: function(z) ** 2, variance, kinks).value)

    def gap_(variance1, variance2, covariance, gap=None):
        norm1, norm2 = (norm(activation, each) for each in (variance1, variance2))
        inverse1, inverse2 = (
            jnp.where(norm > 0, 1 / jnp.where(norm > 0, norm, 1), 0) for norm in (norm1, norm2)
        )

        def apart(sign):
            def distance(u, v):
                first = activation(u) * inverse1[..., None, None]
                second = activation(v) * inverse2[..., None, None]
                return (first - sign * second) ** 2 / 2

            sums = _over_plane(distance, variance1, variance2, covariance, gap, kinks)
            # on the scale of the norms, 1: of a small gap rounding is all that is left
            return _judged(sums._replace(size=jnp.ones_like(sums.size)), kinks, PLANE)

        return norm1 * norm2 * jnp.minimum(apart(1), apart(-1))

    return from_moments(product(activation), product(slope), gap_)


def _over_plane(function, variance1, variance2, covariance, gap, kinks) -> Sums:
    """E[F(u, v)] by panels in a inside panels in b, one node of b at a time; see `dual`."""
    dtype = covariance.dtype
    scale1, scale2 = (
        jnp.maximum(root(variance), float(jnp.finfo(dtype).tiny) ** 0.5)[..., None]
        for variance in (variance1, variance2)
    )
    scale = root(variance1) * root(variance2)
    gap = scale - magnitude(covariance) if gap is None else gap
    versine = jnp.where(scale > 0, gap / jnp.where(scale > 0, scale, 1), 0)
    versine = jnp.clip(versine, 0, 1)[..., None]  # outside is rounding
    sine, cosine = root(versine / 2), jnp.sqrt(1 - versine / 2)
    sign = jnp.where(covariance < 0, -1, 1).astype(dtype)[..., None]
    places = np.unique([0.0, *kinks, *PLANE.steps, *(-step for step in PLANE.steps)])
    u_cuts = _last_axis(places, sine) / scale1
    v_cuts = _last_axis(places, sine) * sign / scale2
    kinks = np.unique([0.0, *kinks])
    u_kinks, v_kinks = np.repeat(kinks, len(kinks)), np.tile(kinks, len(kinks))
    meet = _last_axis(u_kinks, sine) / scale1 - _last_axis(v_kinks, sine) * sign / scale2
    slide = jnp.broadcast_to(2 * sine, (*covariance.shape, 1))
    outer = jnp.concatenate([u_cuts + 0 * slide, v_cuts + 0 * slide, meet], axis=-1)
    outer = jnp.where(slide > 0, outer / jnp.where(slide > 0, slide, 1), PLANE.grid[-1])
    b, weights = _panels(outer, PLANE)

    @jax.checkpoint
    def line(b):
        """Over a, at one b for each pair."""
        shift = sine * b[..., None]
        cuts = jnp.concatenate([(u_cuts - shift) / cosine, (v_cuts + shift) / cosine], axis=-1)
        a, weights = _panels(cuts, PLANE)
        shift = shift[..., None]
        u = scale1[..., None] * (cosine[..., None] * a + shift)
        v = (sign * scale2)[..., None] * (cosine[..., None] * a - shift)
        return _sums(function(u, v) * weights, a, PLANE)

    nodes = jnp.moveaxis(b.reshape(*b.shape[:-2], -1), -1, 0)
    lines = Sums(*(jnp.moveaxis(each, 0, -1) for each in jax.lax.map(line, nodes)))
    lines = Sums(*(each.reshape(*each.shape[:-1], *b.shape[-2:]) * weights for each in lines))
    plane = _sums(lines.value, b, PLANE)
    size, unresolved, far = (jnp.sum(each, axis=(-2, -1)) for each in lines[1:])
    outside = jnp.sum(jnp.where(jnp.abs(b) > PLANE.grid[-2], lines.size, 0), axis=(-2, -1))
    return Sums(plane.value, size, unresolved + plane.unresolved, far + outside)


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
    if jnp.iscomplexobj(variance):
        raise TypeError(f"{name}: got dtype {variance.dtype}; a variance is real")
    floating = jnp.issubdtype(variance.dtype, jnp.floating)
    variance = variance.astype(
        jnp.promote_types(variance.dtype, jnp.float32) if floating else float
    )
    if is_concrete(variance) and np.any(np.asarray(variance) < 0):
        raise ValueError(f"{name}: got {np.min(np.asarray(variance)):.6g}; a variance is >= 0")
    return variance


def _integral(function, variance: Array, kinks: tuple[float, ...]) -> Sums:
    """Over the line; what does not depend on the function is compiled once for all of them."""
    z, x, weights = _line(variance, kinks)
    values = function(z)
    _check_values(values, z)
    tiny = float(jnp.finfo(variance.dtype).tiny)
    sides = function(jnp.array([-tiny, tiny], variance.dtype))
    return _line_sums(values, sides, x, weights, variance == 0)


@functools.partial(jax.jit, static_argnames="kinks")
def _line(variance: Array, kinks: tuple[float, ...]) -> tuple[Array, Array, Array]:
    """z, x = z / sqrt(K) and weights; at K = 0 of a small K, for the slope there."""
    floor = float(jnp.finfo(variance.dtype).eps) ** 0.75
    scale = jnp.sqrt(jnp.where(variance == 0, variance + floor, variance))[..., None]
    cuts = _last_axis([*LINE.steps, *(-step for step in LINE.steps), *kinks], scale) / scale
    x, weights = _panels(cuts, LINE)
    return scale[..., None] * x, x, weights


@jax.jit
def _line_sums(values: Array, sides: Array, x: Array, weights: Array, zero: Array) -> Sums:
    """At K = 0 with the value from both sides, and the slope of the sums."""
    sums = _sums(values * weights, x, LINE)
    limit = jnp.mean(sides) + (sums.value - jax.lax.stop_gradient(sums.value))
    return sums._replace(value=jnp.where(zero, limit, sums.value))


def _last_axis(constants, like: Array) -> Array:
    """Constants along the last axis, in the rank and dtype of another array."""
    return jnp.asarray(constants, like.dtype).reshape(*[1] * (like.ndim - 1), -1)


def _panels(cuts: Array, rule: Rule) -> tuple[Array, Array]:
    """Nodes, and weights with the density, [... panels nodes], from cuts [... cuts] in any order.

    Cuts out of reach make empty panels at the ends.
    """
    fixed = _last_axis([*rule.grid, 0.0, *(-each for each in rule.grid)], cuts)
    fixed = jnp.broadcast_to(fixed, (*cuts.shape[:-1], fixed.shape[-1]))
    cuts = jnp.clip(jnp.concatenate([fixed, cuts], axis=-1), -rule.grid[-1], rule.grid[-1])
    edges = jnp.sort(cuts, axis=-1)
    left, right = edges[..., :-1, None], edges[..., 1:, None]
    points, weights = (
        _last_axis(each, left) for each in np.polynomial.legendre.leggauss(rule.nodes)
    )
    half = (right - left) / 2
    x = (left + right) / 2 + half * points
    return x, half * weights * jnp.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)


def _sums(products: Array, x: Array, rule: Rule) -> Sums:
    """Of values times weights, [... panels nodes]."""
    size = jnp.abs(products)
    last = jnp.einsum(
        "...n,nk->...k",
        products,
        jnp.asarray(_last_polynomials(rule.nodes), products.dtype),
        precision="highest",
    )
    return Sums(
        jnp.sum(products, axis=(-2, -1)),
        jnp.sum(size, axis=(-2, -1)),
        jnp.sum(jnp.max(jnp.abs(last), axis=-1), axis=-1),
        jnp.sum(jnp.where(jnp.abs(x) > rule.grid[-2], size, 0), axis=(-2, -1)),
    )


def _last_polynomials(nodes: int) -> np.ndarray:
    """(2k + 1) P_k at the nodes, for the last two k that they tell from zero."""
    points, _ = np.polynomial.legendre.leggauss(nodes)
    orders = np.arange(nodes - 2, nodes)
    return np.polynomial.legendre.legvander(points, nodes - 1)[:, -2:] * (2 * orders + 1)


def _judged(sums: Sums, kinks: tuple[float, ...], rule: Rule) -> Array:
    """The value, if it is resolved; else an error, or NaN where values are not known."""
    precision = jnp.finfo(sums.value.dtype)
    allowed = max(rule.tolerance, 1e3 * float(precision.eps)) * sums.size
    allowed = allowed + 1e6 * float(precision.tiny)  # where the products underflow
    resolved = sums.unresolved <= allowed
    near = (sums.far <= allowed) & jnp.isfinite(sums.value)
    if is_concrete(sums) and not np.all(near):
        raise ValueError(
            "function: E[F(z)] is infinite, NaN, or too much of it lies in the tail: of E|F(z)|, "
            f"{np.max(np.asarray(sums.size)):.3g}, {np.max(np.asarray(sums.far)):.3g} is far out; "
            "take a function that grows less, or a smaller variance"
        )
    if is_concrete(sums) and not np.all(resolved):
        share = np.max(np.asarray(sums.unresolved) / np.maximum(np.asarray(sums.size), 1e-300))
        raise ValueError(
            f"kinks: got {kinks}, with which panels leave {share:.1e} of E|F(z)| unresolved; name "
            "every point where F or a derivative of it jumps; if there is none, F oscillates too "
            "fast or is singular"
        )
    return jnp.where(resolved & near, sums.value, jnp.nan)


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
