"""Examples in the order of their scores, sorted once, and sums over that order with ties.

Every measure of a ranking is made of cumulative sums over the order. Sums are taken at the ends of
groups of tied examples, so that nothing depends on the order in which the examples came. Counts say
how often each example is in the sample: a bootstrap resample is a vector of counts, and needs no
sorting of its own.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, Num

from ntkens.measures.checks import checked_scores


class Ranked(NamedTuple):
    """The order of examples by score, largest first. All [n], by place in the order.

    Attributes:
        scores: in each place.
        order: the example in each place.
        first: the first place that is tied with this one.
        last: the last place that is tied with this one.
    """

    scores: Num[Array, " n"]
    order: Int[Array, " n"]
    first: Int[Array, " n"]
    last: Int[Array, " n"]


class Groups(NamedTuple):
    """Sums up to the group of tied examples that each place belongs to; all [n].

    Attributes:
        before: sum over the examples with larger scores.
        through: the same, and over the group.
    """

    before: Num[Array, " n"]
    through: Num[Array, " n"]


def rank(scores: Float[ArrayLike, " n"] | Ranked) -> Ranked:
    """Sorts by score, largest first; what is ranked already is left as it is.

    Raises:
        TypeError: complex scores.
        ValueError: not one axis, no example, NaN.
    """
    if isinstance(scores, Ranked):
        return scores
    scores = checked_scores(scores)
    order = jnp.argsort(scores, descending=True)
    scores, place = scores[order], jnp.arange(len(scores))
    differs = scores[1:] != scores[:-1]
    edge = jnp.ones(1, bool)
    starts, ends = jnp.concatenate([edge, differs]), jnp.concatenate([differs, edge])
    first = jax.lax.cummax(jnp.where(starts, place, 0))
    last = jax.lax.cummin(jnp.where(ends, place, len(scores)), reverse=True)
    return Ranked(scores, order, first, last)


def sums(
    ranked: Ranked, counts: Int[Array, " n"], values: Num[Array, " n"] | None = None
) -> Groups:
    """Cumulative sums over the sample, of values in the order of the examples, or of ones."""
    terms = counts[ranked.order]
    if values is not None:  # ordered apart: vmapped counts then share it
        terms = terms * values[ranked.order]
    cumulative = jnp.concatenate([jnp.zeros(1, terms.dtype), jnp.cumsum(terms)])
    return Groups(cumulative[ranked.first], cumulative[ranked.last + 1])
