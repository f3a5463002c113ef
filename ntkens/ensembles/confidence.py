"""How sure a classifier is of its prediction: scores of logits, larger where it is more confident.

A score is a function `logits [... classes] -> [...]`. What is compared are scores of different
examples, often those that are nearly certain, and there a softmax saturates: in float32 every
probability above 1 - 3e-8 is 1. So scores are computed in float64 where JAX has it on, whatever
the dtype of the logits, and without the cancellation of 1 - p in any dtype: with the gaps
d_j = z_j - max z of the other classes, and s = sum_j exp(d_j) over them,

    max p = 1 / (1 + s),    1 - max p = s / (1 + s),    entropy = log(1 + s) - sum_j p_j d_j.

`max_softmax` itself is a number near 1, and still has ties in float32; there take
`max_softmax_less_one`, of the same order and with the same averages but for the constant.

The score of an average of probabilities is that of its logarithm, `aggregate.log_mean`.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ntkens.checks import check_finite


def max_softmax(logits: Float[Array, "*n classes"]) -> Float[Array, "*n"]:
    """The probability of the predicted class, max_c p_c; the paper's "confidence" and MSP.

    Raises:
        ValueError, TypeError: as `max_logit`.
    """
    _, total = _below_the_top(logits)
    return 1 / (1 + total)


def max_softmax_less_one(logits: Float[Array, "*n classes"]) -> Float[Array, "*n"]:
    """max_c p_c - 1: `max_softmax` with all its digits where it is near 1, in float32 too.

    Raises:
        ValueError, TypeError: as `max_logit`.
    """
    _, total = _below_the_top(logits)
    return -total / (1 + total)


def negative_entropy(logits: Float[Array, "*n classes"]) -> Float[Array, "*n"]:
    """sum_c p_c log p_c, in nats; from -log(classes) to 0.

    Raises:
        ValueError, TypeError: as `max_logit`.
    """
    gaps, total = _below_the_top(logits)
    return jnp.sum(jnp.exp(gaps) * gaps, axis=-1) / (1 + total) - jnp.log1p(total)


def max_logit(logits: Float[Array, "*n classes"]) -> Float[Array, "*n"]:
    """max_c z_c.

    Raises:
        ValueError: no class axis, or logits that are not finite.
        TypeError: logits that are not floating point.
    """
    return jnp.max(_logits(logits), axis=-1)


def negative_energy(logits: Float[Array, "*n classes"]) -> Float[Array, "*n"]:
    """log sum_c exp z_c.

    Raises:
        ValueError, TypeError: as `max_logit`.
    """
    return jax.nn.logsumexp(_logits(logits), axis=-1)


def _logits(logits):
    logits = jnp.asarray(logits)
    if not jnp.issubdtype(logits.dtype, jnp.floating):
        raise TypeError(f"logits: got dtype {logits.dtype}; wants floating point")
    if logits.ndim < 1 or logits.shape[-1] < 1:
        raise ValueError(f"logits: got shape {logits.shape}; their last axis is the classes")
    check_finite("logits", logits)
    return logits.astype(jnp.result_type(float))  # float64 where it is on


def _below_the_top(logits):
    """z_j - max z, and sum exp of it over the classes other than the first of the largest."""
    logits = _logits(logits)
    gaps = logits - jnp.max(logits, axis=-1, keepdims=True)
    is_top = jax.nn.one_hot(jnp.argmax(logits, axis=-1), logits.shape[-1], dtype=bool)
    return gaps, jnp.sum(jnp.where(is_top, 0, jnp.exp(gaps)), axis=-1)
