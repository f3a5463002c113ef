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
) -> Float[Array, "n count"]:
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
    numbers = max(len(points), (count + SPARE) * points.shape[1])  # of a row: what is held at once
    rows = max(block // (points.dtype.itemsize * numbers), 1)
    found, doubt = _distances(points, jnp.asarray(groups), count, min(rows, len(points)))
    if not float(doubt.max()) < DOUBT:
        raise ValueError(
            f"points: many are so near one another, beside the spread of all, that {points.dtype} "
            "hides which are nearest; leave far points out, or give float64 with jax_enable_x64"
        )
    return found


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


@functools.partial(jax.jit, static_argnames=("count", "rows"))
def _distances(points, groups, count, rows):
    centred = points - points.mean(axis=0, keepdims=True)
    squares = jnp.sum(centred**2, axis=1)
    scale = 4 * jnp.maximum(squares.max(), jnp.finfo(points.dtype).tiny)
    noise = jnp.finfo(points.dtype).eps * np.sqrt(points.shape[1])  # of a rounded square
    candidates = min(count + SPARE, len(points))

    def block(first):
        own = jnp.minimum(first + jnp.arange(rows), len(points) - 1)
        products = jnp.matmul(centred[own], centred.T, precision="highest")
        rounded = (squares[own][:, None] + squares[None, :] - 2 * products) / scale
        # In float32, for which there is a fast selection on a CPU.
        rounded = jnp.where(_same(groups[own], groups), jnp.inf, rounded.astype(jnp.float32))
        values, chosen = jax.lax.top_k(-rounded, candidates)
        apart = jnp.linalg.norm(points[chosen] - points[own][:, None, :], axis=-1)
        is_own = groups[chosen] == groups[own][:, None]
        found = jnp.sort(jnp.where(is_own, jnp.inf, apart), axis=1)[:, :count]
        missing = ((0, 0), (0, count - found.shape[1]))
        found = jnp.pad(found, missing, constant_values=jnp.inf)
        # Points that were not chosen are at least this far, as their rounded distances are larger.
        least = -values[:, -1].astype(points.dtype) - noise
        last = (found[:, -1] / jnp.sqrt(scale)) ** 2
        return found, jnp.where((last > 0) & jnp.isfinite(least), 1 - least / last, 0)

    found, doubt = jax.lax.map(block, np.arange(0, len(points), rows))
    return found.reshape(-1, count)[: len(points)], doubt


def _same(groups, others):
    return groups[:, None] == others[None, :]
