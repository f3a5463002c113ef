"""Checks at the door of every measure: shapes and dtypes always, values where they are known."""

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from ntkens.checks import is_concrete

# How far from 1 probabilities may sum: softmax in float32 is within 1e-6 of it for any number of
# classes in use, also after a cast to float64; what was never normalised is not this close.
SUM_TOLERANCE = 1e-5


def checked_probabilities(
    name: str, probabilities: Float[ArrayLike, "*axes n classes"], axes: str
) -> Float[Array, "*axes n classes"]:
    """Probabilities of the axes said, such as "n classes", in at least 32 bits, or the error."""
    values = jnp.asarray(probabilities)
    if values.ndim != len(axes.split()) or 0 in values.shape:
        raise ValueError(f"{name}: got shape {values.shape}, wants [{axes}], none of them 0")
    check_simplex(name, values)
    return values.astype(at_least_float32(values.dtype))


def check_simplex(name: str, values: Float[ArrayLike, "*axes n"]) -> None:
    """An error that names the argument unless it is floating, >= 0, and sums to 1 at the end."""
    dtype = jnp.result_type(values)
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"{name}: got dtype {dtype}, wants floating point")
    if not is_concrete(values):
        return
    on_host = np.asarray(values)
    total = on_host.sum(-1, dtype=np.promote_types(on_host.dtype, np.float32))
    if np.isnan(total).any():
        raise ValueError(f"{name}: holds NaN; look for it where it was computed")
    if (on_host < 0).any():
        raise ValueError(
            f"{name}: holds {on_host.min():.6g}, below 0; logits become probabilities by "
            "jax.nn.softmax"
        )
    off = np.abs(total - 1)
    if (off > max(SUM_TOLERANCE, 4 * float(jnp.finfo(dtype).eps))).any():
        raise ValueError(
            f"{name}: sum to {total.flat[off.argmax()]:.6g} along the last axis, wants 1; logits "
            "become probabilities by jax.nn.softmax"
        )


def checked_labels(labels: Int[ArrayLike, " n"], n: int, classes: int) -> Int[Array, " n"]:
    """Labels as an integer array [n] with values in 0..classes-1, or the error."""
    values = jnp.asarray(labels)
    if not jnp.issubdtype(values.dtype, jnp.integer):
        raise TypeError(f"labels: got dtype {values.dtype}, wants integers: the index of a class")
    check_length("labels", values, n)
    if is_concrete(values):
        low, high = np.asarray(values).min(), np.asarray(values).max()
        if low < 0 or high >= classes:
            raise ValueError(f"labels: from {low} to {high}, want 0 to {classes - 1}")
    return values


def check_length(name: str, array: Array, n: int) -> None:
    """A `ValueError` that names the argument unless it has shape [n]."""
    if array.shape != (n,):
        raise ValueError(f"{name}: got shape {array.shape}, wants ({n},): one for each example")


def checked_scores(scores: Float[ArrayLike, " n"]) -> Float[Array, " n"]:
    """Scores as floats [n] of at least 32 bits, without NaN, or the error."""
    values = jnp.asarray(scores)
    if values.ndim != 1 or not values.size:
        raise ValueError(f"scores: got shape {values.shape}, wants [n], at least one example")
    if jnp.iscomplexobj(values):
        raise TypeError(f"scores: got dtype {values.dtype}, wants real numbers")
    check_no_nan("scores", values)
    return values.astype(at_least_float32(values.dtype))


def check_no_nan(name: str, values: ArrayLike) -> None:
    """A `ValueError` that names the argument if it is known to hold NaN."""
    if is_concrete(values) and np.isnan(np.asarray(values)).any():
        raise ValueError(f"{name}: holds NaN; look for it where it was computed")


def check_fraction(name: str, value: ArrayLike) -> None:
    """A `ValueError` that names the argument unless it is one number from 0 to 1."""
    if jnp.ndim(value) or (is_concrete(value) and not 0 <= float(np.asarray(value)) <= 1):
        raise ValueError(f"{name}: got {value}; it is one number from 0 to 1, vmap over several")


def check_at_least_one(name: str, value: int) -> None:
    """A `ValueError` that names the argument unless it is a whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"{name}: got {value}, wants a whole number of at least 1")


def checked_counts(counts: Int[ArrayLike, " n"] | None, n: int) -> Int[Array, " n"]:
    """How often each example is in the sample, once each if `None`, or the error."""
    if counts is None:
        return jnp.ones(n, int)
    values = jnp.asarray(counts)
    if not jnp.issubdtype(values.dtype, jnp.integer):
        raise TypeError(f"counts: got dtype {values.dtype}, wants integers")
    check_length("counts", values, n)
    if is_concrete(values) and (np.asarray(values).min() < 0 or np.asarray(values).sum() != n):
        raise ValueError(f"counts: want numbers of at least 0 that sum to {n}: a resample")
    return values


def at_least_float32(dtype) -> jnp.dtype:
    """What to compute in: counts of examples do not fit into 16 bits."""
    if not jnp.issubdtype(dtype, jnp.floating):
        return jnp.result_type(float)
    return jnp.promote_types(dtype, jnp.float32)
