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
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from ntkens.checks import check_finite
from ntkens.measures.checks import (
    check_at_least_one,
    check_fraction,
    check_length,
    check_no_nan,
    checked_counts,
)
from ntkens.measures.ranked import Ranked, rank, sums


def risk_coverage(
    scores: Float[ArrayLike, " n"] | Ranked,
    costs: Float[ArrayLike, " n"],
    counts: Int[ArrayLike, " n"] | None = None,
) -> tuple[Float[Array, " n+1"], Float[Array, " n+1"]]:
    """The risk-coverage curve: coverage 0, 1/N, ..., 1, and the risk at each; at 0 it is 0.

    Args:
        scores: larger is accepted sooner; or what `ranked.rank` made of them, to sort once.
        costs: of each example if accepted.
        counts: how often each example is in the sample.

    Raises:
        TypeError: complex scores or costs, counts that are not integers.
        ValueError: shapes that do not fit, no example, NaN; infinite costs; counts that are no
            resample.
    """
    ranked = rank(scores)
    costs = _checked_costs(costs, ranked)
    counts = checked_counts(counts, len(costs))
    accepted, cost = sums(ranked, counts), sums(ranked, counts, costs)
    mean = (cost.through - cost.before) / jnp.maximum(accepted.through - accepted.before, 1)
    # The nth accepted is of the first group that ends at n or later: as many places end sooner.
    n = jnp.arange(1, len(costs) + 1)
    group = jnp.cumsum(jnp.bincount(accepted.through, length=len(costs) + 1))[:-1]
    risk = (cost.before[group] + (n - accepted.before[group]) * mean[group]) / n
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
        TypeError, ValueError: as for `risk_coverage`.
    """
    _, risk = risk_coverage(scores, costs, counts)
    return (jnp.sum(risk) - risk[-1] / 2) / (len(risk) - 1)


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
        TypeError, ValueError: as for `risk_coverage`.
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
        TypeError, ValueError: as for `risk_coverage`; a coverage outside 0 to 1.
    """
    check_fraction("coverage", coverage)
    reached, risk = risk_coverage(scores, costs, counts)
    return risk[jnp.argmin(jnp.abs(reached - coverage))]


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
        TypeError, ValueError: as for `risk_coverage`; a risk that is not one number; `first`
            outside 1 to N.
    """
    if jnp.ndim(risk):
        raise ValueError(f"risk: got shape {jnp.shape(risk)}; it is one number, vmap over several")
    check_no_nan("risk", risk)
    coverage, reached = risk_coverage(scores, costs, counts)
    n = len(coverage) - 1
    first = -(-n // 100) if first is None else first
    check_at_least_one("first", first)
    if first > n:
        raise ValueError(f"first: got {first}, wants at most the number of examples, {n}")
    distance = jnp.abs(reached[first:] - risk)
    return coverage[n - jnp.argmin(distance[::-1])]


def _checked_costs(costs, ranked: Ranked):
    values = jnp.asarray(costs)
    if jnp.iscomplexobj(values):
        raise TypeError(f"costs: got dtype {values.dtype}, wants real numbers")
    check_length("costs", values, len(ranked.order))
    check_finite("costs", values)
    return values.astype(ranked.scores.dtype)
