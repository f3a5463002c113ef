"""Intervals against the resamples in NumPy, and by how often they hold the truth."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from ntkens.measures import bootstrap, ranking

EXAMPLES, SAMPLES = 40, 60


def draw(key):
    scores, noise = jax.random.normal(key, (2, EXAMPLES))
    return scores, scores + 2 * noise > 0


def in_numpy(key, statistic, *arrays, level):
    """The same resamples, in a loop."""
    replicates = []
    for sample in range(SAMPLES):
        rows = jax.random.randint(jax.random.fold_in(key, sample), (EXAMPLES,), 0, EXAMPLES)
        replicates.append(statistic(*(np.asarray(array)[np.asarray(rows)] for array in arrays)))
    low = np.quantile(replicates, (1 - level) / 2, method="lower")
    high = np.quantile(replicates, (1 + level) / 2, method="higher")
    return statistic(*map(np.asarray, arrays)), low, high, np.std(replicates, ddof=1), 0


def test_interval_equals_a_loop(key):
    level, (scores, _) = 0.6, draw(key)
    found = bootstrap.interval(key, jnp.median, scores, samples=SAMPLES, level=level)
    expected = in_numpy(key, np.median, scores, level=level)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_counts_and_rows_are_the_same_resamples(key, chunk):
    scores, positive = draw(key)
    by_rows = bootstrap.interval(key, ranking.auroc, scores, positive, samples=SAMPLES)
    by_counts = bootstrap.counted_interval(
        key,
        lambda counts: ranking.auroc(scores, positive, counts),
        EXAMPLES,
        samples=SAMPLES,
        chunk=chunk,
    )
    np.testing.assert_allclose(by_counts, by_rows, rtol=1e-12)
    assert by_rows.low < by_rows.estimate < by_rows.high


@pytest.mark.slow
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_interval_of_a_mean_holds_it_as_often_as_said(key, level):
    """Of 500 samples of a normal; at n = 40 a percentile interval holds about 1 % less."""
    repeats = 500
    values = jax.random.normal(key, (repeats, EXAMPLES))
    keys = jax.random.split(jax.random.fold_in(key, 1), repeats)
    found = jax.vmap(
        lambda key, values: bootstrap.interval(key, jnp.mean, values, samples=300, level=level)
    )(keys, values)
    held = np.mean((found.low <= 0) & (found.high >= 0))
    # The bootstrap's normal has variance (n-1)/n, and the truth Student's t: what it comes to.
    quantile = stats.norm.ppf((1 + level) / 2) * np.sqrt((EXAMPLES - 1) / EXAMPLES)
    expected = 1 - 2 * stats.t.sf(quantile, EXAMPLES - 1)
    assert abs(held - expected) < 4 * np.sqrt(level * (1 - level) / repeats)
    np.testing.assert_allclose(found.standard_error.mean(), 1 / np.sqrt(EXAMPLES), rtol=0.05)


@pytest.mark.slow
def test_members_are_vmapped_over_the_same_resamples(key):
    members = jax.random.normal(key, (3, EXAMPLES))
    together = jax.vmap(lambda one: bootstrap.interval(key, jnp.mean, one, samples=SAMPLES))(
        members
    )
    for i, member in enumerate(members):
        alone = bootstrap.interval(key, jnp.mean, member, samples=SAMPLES)
        for ours, one in zip(together, alone, strict=True):
            np.testing.assert_allclose(ours[i], one, rtol=1e-12)


@pytest.mark.slow
def test_a_statistic_may_be_a_pytree(key):
    scores, positive = draw(key)
    found = bootstrap.interval(
        key, lambda s, p: {"mean": s.mean(), "both": jnp.stack([p.mean(), s.max()])},
        scores, positive, samples=SAMPLES,
    )  # fmt: skip
    alone = bootstrap.interval(key, jnp.mean, scores, samples=SAMPLES)
    np.testing.assert_allclose(found.low["mean"], alone.low, rtol=1e-12)
    assert found.standard_error["both"].shape == (2,)


@pytest.mark.slow
def test_undefined_resamples_are_left_out_and_counted(key):
    scores = jnp.arange(float(EXAMPLES))
    rare = scores == 35  # a third of all resamples have no positive
    found = bootstrap.interval(key, ranking.auroc, scores, rare, samples=SAMPLES)
    assert 0.2 * SAMPLES < found.undefined < 0.55 * SAMPLES  # 5 standard errors
    np.testing.assert_allclose(found.estimate, 35 / 39, rtol=1e-12)
    assert 0 < found.low <= found.high <= 1
    never = bootstrap.interval(key, ranking.auroc, scores, scores < 0, samples=SAMPLES)
    assert never.undefined == SAMPLES
    assert all(np.isnan(never[:4]))


def test_infinite_values_reach_the_ends_that_they_reach(key):
    values = jnp.zeros(EXAMPLES).at[3].set(jnp.inf)  # in 64 % of the resamples
    found = bootstrap.interval(key, jnp.mean, values, samples=SAMPLES)
    assert (found.low, found.high, found.standard_error) == (0, jnp.inf, jnp.inf)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_samples(key):
    scores, positive = draw(key)
    arrays = jnp.tile(scores, 100), jnp.tile(positive, 100)

    def scratch(samples):
        program = bootstrap._row_replicates.lower(key, ranking.auroc, arrays, samples).compile()
        return program.memory_analysis().temp_size_in_bytes

    replicates = 8 * (1000 - 10)
    assert scratch(1000) <= scratch(10) + replicates


def test_bad_input_is_named(key):
    scores, positive = draw(key)
    with pytest.raises(ValueError, match="arrays: got shapes "):
        bootstrap.interval(key, jnp.mean)
    with pytest.raises(ValueError, match=r"arrays: got shapes \(40,\), \(39,\)"):
        bootstrap.interval(key, ranking.auroc, scores, positive[1:])
    with pytest.raises(ValueError, match=r"arrays: got shapes \(0,\)"):
        bootstrap.interval(key, jnp.mean, scores[:0])
    with pytest.raises(ValueError, match="samples: got 0"):
        bootstrap.interval(key, jnp.mean, scores, samples=0)
    with pytest.raises(ValueError, match=r"level: got 1\.0"):
        bootstrap.interval(key, jnp.mean, scores, level=1.0)
    with pytest.raises(ValueError, match="chunk: got 0"):
        bootstrap.counted_interval(key, jnp.sum, 3, chunk=0)
    with pytest.raises(ValueError, match="n: got 0"):
        bootstrap.counted_interval(key, jnp.sum, 0)
    with pytest.raises(TypeError, match="positive: got dtype"):  # the statistic's own checks
        bootstrap.interval(key, ranking.auroc, scores, scores)
