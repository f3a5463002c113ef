"""Checks at the door. Shapes and dtypes always; values where they are known, not under a trace."""

import jax
import jax.core
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
