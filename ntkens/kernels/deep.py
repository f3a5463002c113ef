"""Kernels of very deep networks on the unit sphere, in logarithms: NNGP and NTK at depth 10^5.

A layer of infinite width maps cosines by f (see `infinite_depth`), and depth iterates it. Off the
diagonal the kernels fall like a^L, or doubly exponentially, while the diagonal of the NTK grows
like b^L; what a classifier sees in them is how they compare. Here the cosine t is carried as ln |t|
and ln(1 - |t|), and K / t as its logarithm, and none of them leaves its range.
Radhakrishnan, Belkin and Uhler 2023, arXiv:2204.14126.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ntkens.checks import check_finite, check_float64, is_concrete
from ntkens.kernels.dual import Dual, check_dual
from ntkens.kernels.infinite_depth import limit
from ntkens.kernels.versine import versine

# Pairs with |cosine| above 1 - NEAR take 1 - f from the integral of f'; below, a subtraction costs
# 200 eps. There the nodes resolve polynomials to 1e-15 at degree 100, and 5e-13 at degree 300.
NEAR = 0.005
NODES, WEIGHTS = np.polynomial.legendre.leggauss(8)
TINY = math.log(1e-18)  # times the leading coefficient: below, the next term of f is under eps


class DeepKernel(NamedTuple):
    """Kernels of pairs of unit vectors at depth L, in logarithms; of shape [n m] for two sets.

    Attributes:
        sign: of the NNGP, +1 or -1.
        log_nngp: ln |K_L|, with K_L = f^(oL)(cosine), 0 on the diagonal. Where f'(0) = 0 even the
            logarithm leaves its range at depth 1000, to -inf; the coordinate does not.
        log_versine: ln(1 - |K_L|), exact where cosines tend to one.
        coordinate: the NNGP on the scale on which it converges with depth. With f ~ a t near 0 it
            is ln(|K_L| / a^L): its limit is the singular kernel. With f ~ a t^k, k >= 2, it is
            k^-L (ln |K_L| + ln(a) / (k - 1)): the largest is the nearest neighbour. With f(0) > 0
            it is ln |K_L|.
        ntk_sign: of the NTK, +1, -1, or 0 where it is 0.
        log_ntk: ln |NTK|; the diagonal is ln sum_(j<=L) f'(1)^j.
        log_ratio: ln |NTK / NNGP|, which does not underflow where both do.
    """

    sign: Float[Array, "*shape"]
    log_nngp: Float[Array, "*shape"]
    log_versine: Float[Array, "*shape"]
    coordinate: Float[Array, "*shape"]
    ntk_sign: Float[Array, "*shape"]
    log_ntk: Float[Array, "*shape"]
    log_ratio: Float[Array, "*shape"]


def kernel_fn(dual: Dual, depth: int, *, normalise: bool = False) -> Callable[..., DeepKernel]:
    """The kernels of a network of any depth on the unit sphere, as logarithms.

    Args:
        dual: the activation; scaled to unit variance. Make it once: what is compiled belongs to it.
        depth: L >= 0, up to 10^5 and beyond; a new depth of the same dual does not compile anew.
        normalise: put inputs on the unit sphere; False wants them there.

    Returns:
        `kernel_fn(x1, x2=None) -> DeepKernel` of inputs [n d] and [m d] in float64; `x2=None` is
        x1 with itself, whose diagonal is exact.

    Raises:
        ValueError: the depth is negative; inputs are no matrices of one width, not finite, zero,
            or off the sphere; `iterate` has further ones.
        TypeError: this is no `Dual`; x64 is off, or inputs are not float64.
    """
    check_dual(dual)
    _check_depth(depth)

    def checked(x1: Float[Array, "n d"], x2: Float[Array, "m d"] | None = None) -> DeepKernel:
        check_float64("deep.kernel_fn")
        x1 = _on_the_sphere("x1", x1, normalise)
        if x2 is not None:
            x2 = _on_the_sphere("x2", x2, normalise)
            if x1.shape[1] != x2.shape[1]:
                raise ValueError(
                    f"x2: its width is {x2.shape[1]}, that of x1 {x1.shape[1]}; want equal"
                )
        return iterate(dual, depth, *_cosines(x1, x2))

    return checked


def iterate(
    dual: Dual,
    depth: int,
    cosine: Float[Array, "*shape"],
    versine: Float[Array, "*shape"] | None = None,
) -> DeepKernel:
    """The kernels at depth L of pairs with these cosines.

        NNGP: t_(l+1) = f(t_l);    NTK: K_0 = t_0, K_(l+1) = f(t_l) + K_l f'(t_l).

    Near one, 1 - f is the integral of f', whose terms are positive, and near zero f is its leading
    term: the logarithms have errors of a few eps relative to max(1, |logarithm|), 1e-14 up to
    depth 60 (measured). Between, f has the error of the dual, about eps: relative to f, this is
    more near a zero of f at a negative cosine. Compiled: a loop over the layers.

    Args:
        dual: the activation; scaled to unit variance.
        depth: L >= 0.
        cosine: in [-1, 1].
        versine: 1 - |cosine|, for pairs so close that the cosine does not tell them apart.

    Raises:
        ValueError: the depth is negative; cosines or versines are out of range; f'(1) is infinite,
            where there is no NTK; or rounding hides how f vanishes at 0 (f'(0) below the
            tolerance of `infinite_depth.limit` and not below 1e-30, say).
        TypeError: x64 is off, or the cosine is not float64.
    """
    check_float64("deep.iterate")
    _check_depth(depth)
    cosine = _checked_range("cosine", cosine, -1)
    versine = 1 - jnp.abs(cosine) if versine is None else _checked_range("versine", versine, 0)
    if cosine.shape != versine.shape:
        raise ValueError(f"versine: got shape {versine.shape}, wants cosine's {cosine.shape}")
    return _iterate(dual, _cosine_map(dual), depth, cosine, versine)


class _CosineMap(NamedTuple):
    """Numbers of f that the loop needs: f ~ exp(log_leading) t^order near 0, f'(1) = high."""

    power: float
    order: int
    log_leading: float
    high: float
    mirrored: bool  # f is odd or even: |f(-t)| = f(t)


@jax.ensure_compile_time_eval()
def _cosine_map(dual: Dual) -> _CosineMap:
    """Read off the dual; numbers also while JAX traces."""
    found = limit(dual)
    if found.slope_at_one == math.inf:
        raise ValueError("dual: f'(1) is infinite; phi has no weak derivative, and there is no NTK")
    one = jnp.ones(())

    def value_and_slope(cosine):
        point = (one, one, jnp.asarray(cosine), jnp.asarray(1 - abs(cosine)))
        return (
            float(moment(*point)) / found.power for moment in (dual.covariance, dual.derivative)
        )

    order, leading = 0, 1.0
    if found.value_at_zero == 0:
        order, leading = 1, found.slope_at_zero
    if leading == 0:
        _, slope = value_and_slope(0.0)
        if slope > 1e-30:  # the squares of what quadrature leaves of a zero are below
            raise ValueError(
                f"dual: f'(0) = {slope:.1e} is small enough to be rounding, and large enough to "
                "decide the deep kernels; if it is of a Hermite series, set b_1 to 0"
            )
        step = 1e-8
        (near, slope), (far, _) = value_and_slope(step), value_and_slope(2 * step)
        order = round(step * slope / near) if near > 0 and slope > 0 else 0
        if order < 2 or abs(step * slope / near - order) > 1e-4:
            raise ValueError(
                "dual: f(0) = f'(0) = 0, but rounding or underflow hides the order to which f "
                "vanishes; if it is a Hermite series, set the coefficients that are rounding to 0"
            )
        leading = 2 * near / step**order - far / (2 * step) ** order
    opposite, _ = value_and_slope(-1.0)
    return _CosineMap(
        power=found.power,
        order=order,
        log_leading=math.log(leading),
        high=found.slope_at_one,
        mirrored=abs(abs(opposite) - 1) < 1e-13,
    )


class _State(NamedTuple):
    """The recursion of each pair, which stops where the rest is known; see `DeepKernel`."""

    sign: Array
    log_cosine: Array
    log_versine: Array
    ratio_sign: Array
    log_ratio: Array
    layers: Array


@partial(jax.jit, static_argnames=("dual", "cosine_map"))
def _iterate(dual, cosine_map, depth, cosine, versine):
    power, order, log_leading, high, mirrored = cosine_map
    one = jnp.ones((1,) * cosine.ndim)
    identical = (versine == 0) & ((cosine > 0) | mirrored)

    def slope(cosine, versine):
        return dual.derivative(one, one, cosine, versine) / power

    def shrink(versine):
        """[1 - f(1 - v)] / v, which is the mean of f' from 1 - v to 1."""

        def add(node, total):  # at 1 - v u^2, for f' may go like sqrt(v)
            u = (1 + jnp.asarray(NODES)[node]) / 2
            inner = versine * u**2
            return total + jnp.asarray(WEIGHTS)[node] * u * slope(1 - inner, inner)

        return jax.lax.fori_loop(0, len(NODES), add, jnp.zeros_like(versine))

    def is_tiny(log_cosine):
        """Where f is its leading term, and the rest of the layers has a closed form."""
        if order == 0:
            return jnp.zeros(cosine.shape, bool)
        return (log_cosine < TINY + log_leading) | (order * log_cosine < -600)

    def is_open(carry):
        index, state = carry
        settled = identical | is_tiny(state.log_cosine)
        return (index < depth) & ((index == 0) | ~settled.all())

    def layer(carry):
        index, state = carry
        sign = state.sign
        cosine, versine = sign * jnp.exp(state.log_cosine), jnp.exp(state.log_versine)
        near = (versine < NEAR) & ((sign > 0) | mirrored)
        value = dual.covariance(one, one, cosine, versine) / power
        # At a zero of f the NTK lives on: its ratio to 1e-300 does, and in two layers the NTK
        value = jnp.where(jnp.abs(value) < 1e-300, 1e-300, value)
        next_sign, size = jnp.where(value < 0, -1.0, 1.0), jnp.minimum(jnp.abs(value), 1)
        fall = jax.lax.cond(near.any(), shrink, jnp.ones_like, jnp.where(near, versine, 0))
        near_versine = state.log_versine + jnp.log(fall)
        log_cosine = jnp.where(near, jnp.log1p(-jnp.exp(near_versine)), jnp.log(size))
        log_versine = jnp.where(near, near_versine, jnp.log1p(-size))
        first = slope(cosine, versine)
        factor = jnp.log(jnp.abs(first)) + state.log_cosine - log_cosine  # of |t f'(t) / f(t)|
        factor_sign = state.ratio_sign * jnp.sign(first) * sign * next_sign
        ratio_sign, log_ratio = _one_plus(factor_sign, state.log_ratio + factor)
        after = _State(next_sign, log_cosine, log_versine, ratio_sign, log_ratio, state.layers + 1)
        tiny = is_tiny(state.log_cosine)
        return index + 1, jax.tree.map(lambda old, new: jnp.where(tiny, old, new), state, after)

    zeros = jnp.zeros_like(cosine)
    log_cosine = jnp.where(versine < 0.5, jnp.log1p(-versine), jnp.log(jnp.abs(cosine)))
    sign = jnp.where(cosine < 0, -1.0, 1.0)
    start = _State(sign, log_cosine, jnp.log(versine), zeros + 1, zeros, zeros)
    _, state = jax.lax.while_loop(is_open, layer, (0, start))
    state = state._replace(layers=jnp.where(identical, depth, state.layers))
    rest = depth - state.layers
    end, coordinate = _leading_layers(state, rest, order, log_leading)
    log_ratio = jnp.where(identical, _log_geometric(high, depth), end.log_ratio)
    log_ntk = jnp.where(jnp.isneginf(end.log_cosine), -jnp.inf, end.log_cosine + log_ratio)
    vanishes = jnp.isneginf(coordinate) | jnp.isneginf(log_ratio)
    ntk_sign = jnp.where(vanishes, 0.0, end.sign * end.ratio_sign)
    return DeepKernel(
        end.sign, end.log_cosine, end.log_versine, coordinate, ntk_sign, log_ntk, log_ratio
    )


def _leading_layers(state, rest, order, log_leading):
    """The state `rest` layers on, with f(t) = a t^k, and the coordinate, which is the same there.

    ln |t| + ln(a) / (k - 1) is multiplied by k per layer, or ln a added to ln |t| for k = 1; and
    NTK / NNGP goes from R to 1 + k R, in m layers to k^m (R + sum_(j=1..m) k^-j).
    """
    if order == 0:
        return state, state.log_cosine
    sign, log_cosine, _, ratio_sign, log_ratio, layers = state
    if order == 1:
        coordinate = log_cosine - layers * log_leading
        log_cosine = log_cosine + rest * log_leading
        log_sum = jnp.log(rest)
    else:
        offset = log_leading / (order - 1)
        coordinate = (log_cosine + offset) * float(order) ** -layers
        log_cosine = jnp.where(
            rest > 0, float(order) ** rest * (log_cosine + offset) - offset, log_cosine
        )
        log_sum = jnp.log(-jnp.expm1(-rest * math.log(order)) / (order - 1))
    log_sum = jnp.where(rest > 0, log_sum, 0)
    sum_sign, log_total = _one_plus(ratio_sign, log_ratio - log_sum)
    further = _State(
        jnp.where(order % 2 == 0, 1.0, sign),
        log_cosine,
        jnp.log1p(-jnp.exp(log_cosine)),
        sum_sign,
        rest * math.log(order) + log_sum + log_total,
        layers + rest,
    )
    return jax.tree.map(lambda old, new: jnp.where(rest > 0, new, old), state, further), coordinate


def _one_plus(sign, log):
    """Sign and logarithm of 1 + sign exp(log)."""
    below = jnp.where(log < 0, jnp.log1p(-jnp.exp(log)), log + jnp.log1p(-jnp.exp(-log)))
    total = jnp.where(sign < 0, below, jnp.logaddexp(0.0, log))
    return jnp.where((sign < 0) & (log > 0), -1.0, 1.0), total


def _log_geometric(ratio, depth):
    """ln sum_(j<=depth) ratio^j."""
    count = depth + 1.0
    if ratio == 1:
        return jnp.log(count)
    if ratio == 0:
        return jnp.zeros(())
    log = math.log(ratio)
    rest = jnp.log(-jnp.expm1(-abs(log) * count)) - math.log(-math.expm1(-abs(log)))
    return rest + (depth * log if log > 0 else 0.0)


def _check_depth(depth):
    if not isinstance(depth, int | np.integer) or depth < 0:
        raise ValueError(f"depth: got {depth}; hidden layers are counted 0, 1, 2, ...")


def _checked_range(name, array, low):
    array = jnp.asarray(array)
    if array.dtype != jnp.float64:
        raise TypeError(f"{name}: got dtype {array.dtype}; wants float64")
    if (
        is_concrete(array)
        and not (np.abs(np.asarray(array) - (1 + low) / 2) <= (1 - low) / 2).all()
    ):
        raise ValueError(f"{name}: holds numbers outside [{low}, 1], or NaN")
    return array


def _on_the_sphere(name, inputs, normalise):
    check_finite(name, inputs)
    inputs = jnp.asarray(inputs)
    if inputs.ndim != 2 or not inputs.shape[1]:
        raise ValueError(f"{name}: got shape {inputs.shape}; want a matrix [examples, width]")
    if inputs.dtype != jnp.float64:
        raise TypeError(f"{name}: got dtype {inputs.dtype}; wants float64")
    norms = jnp.linalg.norm(inputs, axis=1, keepdims=True)
    if is_concrete(norms):
        if normalise and not np.all(norms > 0):
            raise ValueError(
                f"{name}: row {int(np.argmin(norms))} is zero, with no place on a sphere"
            )
        if not normalise and np.abs(np.asarray(norms) - 1).max(initial=0) > 1e-12:
            row = int(np.argmax(np.abs(np.asarray(norms) - 1)))
            raise ValueError(
                f"{name}: row {row} has norm {float(norms[row, 0]):.6g}; wants points on the unit "
                "sphere, or normalise=True"
            )
    return inputs / norms if normalise else inputs


@jax.jit
def _cosines(x1, x2):
    """Cosines and versines of unit vectors, exact on the diagonal if x2 is None."""
    same = jnp.eye(len(x1), dtype=bool) if x2 is None else jnp.zeros((len(x1), len(x2)), bool)
    x2 = x1 if x2 is None else x2
    cosine = jnp.clip(jnp.matmul(x1, x2.T, precision="highest"), -1, 1)
    return jnp.where(same, 1, cosine), versine(x1, x2, cosine, same)
