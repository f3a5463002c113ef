"""How well scores tell positive examples from negative ones: AUROC, AUPR, FPR at a given TPR.

Larger scores mean positive. With TP(t) and FP(t) the positives and negatives that score at least t,
and P and N of them in all, recall is TPR = TP / P and FPR = FP / N. A sample of one class has no
ranking: all of these are then NaN, and `undefined` says why in words.

`counts` say how often each example is in the sample; without them, once.
"""

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from ntkens.measures.checks import check_fraction, check_length, checked_counts
from ntkens.measures.ranked import Groups, Ranked, rank, sums


def undefined(positive: Bool[ArrayLike, " n"]) -> str | None:
    """Why the measures of this file are NaN for these examples, or `None` where they are numbers.

    Raises:
        TypeError: not booleans.
        ValueError: not one axis.
    """
    values = np.asarray(_checked_positive(positive, np.size(positive)))
    if not values.size:
        return "no examples"
    if values.all():
        return f"one class in the sample: all {values.size} examples are positive"
    if not values.any():
        return f"one class in the sample: all {values.size} examples are negative"
    return None


def auroc(
    scores: Float[ArrayLike, " n"] | Ranked,
    positive: Bool[ArrayLike, " n"],
    counts: Int[ArrayLike, " n"] | None = None,
) -> Float[Array, ""]:
    """Area under the ROC curve: the chance that a positive example outscores a negative one.

        AUROC = P(s+ > s-) + P(s+ = s-) / 2,     over all P N pairs.

    Args:
        scores: larger means positive; or what `ranked.rank` made of them, to sort once.
        positive: whether each example is.
        counts: how often each example is in the sample.

    Raises:
        TypeError: `positive` is not boolean.
        ValueError: shapes that do not fit, no example, NaN in scores.
    """
    dtype, true, false = _sums(scores, positive, counts)
    positives, negatives = true.through[-1], false.through[-1]
    gains = jnp.diff(true.through, prepend=0)  # positives of a group, at its first place
    outscored = negatives - (false.before.astype(dtype) + false.through) / 2
    return _where_defined(jnp.sum(gains * (outscored / negatives)) / positives, true, false)


def aupr(
    scores: Float[ArrayLike, " n"] | Ranked,
    positive: Bool[ArrayLike, " n"],
    counts: Int[ArrayLike, " n"] | None = None,
) -> Float[Array, ""]:
    """Area under the precision-recall curve, as average precision: no interpolation.

        AUPR = sum_t (recall_t - recall_{t-1}) TP(t) / (TP(t) + FP(t)),

    over the distinct scores t, largest first.

    Args:
        scores: larger means positive; or what `ranked.rank` made of them, to sort once.
        positive: whether each example is.
        counts: how often each example is in the sample.

    Raises:
        TypeError: `positive` is not boolean.
        ValueError: shapes that do not fit, no example, NaN in scores.
    """
    dtype, true, false = _sums(scores, positive, counts)
    accepted = true.through + false.through
    precision = true.through.astype(dtype) / jnp.maximum(accepted, 1)
    area = jnp.sum(jnp.diff(true.through, prepend=0) * precision)
    return _where_defined(area / true.through[-1], true, false)


def fpr_at_tpr(
    scores: Float[ArrayLike, " n"] | Ranked,
    positive: Bool[ArrayLike, " n"],
    tpr: Float[ArrayLike, ""] = 0.95,
    counts: Int[ArrayLike, " n"] | None = None,
) -> Float[Array, ""]:
    """The share of negatives accepted at the threshold whose recall is nearest to `tpr`.

    Thresholds are the scores that occur, so a tied group is accepted whole. Of two recalls equally
    near, the larger counts; of thresholds of one recall, the one with the smallest FPR.

    Args:
        scores: larger means positive; or what `ranked.rank` made of them, to sort once.
        positive: whether each example is.
        tpr: the recall wanted, from 0 to 1.
        counts: how often each example is in the sample.

    Raises:
        TypeError: `positive` is not boolean.
        ValueError: shapes that do not fit, no example, NaN in scores, a tpr outside 0 to 1.
    """
    check_fraction("tpr", tpr)
    dtype, true, false = _sums(scores, positive, counts)
    found, negatives = true.through, false.through[-1]
    distance = jnp.abs(found - jnp.asarray(tpr, dtype) * found[-1])
    distance = jnp.where(found + false.through > 0, distance, jnp.inf)  # accepts someone
    nearest = jnp.max(jnp.where(distance == distance.min(), found, 0))
    fewest = jnp.min(jnp.where(found == nearest, false.through, negatives))
    return _where_defined(fewest.astype(dtype) / negatives, true, false)


def _checked_positive(positive, n):
    values = jnp.asarray(positive)
    if values.dtype != bool:
        raise TypeError(f"positive: got dtype {values.dtype}, wants booleans, as in labels == 1")
    check_length("positive", values, n)
    return values


def _sums(scores, positive, counts) -> tuple:
    """The floating dtype of the answer, and the cumulative counts of positives and negatives."""
    ranked = rank(scores)
    positive = _checked_positive(positive, len(ranked.order))
    counts = checked_counts(counts, len(positive))
    true, every = sums(ranked, counts, positive), sums(ranked, counts)
    false = Groups(every.before - true.before, every.through - true.through)
    return ranked.scores.dtype, true, false


def _where_defined(value, true: Groups, false: Groups):
    return jnp.where((true.through[-1] > 0) & (false.through[-1] > 0), value, jnp.nan)
