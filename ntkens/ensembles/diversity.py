"""How much members disagree, and what of the ensemble's loss it explains. arXiv:2302.00704.

For a loss l that is convex in the prediction, and members p_i of mean pbar, Jensen's inequality
leaves a gap, which is zero where they agree:

    l(pbar, y) = (1/M) sum_i l(p_i, y) - gap

    cross-entropy             gap = log((1/M) sum_i p_i[y]) - (1/M) sum_i log p_i[y]
    Brier                     gap = (1/M) sum_i |p_i - pbar|^2, whatever the label: `variance`
    cross-entropy, averaging  gap = -log Z, Z = sum_k prod_i p_i[k]^(1/M), whatever the label
      logits instead

Over labels drawn from pbar the first gap is on average (1/M) sum_i KL(pbar || p_i): `kl_from_mean`.

All of them take logits [members ... classes], or log-probabilities, which are logits too, since
they train networks as well as judge them: from probabilities a confident network's log p is -inf,
and its gradient NaN. From logits gradients are finite wherever the value is, also at members that
agree or are one-hot; log(0) may be given as -inf, and then stays without gradient where it adds
nothing. Values are exact to the rounding of the losses, so a gap of zero may be -1e-7 in float32.
"""

from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from ntkens.checks import is_concrete
from ntkens.ensembles.aggregate import log_mean, log_mean_logits
from ntkens.ensembles.checks import check_labels, check_logits

Regulariser = Literal["jensen_gap", "variance", "jensen_shannon", "kl"]


class Decomposition(NamedTuple):
    """A loss of the ensemble, example by example: `ensemble = average - gap`.

    Where the label has probability zero losses are infinite, and inf - inf leaves the gap NaN.

    Attributes:
        average: the mean of the members' losses.
        ensemble: the loss of their aggregate.
        gap: the Jensen gap, >= 0 but for rounding, by the formula at the head of the module.
    """

    average: Float[Array, "*batch"]
    ensemble: Float[Array, "*batch"]
    gap: Float[Array, "*batch"]


def cross_entropy(
    logits: Float[Array, "members *batch classes"], labels: Int[Array, "*batch"]
) -> Decomposition:
    """-log p[y] of the mean probabilities. The gap depends on the label, and has no upper bound.

    Where every member has p_i[y] >= 1 - eps the gap is at most -log(1 - eps): members that are
    right and sure have no room to disagree.

    Raises:
        TypeError: logits that are not floating point, or labels that are not integers.
        ValueError: shapes that do not fit, NaN, or labels that are no classes.
    """
    check_logits(logits)
    check_labels(labels, jnp.shape(logits))
    log_p = jax.nn.log_softmax(logits)
    at_label = jax.vmap(lambda member: _at(member, labels))(log_p)
    average, ensemble = -jnp.mean(at_label, axis=0), -_at(log_mean(logits), labels)
    return Decomposition(average, ensemble, average - ensemble)


def averaged_logits(
    logits: Float[Array, "members *batch classes"], labels: Int[Array, "*batch"]
) -> Decomposition:
    """-log p[y] of softmax((1/M) sum_i l_i), the normalised geometric mean.

    Where each class is ruled out by some member Z is 0 and the gap infinite, while the ensemble's
    loss is that of `aggregate.mean_logits`.

    Raises:
        TypeError: logits that are not floating point, or labels that are not integers.
        ValueError: shapes that do not fit, NaN, or labels that are no classes.
    """
    check_logits(logits)
    check_labels(labels, jnp.shape(logits))
    log_products = jnp.mean(jax.nn.log_softmax(logits), axis=0)
    gap = -jax.nn.logsumexp(log_products, axis=-1)
    ensemble = -_at(log_mean_logits(logits), labels)
    return Decomposition(-_at(log_products, labels), ensemble, gap)


def brier(
    logits: Float[Array, "members *batch classes"], labels: Int[Array, "*batch"]
) -> Decomposition:
    """|p - onehot(y)|^2 of the mean probabilities, in [0, 2]; the gap is `variance`.

    Raises:
        TypeError: logits that are not floating point, or labels that are not integers.
        ValueError: shapes that do not fit, NaN, or labels that are no classes.
    """
    check_logits(logits)
    check_labels(labels, jnp.shape(logits))
    probabilities = jax.nn.softmax(logits)
    targets = jax.nn.one_hot(labels, logits.shape[-1], dtype=probabilities.dtype)
    average = jnp.mean(jnp.sum((probabilities - targets[None]) ** 2, axis=-1), axis=0)
    ensemble = jnp.sum((jnp.mean(probabilities, axis=0) - targets) ** 2, axis=-1)
    return Decomposition(average, ensemble, variance(logits))


def variance(logits: Float[Array, "members *batch classes"]) -> Float[Array, "*batch"]:
    """(1/M) sum_i |p_i - pbar|^2, over all classes: 0 to 1 - 1/M. Biased, divided by M.

    Raises:
        TypeError: logits that are not floating point.
        ValueError: without a members or a class axis, or NaN.
    """
    check_logits(logits)
    probabilities = jax.nn.softmax(logits)
    centred = probabilities - jnp.mean(probabilities, axis=0, keepdims=True)
    return jnp.mean(jnp.sum(centred**2, axis=-1), axis=0)


def jensen_shannon(logits: Float[Array, "members *batch classes"]) -> Float[Array, "*batch"]:
    """H(pbar) - (1/M) sum_i H(p_i), in nats: 0 where members agree, log M where none overlap.

    It is (1/M) sum_i KL(p_i || pbar), and computed so: the difference of entropies cancels.

    Raises:
        TypeError: logits that are not floating point.
        ValueError: without a members or a class axis, or NaN.
    """
    log_mean_p = log_mean(logits)
    return jnp.mean(_kl(jax.nn.log_softmax(logits), log_mean_p[None]), axis=0)


def kl_from_mean(logits: Float[Array, "members *batch classes"]) -> Float[Array, "*batch"]:
    """(1/M) sum_i KL(pbar || p_i), in nats: the Jensen gap expected over labels drawn from pbar.

    Infinite where a member rules out what another does not.

    Raises:
        TypeError: logits that are not floating point.
        ValueError: without a members or a class axis, or NaN.
    """
    log_mean_p = log_mean(logits)
    return jnp.mean(_kl(log_mean_p[None], jax.nn.log_softmax(logits)), axis=0)


def pairwise_kl(
    logits: Float[Array, "members *batch classes"],
) -> Float[Array, "members members *batch"]:
    """KL(p_i || p_j) of every ordered pair of members, in nats; infinite where j rules out i's.

    Raises:
        TypeError: logits that are not floating point.
        ValueError: without a members or a class axis, or NaN.
    """
    check_logits(logits)
    log_p = jax.nn.log_softmax(logits)
    return jax.vmap(lambda one: jax.vmap(lambda other: _kl(one, other))(log_p))(log_p)


def disagreement(predictions: Int[Array, "members n"]) -> Float[Array, "members members"]:
    """The share of the examples on which two members predict another class, of every pair.

    Args:
        predictions: the class that each member predicts, argmax of its logits.

    Raises:
        TypeError: predictions that are not integers.
        ValueError: predictions that are not [members n], without members or examples.
    """
    _check_predictions(predictions)
    predictions, dtype = jnp.asarray(predictions), jnp.result_type(float)
    return jax.vmap(lambda one: jnp.mean(predictions != one[None], axis=1, dtype=dtype))(
        predictions
    )


def kappa(predictions: Int[Array, "members n"], *, classes: int) -> Float[Array, "members members"]:
    """Cohen's kappa of every pair of members: agreement beyond chance, at most 1.

    With a the share of examples on which two members agree, and c the share on which they would if
    each predicted its classes as often but at random, kappa = (a - c) / (1 - c). It is NaN where
    both always predict the same single class, for then c = 1.

    Args:
        predictions: the class that each member predicts, argmax of its logits.
        classes: how many there are.

    Raises:
        TypeError: predictions that are not integers.
        ValueError: predictions that are not [members n], without members or examples, or outside
            the classes.
    """
    _check_predictions(predictions)
    if is_concrete(predictions):
        values = np.asarray(predictions)
        if not ((values >= 0) & (values < classes)).all():
            raise ValueError(f"predictions: got one outside the classes 0..{classes - 1}")
    agreement = 1 - disagreement(predictions)
    one_hot = jax.nn.one_hot(predictions, classes, dtype=agreement.dtype)
    shares = jnp.mean(one_hot, axis=1)
    chance = jnp.matmul(shares, shares.T, precision="highest")
    return (agreement - chance) / (1 - chance)


def regularised(
    logits: Float[Array, "members batch classes"],
    labels: Int[Array, " batch"],
    gamma: Float[ArrayLike, ""],
    regulariser: Regulariser = "jensen_gap",
) -> Float[Array, " batch"]:
    """The joint training loss of an ensemble: (1/M) sum_i -log p_i[y] - gamma D, per example.

    gamma = 0 is M networks trained apart, > 0 encourages diversity and < 0 discourages it. The
    members see the same minibatch. D by its name:

        "jensen_gap"      of the cross-entropy: gamma = 1 is the ensemble's own loss
        "variance"        (1/M) sum_i |p_i - pbar|^2, at most 1
        "jensen_shannon"  at most log M
        "kl"              `kl_from_mean`

    Of these only "kl" leaves the loss unbounded below at every gamma > 0: two members may part over
    a class that is not the label, at a bounded cost in cross-entropy. A run of fixed length ends
    before that; longer ones drift. With the Jensen gap it happens at gamma > 1, where a single
    member that rules out the label is enough.

    Args:
        logits: of every member on one minibatch.
        labels: of the minibatch.
        gamma: may be traced, and so one per ensemble; cast to the logits' dtype. Not checked under
            a trace.
        regulariser: which D.

    Raises:
        TypeError: logits that are not floating point, or labels that are not integers.
        ValueError: shapes that do not fit, NaN, or labels that are no classes; an unknown
            regulariser; a gamma that is not one finite number, or above 1 with the Jensen gap.
    """
    if regulariser not in get_args(Regulariser):
        raise ValueError(f"regulariser: got {regulariser!r}; it is one of {get_args(Regulariser)}")
    if jnp.ndim(gamma) != 0:
        raise ValueError(f"gamma: got shape {jnp.shape(gamma)}; it is one number")
    if is_concrete(gamma):
        check_gamma(float(np.asarray(gamma)), regulariser)
    average, _, gap = cross_entropy(logits, labels)
    match regulariser:
        case "jensen_gap":
            diversity = gap
        case "variance":
            diversity = variance(logits)
        case "jensen_shannon":
            diversity = jensen_shannon(logits)
        case "kl":
            diversity = kl_from_mean(logits)
    return average - jnp.asarray(gamma, average.dtype) * diversity


def check_gamma(gamma: float, regulariser: Regulariser) -> None:
    """Refuses a strength at which there is nothing to minimise; `regularised` asks it.

    Raises:
        ValueError: not finite, or above 1 with the Jensen gap.
    """
    if not np.isfinite(gamma):
        raise ValueError(f"gamma: got {gamma}; want a finite number")
    if regulariser == "jensen_gap" and gamma > 1:
        raise ValueError(
            f"gamma: got {gamma}; with the Jensen gap the loss is unbounded below above 1, since "
            "one member may rule out the label; 1 is the ensemble's own loss"
        )


def _at(values, labels):
    """Of the last axis, the entry of the label: no gather, whose gradient is a slow scatter."""
    return jnp.sum(values, axis=-1, where=jax.nn.one_hot(labels, values.shape[-1], dtype=bool))


def _kl(log_p, log_q):
    """sum_k p (log p - log q); a class of p = 0 adds nothing, not even to the gradient."""
    counts = log_p > -jnp.inf
    ratio = jnp.where(counts, log_p, 0) - jnp.where(counts, log_q, 0)
    return jnp.sum(jnp.where(counts, jnp.exp(log_p) * ratio, 0), axis=-1)


def _check_predictions(predictions):
    if not jnp.issubdtype(jnp.result_type(predictions), jnp.integer):
        raise TypeError(
            f"predictions: got {jnp.result_type(predictions)}; want integers, the argmax of logits"
        )
    shape = jnp.shape(predictions)
    if len(shape) != 2 or 0 in shape:
        raise ValueError(f"predictions: got shape {shape}; want [members n], at least one of each")
