"""Ensemble sizes of the permutation task against enumeration, simulation and each other."""

import itertools

import jax
import numpy as np
import pytest
from scipy.stats import norm

from ntkens.ensembles import complexity, permutations
from ntkens.predictors import permutations as theory

REGIMES = pytest.mark.parametrize("regime", ["ntk", "nngp"])


@pytest.mark.slow
@REGIMES
@pytest.mark.parametrize(("k", "ones"), [(5, 2), (10, 4), (12, 12), (30, 2)])
def test_one_input_equals_every_bit_listed(k, ones, regime):
    inside, outside, variance = (float(value) for value in theory.moments(k, ones, regime))
    bits = (np.arange(k) < ones).astype(int)
    mean = np.where(bits > 0, inside, outside)
    listed = complexity.members_needed(mean, variance, bits, 0.9)
    assert permutations.members_needed(k, ones, 0.9, regime) == listed
    right = complexity.accuracy(mean, variance, bits, 40)
    np.testing.assert_allclose(permutations.accuracy(k, ones, 40, regime), right, rtol=1e-12)


@pytest.mark.slow
@REGIMES
@pytest.mark.parametrize("k", [3, 5, 7])
def test_bounds_equal_all_inputs_listed(k, regime):
    """Every input of one output as its own entry, without binomial coefficients."""
    entries = []
    for bits in itertools.product((0, 1), repeat=k):
        if sum(bits) > 1:
            inside, outside, variance = theory.moments(k, sum(bits), regime)
            entries.append((inside if bits[0] else outside, variance, bits[0], sum(bits)))
    mean, variance, wanted, ones = (np.array(column) for column in zip(*entries, strict=True))
    listed = complexity.members_needed_bounds(
        mean, variance, wanted, 0.9, np.zeros(len(mean)), outputs=k
    )
    wrong = norm.sf(np.sqrt(float(listed.upper) / variance) * np.abs(mean))
    groups = {(n, bit): wrong[(ones == n) & (wanted == bit)].sum() for n in ones for bit in (0, 1)}
    largest, _ = max(groups, key=lambda group: groups[group])
    for size in (k, 50):  # padding changes nothing
        bounds, binding = permutations.all_inputs_bounds(k, 0.9, regime, size)
        assert bounds == listed
        assert binding == (2, largest)


@pytest.mark.slow
@REGIMES
def test_bounds_hold_the_sampled_answer(regime, key):
    for k in (3, 6):
        needed, error = permutations.all_inputs_sample(key, k, 0.9, regime, 4000)
        bounds, _ = permutations.all_inputs_bounds(k, 0.9, regime, k)
        assert bounds.lower - 5 * error < needed < bounds.upper + 5 * error
        one = permutations.members_needed(k, 2, 0.9, regime)
        assert needed > one  # all inputs at once are harder


@pytest.mark.slow
def test_sample_equals_an_independent_simulation(key):
    """k = 3: four inputs, their covariance written out, ensembles of the found size simulated."""
    k, draws = 3, 20_000
    needed, error = permutations.all_inputs_sample(key, k, 0.8, "nngp", draws)
    bits = np.array([[1, 1, 0], [1, 0, 1], [0, 1, 1], [1, 1, 1]])
    inputs = np.vstack([np.eye(k), bits / np.linalg.norm(bits, axis=1, keepdims=True)])
    cosine = np.clip(inputs @ inputs.T, -1, 1)
    kernel = (np.sqrt(1 - cosine**2) + (np.pi - np.arccos(cosine)) * cosine) / (2 * np.pi * k)
    weights = np.linalg.solve(kernel[:k, :k], kernel[:k, k:]).T
    covariance = kernel[k:, k:] - weights @ kernel[:k, k:]
    for members, wanted in ((needed - 5 * error, "below"), (needed + 5 * error, "above")):
        noise = jax.random.multivariate_normal(
            jax.random.fold_in(key, 1), np.zeros(4), covariance / members, (draws, k), method="svd"
        )
        outputs = weights.T[None] + np.asarray(noise)
        share = ((outputs > 0) == (bits.T[None] > 0)).all(axis=(1, 2)).mean()
        slack = 4 * np.sqrt(0.8 * 0.2 / draws)
        assert share < 0.8 + slack if wanted == "below" else share > 0.8 - slack


@pytest.mark.slow
def test_twelve_bits_are_drawn_at_once(key):
    needed, error = permutations.all_inputs_sample(key, 12, 0.5, "nngp", 100)
    bounds, _ = permutations.all_inputs_bounds(12, 0.5, "nngp", 12)
    assert bounds.lower - 5 * error < needed < bounds.upper + 5 * error


def test_paper_bound_follows_the_drawn_curve():
    """Digitised from the paper's figure, which is good to 3%."""
    drawn = {5: 5.8e3, 10: 6.7e3, 15: 8.1e3, 20: 9.6e3, 25: 1.12e4, 30: 1.28e4}
    for k, bound in drawn.items():
        np.testing.assert_allclose(permutations.paper_bound(k, 0.9, 1000, "ntk"), bound, rtol=0.03)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda key: permutations.all_inputs_sample(key, 13, 0.9, "ntk", 1000), "k: got 13"),
        (lambda key: permutations.all_inputs_sample(key, 5, 0.9, "ntk", 5), "draws: got 5"),
        (lambda key: permutations.all_inputs_sample(key, 5, 1.5, "ntk", 200), "accuracy: got 1.5"),
        (lambda key: permutations.members_needed(5, 0, 0.9, "ntk"), "ones: got 0"),
        (lambda key: permutations.members_needed(5, 2, 1.0, "ntk"), "accuracy: got 1.0"),
        (lambda key: permutations.accuracy(5, 7, 10, "ntk"), "ones: got 7"),
        (lambda key: permutations.accuracy(5, 2, 0, "ntk"), "members: got 0"),
        (lambda key: permutations.all_inputs_bounds(5, 0.9, "ntk", 3), "size: got 3"),
        (lambda key: permutations.all_inputs_bounds(1, 0.9, "ntk", 3), "k: got 1"),
        (lambda key: permutations.paper_bound(5, 0.9, 0, "ntk"), "tests: got 0"),
        (lambda key: permutations.paper_bound(5, 0, 10, "ntk"), "accuracy: got 0"),
    ],
)
def test_bad_input_is_named(key, call, message):
    with pytest.raises(ValueError, match=message):
        call(key)


def test_what_is_refused_has_no_answer_under_jit():
    def asked(ones, members, accuracy):
        return (
            permutations.members_needed(5, ones, accuracy, "ntk"),
            permutations.accuracy(5, ones, members, "ntk"),
        )

    needed, right = jax.vmap(asked)(
        np.array([2, 0, 6, 2, 2]), np.array([1, 1, 1, 0, 1]), np.array([0.9, 0.9, 0.9, 0.9, 1.0])
    )
    np.testing.assert_array_equal(needed < 0, [False, True, True, False, True])
    np.testing.assert_array_equal(np.isnan(right), [False, True, True, True, False])
