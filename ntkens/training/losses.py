"""Losses of single examples, from logits or outputs and integer labels; any leading axes.

Of an example with outputs z, p = softmax(z), and the label y as the one-hot vector e_y:

    cross_entropy = -sum_c t_c log p_c    with t = (1 - smoothing) e_y + smoothing / classes
    brier         = ||p - e_y||^2
    squared_error = 0.5 ||z - e_y||^2

The sum over classes, not the mean: at 10 classes `brier` lies in [0, 2].
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ntkens.checks import is_concrete


def cross_entropy(
    logits: Float[Array, "*axes classes"],
    labels: Int[Array, "*axes"],
    *,
    smoothing: float = 0.0,
) -> Float[Array, "*axes"]:
    """Minus the log-likelihood of the label, which may be smoothed (Szegedy et al. 2016, sec. 7).

    Args:
        logits: unnormalised log-probabilities.
        labels: classes, 0, 1, ...
        smoothing: the share of a label that is spread evenly over all classes, in [0, 1].

    Raises:
        ValueError: shapes that do not match; a label that is no class; smoothing out of range.
        TypeError: logits that are not floating, or labels that are not integers.
    """
    if is_concrete(smoothing) and not 0 <= float(smoothing) <= 1:
        raise ValueError(f"smoothing: got {smoothing}; a share lies in [0, 1]")
    _check("logits", logits, labels)
    logs = jax.nn.log_softmax(logits)
    hard = -_of_label(logs, labels)
    if is_concrete(smoothing) and float(smoothing) == 0:
        return hard
    share = jnp.asarray(smoothing, logits.dtype)
    return (1 - share) * hard - share * jnp.mean(logs, axis=-1)


def brier(
    logits: Float[Array, "*axes classes"], labels: Int[Array, "*axes"]
) -> Float[Array, "*axes"]:
    """The squared distance of the probabilities to the label (Brier 1950).

    Raises:
        ValueError: shapes that do not match; a label that is no class.
        TypeError: logits that are not floating, or labels that are not integers.
    """
    _check("logits", logits, labels)
    return jnp.sum((jax.nn.softmax(logits) - _one_hot(logits, labels)) ** 2, axis=-1)


def squared_error(
    outputs: Float[Array, "*axes classes"], labels: Int[Array, "*axes"]
) -> Float[Array, "*axes"]:
    """Half the squared distance of the outputs to the one-hot label.

    Raises:
        ValueError: shapes that do not match; a label that is no class.
        TypeError: outputs that are not floating, or labels that are not integers.
    """
    _check("outputs", outputs, labels)
    return 0.5 * jnp.sum((outputs - _one_hot(outputs, labels)) ** 2, axis=-1)


def _one_hot(outputs, labels):
    return jax.nn.one_hot(labels, outputs.shape[-1], dtype=outputs.dtype)


def _of_label(logs, labels):
    # no gather: its gradient would be a scatter, which is slow on CPU and GPU
    return jnp.sum(logs, axis=-1, where=_one_hot(logs, labels) > 0)


def _check(name, outputs, labels):
    if not jnp.issubdtype(outputs.dtype, jnp.floating):
        raise TypeError(f"{name}: got dtype {outputs.dtype}; they are floating point")
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(f"labels: got dtype {labels.dtype}; classes are integers 0, 1, ...")
    if outputs.ndim < 1 or outputs.shape[:-1] != labels.shape:
        raise ValueError(
            f"labels: got shape {labels.shape} for {name} {outputs.shape}; there is one for each "
            "example, and the classes are the last axis"
        )
    if is_concrete(labels) and labels.size:
        low, high = np.min(np.asarray(labels)), np.max(np.asarray(labels))
        if low < 0 or high >= outputs.shape[-1]:
            raise ValueError(
                f"labels: got {low} to {high}; the classes are 0 to {outputs.shape[-1] - 1}"
            )
