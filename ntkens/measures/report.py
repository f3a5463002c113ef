"""Every measure of an ensemble's members, each with its bootstrap interval, in one compiled call.

    found = report.report(key, member_probabilities, labels)
    found.accuracy.estimate, found.accuracy.low             # [members] each
    found.mutual_information.standard_error                 # of the ensemble: one number

What does not depend on the resample is computed once for each member: the losses of the examples,
and their order by confidence. A resample is then a vector of counts, the same for all members and
measures. Resamples go through in chunks, and members one after another: memory is that of the
probabilities, of one chunk of one member, and of the replicates, which are numbers, not examples.

About half of the time on a CPU goes into the bins of every class: a matrix product of counts with
indicators, samples x members x n x classes x 2 bins multiplications.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, Key

from ntkens.measures import per_example, ranking, selective, uncertainty
from ntkens.measures.binned import bin_sums, equal_mass_error, equal_width_error, weighted
from ntkens.measures.bootstrap import Interval, check_resampling, counted_interval
from ntkens.measures.checks import (
    check_at_least_one,
    check_fraction,
    checked_labels,
    checked_probabilities,
)
from ntkens.measures.ranked import Ranked, rank

CHUNK = 64  # resamples at a time: enough for matrix products, and 10,000 examples stay in cache


class Report(NamedTuple):
    """Intervals, of numbers [members], or of the ensemble for the entropies.

    A member's confidence is its largest probability; its errors cost 1. The rankings tell what it
    gets right from what it gets wrong, by confidence: NaN where it gets everything right, or
    everything wrong; for the words see `ranking.undefined(per_example.correct(...))`.
    """

    accuracy: Interval
    top_k: Interval
    negative_log_likelihood: Interval
    brier: Interval
    reliability: Interval
    resolution: Interval
    uncertainty: Interval
    within_variance: Interval
    within_covariance: Interval
    calibration_error: Interval
    equal_mass_calibration_error: Interval
    classwise_calibration_error: Interval
    aurc: Interval
    excess_aurc: Interval
    risk_at_coverage: Interval
    coverage_at_risk: Interval
    auroc: Interval
    aupr: Interval
    fpr_at_tpr: Interval
    total_entropy: Interval
    expected_entropy: Interval
    mutual_information: Interval


class _Member(NamedTuple):
    """What is known of a member before any resample."""

    losses: Float[Array, "n 4"]
    within_bins: Float[Array, "n 2"]
    confidence: Float[Array, " n"]
    wrong: Float[Array, " n"]
    ranked: Ranked
    best: Ranked


class _Settings(NamedTuple):
    bins: int
    top: int
    coverage: float
    risk: float
    first: int | None
    tpr: float


def report(
    key: Key[Array, ""],
    member_probabilities: Float[ArrayLike, "members n classes"],
    labels: Int[ArrayLike, " n"],
    *,
    samples: int = 1000,
    level: float = 0.95,
    bins: int = 15,
    top: int | None = None,
    coverage: float = 0.8,
    risk: float = 0.05,
    first: int | None = None,
    tpr: float = 0.95,
) -> Report:
    """All measures of all members, and the entropies of their ensemble. Compiles itself.

    The ensemble's own prediction is a member like others: `report(key, mean[None], labels)`.

    Args:
        key: of the resamples.
        member_probabilities: of all members, on the same examples.
        labels: of the examples.
        samples: number of resamples.
        level: probability that each interval is to have.
        bins: of the calibration errors and of the decomposition of the Brier score.
        top: k of top-k accuracy; `None` is 5, or the number of classes if that is smaller.
        coverage: of `risk_at_coverage`.
        risk: of `coverage_at_risk`.
        first: of `coverage_at_risk`, the smallest number accepted that is looked at.
        tpr: of `fpr_at_tpr`.

    Raises:
        TypeError, ValueError: probabilities that are none, labels out of range, no example or
            member; bins, samples < 1; other numbers out of range.
    """
    name, axes = "member_probabilities", "members n classes"
    probabilities = checked_probabilities(name, member_probabilities, axes)
    classes = probabilities.shape[2]
    labels = checked_labels(labels, *probabilities.shape[1:])
    check_at_least_one("bins", bins)
    check_resampling(samples, level)
    check_fraction("coverage", coverage)
    check_fraction("tpr", tpr)
    top = min(5, classes) if top is None else top
    settings = _Settings(bins, top, float(coverage), float(risk), first, float(tpr))
    return _report(key, probabilities, labels, settings, samples, level)


@functools.partial(jax.jit, static_argnames=("settings", "samples", "level"))
def _report(key, probabilities, labels, settings, samples, level):
    members = jax.lax.map(lambda p: _member(p, labels, settings), probabilities)
    entropies = jnp.stack(uncertainty.entropy_split(probabilities), axis=1)

    def statistic(counts):
        def of_member(one):
            member, probabilities = one
            return _measures(member, probabilities, labels, counts, settings)

        return *jax.lax.map(of_member, (members, probabilities)), *_means(entropies, counts)

    n = len(labels)
    found = counted_interval(key, statistic, n, samples=samples, level=level, chunk=CHUNK)
    return Report(*map(Interval, *found))


def _member(probabilities, labels, settings: _Settings) -> _Member:
    correct = per_example.correct(probabilities, labels)
    losses = [
        correct,
        per_example.in_top(probabilities, labels, settings.top),
        per_example.negative_log_likelihood(probabilities, labels),
        per_example.brier(probabilities, labels),
    ]
    confidence = probabilities.max(axis=1)
    wrong = 1 - correct.astype(confidence.dtype)
    within = uncertainty.within_bins(probabilities, labels, settings.bins)
    losses = jnp.stack(losses, axis=1)
    return _Member(losses, within, confidence, wrong, rank(confidence), rank(-wrong))


def _measures(member: _Member, probabilities, labels, counts, settings: _Settings) -> tuple:
    """The measures of one member on one resample, in the order of `Report`."""
    bins, ranked, wrong = settings.bins, member.ranked, member.wrong
    correct, gap = wrong == 0, member.confidence + wrong - 1
    total = bin_sums(probabilities, labels, counts, bins)
    aurc = selective.aurc(ranked, wrong, counts)
    return (
        *_means(member.losses, counts),
        *uncertainty.decomposed(total, *weighted(counts, member.within_bins)),
        equal_width_error(member.confidence, gap, bins, counts),
        equal_mass_error(ranked, gap, bins, counts),
        uncertainty.classwise_error(total),
        aurc,
        aurc - selective.aurc(member.best, wrong, counts),
        selective.risk_at_coverage(ranked, wrong, settings.coverage, counts),
        selective.coverage_at_risk(ranked, wrong, settings.risk, settings.first, counts),
        ranking.auroc(ranked, correct, counts),
        ranking.aupr(ranked, correct, counts),
        ranking.fpr_at_tpr(ranked, correct, settings.tpr, counts),
    )


def _means(values, counts):
    """Means of columns over the resample; an infinite loss that was not drawn is not in it."""
    drawn = jnp.where(counts[:, None] > 0, counts[:, None] * values, 0)
    return drawn.sum(axis=0) / len(counts)
