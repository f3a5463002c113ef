"""Contrastive losses: of pairs that are told to belong together, or not.

    P(label = 1 | x, x') = sigmoid(f(x)^T f(x'))

(arXiv:2303.01566, Sec. 6). The likelihood knows f by its inner products alone, and so up to an
orthogonal map of its outputs. Pairs are trained on by `fit.epochs` like other examples:

    def loss(params, pairs, labels):                            # pairs [batch 2 ...]
        first, second = (model.apply(params, pairs[:, side]) for side in (0, 1))
        return contrastive.logistic(first, second, labels)
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ntkens.checks import is_concrete


def logistic(
    first: Float[Array, "*axes features"],
    second: Float[Array, "*axes features"],
    labels: Int[Array, "*axes"] | Bool[Array, "*axes"],
) -> Float[Array, "*axes"]:
    """Minus the log likelihood of each pair's label, in nats.

        ln(1 + exp(-(2 label - 1) f(x)^T f(x')))

    Args:
        first: f(x), the features of one side of each pair.
        second: f(x'), those of the other.
        labels: 1 where the two belong together, 0 where they do not; or booleans.

    Raises:
        ValueError: shapes that do not match; a label that is neither 0 nor 1.
        TypeError: features that are not floating, or labels that are not integers or booleans.
    """
    for name, features in (("first", first), ("second", second)):
        if not jnp.issubdtype(features.dtype, jnp.floating):
            raise TypeError(f"{name}: got dtype {features.dtype}; features are floating point")
    if first.ndim < 1 or first.shape != second.shape:
        raise ValueError(
            f"second: got shape {second.shape}, first {first.shape}; a pair has as many features "
            "on both sides"
        )
    if labels.dtype != bool and not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(f"labels: got dtype {labels.dtype}; they are 0 or 1, or booleans")
    if labels.shape != first.shape[:-1]:
        raise ValueError(
            f"labels: got shape {labels.shape} for pairs of features {first.shape}; there is one "
            "for each pair"
        )
    if is_concrete(labels) and not np.isin(np.asarray(labels), (0, 1)).all():
        raise ValueError("labels: some are neither 0 nor 1; a pair belongs together or not")
    logits = jnp.sum(first * second, axis=-1)
    return jax.nn.softplus(jnp.where(labels == 1, -logits, logits))
