"""Checks at the door. Shapes and dtypes always; values where they are known, not under a trace."""

import jax
import jax.core
import jax.numpy as jnp
import numpy as np


def is_concrete(*arrays) -> bool:
    """Whether values can be looked at: no array is traced by jit, vmap or grad."""
    return not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(arrays))


def check_finite(name, array) -> None:
    """A `ValueError` that names the argument if it is known to hold NaN or infinities.

    In NumPy: under jit a constant has a value, and what JAX computes of it has not.
    """
    if is_concrete(array) and not np.isfinite(np.asarray(array)).all():
        raise ValueError(f"{name}: holds NaN or infinities; look for them where it was computed")


def check_float64(function) -> None:
    """A `TypeError` unless float64 is on, for a function whose float32 answer would be wrong."""
    if not jax.config.read("jax_enable_x64"):
        raise TypeError(
            f"{function}: float32 cannot hold its answer; turn float64 on first with "
            'jax.config.update("jax_enable_x64", True)'
        )


def checked_points(first, second):
    """Two sets of points, each a name and an array, as matrices of one width and one dtype.

    Float32 or wider. A `ValueError` or `TypeError` that names the set with: NaN or infinities; no
    points; integers; another width; points of the first so far from the second's that the squares
    of distances overflow.
    """
    for name, points in (first, second):
        check_finite(name, points)
        if jnp.ndim(points) != 2 or not jnp.size(points):
            raise ValueError(f"{name}: got shape {jnp.shape(points)}; want [examples, width]")
        if not jnp.issubdtype(jnp.result_type(points), jnp.floating):
            raise TypeError(
                f"{name}: got dtype {jnp.result_type(points)}; want floating point, "
                "say x.astype(float)"
            )
    (name1, points1), (name2, points2) = first, second
    width = jnp.shape(points2)[1]
    if jnp.shape(points1)[1] != width:
        raise ValueError(
            f"{name1}: its width is {jnp.shape(points1)[1]}, that of {name2} {width}; want equal"
        )
    dtype = jnp.result_type(points1, points2, jnp.float32)
    points1, points2 = jnp.asarray(points1, dtype), jnp.asarray(points2, dtype)
    if is_concrete(points1, points2):
        largest = float(np.max(np.abs(np.asarray(points2)))) or 1
        farthest = float(jnp.finfo(dtype).max) ** 0.4 * largest
        if float(np.max(np.abs(np.asarray(points1)))) > farthest:
            raise ValueError(
                f"{name1}: holds numbers above {farthest:.1e}, so far from all of {name2} that "
                f"squares overflow {dtype}; drop them, or give the points in a wider dtype"
            )
    return points1, points2
