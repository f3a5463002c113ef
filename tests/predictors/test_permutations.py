"""The closed form of the permutation task against a linear solve, and its exact consequences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkens.kernels import dual, fully_connected
from ntkens.predictors import permutations, posterior


def solved(k, ones, regime):
    """The same moments from kernels written out and a dense solve."""
    inputs = np.vstack([np.eye(k), np.arange(k) < ones]).astype(float)
    inputs /= np.linalg.norm(inputs, axis=1, keepdims=True)
    cosine = np.clip(inputs @ inputs.T, -1, 1)
    angle = np.arccos(cosine)
    nngp = (np.sin(angle) + (np.pi - angle) * cosine) / (2 * np.pi * k)
    ntk = nngp + cosine * (np.pi - angle) / (2 * np.pi * k)
    trained = nngp if regime == "nngp" else ntk
    weights = np.linalg.solve(trained[:k, :k], trained[:k, k])
    variance = nngp[k, k] + weights @ nngp[:k, :k] @ weights - 2 * weights @ nngp[:k, k]
    return weights[0], weights[-1], variance


@pytest.mark.parametrize("regime", ["ntk", "nngp"])
@pytest.mark.parametrize("k", [2, 3, 5, 10, 37, 200])
def test_closed_form_equals_linear_solve(k, regime):
    for ones in sorted({2, 3, k // 3, k // 2, k - 1, k} & set(range(2, k + 1))):
        inside, outside, variance = solved(k, ones, regime)
        exact = permutations.moments(k, ones, regime)
        np.testing.assert_allclose(exact.inside, inside, rtol=1e-12)
        np.testing.assert_allclose(exact.variance, variance, rtol=1e-12)
        if ones < k:  # else there is no output outside
            np.testing.assert_allclose(exact.outside, outside, rtol=1e-12, atol=1e-15)


REFERENCE = [  # Giapitzakis et al.'s task, computed by another program
    ("ntk", 5, 2, 0.56063, -0.014640, 0.013235),
    ("ntk", 10, 2, 0.56542, -0.009850, 0.006519),
    ("ntk", 10, 9, 0.16010, -0.070171, 0.017715),
    ("ntk", 20, 2, 0.56932, -0.005954, 0.003224),
    ("ntk", 30, 2, 0.57101, -0.004267, 0.002140),
    ("ntk", 30, 15, 0.12759, -0.045054, 0.005866),
    ("nngp", 5, 2, 0.60166, -0.039543, 0.012877),
    ("nngp", 10, 2, 0.61794, -0.023259, 0.006282),
    ("nngp", 10, 9, 0.15240, -0.118281, 0.017399),
    ("nngp", 20, 2, 0.62845, -0.012754, 0.003090),
    ("nngp", 30, 2, 0.63241, -0.008786, 0.002047),
    ("nngp", 30, 15, 0.14046, -0.064574, 0.005720),
]


@pytest.mark.parametrize(("regime", "k", "ones", "inside", "outside", "variance"), REFERENCE)
def test_reference_values(regime, k, ones, inside, outside, variance):
    exact = permutations.moments(k, ones, regime)
    np.testing.assert_allclose(exact.inside, inside, atol=5.1e-6)  # the printed digits
    np.testing.assert_allclose(exact.outside, outside, atol=5.1e-7)
    np.testing.assert_allclose(exact.variance, variance, atol=5.1e-7)


@pytest.mark.parametrize("regime", ["ntk", "nngp"])
def test_signs_separate_for_every_number_of_ones(regime):
    """Theorem: inside > 0 > outside for 2..k ones; training inputs are exact."""
    k, ones = np.array([(k, ones) for k in range(3, 201) for ones in range(1, k + 1)]).T
    exact = permutations.moments(k, ones, regime)
    trained = ones == 1
    assert (exact.inside > 0).all()
    assert (exact.outside[~trained] < 0).all()
    assert (exact.variance[~trained] > 0).all()
    np.testing.assert_array_equal(exact.inside[trained], 1)
    np.testing.assert_array_equal(exact.outside[trained], 0)
    np.testing.assert_array_equal(exact.variance[trained], 0)


def test_scalings_in_k():
    """outside(2) = -0.150544 / (2 pi - 1 + k) for every k, and k variance(2) tends to 0.0635..."""
    k = np.array([5, 100, 10_000, 1_000_000])
    exact = permutations.moments(k, 2, "ntk")
    g = np.sqrt(0.5) + np.sqrt(2) * (np.pi - np.arccos(np.sqrt(0.5)))
    constant = (2 * np.pi - 1 - 2 * (g - 1)) / (2 * np.pi - 1)
    np.testing.assert_allclose(constant, -0.150544, atol=5.1e-7)
    np.testing.assert_allclose(exact.outside * (2 * np.pi - 1 + k), constant, rtol=1e-11)
    limits = k[1:] * exact.variance[1:]
    np.testing.assert_allclose(limits, limits[-1], rtol=2 / k[1])  # the correction is of order 1/k
    assert limits[0] > limits[1] > limits[2]

    some = np.array([30, 100, 400])
    published = some * permutations.moments(some, 2, "ntk").variance
    np.testing.assert_allclose(published, [0.0642, 0.0637, 0.0636], atol=5.1e-5)  # printed digits


def test_jit_and_vmap():
    plain = permutations.moments(np.array([7, 9]), np.array([2, 5]), "ntk")
    jitted = jax.jit(permutations.moments, static_argnums=2)(7, 2, "ntk")
    mapped = jax.vmap(lambda k, n: permutations.moments(k, n, "ntk"))(
        jnp.array([7, 9]), jnp.array([2, 5])
    )
    for one, some, every in zip(jitted, plain, mapped, strict=True):
        np.testing.assert_allclose(one, some[0], rtol=1e-14)
        np.testing.assert_allclose(every, some, rtol=1e-14)


@pytest.mark.parametrize(("k", "ones"), [(1, 1), (5, 0), (5, 6)])
def test_what_is_refused_is_nan_under_jit(k, ones):
    moments = jax.jit(permutations.moments, static_argnums=2)(k, ones, "ntk")
    assert np.isnan(moments).all()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((1, 1, "ntk"), ValueError, "k: got 1"),
        ((5, 0, "ntk"), ValueError, "ones: got 0"),
        ((5, 6, "ntk"), ValueError, "ones: got 6"),
        ((np.array([3, 9]), np.array([2, 10]), "ntk"), ValueError, "at most k ones"),
        ((5, 2, "lazy"), ValueError, "regime: got 'lazy'"),
        ((5.0, 2, "ntk"), TypeError, r"k: got 5\.0"),
    ],
)
def test_bad_input_is_named(arguments, error, message):
    with pytest.raises(error, match=message):
        permutations.moments(*arguments)


@pytest.mark.slow
def test_predictions_equal_the_posterior_of_the_kernels():
    """The whole chain, with no closed form of the task in it: kernels, Cholesky, a permutation."""
    rng = np.random.default_rng(3)
    k, kernel_fn = 7, fully_connected.kernel_fn(dual.relu(), depth=1)
    inputs, permutation = rng.integers(0, 2, (20, k)), rng.permutation(k)
    inputs = np.vstack([inputs[inputs.any(axis=1)], np.eye(k, dtype=int)])
    unit = inputs / np.linalg.norm(inputs, axis=1, keepdims=True)
    train, targets = np.eye(k), np.eye(k)[permutation]  # e_j to e_(permutation[j])
    cross, test = kernel_fn(unit, train), kernel_fn(unit)
    for regime in ("ntk", "nngp"):
        fitted = posterior.fit(kernel_fn(train), targets, regime=regime)
        prediction = permutations.predict(inputs, permutation, regime)
        mean = posterior.mean(fitted, cross)
        np.testing.assert_allclose(prediction.mean, mean, rtol=1e-11, atol=1e-14)
        variance = np.diagonal(posterior.covariance(fitted, cross, test))
        np.testing.assert_allclose(prediction.variance, variance, rtol=1e-11, atol=1e-15)
        np.testing.assert_array_equal(prediction.bits, inputs @ targets)
        np.testing.assert_array_equal(prediction.bits > 0, prediction.mean > 1e-12)


@pytest.mark.parametrize(
    ("inputs", "permutation", "message"),
    [
        ([[1, 0], [0, 0]], [0, 1], "inputs: row 1 is all zeros"),
        ([[1, 2]], [0, 1], "inputs: hold something else than 0 and 1"),
        ([[1]], [0], "k: got 1"),
        ([1, 0], [0, 1], r"inputs: got shape \(2,\)"),
        ([[1, 0]], [1, 1], r"permutation: got \[1 1\]"),
        ([[1, 0]], [0, 1, 2], "permutation: got"),
    ],
)
def test_bad_predictions_are_named(inputs, permutation, message):
    with pytest.raises(ValueError, match=message):
        permutations.predict(np.array(inputs), np.array(permutation), "ntk")


def pairs_by_hand(k, regime):
    """Means and covariances of all inputs of two ones from dense posterior formulas."""
    first, second = np.triu_indices(k, 1)
    tests = np.eye(k)[first] + np.eye(k)[second]
    inputs = np.vstack([np.eye(k), tests / np.sqrt(2)])
    cosine = np.clip(inputs @ inputs.T, -1, 1)
    angle = np.arccos(cosine)
    nngp = (np.sin(angle) + (np.pi - angle) * cosine) / (2 * np.pi * k)
    trained = nngp if regime == "nngp" else nngp + cosine * (np.pi - angle) / (2 * np.pi * k)
    weights = np.linalg.solve(trained[:k, :k], trained[:k, k:]).T
    cross = weights @ nngp[:k, k:]
    covariance = nngp[k:, k:] - cross - cross.T + weights @ nngp[:k, :k] @ weights.T
    return tests, weights, covariance


@pytest.mark.parametrize("regime", ["ntk", "nngp"])
@pytest.mark.parametrize("k", [4, 5, 9])
def test_pair_covariance_equals_dense_posterior(k, regime):
    tests, _, covariance = pairs_by_hand(k, regime)
    shared = np.rint(tests @ tests.T).astype(int)
    exact = permutations.pair_covariance(k, regime)
    np.testing.assert_allclose(np.asarray(exact)[shared], covariance, rtol=1e-11, atol=1e-15)


@pytest.mark.slow
@pytest.mark.parametrize("regime", ["ntk", "nngp"])
@pytest.mark.parametrize("k", [4, 7])
def test_pair_outputs_have_the_moments_of_the_process(k, regime, key):
    runs = 20_000
    _, mean, covariance = pairs_by_hand(k, regime)
    draws = jax.vmap(lambda key: permutations.pair_outputs(key, k, regime, jnp.float64))(
        jax.random.split(key, runs)
    )
    error = np.sqrt(np.diagonal(covariance) / runs)[:, None]
    assert (np.abs(draws.mean(axis=0) - mean) < 5 * error).all()
    centred = np.asarray(draws) - mean
    sampled = np.einsum("rpj,rqj->pq", centred, centred) / (runs * k)
    variances = np.diagonal(covariance)
    spread = np.sqrt((covariance**2 + np.outer(variances, variances)) / (runs * k))
    assert (np.abs(sampled - covariance) < 5 * spread).all()
    outputs = np.einsum("rpi,rpj->ij", centred, centred) / (runs * len(mean))
    assert np.abs(outputs - np.diag(np.diagonal(outputs))).max() < 0.1 * variances[0]


def test_pairs_need_four():
    with pytest.raises(ValueError, match="k: got 3"):
        permutations.pair_covariance(3, "ntk")
    for k in (5.5, np.array([5, 6])):
        with pytest.raises(TypeError, match=r"k: got .* one integer"):
            permutations.pair_covariance(k, "ntk")
