"""Selective prediction: the risk of the predictions that are accepted, the most confident first.

Of N examples sorted by score, the first n are accepted: coverage n / N, and the risk is their mean
cost. The cost of an example is any number, such as 1 for an error. arXiv:2303.08010 compares
cascades by points of this curve, arXiv:1805.08206 defines the excess over the best order.

Among tied scores the order is not known: the risk after n is its mean over all orders of the tied
examples, so that what is accepted of a tied group costs the group's mean. Nothing then depends on
the order of the examples in the arrays. Without ties these are the formulas of the papers.

`counts` say how often each example is in the sample; without them, once.
"""

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from ntkens.checks import check_finite
from ntkens.measures.checks import (
    check_at_least_one,
    check_fraction,
    check_length,
    checked_counts,
)
from ntkens.measures.ranked import Groups, Ranked, ends, rank, sums


def risk_coverage(
    scores: Float[ArrayLike, " n"] | Ranked, costs: Float[ArrayLike, " n"]
) -> tuple[Float[Array, " n+1"], Float[Array, " n+1"]]:
    """The risk-coverage curve: coverage 0, 1/N, ..., 1, and the risk at each; at 0 it is 0.

    Args:
        scores: larger is accepted sooner; or what `ranked.rank` made of them, to sort once.
        costs: of each example if accepted.

    Raises:
        TypeError: complex scores.
        ValueError: shapes that do not fit, no example, NaN; infinite costs.
    """
    ranked, accepted, cost = _sums(scores, costs, None)
    n = jnp.arange(1, len(ranked.order) + 1)
    risk = (cost.before + (n - accepted.before) * _mean(accepted, cost)) / n
    zero = jnp.zeros(1, risk.dtype)
    coverage = jnp.concatenate([zero, n.astype(risk.dtype)]) / len(n)
    return coverage, jnp.concatenate([zero, risk])


def aurc(
    scores: Float[ArrayLike, " n"] | Ranked,
    costs: Float[ArrayLike, " n"],
    counts: Int[ArrayLike, " n"] | None = None,
) -> Float[Array, ""]:
    """Area under the risk-coverage curve, by the trapezoid rule from the point (0, 0).

        AURC = (1/N) (sum_{n=1}^N R_n - R_N / 2),      R_n the risk of the first n.

    Args:
        scores: larger is accepted sooner; or what `ranked.rank` made of them, to sort once.
        costs: of each example if accepted.
        counts: how often each example is in the sample.

    Raises:
        TypeError: complex scores, counts that are not integers.
        ValueError: shapes that do not fit, no example, NaN; infinite costs; negative counts.
    """
    ranked, accepted, cost = _sums(scores, costs, counts)
    n = len(ranked.order)
    # sum_n R_n = sum_k cost_k v_k with v_k = sum_{m=k}^N 1/m; a group takes the mean of its costs.
    weight = _weight(accepted, n, cost.through.dtype)
    area = jnp.sum(jnp.where(ends(ranked), _mean(accepted, cost) * weight, 0))
    return (area - cost.through[-1] / (2 * n)) / n


def excess_aurc(
    scores: Float[ArrayLike, " n"] | Ranked,
    costs: Float[ArrayLike, " n"],
    counts: Int[ArrayLike, " n"] | None = None,
) -> Float[Array, ""]:
    """What AURC is above that of the best order of these examples, cheapest first.

        E-AURC = AURC(scores) - AURC(-costs),     arXiv:1805.08206, here on the finite sample.

    Args:
        scores: larger is accepted sooner; or what `ranked.rank` made of them, to sort once.
        costs: of each example if accepted.
        counts: how often each example is in the sample.

    Raises:
        TypeError: complex scores, counts that are not integers.
        ValueError: shapes that do not fit, no example, NaN; infinite costs; negative counts.
    """
    ranked = rank(scores)
    costs = _checked_costs(costs, ranked)
    return aurc(ranked, costs, counts) - aurc(-costs, costs, counts)


def risk_at_coverage(
    scores: Float[ArrayLike, " n"] | Ranked,
    costs: Float[ArrayLike, " n"],
    coverage: Float[ArrayLike, ""],
    counts: Int[ArrayLike, " n"] | None = None,
) -> Float[Array, ""]:
    """The risk where the coverage n / N is nearest to the one given, the smaller of two.

    Args:
        scores: larger is accepted sooner; or what `ranked.rank` made of them, to sort once.
        costs: of each example if accepted.
        coverage: the share to accept, from 0 to 1; at 0 the risk is 0.
        counts: how often each example is in the sample.

    Raises:
        TypeError: complex scores, counts that are not integers.
        ValueError: shapes that do not fit, no example, NaN; infinite costs; negative counts; a
            coverage outside 0 to 1.
    """
    check_fraction("coverage", coverage)
    ranked, accepted, cost = _sums(scores, costs, counts)
    dtype = cost.through.dtype
    wanted = jnp.ceil(jnp.asarray(coverage, dtype) * len(ranked.order) - 0.5)
    group = jnp.searchsorted(accepted.through, wanted.astype(int))
    before, mean = accepted.before[group], _mean(accepted, cost)[group]
    total = cost.before[group] + (wanted - before) * mean
    return total / jnp.maximum(wanted, 1)


def coverage_at_risk(
    scores: Float[ArrayLike, " n"] | Ranked,
    costs: Float[ArrayLike, " n"],
    risk: Float[ArrayLike, ""],
    first: int | None = None,
    counts: Int[ArrayLike, " n"] | None = None,
) -> Float[Array, ""]:
    """The coverage n / N at which the risk is nearest to the one given, the largest of several.

    So where no prediction is wrong the coverage is 1 at any risk. The nearest risk may be far from
    the one given, where the curve does not come to it.

    Args:
        scores: larger is accepted sooner; or what `ranked.rank` made of them, to sort once.
        costs: of each example if accepted.
        risk: the mean cost to look for.
        first: the smallest n looked at, for the first few risks are noise. `None` is 1 % of the
            examples: the paper's 500 of 50,000.
        counts: how often each example is in the sample.

    Raises:
        TypeError: complex scores, counts that are not integers.
        ValueError: shapes that do not fit, no example, NaN; infinite costs; negative counts;
            `first` outside 1 to N.
    """
    ranked, accepted, cost = _sums(scores, costs, counts)
    n = len(ranked.order)
    first = -(-n // 100) if first is None else first
    check_at_least_one("first", first)
    if first > n:
        raise ValueError(f"first: got {first}, wants at most the number of examples, {n}")
    # Within a group the risk (C + j mean) / (A + j) is monotone in j, so that the nearest is at an
    # end of the group or beside the real j at which it is met.
    before, mean = accepted.before, _mean(accepted, cost)
    lowest = jnp.maximum(first - before, 1)
    highest = accepted.through - before
    met = (cost.before - risk * before) / (risk - mean)
    met = jnp.where(jnp.isfinite(met), jnp.clip(met, 0, n), 0).astype(int)
    taken = jnp.stack([lowest, met, met + 1, highest])
    taken = jnp.clip(taken, lowest[None], highest[None])
    accept = before[None] + taken
    risks = (cost.before[None] + taken * mean[None]) / accept
    distance = jnp.where((lowest <= highest)[None], jnp.abs(risks - risk), jnp.inf)
    nearest = jnp.max(jnp.where(distance == distance.min(), accept, 0))
    return nearest.astype(risks.dtype) / n


def _checked_costs(costs, ranked: Ranked):
    values = jnp.asarray(costs)
    check_length("costs", values, len(ranked.order))
    check_finite("costs", values)
    return values.astype(ranked.scores.dtype)


def _sums(scores, costs, counts) -> tuple[Ranked, Groups, Groups]:
    """The order, and cumulative numbers of examples and costs over it."""
    ranked = rank(scores)
    costs = _checked_costs(costs, ranked)
    counts = checked_counts(counts, len(costs))
    return ranked, sums(ranked, counts), sums(ranked, counts * costs)


def _mean(accepted: Groups, cost: Groups):
    """Mean cost of each group; of one that is not in the sample, 0."""
    return (cost.through - cost.before) / jnp.maximum(accepted.through - accepted.before, 1)


def _weight(accepted: Groups, n: int, dtype):
    """The sum of v_k over the group's places k, from before < k <= through.

    A difference of cumulative sums that grow to n: their table is in two parts, a number and the
    rounding of it, for in float32 the difference would otherwise lose n times the precision.
    """
    harmonic = np.cumsum(1 / np.arange(n, 0, -1))[::-1]  # v_k, largest first
    exact = np.concatenate([[0.0], np.cumsum(harmonic)])
    rounded = exact.astype(dtype)
    table = jnp.asarray(np.stack([rounded, (exact - rounded).astype(dtype)], axis=1))
    return jnp.sum(table[accepted.through] - table[accepted.before], axis=1)
