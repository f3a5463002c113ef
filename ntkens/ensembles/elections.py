"""Elections in which learners vote for classes: tallies, run-offs, and what it takes to turn them.

Of n examples at once, each an election of its own. Ties go to the smaller class index, in the
logits of a learner too, so that every learner ranks the classes strictly; with N the votes for each
class, c beats c' iff gap(c, c') = N_c - N_c' + 1[c' > c] > 0. All counts are exact integers.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


class RunOff(NamedTuple):
    """The outcome of an election in two rounds, and how clear it was against every class c'.

    At the winner itself the numbers say nothing.

    Attributes:
        winner: of the second round.
        second: the other class in it; the winner again where there is one class.
        gaps: gap(winner, c') in the first round; at most 0 where c' had more votes.
        gaps_of_second: gap(second, c'), and 0 at the second itself.
        margins: 2 P - k + 1[c' > winner], of k learners P of whom rank the winner above c'.
    """

    winner: Int[Array, " n"]
    second: Int[Array, " n"]
    gaps: Int[Array, "n classes"]
    gaps_of_second: Int[Array, "n classes"]
    margins: Int[Array, "n classes"]


def ballots(logits: Float[Array, "learners n classes"]) -> Bool[Array, "learners n classes"]:
    """Whom each learner votes for, the class of its largest logit, as one True among False."""
    return is_class(jnp.argmax(logits, axis=2), logits.shape[2])


def is_class(chosen: Int[Array, "*shape"], classes: int) -> Bool[Array, "*shape classes"]:
    """One True, at the class chosen."""
    return jax.nn.one_hot(chosen, classes, dtype=bool)


def tally(logits: Float[Array, "learners n classes"]) -> Int[Array, "n classes"]:
    """Votes for each class."""
    return jnp.sum(ballots(logits), axis=0, dtype=jnp.int32)


def plurality(counts: Int[Array, "n classes"]) -> Int[Array, " n"]:
    """The class of most votes."""
    return jnp.argmax(counts, axis=1).astype(jnp.int32)


def gaps(counts: Int[Array, "n classes"], leader: Int[Array, " n"]) -> Int[Array, "n classes"]:
    """gap(leader, c') of every class c'."""
    return at_class(counts, leader) - counts + _is_larger(counts.shape[1], leader)


def prefers(
    logits: Float[Array, "learners n classes"], leader: Int[Array, " n"]
) -> Bool[Array, "learners n classes"]:
    """Whether each learner ranks the leader above c', of every class c'."""
    mine = jnp.take_along_axis(logits, leader[None, :, None], axis=2)
    return (mine > logits) | ((mine == logits) & _is_larger(logits.shape[2], leader)[None])


def run_off(logits: Float[Array, "learners n classes"]) -> RunOff:
    """The two classes of most votes face each other; every learner votes for one of them."""
    counts = tally(logits)
    leader = plurality(counts)
    runner_up = plurality(jnp.where(is_class(leader, logits.shape[2]), -1, counts))
    keeps = at_class(_margins(logits, leader), runner_up)[:, 0] > 0
    winner, second = jnp.where(keeps, leader, runner_up), jnp.where(keeps, runner_up, leader)
    margins = _margins(logits, winner)
    return RunOff(winner, second, gaps(counts, winner), gaps(counts, second), margins)


def _margins(logits, leader):
    preferring = jnp.sum(prefers(logits, leader), axis=0, dtype=jnp.int32)
    return 2 * preferring - logits.shape[0] + _is_larger(logits.shape[2], leader)


def _is_larger(classes, leader):
    """Whether the index of c' is larger than the leader's: 1[c' > c]."""
    return jnp.arange(classes)[None, :] > leader[:, None]


def at_class(values: Int[Array, "n classes *rest"], chosen: Int[Array, " n"]) -> Int[Array, "..."]:
    """values[i, chosen[i]] of each example i, with an axis of length one left for the classes."""
    places = jnp.expand_dims(chosen, tuple(range(1, values.ndim)))
    return jnp.take_along_axis(values, places, axis=1)


def per_bucket(
    spread: Bool[Array, "learners buckets"], holds: Bool[Array, "learners n classes"]
) -> Int[Array, "n classes buckets"]:
    """How many of the learners that a bucket feeds something holds of, for each class."""
    ones = holds.astype(jnp.float32)  # sums of ones are exact in float32, up to 2^24 learners
    counts = jnp.einsum("lb,lnc->ncb", spread.astype(jnp.float32), ones, precision="highest")
    return counts.astype(jnp.int32)


def largest_first(
    gaps: Int[Array, "*shape"], powers: Int[Array, "*shape buckets"]
) -> Int[Array, "*shape"]:
    """How many powers, the largest first, have a sum of at least the gap; buckets + 1 if not all.

    Without sorting: by bisection the level is found at which the powers above fall short, and the
    powers at it, all equal, are shared out.

    Args:
        gaps: nothing is needed where they are 0 or negative.
        powers: at least 0.
    """

    def reach(level):
        chosen = powers >= level[..., None]
        total = jnp.sum(jnp.where(chosen, powers, 0), axis=-1, dtype=jnp.int32)
        return jnp.sum(chosen, axis=-1, dtype=jnp.int32), total

    def halve(state):
        """Powers >= low reach the gap, those >= high do not: `count` of them, of sum `total`."""
        low, high, count, total = state
        middle = (low + high) // 2
        count_here, total_here = reach(middle)
        enough = total_here >= gaps
        return (
            jnp.where(enough, middle, low),
            jnp.where(enough, high, middle),
            jnp.where(enough, count, count_here),
            jnp.where(enough, total, total_here),
        )

    none = jnp.zeros(gaps.shape, jnp.int32)
    start = (none, none + powers.max(initial=0) + 1, none, none)
    level, _, count, total = jax.lax.while_loop(
        lambda state: jnp.any(state[1] - state[0] > 1), halve, start
    )
    # The level is 0 where all powers together fall short: no power of 0 can help.
    needed = count - (total - gaps) // jnp.maximum(level, 1)
    return jnp.where(gaps <= 0, 0, jnp.where(level == 0, powers.shape[-1] + 1, needed))
