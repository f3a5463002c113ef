"""Checks at the door: logits, probabilities and labels of members, and numbers of members."""

import jax.numpy as jnp
import numpy as np

from ntkens.checks import is_concrete
from ntkens.measures.checks import check_simplex


def check_logits(logits) -> None:
    """Members first, classes last, floating, and a distribution: not NaN, +inf or -inf alone."""
    if not jnp.issubdtype(jnp.result_type(logits), jnp.floating):
        raise TypeError(f"logits: got {jnp.result_type(logits)}; want floating point")
    _check_axes("logits", jnp.shape(logits))
    if is_concrete(logits):
        largest = np.max(np.asarray(logits), axis=-1)  # NaN where one is
        if not np.isfinite(largest).all():
            raise ValueError(
                "logits: hold NaN, +inf, or an example whose classes are all -inf; look for them "
                "where the network diverged"
            )


def check_labels(labels, shape) -> None:
    """Integers in the shape between members and classes, each a class."""
    if not jnp.issubdtype(jnp.result_type(labels), jnp.integer):
        raise TypeError(f"labels: got {jnp.result_type(labels)}; want integers, the classes")
    if jnp.shape(labels) != shape[1:-1]:
        raise ValueError(
            f"labels: got shape {jnp.shape(labels)}; members of shape {shape} want one label an "
            f"example, {shape[1:-1]}"
        )
    if is_concrete(labels):
        values = np.asarray(labels)  # under jit a constant has a value, its comparison has not
        if not ((values >= 0) & (values < shape[-1])).all():
            raise ValueError(f"labels: got one outside the classes 0..{shape[-1] - 1}")


def check_accuracy(accuracy) -> None:
    """One probability, neither 0 nor 1."""
    if jnp.ndim(accuracy) or (is_concrete(accuracy) and not 0 < float(accuracy) < 1):
        raise ValueError(f"accuracy: got {accuracy}; want a probability between 0 and 1")


def check_number(name, value) -> None:
    """One number of at least 1."""
    if jnp.ndim(value) or (is_concrete(value) and not np.asarray(value) >= 1):
        raise ValueError(f"{name}: got {value}; it is one number of at least 1, vmap over several")


def check_probabilities(probabilities) -> None:
    """Members first, classes last, each a distribution."""
    _check_axes("probabilities", jnp.shape(probabilities))
    check_simplex("probabilities", probabilities)


def _check_axes(name, shape):
    if len(shape) < 2 or shape[0] < 1 or shape[-1] < 1:
        raise ValueError(
            f"{name}: got shape {shape}; want [members ... classes], the members first, and at "
            "least one of either"
        )
