"""Accuracy, proper scores, calibration and the entropies of an ensemble.

Of probabilities [n classes], never logits, and labels [n]; vmap over members and seeds. Results are
means over the examples; `per_example` has what they are means of. `counts` say how often each
example is in the sample, once without them: resamples then share what does not depend on them.
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from ntkens.measures import per_example
from ntkens.measures.checks import (
    at_least_float32,
    check_at_least_one,
    checked_counts,
    checked_probabilities,
)
from ntkens.measures.ranked import Ranked, rank, sums

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
    return _mean(per_example.correct(probabilities, labels), probabilities)


def top_k(
    probabilities: Float[ArrayLike, "n classes"], labels: Int[ArrayLike, " n"], k: int
) -> Float[Array, ""]:
    """Share of examples whose label is one of the k most probable classes.

    Raises:
        TypeError, ValueError: probabilities that are none, labels out of range, no example; k
            outside 1 to the number of classes.
    """
    return _mean(per_example.in_top(probabilities, labels, k), probabilities)


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
    expected = per_example.entropy(probabilities).mean(axis=0)
    divergence = jax.scipy.special.rel_entr(probabilities, mean[None]).sum(axis=-1).mean(axis=0)
    divergence = jnp.maximum(divergence, 0)
    return EntropySplit(per_example.entropy(mean), expected, divergence)


def calibration_error(
    probabilities: Float[ArrayLike, "n classes"],
    labels: Int[ArrayLike, " n"],
    bins: int = 15,
    binning: Binning = "equal_width",
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

    Raises:
        TypeError, ValueError: probabilities that are none, labels out of range, no example; no
            bins, another binning.
    """
    probabilities, labels = per_example.checked(probabilities, labels)
    confidence = probabilities.max(axis=-1)
    gap = confidence - per_example.correct(probabilities, labels)
    _check_binning(bins, binning)
    return _binned_error(confidence, gap, bins, binning)


def classwise_calibration_error(
    probabilities: Float[ArrayLike, "n classes"],
    labels: Int[ArrayLike, " n"],
    bins: int = 15,
    binning: Binning = "equal_width",
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

    Raises:
        TypeError, ValueError: probabilities that are none, labels out of range, no example; no
            bins, another binning.
    """
    probabilities, labels = per_example.checked(probabilities, labels)
    _check_binning(bins, binning)

    def of_class(column):
        index, confidence = column
        return _binned_error(confidence, confidence - (labels == index), bins, binning)

    classes = jnp.arange(probabilities.shape[1])
    return jax.lax.map(of_class, (classes, probabilities.T)).mean()


def brier_decomposition(
    probabilities: Float[ArrayLike, "n classes"], labels: Int[ArrayLike, " n"], bins: int = 15
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

    Raises:
        TypeError, ValueError: probabilities that are none, labels out of range, no example; no
            bins.
    """
    probabilities, labels = per_example.checked(probabilities, labels)
    check_at_least_one("bins", bins)

    def of_class(column):
        index, forecast = column
        happened = (labels == index).astype(forecast.dtype)
        members = in_bins(forecast, bins).astype(forecast.dtype)
        sizes = jnp.maximum(members.sum(axis=0), 1)
        forecasts, frequencies = (_matmul(x, members) / sizes for x in (forecast, happened))
        base = happened.mean()
        off, out = forecast - _matmul(members, forecasts), happened - _matmul(members, frequencies)
        share = members.mean(axis=0)
        return BrierDecomposition(
            jnp.sum(share * (forecasts - frequencies) ** 2),
            jnp.sum(share * (frequencies - base) ** 2),
            base * (1 - base),
            jnp.mean(off**2),
            2 * jnp.mean(off * out),
        )

    classes = jnp.arange(probabilities.shape[1])
    terms = jax.lax.map(of_class, (classes, probabilities.T))
    return jax.tree.map(lambda values: values.sum(axis=0), terms)


def in_bins(values: Float[Array, " n"], bins: int) -> Bool[Array, "n bins"]:
    """Which of the bins (b/B, (b+1)/B] each value is in; 0 is in the first."""
    edges = jnp.linspace(0, 1, bins + 1, dtype=values.dtype)[1:-1]
    index = jnp.sum(values[:, None] > edges[None], axis=1)
    return index[:, None] == jnp.arange(bins)[None]


def equal_mass_error(
    confidence: Float[Array, " n"] | Ranked,
    gap: Float[Array, " n"],
    bins: int,
    counts: Int[Array, " n"] | None = None,
) -> Float[Array, ""]:
    """sum_b |sum of gaps in b| / N over bins of N/B examples each, in the order of confidence."""
    ranked = rank(confidence)
    counts = checked_counts(counts, len(gap))
    n = len(gap)
    # The sum of the first r gaps, at real r: linear within an example and within a tied group.
    places, total = sums(ranked, counts).through, sums(ranked, counts * gap).through
    places = jnp.concatenate([jnp.zeros(1), places]).astype(total.dtype)
    total = jnp.concatenate([jnp.zeros(1, total.dtype), total])
    edges = jnp.linspace(0, n, bins + 1, dtype=total.dtype)
    return jnp.abs(jnp.diff(jnp.interp(edges, places, total))).sum() / n


def _binned_error(confidence, gap, bins, binning):
    """sum_b |sum of gaps in b| / N."""
    if binning == "equal_mass":
        return equal_mass_error(confidence, gap, bins)
    members = in_bins(confidence, bins).astype(gap.dtype)
    return jnp.abs(_matmul(gap, members)).sum() / len(gap)


def _check_binning(bins, binning):
    check_at_least_one("bins", bins)
    if binning not in ("equal_width", "equal_mass"):
        raise ValueError(f'binning: got {binning!r}, wants "equal_width" or "equal_mass"')


def _matmul(left, right):
    return jnp.matmul(left, right, precision="highest")


def _mean(truths: Bool[Array, " n"], probabilities: ArrayLike) -> Float[Array, ""]:
    dtype = jnp.asarray(probabilities).dtype
    return truths.mean(dtype=at_least_float32(dtype)).astype(dtype)
