"""Aggregates against NumPy, by properties, and greedy weights against every sequence there is."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from ntkens.ensembles import aggregate

OF_PROBABILITIES = {
    "mean": aggregate.mean,
    "geometric": aggregate.geometric,
    "vote": aggregate.vote,
    "weighted": lambda p: aggregate.weighted(p, np.array([0.5, 0.3, 0.2])),
    "mean_logits": lambda p: aggregate.mean_logits(jnp.log(p)),
    "log_mean": lambda p: jnp.exp(aggregate.log_mean(jnp.log(p))),
}  # fmt: skip
# Compiled whole: operation by operation, these small arrays cost more to compile than to compute.
COMPILED = {name: jax.jit(combine) for name, combine in OF_PROBABILITIES.items()}
each = pytest.mark.parametrize("name", OF_PROBABILITIES)


def drawn(seed, members=4, n=7, classes=3, concentration=0.5):
    return np.random.default_rng(seed).dirichlet([concentration] * classes, (members, n))


@pytest.mark.parametrize("members", [1, 4])
def test_aggregates_are_their_formulas(members):
    p = drawn(0, members)
    weights = np.random.default_rng(1).dirichlet([1.0] * members)
    logits = np.log(p) + np.random.default_rng(2).normal(size=(members, 7, 1))
    votes = [np.bincount(column, minlength=3) / members for column in p.argmax(-1).T]
    products = stats.gmean(p, axis=0)
    geometric = products / products.sum(-1, keepdims=True)
    np.testing.assert_allclose(aggregate.mean(p), p.mean(0), rtol=1e-14)
    np.testing.assert_allclose(aggregate.vote(p), votes, rtol=1e-14)
    np.testing.assert_allclose(aggregate.weighted(p, weights), np.einsum("i,ijk", weights, p))
    np.testing.assert_allclose(aggregate.geometric(p), geometric, rtol=1e-12)
    np.testing.assert_allclose(
        aggregate.mean_logits(logits), special.softmax(logits.mean(0), -1), rtol=1e-12
    )
    np.testing.assert_allclose(aggregate.log_mean(logits), np.log(p.mean(0)), rtol=1e-12)


@each
@given(seed=st.integers(0, 10**6), zeros=st.booleans())
def test_aggregates_stay_on_the_simplex(name, seed, zeros):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet([0.3] * 4, (3, 6))
    if zeros:
        keep = rng.random(p.shape) < 0.6
        keep[..., 0] |= ~keep.any(-1)
        p = np.where(keep, p + 1e-3, 0)
        p /= p.sum(-1, keepdims=True)
    result = COMPILED[name](p)
    assert result.shape == (6, 4)
    assert (np.asarray(result) >= 0).all()
    np.testing.assert_allclose(result.sum(-1), 1, rtol=1e-12)


@each
def test_the_order_of_axes_between_is_kept(name):
    p = drawn(3, 3, 12, 4).reshape(3, 2, 6, 4)
    result = COMPILED[name](p)
    for i in range(2):
        np.testing.assert_allclose(result[i], COMPILED[name](p[:, i]), rtol=1e-14)


def test_a_tie_of_votes_goes_to_the_smaller_class():
    p = jnp.array([[[0.5, 0.5, 0.0]], [[0.0, 0.3, 0.7]], [[0.0, 0.4, 0.6]], [[0.9, 0.1, 0.0]]])
    votes = aggregate.vote(p)
    np.testing.assert_array_equal(votes, [[0.5, 0, 0.5]])
    assert int(votes.argmax(-1)[0]) == 0


def test_the_geometric_mean_of_zeros_is_the_limit_of_small_probabilities():
    p = np.array([
        [[1, 0, 0], [0.5, 0.5, 0], [0, 0.2, 0.8]],
        [[0, 1, 0], [1, 0, 0], [0.9, 0.1, 0]],
        [[0, 0.6, 0.4], [0, 0.1, 0.9], [0.5, 0.25, 0.25]],
    ])  # fmt: skip
    smoothed = np.maximum(p, 1e-200)
    products = np.exp(np.log(smoothed).mean(0) - np.log(smoothed).mean(0).max(-1, keepdims=True))
    expected = products / products.sum(-1, keepdims=True)
    found = aggregate.geometric(jnp.asarray(p))
    np.testing.assert_allclose(found, expected, atol=1e-60, rtol=1e-12)
    assert (np.asarray(found) == 0).any()  # ruled out is zero, not small


def test_logs_survive_where_probabilities_underflow():
    logits = jnp.array([[[0.0, -2000.0]], [[0.0, -3000.0]]])
    assert float(jnp.log(aggregate.mean(jax.nn.softmax(logits)))[0, 1]) == -np.inf
    np.testing.assert_allclose(aggregate.log_mean(logits)[0, 1], -2000 - np.log(2), rtol=1e-15)
    np.testing.assert_allclose(aggregate.log_mean_logits(logits)[0, 1], -2500, rtol=1e-15)


def test_gradients_are_finite_at_a_class_that_is_ruled_out():
    logits = jnp.log(jnp.array([[1.0, 0, 0], [0.5, 0.5, 0]]))

    def total(logits):
        return aggregate.log_mean(logits)[:2].sum() + aggregate.mean_logits(logits)[0]

    assert np.isfinite(jax.jit(jax.grad(total))(logits)).all()


def negative_log_likelihood(p, labels, chosen):
    return -np.mean(np.log(np.mean([p[i, np.arange(len(labels)), labels] for i in chosen], 0)))


def test_greedy_weights_take_the_best_addition_each_round():
    """Caruana's loop, written with lists."""
    p = drawn(5, 6, 20, 3)
    labels = np.random.default_rng(6).integers(0, 3, 20)
    chosen, course = [], []
    for _ in range(12):
        chosen = min(
            ([*chosen, i] for i in range(6)), key=lambda c: negative_log_likelihood(p, labels, c)
        )
        course.append((negative_log_likelihood(p, labels, chosen), chosen))
    expected = np.bincount(min(course)[1], minlength=6) / len(min(course)[1])
    found = aggregate.greedy_weights(p, labels, rounds=12)
    np.testing.assert_allclose(found, expected, rtol=1e-15)
    assert (expected > 0).sum() > 1  # else it chose one network, twelve times
    best = min(
        negative_log_likelihood(p, labels, c)
        for c in itertools.combinations_with_replacement(range(6), 3)
    )
    weighted = aggregate.weighted(p, found)[np.arange(20), labels]
    assert -np.mean(np.log(weighted)) < best + 0.01  # near what no greed would find of three


def test_greedy_weights_leave_a_round_that_harms():
    """Two members half right each; a third that only harms: 1/2, 1/2, 0, also of three rounds."""
    p = jnp.array([[[0.9, 0.1], [0.5, 0.5]], [[0.5, 0.5], [0.9, 0.1]], [[0.01, 0.99]] * 2])
    weights = aggregate.greedy_weights(p, jnp.array([0, 0]), rounds=3)
    np.testing.assert_array_equal(weights, [0.5, 0.5, 0])


def test_greedy_weights_recover_from_members_that_err_with_certainty():
    p = jnp.array([[[1.0, 0], [0, 1.0]], [[0, 1.0], [1.0, 0]]])
    np.testing.assert_array_equal(
        aggregate.greedy_weights(p, jnp.array([0, 0]), rounds=4), [0.5] * 2
    )
    np.testing.assert_array_equal(aggregate.greedy_weights(p, jnp.array([0, 1]), rounds=4), [1, 0])


P = np.full((2, 3, 4), 0.25)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: aggregate.mean(np.ones((2, 3, 4))), ValueError, "probabilities: sum to 4"),
        (lambda: aggregate.geometric(np.array([[1.5, -0.5]])), ValueError, "holds -0.5, below 0"),
        (lambda: aggregate.log_mean(np.full((2, 3), -np.inf)), ValueError, "logits: hold NaN"),
        (lambda: aggregate.weighted(P, np.ones(3) / 3), ValueError, "weights: got shape"),
        (lambda: aggregate.weighted(P, np.ones(2)), ValueError, "weights: sum to 2"),
        (lambda: aggregate.greedy_weights(P, np.array([0, 1, 4])), ValueError, "labels: got one"),
        (lambda: aggregate.greedy_weights(P, np.zeros(2, int)), ValueError, "labels: got shape"),
        (lambda: aggregate.greedy_weights(P, np.zeros(3)), TypeError, "labels: got float"),
        (lambda: aggregate.greedy_weights(P, np.zeros(3, int), rounds=0), ValueError, "rounds"),
    ],
)  # fmt: skip
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_float32_rounding_is_not_bad_input():
    p = jax.nn.softmax(jax.random.normal(jax.random.key(0), (2, 5, 1000), jnp.float32))
    assert aggregate.mean(np.asarray(p, np.float64)).shape == (5, 1000)
    assert aggregate.mean(p.astype(jnp.bfloat16)).dtype == jnp.bfloat16
