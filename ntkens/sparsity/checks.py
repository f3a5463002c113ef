"""Checks at the door of sparsity: scores, counts and names of layers."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from ntkens.checks import is_concrete


def check_count(argument: str, count: int | Int[Array, ""], most: int | None = None) -> None:
    """An error that names the argument, if it is no whole number from 1 to `most`."""
    if not jnp.issubdtype(jnp.result_type(count), jnp.integer) or jnp.ndim(count):
        raise TypeError(f"{argument}: got {count}; it is one whole number")
    limit = math.inf if most is None else most
    if is_concrete(count) and not 1 <= int(count) <= limit:
        raise ValueError(f"{argument}: got {count}; it is a whole number from 1 to {limit}")


def check_scores(scores: Mapping[str, Any]) -> None:
    """An error that names the layer, if scores are not floating, or known to hold NaN."""
    if not scores:
        raise ValueError("scores: got no layer; they are of the weights, by path")
    for name, layer in scores.items():
        dtype = jnp.result_type(layer)
        if not jnp.issubdtype(dtype, jnp.floating):
            raise TypeError(f"scores[{name!r}]: got dtype {dtype}; scores are floating point")
        if is_concrete(layer) and np.isnan(np.asarray(layer)).any():
            raise ValueError(
                f"scores[{name!r}]: holds NaN, which has no rank; look for it where the scores "
                "were computed"
            )


def check_names(argument: str, given: Iterable[str], wanted: Iterable[str]) -> None:
    """A `ValueError` that names the layers that are missing or unknown."""
    missing, unknown = sorted(set(wanted) - set(given)), sorted(set(given) - set(wanted))
    if missing or unknown:
        raise ValueError(
            f"{argument}: lacks layers {missing} and has {unknown} besides; its layers are "
            f"{sorted(wanted)}"
        )


def check_transposed(transposed: Iterable[str], weights: Mapping[str, Any]) -> None:
    """A `ValueError` unless every layer is there and has two axes."""
    for name in transposed:
        if name not in weights or jnp.ndim(weights[name]) != 2:
            raise ValueError(
                f"transposed: got {name!r}; it names kernels of two axes of {sorted(weights)}"
            )
