"""Distances to the nearest points of other groups, in blocks: what two measures are made of."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from ntkens.checks import checked_points, is_concrete

# Bytes of one block of distances: what a CPU's caches share, and what fills an accelerator.
CPU_BLOCK, ACCELERATOR_BLOCK = 2**25, 2**30

# The nearest are chosen by rounded distances; this many more are chosen, and all measured again.
SPARE = 8

# By how much the square of a distance may be above that of the neighbour that rounding hid.
DOUBT = 1e-3


def distances(
    points: Float[Array, "n width"], groups: Int[ArrayLike, " n"], count: int
) -> Float[np.ndarray, "n count"]:
    """Euclidean distances to the `count` nearest points that are not of one's own group, ascending.

    Infinite where there are fewer. Candidates are chosen among all points by
    |a|^2 + |b|^2 - 2 a.b, of points less their mean; their distances are those of differences,
    without cancellation, and no neighbour is missed unless by rounding of less than 0.05%. Compiles
    itself. Beside points and result it holds one block of rows against all points, 32 MiB of
    distances on a CPU. Bounded by the products, 2 n^2 width flops.

    Args:
        points: as `checked_rows` returns them.
        groups: of each point; n different ones for the neighbours of every point.
        count: how many, at least 1.

    Raises:
        ValueError: more points than `SPARE` lie so near one another, beside the spread of all, that
            rounding hides which are the nearest: below 1e-3 of it in float32, 1e-7 in float64.
    """
    block = CPU_BLOCK if jax.default_backend() == "cpu" else ACCELERATOR_BLOCK
    candidates = min(count + SPARE, len(points))
    numbers = max(points.shape)  # of a row: what is held at once
    rows = min(max(block // (points.dtype.itemsize * numbers), 1), len(points))
    *found, scale = jax.device_get(_candidates(points, jnp.asarray(groups), candidates, rows))
    apart, rounded = (np.concatenate(each)[: len(points)] for each in found)
    missing = ((0, 0), (0, max(count - candidates, 0)))
    apart = np.pad(np.sort(apart, axis=1), missing, constant_values=np.inf)[:, :count]
    # Whoever is no candidate is at least this far, for its rounded square is above the last one's.
    noise = np.finfo(points.dtype).eps * np.sqrt(points.shape[1])
    least = (rounded[:, -1] - noise) * scale
    last = apart[:, -1] ** 2
    if candidates < len(points) and np.any((last > 0) & (least < (1 - DOUBT) * last)):
        raise ValueError(
            f"points: many are so near one another, beside the spread of all, that {points.dtype} "
            "hides which are nearest; leave far points out, or give float64 with jax_enable_x64"
        )
    return apart


def checked_rows(points: Float[ArrayLike, "n *shape"]) -> Float[Array, "n width"]:
    """Points flattened to rows, in float32 or float64.

    Raises:
        ValueError: no points, NaN or infinities.
        TypeError: integers; points that JAX traces, whose measures look at values.
    """
    if not is_concrete(points):
        raise TypeError("points: are traced; call this outside of jit, vmap and grad")
    array = jnp.asarray(points)
    if not array.ndim or not array.size:
        raise ValueError(f"points: got shape {array.shape}; want [points, ...], none of them 0")
    rows = array.reshape(len(array), -1)
    return checked_points(("points", rows), ("points", rows))[0]


@functools.partial(jax.jit, static_argnames=("candidates", "rows"))
def _candidates(points, groups, candidates, rows):
    """In blocks of rows: distances to the candidates; their rounded squares, over a scale.

    Chosen in float32, for which there is a fast selection on a CPU: in float64 it takes sixty times
    as long.
    """
    centred = points - points.mean(axis=0, keepdims=True)
    squares = jnp.sum(centred**2, axis=1)
    scale = 4 * jnp.maximum(squares.max(), jnp.finfo(points.dtype).tiny)

    def block(first):
        own = jnp.minimum(first + jnp.arange(rows), len(points) - 1)
        products = jnp.matmul(centred[own], centred.T, precision="highest")
        rounded = (squares[own][:, None] + squares[None, :] - 2 * products) / scale
        is_own = groups[own][:, None] == groups[None, :]
        nearness = jnp.where(is_own, -jnp.inf, -rounded.astype(jnp.float32))
        values, chosen = jax.lax.top_k(nearness, candidates)
        mine = points[own]
        apart = jax.lax.map(lambda one: jnp.linalg.norm(points[one] - mine, axis=1), chosen.T).T
        return jnp.where(values > -jnp.inf, apart, jnp.inf), -values

    return *jax.lax.map(block, np.arange(0, len(points), rows)), scale
