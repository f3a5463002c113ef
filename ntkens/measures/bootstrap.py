"""Bootstrap intervals: the statistic of resamples of the examples, one after another in a loop.

A resample is n draws from the n examples with replacement. `interval` takes the rows drawn of any
arrays; `counted_interval` hands over how often each row is drawn, which is all that sums need, and
spares gathering and sorting. With one key both see the same resamples. Both give percentile
intervals: quantiles of the replicates. A statistic that is biased in samples, such as a calibration
error, is biased once more in resamples, and its interval may not hold its estimate.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Int, Key

from ntkens.measures.checks import check_at_least_one


class Interval(NamedTuple):
    """A statistic of the sample and its bootstrap interval: pytrees like the statistic.

    Attributes:
        estimate: the statistic of the sample itself.
        low: lower end, a replicate.
        high: upper end, a replicate.
        standard_error: standard deviation of the replicates.
        undefined: number of resamples at which the statistic is NaN; they are left out.
    """

    estimate: Any
    low: Any
    high: Any
    standard_error: Any
    undefined: Any


def interval(
    key: Key[Array, ""],
    statistic: Callable[..., Any],
    *arrays: ArrayLike,
    samples: int = 1000,
    level: float = 0.95,
) -> Interval:
    """The percentile interval of `statistic(*arrays)`, any function of arrays of examples.

    Compiles itself; a new `statistic` object, such as a lambda written in the call, is compiled
    anew. Resamples follow one another, so that memory is that of one, and the replicates. Give the
    per-example values where the statistic is their mean: rows of [n classes] cost that much more.

    Args:
        key: of the resamples.
        statistic: of the arrays, pure and traceable; returns a pytree of arrays.
        *arrays: examples first, all the same number.
        samples: number of resamples.
        level: probability that the interval is to have.

    Raises:
        TypeError, ValueError: whatever the statistic raises; no arrays, or none of examples;
            unequal numbers of examples; samples < 1; a level outside (0, 1).
    """
    values = tuple(jnp.asarray(array) for array in arrays)
    lengths = [value.shape[:1] for value in values]
    if not lengths or lengths[0] in ((), (0,)) or len(set(lengths)) > 1:
        shapes = ", ".join(str(value.shape) for value in values)
        raise ValueError(f"arrays: got shapes {shapes}; want one row each for the same examples")
    check_resampling(samples, level)
    estimate = statistic(*values)  # outside of the loop, where its checks see the values
    return summary(estimate, _row_replicates(key, statistic, values, samples), level)


def counted_interval(
    key: Key[Array, ""],
    statistic: Callable[[Int[Array, " n"]], Any],
    n: int,
    *,
    samples: int = 1000,
    level: float = 0.95,
    chunk: int = 1,
) -> Interval:
    """The percentile interval of a statistic that takes counts: how often each example is drawn.

        scores = ranked.rank(scores)  # sorted once, for all resamples
        counted_interval(key, lambda counts: ranking.auroc(scores, positive, counts), n)

    Traceable, and not compiled here: the statistic is mapped over the resamples.

    Args:
        key: of the resamples.
        statistic: of counts [n], integers that sum to n; returns a pytree of arrays.
        n: number of examples.
        samples: number of resamples.
        level: probability that the interval is to have.
        chunk: resamples at a time, vmapped.

    Raises:
        TypeError, ValueError: whatever the statistic raises; n, samples or a chunk < 1; a level
            outside (0, 1).
    """
    check_at_least_one("n", n)
    check_at_least_one("chunk", chunk)
    check_resampling(samples, level)
    rounds = -(-(samples + 1) // chunk)
    chunk = -(-(samples + 1) // rounds)  # of even size; the last may go past what is asked for

    def replicate(sample):  # the sample itself goes first, so as not to be compiled apart
        counts = jnp.bincount(_drawn(key, sample - 1, n), length=n)
        return statistic(jnp.where(sample == 0, 1, counts))

    every = jnp.arange(rounds * chunk)
    values = jax.lax.map(replicate, every, batch_size=None if chunk == 1 else chunk)
    estimate = jax.tree.map(lambda value: value[0], values)
    replicates = jax.tree.map(lambda value: value[1 : samples + 1], values)
    return summary(estimate, replicates, level)


def summary(estimate: Any, replicates: Any, level: float) -> Interval:
    """The interval of a statistic, given its replicates: the same pytree, stacked."""

    def ends(values):
        # Replicates themselves, from the outside: between them lies nothing that may be infinite.
        low = jnp.nanquantile(values, (1 - level) / 2, axis=0, method="lower")
        high = jnp.nanquantile(values, (1 + level) / 2, axis=0, method="higher")
        spread = jnp.nanstd(values, axis=0, ddof=1)
        spread = jnp.where(jnp.isinf(values).any(axis=0), jnp.inf, spread)
        return low, high, spread, jnp.isnan(values).sum(axis=0)

    fields = (jax.tree.map(lambda values, i=i: ends(values)[i], replicates) for i in range(4))
    return Interval(estimate, *fields)


def check_resampling(samples: int, level: float) -> None:
    """A `ValueError` unless there are resamples, and a level between 0 and 1."""
    check_at_least_one("samples", samples)
    if not 0 < level < 1:
        raise ValueError(f"level: got {level}, wants a probability between 0 and 1")


@functools.partial(jax.jit, static_argnames=("statistic", "samples"))
def _row_replicates(key, statistic, arrays, samples):
    def replicate(sample):
        drawn = _drawn(key, sample, len(arrays[0]))
        return statistic(*(array[drawn] for array in arrays))

    return jax.lax.map(replicate, jnp.arange(samples))


def _drawn(key, sample, n):
    """The examples of one resample: its own key, so that chunks do not matter."""
    return jax.random.randint(jax.random.fold_in(key, sample), (n,), 0, n)
