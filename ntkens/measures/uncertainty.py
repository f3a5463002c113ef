"""Accuracy, proper scores, calibration and the entropies of an ensemble.

Of probabilities [n classes], never logits, and labels [n]; vmap over members and seeds. Accuracy,
likelihood and Brier score are means of what `per_example` has for each example: bootstrap that.
Where there are `counts`, they say how often each example is in the sample; without them, once.
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import rel_entr
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from ntkens.measures import per_example
from ntkens.measures.binned import (
    BinSums,
    bin_sums,
    centres,
    equal_mass_error,
    equal_width_error,
    offsets,
    weighted,
)
from ntkens.measures.checks import (
    at_least_float32,
    check_at_least_one,
    checked_counts,
    checked_probabilities,
)

Binning = Literal["equal_width", "equal_mass"]


class BrierDecomposition(NamedTuple):
    """Brier = reliability - resolution + uncertainty + within_variance - within_covariance."""

    reliability: Float[Array, ""]
    resolution: Float[Array, ""]
    uncertainty: Float[Array, ""]
    within_variance: Float[Array, ""]
    within_covariance: Float[Array, ""]


class EntropySplit(NamedTuple):
    """Entropies in nats; total = expected + mutual information.

    Attributes:
        total: of the mean prediction.
        expected: mean of the members' own.
        mutual_information: of the prediction and the member, by how much they disagree.
    """

    total: Float[Array, " n"]
    expected: Float[Array, " n"]
    mutual_information: Float[Array, " n"]


def accuracy(
    probabilities: Float[ArrayLike, "n classes"], labels: Int[ArrayLike, " n"]
) -> Float[Array, ""]:
    """Share of examples whose most probable class is the label; of equal ones the smaller index.

    Raises:
        TypeError, ValueError: probabilities that are none, labels out of range, no example.
    """
    dtype = at_least_float32(jnp.result_type(probabilities))
    return per_example.correct(probabilities, labels).mean(dtype=dtype)


def top_k(
    probabilities: Float[ArrayLike, "n classes"], labels: Int[ArrayLike, " n"], k: int
) -> Float[Array, ""]:
    """Share of examples whose label is one of the k most probable classes.

    Raises:
        TypeError, ValueError: probabilities that are none, labels out of range, no example; k
            outside 1 to the number of classes.
    """
    dtype = at_least_float32(jnp.result_type(probabilities))
    return per_example.in_top(probabilities, labels, k).mean(dtype=dtype)


def negative_log_likelihood(
    probabilities: Float[ArrayLike, "n classes"], labels: Int[ArrayLike, " n"]
) -> Float[Array, ""]:
    """Mean of -log p_y in nats; infinite if a label has probability 0.

    Raises:
        TypeError, ValueError: probabilities that are none, labels out of range, no example.
    """
    return per_example.negative_log_likelihood(probabilities, labels).mean()


def brier(
    probabilities: Float[ArrayLike, "n classes"], labels: Int[ArrayLike, " n"]
) -> Float[Array, ""]:
    """Mean of sum_k (p_k - [k = y])^2, from 0 to 2: the sum over classes, not their mean.

    Raises:
        TypeError, ValueError: probabilities that are none, labels out of range, no example.
    """
    return per_example.brier(probabilities, labels).mean()


def entropy_split(
    member_probabilities: Float[ArrayLike, "members n classes"],
) -> EntropySplit:
    """The entropy of the mean prediction, in what members have each and what they disagree by.

        H(mean_m p_m) = mean_m H(p_m) + I,      I = mean_m KL(p_m || mean p) >= 0.

    I is formed as the sum of divergences, which loses nothing where the members almost agree. Of
    one member it is 0.

    Raises:
        TypeError, ValueError: probabilities that are none, no members axis.
    """
    name, axes = "member_probabilities", "members n classes"
    probabilities = checked_probabilities(name, member_probabilities, axes)
    mean = probabilities.mean(axis=0)

    def of_member(member):  # one after another: nothing else is as large as the probabilities
        return per_example.entropy(member), rel_entr(member, mean).sum(axis=-1)

    expected, divergence = (x.mean(axis=0) for x in jax.lax.map(of_member, probabilities))
    information = jnp.maximum(divergence, 0)  # below 0 by rounding alone
    return EntropySplit(per_example.entropy(mean), expected, information)


def calibration_error(
    probabilities: Float[ArrayLike, "n classes"],
    labels: Int[ArrayLike, " n"],
    bins: int = 15,
    binning: Binning = "equal_width",
    counts: Int[ArrayLike, " n"] | None = None,
) -> Float[Array, ""]:
    """Expected calibration error of the most probable class.

        ECE = sum_b (n_b / N) |mean confidence in b - accuracy in b|.

    Bins of equal width are (b/B, (b+1)/B] of the confidence, as in arXiv:1706.04599. Bins of equal
    mass hold N/B examples each, in the order of confidence: an example between two of them, or a
    group of tied examples, is shared out in proportion, so that the order of examples is nothing.

    Args:
        probabilities: of all classes.
        labels: of the examples.
        bins: their number B, at least 1.
        binning: "equal_width" or "equal_mass".
        counts: how often each example is in the sample.

    Raises:
        TypeError, ValueError: probabilities that are none, labels out of range, no example; no
            bins, another binning; counts that are no resample.
    """
    probabilities, labels = per_example.checked(probabilities, labels)
    error, counts = _error(bins, binning), checked_counts(counts, len(labels))
    confidence = probabilities.max(axis=1)
    gap = confidence - (probabilities.argmax(axis=1) == labels)
    return error(confidence, gap, bins, counts)


def classwise_calibration_error(
    probabilities: Float[ArrayLike, "n classes"],
    labels: Int[ArrayLike, " n"],
    bins: int = 15,
    binning: Binning = "equal_width",
    counts: Int[ArrayLike, " n"] | None = None,
) -> Float[Array, ""]:
    """Calibration error of the probability of each class, mean over classes.

        (1/K) sum_k sum_b (n_bk / N) |mean of p_k in b - share of label k in b|,

    with bins of each class of its own, as in `calibration_error`. arXiv:1904.01685 calls it static
    with equal width and adaptive with equal mass.

    Args:
        probabilities: of all classes.
        labels: of the examples.
        bins: their number B, at least 1.
        binning: "equal_width" or "equal_mass".
        counts: how often each example is in the sample.

    Raises:
        TypeError, ValueError: probabilities that are none, labels out of range, no example; no
            bins, another binning; counts that are no resample.
    """
    probabilities, labels = per_example.checked(probabilities, labels)
    error, counts = _error(bins, binning), checked_counts(counts, len(labels))

    def of_class(column):
        index, confidence = column
        return error(confidence, confidence - (labels == index), bins, counts)

    classes = jnp.arange(probabilities.shape[1])
    return jax.lax.map(of_class, (classes, probabilities.T)).mean()


def brier_decomposition(
    probabilities: Float[ArrayLike, "n classes"],
    labels: Int[ArrayLike, " n"],
    bins: int = 15,
    counts: Int[ArrayLike, " n"] | None = None,
) -> BrierDecomposition:
    """The Brier score in five terms, exact for any bins: the sum over classes of each class's own.

    With f the probability of a class, o whether it is the label, n_b examples in bin b of f, means
    f_b and o_b in it, and the class's frequency o,

        reliability = (1/N) sum_b n_b (f_b - o_b)^2,   resolution = (1/N) sum_b n_b (o_b - o)^2,
        uncertainty = o (1 - o),
        within_variance = (1/N) sum_b sum_{i in b} (f_i - f_b)^2,
        within_covariance = (2/N) sum_b sum_{i in b} (f_i - f_b) (o_i - o_b).

    The first three are Murphy's, and are the whole where a bin holds one value of f; the last two
    are what varies within bins (doi:10.1175/2007WAF2006116.1). Bins are of equal width.

    Args:
        probabilities: of all classes.
        labels: of the examples.
        bins: their number, at least 1.
        counts: how often each example is in the sample.

    Raises:
        TypeError, ValueError: probabilities that are none, labels out of range, no example; no
            bins; counts that are no resample.
    """
    probabilities, labels = per_example.checked(probabilities, labels)
    check_at_least_one("bins", bins)
    counts = checked_counts(counts, len(labels))
    total = bin_sums(probabilities, labels, counts, bins)
    return decomposed(total, *weighted(counts, within_bins(probabilities, labels, bins)))


def within_bins(
    probabilities: Float[Array, "n classes"], labels: Int[Array, " n"], bins: int
) -> Float[Array, "n 2"]:
    """Of each example, f less the centre of its bin: squares over all classes, and of the label."""
    inside = offsets(probabilities, bins)
    return jnp.stack([jnp.sum(inside**2, axis=1), per_example.of_label(inside, labels)], axis=1)


def decomposed(
    total: BinSums, squares: Float[Array, ""], products: Float[Array, ""]
) -> BrierDecomposition:
    """The decomposition of the Brier score, given the sums over bins and of `within_bins`."""
    n, bins = total.happened.sum(), total.size.shape[1]
    size = jnp.maximum(total.size, 1)
    forecast, frequency = total.forecast / size, total.happened / size
    base = total.happened.sum(axis=1) / n
    middle = jnp.where(total.size > 0, centres(bins, forecast.dtype)[None], 0)
    return BrierDecomposition(
        jnp.sum(size * (forecast + middle - frequency) ** 2) / n,
        jnp.sum(total.size * (frequency - base[:, None]) ** 2) / n,
        jnp.sum(base * (1 - base)),
        (squares - jnp.sum(size * forecast**2)) / n,
        2 * (products - jnp.sum(size * forecast * frequency)) / n,
    )


def classwise_error(total: BinSums) -> Float[Array, ""]:
    """The classwise calibration error with bins of equal width, given the sums over them."""
    n, (classes, bins) = total.happened.sum(), total.size.shape
    middle = centres(bins, total.size.dtype)[None]
    gaps = total.forecast + total.size * middle - total.happened
    return jnp.abs(gaps).sum() / (classes * n)


def _error(bins, binning):
    check_at_least_one("bins", bins)
    if binning == "equal_width":
        return equal_width_error
    if binning == "equal_mass":
        return equal_mass_error
    raise ValueError(f'binning: got {binning!r}, wants "equal_width" or "equal_mass"')
