"""Ensembles as cascades: a later member is asked only about examples in a window of confidence.

Member 1 sees every example. Those whose score lies within the first window go on to member 2, and
are judged by both; of these, those whose new score lies within the second window go on to member 3;
and so on. Whoever leaves, leaves with what the members asked so far say: the mean of their
softmaxes, and their score. arXiv:2303.08010.

Every policy is a choice of windows:

    EMPTY                               member 1 alone, to the bit
    lowest(scores, 0.2)                 single threshold: the least confident go on
    around(scores, threshold, 0.1)      the paper's: only near a decision threshold can a decision
                                        change, so those go on
    FULL                                the whole ensemble, to the bit

Thresholds and windows are read off validation scores, of examples like those trained on:

    stages = cascades.stages(logits, confidence.max_softmax)          # [members n classes]
    threshold = cascades.threshold_at_coverage(stages.scores[0], 0.8)
    window = cascades.around(stages.scores[0], threshold, 0.1)

and applied to others; under shift the window is recomputed on what arrives, unlabelled, and the
threshold stays:

    outputs = cascades.run(cascades.stages(test_logits, confidence.max_softmax), [window])
    cost = cascades.average_macs(outputs.exits, [1e6, 1e6])

All of it is pure, may be jitted, and vmapped over seeds, orders, thresholds and widths.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ntkens.checks import check_finite, is_concrete
from ntkens.ensembles import aggregate, confidence

Scalar = Float[Array, ""] | float
Score = Callable[[Float[Array, "*n classes"]], Float[Array, "*n"]]


class Window(NamedTuple):
    """The scores that go on to the next member, both ends included.

    Attributes:
        lower: the smallest of them.
        upper: the largest; below `lower`, nobody goes on.
    """

    lower: Scalar
    upper: Scalar


EMPTY = Window(np.inf, -np.inf)
FULL = Window(-np.inf, np.inf)


class Stages(NamedTuple):
    """What is said of each example once the first s members have been asked, for each s.

    Attributes:
        probabilities: the mean softmax of the first s members.
        scores: how confident they are.
    """

    probabilities: Float[Array, "stages n classes"]
    scores: Float[Array, "stages n"]


class Outputs(NamedTuple):
    """What a cascade says of each example.

    Attributes:
        probabilities: those of the stage at which the example left.
        scores: of that stage too.
        exits: that stage, from 0: one less than the number of members asked.
    """

    probabilities: Float[Array, "n classes"]
    scores: Float[Array, " n"]
    exits: Int[Array, " n"]


def stages(
    logits: Float[Array, "members n classes"], score: Score, *, of_mean: bool = False
) -> Stages:
    """Every stage of every example, from the logits of the members in the order of asking.

    Stage 1 is member 1: its softmax, and its score. At later stages the score is the mean of the
    members' scores, in the authors' code "confidence" for `max_softmax`; or, `of_mean`, the score
    of the mean softmax, their "confidence_ens".

    Args:
        logits: of at least one member; probabilities have their dtype, scores that of `score`.
        score: of `confidence`, or another `[... classes] -> [...]`, larger for more confident.
        of_mean: for scores that depend on the softmax alone.

    Raises:
        ValueError: logits of another shape or not finite; `of_mean` of a score of logits as such.
        TypeError: logits that are not floating point.
    """
    logits = jnp.asarray(logits)
    if logits.ndim != 3 or not len(logits):
        raise ValueError(f"logits: got shape {logits.shape}; wants [members n classes], 1 or more")
    if of_mean and score in (confidence.max_logit, confidence.negative_energy):
        raise ValueError(
            f"of_mean: {score.__name__} is of logits as such, and a mean softmax has none; take "
            "max_softmax or negative_entropy, or the mean of the members' scores"
        )
    alone = score(logits)
    scores, probabilities = [alone[0]], jax.nn.softmax(logits, axis=-1)
    wide = logits.astype(jnp.result_type(float))  # as scores are: see `confidence`
    for asked in range(2, len(logits) + 1):
        if of_mean:
            scores.append(score(aggregate.log_mean(wide[:asked])))
        else:
            scores.append(jnp.mean(alone[:asked], axis=0))
    means = [jnp.mean(probabilities[:asked], axis=0) for asked in range(1, len(logits) + 1)]
    return Stages(jnp.stack(means), jnp.stack(scores))


def run(stages: Stages, windows: Sequence[Window]) -> Outputs:
    """Sends every example on while its score lies in the window of the stage it is at.

    Args:
        stages: of `stages`.
        windows: one of every stage but the last.

    Raises:
        ValueError: another number of windows.
    """
    if len(windows) != len(stages.scores) - 1:
        raise ValueError(
            f"windows: got {len(windows)}; {len(stages.scores)} members have one after each but "
            f"the last, {len(stages.scores) - 1}"
        )
    exits = jnp.zeros(stages.scores.shape[1], int)
    goes_on = jnp.ones(stages.scores.shape[1], bool)
    for window, scores in zip(windows, stages.scores, strict=False):
        goes_on &= (window.lower <= scores) & (scores <= window.upper)
        exits += goes_on
    return Outputs(
        jnp.take_along_axis(stages.probabilities, exits[None, :, None], axis=0)[0],
        jnp.take_along_axis(stages.scores, exits[None], axis=0)[0],
        exits,
    )


def average_macs(exits: Int[Array, " n"], macs: Float[Array, " members"]) -> Float[Array, ""]:
    """Multiply-accumulates an example, on average: sum_s (share that reaches stage s) macs_s.

    The share is that of the examples given: the same windows cost something else under shift.

    Args:
        exits: of `run`.
        macs: of each member for one example, in the order of the cascade, in any unit.

    Raises:
        ValueError: axes too many, no examples, negative costs, or an exit past the last member.
    """
    exits, macs = jnp.asarray(exits), jnp.asarray(macs, float)
    if exits.ndim != 1 or macs.ndim != 1 or not len(exits):
        raise ValueError(
            f"exits, macs: got shapes {exits.shape}, {macs.shape}; wants one axis each, and an "
            "example at least"
        )
    if is_concrete(macs) and not np.all(np.asarray(macs) >= 0):
        raise ValueError(f"macs: got {macs}; they are counts, 0 or more")
    if is_concrete(exits) and np.max(exits) >= len(macs):
        raise ValueError(f"exits: got {np.max(exits)}; {len(macs)} members have 0 to one less")
    reaching = jnp.sum(exits[None] >= jnp.arange(len(macs))[:, None], axis=1)
    # Under jit n / n is n times a rounded 1 / n, and not 1.
    shares = jnp.where(reaching == len(exits), 1.0, reaching / len(exits))
    return jnp.sum(shares * macs)


def threshold_at_coverage(scores: Float[Array, " n"], coverage: Scalar) -> Float[Array, ""]:
    """The score from which on about this share of examples is accepted.

    One of the scores, so that the share accepted, ties included, is nearest to the one asked; the
    larger of two that are equally near. Of examples like those trained on, coverage is the rate of
    true positives of a detector of others: this is the threshold of FPR@95 too, at coverage 0.95,
    and no example of the others can move it.

    Args:
        scores: larger is more confident.
        coverage: in (0, 1].

    Raises:
        ValueError: scores of another shape, none, or not finite; a coverage out of range.
        TypeError: scores that are not floating point.
    """
    scores = _scores(scores)
    if is_concrete(coverage) and not 0 < coverage <= 1:
        raise ValueError(f"coverage: got {coverage}; it is a share above 0, at most 1")
    ascending = jnp.sort(scores)
    accepted = len(scores) - jnp.searchsorted(ascending, ascending)
    return ascending[jnp.argmin(jnp.abs(accepted / len(scores) - coverage))]


def threshold_at_risk(
    scores: Float[Array, " n"], costs: Float[Array, " n"], risk: Scalar, *, first: int
) -> Float[Array, ""]:
    """The score from which on the accepted cost about this much on average.

    Args:
        scores: larger is more confident.
        costs: of accepting each example: 1 for an error, 0 for a correct prediction.
        risk: what their mean over the accepted is to be nearest to; of thresholds equally near, the
            one that accepts most.
        first: means over fewer than this are noise, and not looked at; 500 of 50,000 in the paper.

    Raises:
        ValueError: scores of another shape or none; costs of another shape; any of them, or the
            risk, not finite; `first` not in 1 ... n.
        TypeError: scores that are not floating point.
    """
    scores = _scores(scores)
    if jnp.shape(costs) != scores.shape:
        raise ValueError(f"costs: got shape {jnp.shape(costs)}; scores have {scores.shape}")
    if not 1 <= first <= len(scores):
        raise ValueError(f"first: got {first}; wants 1 to all {len(scores)} examples")
    check_finite("costs", costs)
    check_finite("risk", risk)
    order = jnp.argsort(scores)
    ascending = scores[order]
    tied_from = jnp.searchsorted(ascending, ascending)
    accepted = len(scores) - tied_from
    from_here_on = jnp.cumsum(jnp.asarray(costs, scores.dtype)[order][::-1])[::-1]
    distance = jnp.abs(from_here_on[tied_from] / accepted - risk)
    return ascending[jnp.argmin(jnp.where(accepted < first, jnp.inf, distance))]


def around(scores: Float[Array, " n"], threshold: Scalar, width: Scalar) -> Window:
    """The window from `width` below the threshold's quantile among the scores to `width` above.

    With q the share of scores below the threshold, it holds those of rank q - width to q + width,
    a share of 2 width +- 1 / n of the scores (more if its ends are tied with others). Past 0 or 1
    it is open: from the lowest score there is, or to the highest; there the paper's code ends at
    those of the validation examples, and between two of them it interpolates.

    Under shift give the unlabelled scores that arrive, and the threshold of the validation.

    Args:
        scores: of the stage that the window comes after.
        threshold: of `threshold_at_coverage` or `threshold_at_risk`.
        width: a share of the scores, 0 or more; 0.1 in the paper.

    Raises:
        ValueError: scores of another shape or none; they or the threshold not finite; a width
            below 0.
        TypeError: scores that are not floating point.
    """
    scores = _scores(scores)
    if is_concrete(width) and not width >= 0:
        raise ValueError(f"width: got {width}; it is a share of the scores, 0 or more")
    check_finite("threshold", threshold)
    below, reach = jnp.sum(scores < threshold), width * len(scores)
    return _between(scores, below - reach, below + reach)


def lowest(scores: Float[Array, " n"], share: Scalar) -> Window:
    """The window of a single threshold: this share of the scores, from the least confident up.

    Args:
        scores: of the stage that the window comes after.
        share: in [0, 1]; 0.2 costs as much as `around` with a width of 0.1.

    Raises:
        ValueError: scores of another shape, none, or not finite; a share out of range.
        TypeError: scores that are not floating point.
    """
    scores = _scores(scores)
    if is_concrete(share) and not 0 <= share <= 1:
        raise ValueError(f"share: got {share}; it is between 0 and 1")
    return _between(scores, 0, share * len(scores))


def _between(scores, begin, end):
    """The scores of ranks from `begin` to before `end`, as a window; open where these are all."""
    n, ascending = len(scores), jnp.sort(scores)
    begin, end = (jnp.clip(jnp.round(rank), 0, n).astype(int) for rank in (begin, end))
    lower = jnp.where(begin > 0, ascending[jnp.minimum(begin, n - 1)], -jnp.inf)
    upper = jnp.where(end < n, ascending[jnp.maximum(end - 1, 0)], jnp.inf)
    is_empty = begin == end
    return Window(jnp.where(is_empty, jnp.inf, lower), jnp.where(is_empty, -jnp.inf, upper))


def _scores(scores):
    scores = jnp.asarray(scores)
    if scores.ndim != 1 or not len(scores):
        raise ValueError(
            f"scores: got shape {scores.shape}; wants [n], at least one, vmap for more"
        )
    if not jnp.issubdtype(scores.dtype, jnp.floating):
        raise TypeError(f"scores: got dtype {scores.dtype}; wants floating point")
    check_finite("scores", scores)
    return scores
