"""Certificates against poisoned training data: predictions that B changed samples cannot move.

The training set is cut into parts by a hash of each sample's content, and every learner is trained
deterministically on its own. Whoever inserts or deletes one sample changes one part; a certificate
counts how many of these changes the ensemble's prediction survives, whatever they are: replacing a
sample is a deletion and an insertion, and costs two; flipping a label costs one where the hash
leaves the label out, for then the sample stays in its part.

`dpa`: one learner a part, plurality of their votes (Deep Partition Aggregation, arXiv:2006.14768).
`fa`: samples are hashed into buckets, a learner is trained on several buckets and a bucket feeds
several learners (Finite Aggregation, arXiv:2202.02628).
`dpa_roe`, `fa_roe`: the same learners with a second round, in which they vote between the two
leaders of the first (Run-Off Election, arXiv:2302.02300).

With seeds [seeds, parts, examples, classes] of a learner, the sum of their logits is one learner
again, since all see the same part: `dpa_roe(logits.sum(axis=0))` is the paper's boosted DPA*+ROE.

Ties go to the smaller class index: of the votes of the ensemble and of the logits of a learner. So
a learner ranks the classes strictly, and c beats c' iff gap(c, c') = N_c - N_c' + 1[c' > c] > 0.

The functions compile themselves and go through the examples in chunks; beside the logits they hold
a few megabytes, on an accelerator a few hundred.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from ntkens.checks import is_concrete
from ntkens.ensembles import elections

# Elements of the largest intermediate of a chunk: 1 MiB of integers, which stays in a core's cache,
# and 128 MiB on an accelerator, which wants much to do at once.
CHUNK, ACCELERATOR_CHUNK = 2**18, 2**25


class Certificate(NamedTuple):
    """What an ensemble predicts, and how much poison that survives.

    Attributes:
        prediction: the class of each example.
        radius: number of inserted or deleted training samples that provably leave it, at least 0.
            Where no number can move it (there is one class, or the learners that matter see no
            bucket) it is the number of parts or buckets.
    """

    prediction: Int[Array, " examples"]
    radius: Int[Array, " examples"]


def dpa(logits: Float[ArrayLike, "parts examples classes"]) -> Certificate:
    """Plurality of learners with a part each: radius = min_c' ceil(gap(c, c') / 2) - 1.

    Exact: some change of radius + 1 votes moves the prediction c. Theorem 1 of arXiv:2006.14768.

    Args:
        logits: of each learner, floating; learners of equal logits vote for the smaller class.

    Raises:
        TypeError: logits that are not floating.
        ValueError: logits that are not [parts, examples, classes], each at least 1, or hold NaN.
    """
    logits = _checked(logits)
    return _by_chunks(_dpa, logits, elements=logits.shape[0] * logits.shape[2])


def dpa_roe(logits: Float[ArrayLike, "parts examples classes"]) -> Certificate:
    """Run-off election of learners with a part each.

    The two classes with most votes go to the run-off, in which every learner votes for the one of
    larger logit. Its winner c is overcome when two classes push it out of the run-off, or when a
    class c' replaces the other finalist c2 and beats c, with k learners of whom P prefer c to c':

        radius + 1 = min( min_{c1 != c2} max(h(g1), h(g2), ceil((g1 + g2) / 3)),
                          min_{c'} max(h(gap(c2, c')), h(2 P - k + 1[c' > c])) )

    over classes other than c, with g = gap(c, .), h(g) = max(ceil(g / 2), 0) and gap(c2, c2) = 0.
    arXiv:2302.02300, whose table dp[g1, g2] is the maximum in the first line. A lower bound on the
    smallest change that moves the prediction: one less in a hundredth of random elections, and in
    up to a twentieth of those in which four classes are close, else equal to it. An example may be
    safer without the second round: the radius is not always that of `dpa` or more.

    Departs from the authors' code where a learner has equal logits for c and c': there it counts
    against c, here for the smaller index, as in the vote; a prediction's radius is never smaller
    for it.

    Args:
        logits: of each learner, floating.

    Raises:
        TypeError, ValueError: as `dpa`.
    """
    logits = _checked(logits)
    return _by_chunks(_dpa_roe, logits, elements=logits.shape[0] * logits.shape[2])


def fa(
    logits: Float[ArrayLike, "learners examples classes"],
    spread: Bool[ArrayLike, "learners buckets"],
) -> Certificate:
    """Plurality of learners that share buckets of training samples.

    A changed bucket h lowers gap(c, c') by at most its power, over the learners m that see it

        power_h = sum_m 1 + 1[m votes c] - 1[m votes c'],

    and radius + 1 is the number of largest powers whose sum reaches gap(c, c'), the least over c'.
    arXiv:2202.02628. Exact but where two of these buckets feed one learner, which is counted twice.
    With a bucket for every learner it is `dpa`.

    Args:
        logits: of each learner, floating.
        spread: whether the learner was trained on the bucket; `cyclic_spread` builds the paper's.

    Raises:
        TypeError: logits that are not floating, a spread that is not boolean.
        ValueError: as `dpa`; a spread that is not [learners, buckets] of the same learners.
    """
    logits, spread = _checked(logits), _checked_spread(spread, logits)
    return _by_chunks(_fa, logits, spread, elements=logits.shape[2] * max(spread.shape))


def fa_roe(
    logits: Float[ArrayLike, "learners examples classes"],
    spread: Bool[ArrayLike, "learners buckets"],
) -> Certificate:
    """Run-off election of learners that share buckets of training samples.

    As `dpa_roe`, with the number of largest powers that reach each gap instead of its half or
    third. Over the learners m of a bucket the powers are, for

        gap(c, c'):               sum 1 + 1[m votes c] - 1[m votes c']
        gap(c, c1) + gap(c, c2):  sum 1 + 2 1[m votes c] - 1[m votes c1] - 1[m votes c2]
        2 P - k + 1[c' > c]:      sum 2 1[m prefers c to c']

    From arXiv:2302.02300. With a bucket for every learner it is `dpa_roe`.

    Args:
        logits: of each learner, floating.
        spread: whether the learner was trained on the bucket; `cyclic_spread` builds the paper's.

    Raises:
        TypeError, ValueError: as `fa`.
    """
    logits, spread = _checked(logits), _checked_spread(spread, logits)
    elements = max(len(_pairs(logits)[0]), logits.shape[2]) * max(spread.shape)
    return _by_chunks(_fa_roe, logits, spread, elements=elements)


def cyclic_spread(shifts: Int[ArrayLike, " degree"], learners: int) -> Bool[Array, "n n"]:
    """Finite Aggregation's spread: bucket h feeds the learners (h + s) mod n, for s in shifts.

    The paper cuts into n = k d buckets, which leaves a learner 1/k of the samples, as DPA with k
    parts. Its shifts are random, here `jax.random.choice(key, n, (d,), replace=False)`; of random
    shifts few buckets share many learners.

    Args:
        shifts: distinct residues mod n, as many as learners that a bucket feeds.
        learners: their number n, and that of the buckets.

    Raises:
        ValueError: learners < 1, or shifts that are not distinct residues 0 ... learners - 1.
    """
    if not isinstance(learners, int | np.integer) or learners < 1:
        raise ValueError(f"learners: got {learners}; want a whole number of at least 1")
    residues = np.asarray(shifts)
    if residues.ndim != 1 or not len(np.unique(residues)) == len(residues) > 0:
        raise ValueError(f"shifts: got {shifts}; want a list of distinct residues, at least one")
    if not np.isin(residues, np.arange(learners)).all():
        raise ValueError(f"shifts: got {shifts}; want residues 0 to {learners - 1}, of {learners}")
    learner, bucket = np.ogrid[:learners, :learners]
    return jnp.asarray(np.isin((learner - bucket) % learners, residues))


def _checked(logits):
    logits = jnp.asarray(logits)
    if not jnp.issubdtype(logits.dtype, jnp.floating):
        raise TypeError(f"logits: got {logits.dtype}; want floating numbers, one for each class")
    if logits.ndim != 3 or 0 in logits.shape:
        raise ValueError(
            f"logits: got shape {logits.shape}; want [parts, examples, classes], each at least 1"
        )
    if is_concrete(logits) and np.isnan(np.asarray(logits).min()):  # in NumPy, for outer jits
        raise ValueError("logits: holds NaN; a learner that diverged has no vote, train it anew")
    return logits


def _checked_spread(spread, logits):
    spread = jnp.asarray(spread)
    if spread.dtype != bool:
        raise TypeError(f"spread: got {spread.dtype}; want booleans, spread[learner, bucket]")
    if spread.ndim != 2 or spread.shape[0] != logits.shape[0] or spread.shape[1] < 1:
        raise ValueError(
            f"spread: got shape {spread.shape}; want [learners, buckets] with the "
            f"{logits.shape[0]} learners of the logits and at least one bucket"
        )
    return spread


@functools.partial(jax.jit, static_argnames=("certify", "elements"))
def _by_chunks(certify, logits, *spread, elements):
    """`certify` on slices of the examples; the last one is moved back to be as long as the others.

    JAX moves a slice that would end outside, where it is read and where it is written alike.
    `elements` is the size of the largest intermediate for one example.
    """
    examples = logits.shape[1]
    most = CHUNK if jax.default_backend() == "cpu" else ACCELERATOR_CHUNK
    chunk = min(examples, max(1, most // elements))

    def step(i, results):
        found = certify(jax.lax.dynamic_slice_in_dim(logits, i * chunk, chunk, axis=1), *spread)
        write = functools.partial(
            jax.lax.dynamic_update_slice_in_dim, start_index=i * chunk, axis=0
        )
        return jax.tree.map(write, results, found)

    nothing = jnp.zeros(examples, jnp.int32)
    return jax.lax.fori_loop(0, math.ceil(examples / chunk), step, Certificate(nothing, nothing))


def _dpa(logits):
    counts = elections.tally(logits)
    winner = elections.plurality(counts)
    return _plurality(counts, winner, _each(2, elections.gaps(counts, winner)), len(logits) + 1)


def _dpa_roe(logits):
    outcome = elections.run_off(logits)
    first, other = _pairs(logits)
    return _run_off(
        outcome,
        single=_each(2, outcome.gaps),
        joint=_each(3, outcome.gaps[:, first] + outcome.gaps[:, other]),
        replaced=_each(2, outcome.gaps_of_second),
        beaten=_each(2, outcome.margins),
        never=len(logits) + 1,
    )


def _each(power, gaps):
    """Changes that close the gaps where each has this power."""
    return jnp.maximum(-(-gaps // power), 0)


def _fa(logits, spread):
    counts = elections.tally(logits)
    winner = elections.plurality(counts)
    votes, fed = elections.per_bucket(spread, elections.ballots(logits)), _fed(spread)
    powers = fed + elections.at_class(votes, winner) - votes
    changes = elections.largest_first(elections.gaps(counts, winner), powers)
    return _plurality(counts, winner, changes, spread.shape[1] + 1)


def _fa_roe(logits, spread):
    outcome = elections.run_off(logits)
    votes, fed = elections.per_bucket(spread, elections.ballots(logits)), _fed(spread)
    preferring = elections.per_bucket(spread, elections.prefers(logits, outcome.winner))
    for_winner, for_second = (
        elections.at_class(votes, leader) for leader in (outcome.winner, outcome.second)
    )
    first, other = _pairs(logits)
    gaps_and_powers = (
        (outcome.gaps, fed + for_winner - votes),
        (
            outcome.gaps[:, first] + outcome.gaps[:, other],
            fed + 2 * for_winner - votes[:, first] - votes[:, other],
        ),
        (outcome.gaps_of_second, fed + for_second - votes),
        (outcome.margins, 2 * preferring),
    )
    gaps, powers = (
        jnp.concatenate(arrays, axis=1) for arrays in zip(*gaps_and_powers, strict=True)
    )
    changes = elections.largest_first(gaps, powers)  # one loop, for its compilation takes longest
    ends = np.cumsum([gaps.shape[1] for gaps, _ in gaps_and_powers])[:-1]
    single, joint, replaced, beaten = jnp.split(changes, ends, axis=1)
    return _run_off(outcome, single, joint, replaced, beaten, never=spread.shape[1] + 1)


def _fed(spread):
    """How many learners each bucket feeds, against [n classes buckets]."""
    return jnp.sum(spread, axis=0, dtype=jnp.int32)[None, None, :]


def _pairs(logits):
    """The classes of every pair, one array of the first and one of the other."""
    return np.triu_indices(logits.shape[2], 1)


def _plurality(counts, winner, overtaken, never):
    """The certificate where a class c' overtakes the winner by so many changes."""
    itself = elections.is_class(winner, counts.shape[1])
    return Certificate(winner, jnp.where(itself, never, overtaken).min(axis=1) - 1)


def _run_off(outcome, single, joint, replaced, beaten, never):
    """The certificate of a run-off, from the changes that every step to overcome the winner takes.

    Two classes push it out together: each must overtake it, and `joint` bounds both from below. Or
    one class replaces the second and beats it.
    """
    itself = elections.is_class(outcome.winner, single.shape[1])
    single = jnp.where(itself, never, single)
    first, other = np.triu_indices(single.shape[1], 1)
    pushed_out = jnp.maximum(jnp.maximum(single[:, first], single[:, other]), joint)
    defeated = jnp.where(itself, never, jnp.maximum(replaced, beaten))
    changes = jnp.minimum(pushed_out.min(axis=1, initial=never), defeated.min(axis=1))
    return Certificate(outcome.winner, changes - 1)
