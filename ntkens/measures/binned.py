"""Sums over bins of a predicted probability, of a sample given by counts.

A bin of equal width is (b/B, (b+1)/B]. What is in a bin does not depend on the counts, so that the
sums of many resamples are one matrix product of their counts with the indicators of the bins.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ntkens.measures.ranked import Ranked, rank, sums


class BinSums(NamedTuple):
    """Sums over the examples of each class and bin, [classes bins].

    Attributes:
        size: number of examples.
        forecast: of the class's probability, less the centre of the bin: its square and products
            are then small, and in float32 nothing is lost when means are taken off them.
        happened: number of examples with this label.
    """

    size: Float[Array, "classes bins"]
    forecast: Float[Array, "classes bins"]
    happened: Float[Array, "classes bins"]


def in_bins(values: Float[Array, "..."], bins: int) -> Bool[Array, "... bins"]:
    """Which of the bins each value from 0 to 1 is in; 0 is in the first."""
    edges = jnp.linspace(0, 1, bins + 1, dtype=values.dtype)
    low, high = edges[:-1].at[0].set(-jnp.inf), edges[1:].at[-1].set(jnp.inf)
    shape = (1,) * values.ndim + (bins,)
    values = values[..., None]
    return (values > low.reshape(shape)) & (values <= high.reshape(shape))


def centres(bins: int, dtype) -> Float[Array, " bins"]:
    """The middle of each bin."""
    return ((jnp.arange(bins) + 0.5) / bins).astype(dtype)


def offsets(values: Float[Array, "..."], bins: int) -> Float[Array, "..."]:
    """Each value less the centre of its bin."""
    index = in_bins(values, bins).argmax(axis=-1)
    return values - centres(bins, values.dtype)[index]


def bin_sums(
    probabilities: Float[Array, "n classes"],
    labels: Int[Array, " n"],
    counts: Int[Array, " n"],
    bins: int,
) -> BinSums:
    """The sums of every class and bin; classes follow one another: memory is that of one."""
    classes, dtype = probabilities.shape[1], probabilities.dtype

    def of_class(forecast):
        member = in_bins(forecast, bins)
        offset = forecast[:, None] - centres(bins, dtype)[None]
        columns = jnp.concatenate([member.astype(dtype), jnp.where(member, offset, 0)], axis=1)
        return weighted(counts, columns)

    size, forecast = jnp.split(jax.lax.map(of_class, probabilities.T), 2, axis=1)
    own = jnp.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0]
    place = labels * bins + in_bins(own, bins).argmax(axis=1)
    happened = jax.ops.segment_sum(counts, place, classes * bins).reshape(classes, bins)
    return BinSums(size, forecast, happened.astype(dtype))


def equal_width_error(
    confidence: Float[Array, " n"], gap: Float[Array, " n"], bins: int, counts: Int[Array, " n"]
) -> Float[Array, ""]:
    """sum_b |sum of gaps in b| / N over bins of equal width of the confidence."""
    columns = jnp.where(in_bins(confidence, bins), gap[:, None], 0)
    return jnp.abs(weighted(counts, columns)).sum() / len(gap)


def equal_mass_error(
    confidence: Float[Array, " n"] | Ranked,
    gap: Float[Array, " n"],
    bins: int,
    counts: Int[Array, " n"],
) -> Float[Array, ""]:
    """sum_b |sum of gaps in b| / N over bins of N/B examples each, in the order of confidence."""
    ranked, n = rank(confidence), len(gap)
    # The sum of the first r gaps, at real r: linear within an example and within a tied group.
    total = sums(ranked, counts, gap).through
    total = jnp.concatenate([jnp.zeros(1, total.dtype), total])
    places = sums(ranked, counts).through.astype(total.dtype)
    places = jnp.concatenate([jnp.zeros(1, total.dtype), places])
    edges = jnp.linspace(0, n, bins + 1, dtype=total.dtype)
    return jnp.abs(jnp.diff(jnp.interp(edges, places, total))).sum() / n


def weighted(counts: Int[Array, " n"], columns: Float[Array, "n k"]) -> Float[Array, " k"]:
    """Sums of columns over the sample: of many vmapped counts, a matrix product."""
    return jnp.matmul(counts.astype(columns.dtype), columns, precision="highest")
