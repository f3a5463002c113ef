"""Singular kernels k(x, x') = 1 / |x - x'|^alpha, and the classifiers they make.

The Hilbert estimate of Devroye, Gyorfi and Krzyzak 1998 has no bandwidth and nothing to solve,

    sum_i y_i k(x, x_i) / sum_i k(x, x_i),

interpolates, and is consistent where alpha is the dimension of the data. It is the limit of deep
networks whose activation has mean zero and f'(0) > 0, with alpha = -2 log f'(0) / log f'(1), f the
dual activation (arXiv:2204.14126). At alpha = infinity it is the nearest neighbour, towards 0 the
mean.

The kernel overflows where it matters, and so only logarithms of ratios of distances are formed.
|x|^2 + |x'|^2 - 2 x.x' costs a matrix product and, near a pair's own distance, its digits: what it
leaves too few of is computed anew from the difference of the points, however many pairs that is.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from ntkens import tree
from ntkens.checks import check_finite, checked_points, is_concrete

# A pair with |x - x'|^2 < NEAR (|x - c|^2 + |x' - c|^2), c the mean of the inputs, is computed from
# its difference. Above, rounding is a few eps / NEAR of the square at worst.
NEAR = 1 / 16

# Up to this width all squares are sums of squared differences: as fast as a product, and what is
# of few dimensions has many near pairs.
NARROW = 16

# Near pairs of one query are computed so many at a time.
SLOTS = 8


def log_kernel(exponent: Float[ArrayLike, ""]):
    """log k(x, x') = -alpha log |x - x'| for all pairs of two sets of inputs.

    Args:
        exponent: alpha, finite and above 0.

    Returns:
        `(x1, x2=None) -> [n m]` of inputs [n d] and [m d], compiled; +inf where two points
        coincide. `x2=None` is x1 with itself: symmetric to the bit. In float32 and wider,
        whichever the inputs have.

    Raises:
        ValueError, TypeError: as for `estimate`.
    """
    _check_exponent(exponent)

    def evaluate(x1: Float[Array, "n d"], x2: Float[Array, "m d"] | None = None):
        x1, others = checked_points(("x1", x1), ("x2", x1 if x2 is None else x2))
        return _log_kernel(x1, others, jnp.asarray(exponent, x1.dtype), x2 is None)

    return evaluate


def estimate(
    queries: Float[Array, "m d"],
    inputs: Float[Array, "n d"],
    targets: Float[Array, "n *outputs"],
    exponent: Float[ArrayLike, ""],
    *,
    chunk: int | None = None,
) -> Float[Array, "m *outputs"]:
    """The Hilbert estimate, sum_i y_i k(x, x_i) / sum_i k(x, x_i) with k = 1 / |x - x_i|^alpha.

    Its sign (targets of -1 and 1) or largest output (one-hot targets) is the singular-kernel
    classifier of arXiv:2204.14126; of one-hot targets it estimates class probabilities. A query
    that coincides with training inputs gets the mean of their targets, exactly.

    Streamed: squares of distances exist for `chunk` queries and `chunk` inputs at a time, so that
    memory beyond a copy of the data does not grow with it. Compiled. Derivatives with respect to
    points and exponent are to be had forward (`jax.jvp`) only, with respect to targets both ways.

    The error of log k is a few alpha eps for most pairs, and grows as the square of the distance
    falls, to 1 / NEAR times that, where differences take over; it is small again from there on.
    Distances below 1e-15 d^1/2 (float64: 1e-145 d^1/2) of the largest input count as that, unless
    they are 0.

    Args:
        queries: where to estimate; any point of R^d.
        inputs: of the training set.
        targets: one row per training input; any axes after the first are outputs.
        exponent: alpha, finite and above 0; consistent at the intrinsic dimension of the data.
        chunk: queries and inputs at a time, at least 1; by default 1024 on a CPU, where the tile
            stays in cache, and 8192 elsewhere.

    Raises:
        ValueError: shapes do not match; something is empty, or holds NaN or infinities; a query is
            so far from all inputs that squares overflow; exponent or chunk is out of range.
        TypeError: queries or inputs are not floating point; targets are complex.
    """
    _check_exponent(exponent)
    if chunk is None:
        chunk = 1024 if jax.default_backend() == "cpu" else 8192
    if not isinstance(chunk, int | np.integer) or chunk < 1:
        raise ValueError(f"chunk: got {chunk}; it is at least 1 query at a time, or None")
    check_finite("targets", targets)
    if jnp.iscomplexobj(targets):
        raise TypeError("targets: got complex numbers; want real ones")
    dtype = jnp.result_type(queries, inputs)
    queries, inputs = checked_points(("queries", queries), ("inputs", inputs))
    if not jnp.ndim(targets) or len(targets) != len(inputs):
        raise ValueError(
            f"targets: got shape {jnp.shape(targets)}; want ({len(inputs)}, ...): one row for "
            "each of the inputs"
        )
    targets = jnp.asarray(targets, inputs.dtype)
    outputs = targets.shape[1:]
    targets = targets.reshape(len(inputs), -1)
    means = _estimate(queries, inputs, targets, jnp.asarray(exponent, inputs.dtype), int(chunk))
    return means.reshape(len(queries), *outputs).astype(dtype)


@functools.partial(jax.jit, static_argnames="symmetric")
def _log_kernel(x1, x2, exponent, symmetric):
    scale, centre = _frame(x2)
    squares = _squares(x1 * scale, x2 * scale, centre, jnp.ones(len(x2), bool))
    if symmetric:
        squares = (squares + squares.T) / 2
    return exponent * (jnp.log(scale) - jnp.log(squares) / 2)


@functools.partial(jax.jit, static_argnames="chunk")
def _estimate(queries, inputs, targets, exponent, chunk):
    scale, centre = _frame(inputs)
    present = tree.in_chunks(jnp.ones(len(inputs), bool), chunk)
    blocks = (tree.in_chunks(inputs * scale, chunk), tree.in_chunks(targets, chunk), present)
    rows = tree.in_chunks(queries * scale, chunk)

    def weights(squares, nearest):
        """(nearest / squares)^(alpha / 2); where the nearest is at 0, all weight is its own."""
        apart = nearest > 0
        logarithm = jnp.log(squares * (1 / jnp.where(apart, nearest, 1)))
        return jnp.where(apart, jnp.exp(-exponent / 2 * logarithm), squares == 0)

    def block(sums, block):
        inputs, targets, present = block

        def tile(arguments):
            queries, (nearest, total, weighted) = arguments
            squares = _squares(queries, inputs, centre, present)
            nearer = jnp.minimum(nearest, jnp.min(squares, axis=1, keepdims=True))
            nearer = jax.lax.stop_gradient(nearer)  # it cancels, and starts at infinity
            kept, added = weights(nearest, nearer), weights(squares, nearer)
            total = kept * total + jnp.sum(added, axis=1, keepdims=True)
            return nearer, total, kept * weighted + jnp.matmul(added, targets, precision="highest")

        return jax.lax.map(tile, (rows, sums)), None

    def start(width, value):
        return jnp.full((*rows.shape[:2], width), value, inputs.dtype)

    sums = (start(1, jnp.inf), start(1, 0), start(targets.shape[1], 0))
    (_, total, weighted), _ = jax.lax.scan(block, sums, blocks)
    return (weighted / total).reshape(-1, targets.shape[1])[: len(queries)]


def _squares(queries, inputs, centre, present):
    """|x - x_i|^2 [m n]: 0 for coincident points alone, infinite for inputs not present."""
    width = queries.shape[1]
    if width <= NARROW:
        columns = ((queries[:, k, None] - inputs.T[k, None]) ** 2 for k in range(width))
        squares = sum(columns)
        size1, size2 = jnp.zeros_like(queries[:, 0]), jnp.zeros_like(inputs[:, 0])
    else:
        queries_, inputs_ = queries - centre, inputs - centre
        size1, size2 = jnp.sum(queries_**2, axis=1), jnp.sum(inputs_**2, axis=1)
        product = jnp.matmul(queries_, inputs_.T, precision="highest")
        squares = (size1[:, None] + size2[None, :]) - 2 * product
    squares = jnp.where(present[None, :], squares, jnp.inf)
    bound1, bound2 = NEAR * size1 + _resolution(squares.dtype), NEAR * size2
    return _renewed(squares, bound1, bound2, queries, inputs)


def _renewed(squares, bound1, bound2, queries, inputs):
    """The squares, those below bound1 + bound2 from the difference of their points.

    Row by row, and of a row `SLOTS` at a time: few cost little, and any number is served.
    """

    def row(state):
        pending, squares = state
        index = jnp.argmax(pending)
        upto = jnp.cumsum(squares[index] < bound1[index] + bound2)

        def some(state):
            done, squares = state
            slots = done + jnp.arange(1, SLOTS + 1)
            columns = jnp.searchsorted(upto, slots, method="compare_all")
            anew = _of_differences(queries[index], inputs.at[columns].get(mode="clip"))
            return done + SLOTS, squares.at[index, columns].set(anew, mode="drop")

        _, squares = jax.lax.while_loop(lambda state: state[0] < upto[-1], some, (0, squares))
        return pending.at[index].set(False), squares

    pending = jnp.any(squares < bound1[:, None] + bound2[None, :], axis=1)
    return jax.lax.while_loop(lambda state: state[0].any(), row, (pending, squares))[1]


def _of_differences(query, inputs):
    """|x - x_i|^2 [n]; no less than what sums of squares can resolve, and coincidence is 0."""
    difference = query[None, :] - inputs
    squares = jnp.sum(difference**2, axis=1)
    apart = jnp.any(difference != 0, axis=1)
    return jnp.where(apart, jnp.maximum(squares, _resolution(squares.dtype)), 0)


def _resolution(dtype):
    """Below, squares of differences lose digits to underflow."""
    return jnp.finfo(dtype).tiny / jnp.finfo(dtype).eps


def _frame(inputs):
    """A power of 2 that brings squared distances of inputs below 1, and the scaled inputs' mean."""
    _, exponent = jnp.frexp(jnp.max(jnp.abs(inputs)))
    exponent = exponent + math.ceil(math.log2(2 * inputs.shape[1] ** 0.5))
    least = jnp.finfo(inputs.dtype).minexp  # the scale is a normal number
    scale = jnp.ldexp(jnp.ones((), inputs.dtype), jnp.clip(-exponent, least, -least))
    return scale, jnp.mean(inputs * scale, axis=0, keepdims=True)


def _check_exponent(exponent):
    if jnp.ndim(exponent) or (is_concrete(exponent) and not 0 < float(exponent) < np.inf):
        raise ValueError(
            f"exponent: got {exponent}; want one number, finite and above 0 "
            "(the limits are the mean of the targets, and predictors.local.nearest_neighbour)"
        )
