"""One prediction from many: members first, classes last, any axes between; all on the simplex.

With p_i the probabilities of member i of M, l_i its logits and w on the simplex of members:

    mean         (1/M) sum_i p_i
    geometric    prod_i p_i^(1/M) / Z       which is mean_logits: softmax((1/M) sum_i l_i)
    vote         (1/M) sum_i onehot(argmax p_i)
    weighted     sum_i w_i p_i              with w given, or found by greedy_weights

Classes are read off by `argmax`, which gives ties to the smaller class; so does a member's vote.

Logits are defined up to a constant per member and example, so log-probabilities are logits too, and
`jnp.log(probabilities)` takes probabilities to where logits are wanted: a logit of -inf is a
probability of zero, and nothing here turns it into NaN.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ntkens.ensembles.checks import (
    check_labels,
    check_logits,
    check_probabilities,
)
from ntkens.measures.checks import check_simplex


def mean(probabilities: Float[Array, "members *batch classes"]) -> Float[Array, "*batch classes"]:
    """The mean of the members' probabilities, which is what a deep ensemble predicts.

    Raises:
        TypeError: probabilities that are not floating point.
        ValueError: without a members or a class axis, or off the simplex.
    """
    check_probabilities(probabilities)
    return jnp.mean(probabilities, axis=0)


def log_mean(logits: Float[Array, "members *batch classes"]) -> Float[Array, "*batch classes"]:
    """The logarithm of `mean`, from logits: log((1/M) sum_i softmax(l_i)).

    Where a class has probability zero in every member it is -inf, and its gradient zero.

    Raises:
        TypeError: logits that are not floating point.
        ValueError: without a members or a class axis; NaN, +inf, or no class above -inf.
    """
    check_logits(logits)
    log_p = jax.nn.log_softmax(logits)
    largest = jax.lax.stop_gradient(jnp.max(log_p, axis=0))
    is_zero = largest == -jnp.inf
    shift = jnp.where(is_zero, 0, largest)
    total = jnp.mean(jnp.exp(log_p - shift[None]), axis=0)
    # Two choices: log(0) is not taken even where it is not used, for its derivative is NaN.
    return jnp.where(is_zero, -jnp.inf, jnp.log(jnp.where(is_zero, 1, total)) + shift)


def mean_logits(logits: Float[Array, "members *batch classes"]) -> Float[Array, "*batch classes"]:
    """Probabilities of the mean logits, softmax((1/M) sum_i l_i).

    A logit of -inf stands for one that tends to -inf at the same pace in all members. So of the
    classes those count that have fewest of them: if one class has none, the others are zero.

    Raises:
        TypeError: logits that are not floating point.
        ValueError: without a members or a class axis; NaN, +inf, or no class above -inf.
    """
    return jnp.exp(log_mean_logits(logits))


def log_mean_logits(
    logits: Float[Array, "members *batch classes"],
) -> Float[Array, "*batch classes"]:
    """The logarithm of `mean_logits`, from logits: log softmax((1/M) sum_i l_i).

    Raises:
        TypeError: logits that are not floating point.
        ValueError: without a members or a class axis; NaN, +inf, or no class above -inf.
    """
    check_logits(logits)
    is_zero = logits == -jnp.inf
    finite = jnp.mean(jnp.where(is_zero, 0, jax.nn.log_softmax(logits)), axis=0)
    zeros = jnp.sum(is_zero, axis=0)
    counts = zeros == jnp.min(zeros, axis=-1, keepdims=True)
    return jax.nn.log_softmax(jnp.where(counts, finite, -jnp.inf))


def geometric(
    probabilities: Float[Array, "members *batch classes"],
) -> Float[Array, "*batch classes"]:
    """The geometric mean of the members' probabilities, normalised.

    A class that one member rules out is ruled out, unless each class is ruled out by some member:
    then the classes count that fewest rule out, which is the limit of equally small probabilities.

    Raises:
        TypeError: probabilities that are not floating point.
        ValueError: without a members or a class axis, or off the simplex.
    """
    check_probabilities(probabilities)
    return mean_logits(jnp.log(probabilities))


def vote(probabilities: Float[Array, "members *batch classes"]) -> Float[Array, "*batch classes"]:
    """The share of the members that vote for each class; a tie goes to the smaller class.

    Raises:
        TypeError: probabilities that are not floating point.
        ValueError: without a members or a class axis, or off the simplex.
    """
    check_probabilities(probabilities)
    votes = jnp.argmax(probabilities, axis=-1)
    return jnp.mean(jax.nn.one_hot(votes, probabilities.shape[-1], dtype=probabilities.dtype), 0)


def weighted(
    probabilities: Float[Array, "members *batch classes"], weights: Float[Array, " members"]
) -> Float[Array, "*batch classes"]:
    """The mean of the members' probabilities by weights: sum_i w_i p_i.

    Args:
        probabilities: of every member.
        weights: one a member, >= 0, of sum 1; cast to the probabilities' dtype.

    Raises:
        TypeError: probabilities or weights that are not floating point.
        ValueError: without a members or a class axis, or off the simplex; as many weights as
            members are wanted.
    """
    check_probabilities(probabilities)
    members = probabilities.shape[0]
    if jnp.shape(weights) != (members,):
        raise ValueError(f"weights: got shape {jnp.shape(weights)}; want one for each of {members}")
    check_simplex("weights", jnp.asarray(weights))
    weights = jnp.asarray(weights, probabilities.dtype)
    return jnp.tensordot(weights, probabilities, axes=1, precision="highest")


def greedy_weights(
    probabilities: Float[Array, "members n classes"], labels: Int[Array, " n"], *, rounds: int = 50
) -> Float[Array, " members"]:
    """Weights for `weighted`, by greedy selection on held-out examples.

    The library selection of Caruana, Niculescu-Mizil, Crew and Ksikes, ICML 2004: each round adds
    the member, one that is in already too, whose addition leaves the least negative log-likelihood
    of the mean. The weights are how often each was added, up to the round of the least of all.

    A probability of zero at the label counts as the smallest normal number of its dtype: then a
    member that errs with certainty is very bad, and can still be outvoted in later rounds. Ties go
    to the earlier member. Compiled as one loop; all members are tried at once.

    Args:
        probabilities: of every member, on examples that none was trained on.
        labels: of these examples.
        rounds: how many members are added.

    Raises:
        TypeError: probabilities that are not floating point, or labels that are not integers.
        ValueError: shapes that do not fit, no examples, probabilities off the simplex, labels that
            are no classes, rounds < 1.
    """
    check_probabilities(probabilities)
    if probabilities.ndim != 3 or probabilities.shape[1] < 1:
        raise ValueError(
            f"probabilities: got shape {probabilities.shape}; want [members n classes], n >= 1"
        )
    check_labels(labels, probabilities.shape)
    if not isinstance(rounds, int | np.integer) or rounds < 1:
        raise ValueError(f"rounds: got {rounds}; want a whole number, at least 1")
    return _greedy_weights(jnp.asarray(probabilities), jnp.asarray(labels), rounds)


@functools.partial(jax.jit, static_argnames="rounds")
def _greedy_weights(probabilities, labels, rounds):
    at_label = probabilities[:, jnp.arange(len(labels)), labels]  # the likelihood needs no other
    smallest = jnp.finfo(at_label.dtype).tiny
    members = len(at_label)

    def add(i, state):
        total, counts, least, best = state
        mixtures = (total[None] + at_label) / (i + 1).astype(at_label.dtype)
        losses = -jnp.mean(jnp.log(jnp.maximum(mixtures, smallest)), axis=1)
        added = jnp.argmin(losses)
        counts = counts.at[added].add(1)
        better = losses[added] < least
        best = jnp.where(better, counts / jnp.sum(counts), best)
        return total + at_label[added], counts, jnp.where(better, losses[added], least), best

    counts = jnp.zeros(members, at_label.dtype)
    start = jnp.zeros_like(at_label[0]), counts, jnp.asarray(jnp.inf, at_label.dtype), counts
    return jax.lax.fori_loop(0, rounds, add, start)[-1]
