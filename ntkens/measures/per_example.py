"""Losses of single predictions, [n]; their means are in `uncertainty`.

These are what a bootstrap resamples, what costs of selective prediction are made of, and what a
confidence is. Dtype follows the probabilities.
"""

import jax
import jax.numpy as jnp
from jax.scipy.special import entr
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from ntkens.measures.checks import check_at_least_one, checked_labels, checked_probabilities


def correct(
    probabilities: Float[ArrayLike, "n classes"], labels: Int[ArrayLike, " n"]
) -> Bool[Array, " n"]:
    """Whether the most probable class is the label; of equal ones the smaller index is predicted.

    Raises:
        TypeError, ValueError: probabilities that are none, labels out of range, no example.
    """
    probabilities, labels = checked(probabilities, labels)
    return probabilities.argmax(axis=-1) == labels


def in_top(
    probabilities: Float[ArrayLike, "n classes"], labels: Int[ArrayLike, " n"], k: int
) -> Bool[Array, " n"]:
    """Whether the label is one of the k most probable classes; of equal ones smaller indices first.

    Raises:
        TypeError, ValueError: probabilities that are none, labels out of range, no example; k
            outside 1 to the number of classes.
    """
    probabilities, labels = checked(probabilities, labels)
    classes = probabilities.shape[1]
    check_at_least_one("k", k)
    if k > classes:
        raise ValueError(f"k: got {k}, wants at most the number of classes, {classes}")
    own = of_label(probabilities, labels)[:, None]
    sooner = jnp.arange(classes)[None] < labels[:, None]
    ahead = (probabilities > own) | ((probabilities == own) & sooner)
    return ahead.sum(axis=-1) < k


def negative_log_likelihood(
    probabilities: Float[ArrayLike, "n classes"], labels: Int[ArrayLike, " n"]
) -> Float[Array, " n"]:
    """-log p_y in nats; infinite where the label has probability 0.

    Raises:
        TypeError, ValueError: probabilities that are none, labels out of range, no example.
    """
    return -jnp.log(of_label(*checked(probabilities, labels)))


def brier(
    probabilities: Float[ArrayLike, "n classes"], labels: Int[ArrayLike, " n"]
) -> Float[Array, " n"]:
    """sum_k (p_k - [k = y])^2, from 0 to 2.

    Raises:
        TypeError, ValueError: probabilities that are none, labels out of range, no example.
    """
    probabilities, labels = checked(probabilities, labels)
    happened = jax.nn.one_hot(labels, probabilities.shape[1], dtype=probabilities.dtype)
    return jnp.sum((probabilities - happened) ** 2, axis=-1)


def entropy(probabilities: Float[ArrayLike, "... classes"]) -> Float[Array, "..."]:
    """-sum_k p_k log p_k in nats, with 0 log 0 = 0; values are not checked."""
    return entr(jnp.asarray(probabilities)).sum(axis=-1)


def checked(
    probabilities: Float[ArrayLike, "n classes"], labels: Int[ArrayLike, " n"]
) -> tuple[Float[Array, "n classes"], Int[Array, " n"]]:
    """Probabilities and labels as arrays, or the error that names one."""
    probabilities = checked_probabilities("probabilities", probabilities, "n classes")
    return probabilities, checked_labels(labels, *probabilities.shape)


def of_label(
    probabilities: Float[Array, "n classes"], labels: Int[Array, " n"]
) -> Float[Array, " n"]:
    """The probability of each label."""
    return jnp.take_along_axis(probabilities, labels[:, None], axis=-1)[:, 0]
