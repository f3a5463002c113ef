"""The loss of a Gaussian vector against dense algebra and sampling; information in both units."""

import math

import jax
import numpy as np
import pytest
from scipy import stats

from ntkens.measures import generalised_chi_squared as gcs
from ntkens.measures import inductive_bias, scaled_chi_squared

TEST, OUTPUTS = 6, 2
SAMPLES = 8000


def planted(rank=TEST):
    rng = np.random.default_rng(0)
    root = rng.normal(size=(TEST, rank)) * np.geomspace(1, 0.1, rank)
    mean, targets = rng.normal(size=(2, TEST, OUTPUTS))
    return mean, root @ root.T, targets


def test_the_loss_has_the_cumulants_of_the_dense_vector():
    """Of all T k outputs at once, whose covariance is a Kronecker product."""
    mean, covariance, targets = planted()
    q = inductive_bias.loss_distribution(mean, covariance, targets)
    dense = np.kron(covariance, np.eye(OUTPUTS)) / mean.size
    shift = (mean - targets).ravel() / math.sqrt(mean.size)
    for order in (1, 2, 3, 4):
        power = np.linalg.matrix_power(dense, order - 1)
        expected = np.trace(power @ dense) + order * shift @ power @ shift
        expected *= 2 ** (order - 1) * math.factorial(order - 1)
        assert gcs.cumulant(q, order) == pytest.approx(expected, rel=1e-10)
    one = inductive_bias.loss_distribution(mean[:, 0], covariance, targets[:, 0])
    assert set(one.degrees) == {1}


def test_sampled_losses_have_the_exact_moments_and_tail(key):
    mean, covariance, targets = planted()
    q = inductive_bias.loss_distribution(mean, covariance, targets)
    losses = np.asarray(inductive_bias.sample_losses(key, mean, covariance, targets, SAMPLES))
    variance, fourth = gcs.cumulant(q, 2), gcs.cumulant(q, 4)
    assert abs(losses.mean() - gcs.cumulant(q, 1)) < 5 * math.sqrt(variance / SAMPLES)
    error = math.sqrt((fourth + 2 * variance**2) / SAMPLES)
    assert abs(losses.var() - variance) < 5 * error
    target = np.quantile(losses, [0.01, 0.1, 0.9])
    exact = inductive_bias.exact(q, target).nats
    error = np.sqrt(np.expm1(exact) / SAMPLES)  # of -log of a counted share
    counted = inductive_bias.empirical(losses, target).information.nats
    assert np.all(np.abs(counted - exact) < 5 * error)
    shuffled = inductive_bias.loss_distribution(mean, covariance, targets[::-1])
    assert np.all(abs(inductive_bias.exact(shuffled, target).nats / exact - 1) > 0.1)


def test_a_singular_covariance_has_a_floor():
    """What the null space gets wrong no hypothesis mends: infinite information at or below it."""
    mean, covariance, targets = planted(rank=2)
    q = inductive_bias.loss_distribution(mean, covariance, targets)
    assert np.sum(q.weights > 0) == 2
    null = np.linalg.svd(covariance)[0][:, 2:]
    floor = np.mean((null @ (null.T @ (mean - targets))) ** 2)
    assert gcs.floor(q) == pytest.approx(floor, rel=1e-12)
    found = inductive_bias.exact(q, floor * np.array([-1, 0, 0.999, 1.001]))
    np.testing.assert_array_equal(np.isinf(found.nats), [True, True, True, False])
    np.testing.assert_array_equal(np.isinf(found.bits), [True, True, True, False])
    bound = inductive_bias.lower_bound(q, floor * np.array([0.999, 1.001]))
    assert math.isinf(bound.nats[0])
    assert 0 < bound.nats[1] < found.nats[3]
    losses = inductive_bias.sample_losses(jax.random.key(0), mean, covariance, targets, SAMPLES)
    assert floor < losses.min() < 1.2 * floor
    everywhere = inductive_bias.loss_distribution(mean, 0 * covariance, targets)
    loss = np.mean((mean - targets) ** 2)
    nats = inductive_bias.exact(everywhere, loss * np.array([0.99, 1.01])).nats
    np.testing.assert_array_equal(nats, [math.inf, 0])


def test_eigenvalues_below_the_rounding_of_the_dtype_are_zero():
    mean, covariance, targets = planted(rank=2)
    single = covariance.astype(np.float32)
    q = inductive_bias.loss_distribution(mean, single, targets)
    assert np.sum(q.weights > 0) == 2
    noisy = covariance - 1e-6 * np.eye(TEST)
    with pytest.raises(ValueError, match="an eigenvalue is -1e-06"):
        inductive_bias.loss_distribution(mean, noisy, targets)
    q = inductive_bias.loss_distribution(mean, noisy, targets, rounding=1e-5)
    assert np.sum(q.weights > 0) == 2


def test_information_is_in_nats_and_bits():
    logarithms = np.array([0, math.log(0.5), -10 * math.log(2), -math.inf])
    found = inductive_bias.information(logarithms)
    np.testing.assert_allclose(found.bits, [0, 1, 10, math.inf], atol=1e-15)
    np.testing.assert_allclose(found.nats, found.bits * math.log(2), atol=1e-15)
    with pytest.raises(ValueError, match="log_probability: got"):
        inductive_bias.information(0.1)


def test_above_the_mean_little_is_needed_and_never_more():
    q = gcs.distribution(np.array([0.1]), 20)  # mean 2
    target = np.array([0.2, 1, 1.9, 2, 2.1, 4, 8, 16])
    nats = inductive_bias.exact(q, target).nats
    expected = -np.where(
        target < 2, stats.chi2.logcdf(target / 0.1, 20), np.log1p(-stats.chi2.sf(target / 0.1, 20))
    )
    np.testing.assert_allclose(nats, expected, rtol=1e-9)
    assert np.all(np.diff(nats) < 0)
    assert np.all(inductive_bias.lower_bound(q, target).nats <= nats)


def test_a_fit_is_read_by_its_exact_tail():
    """Also where scipy's logcdf is infinite, and the paper takes Sankaran's approximation."""
    parameters = scaled_chi_squared.ScaledChiSquared(3000.0, 10.0, 1e-3)
    target = np.array([2.7, 0.3])
    nats = inductive_bias.parametric(parameters, target).nats
    with np.errstate(divide="ignore"):
        theirs = -stats.ncx2.logcdf(target, 3000, 10, scale=1e-3)
    assert nats[0] == pytest.approx(theirs[0], rel=1e-8)
    assert math.isinf(theirs[1])
    assert 745 < nats[1] < math.inf


def test_counting_has_the_interval_of_clopper_and_pearson():
    losses = np.arange(1, 51) / 50
    found = inductive_bias.empirical(losses, np.array([0.0, 0.1, 1.0]))
    for place, count in enumerate((0, 5, 50)):
        low, high = stats.binomtest(count, 50).proportion_ci(0.95, "exact")
        assert np.exp(-found.high[place]) == pytest.approx(low, abs=1e-12)
        assert np.exp(-found.low[place]) == pytest.approx(high, rel=1e-9)
    np.testing.assert_allclose(found.information.nats, [math.inf, math.log(10), 0])


MEAN, COVARIANCE, TARGETS = planted()
Q = gcs.distribution(np.ones(2))
loss_distribution = inductive_bias.loss_distribution


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: loss_distribution(MEAN, COVARIANCE, TARGETS[:3]), "targets: got shape"),
        (lambda: loss_distribution(MEAN, COVARIANCE[:3], TARGETS), "covariance: got shape"),
        (lambda: loss_distribution(MEAN, COVARIANCE + np.arange(6), TARGETS), "not symmetric"),
        (lambda: loss_distribution(MEAN * math.nan, COVARIANCE, TARGETS), "mean: holds NaN"),
        (lambda: loss_distribution(MEAN, -COVARIANCE, TARGETS), "an eigenvalue is"),
        (lambda: loss_distribution(MEAN, COVARIANCE, TARGETS, rounding=-1), "rounding: got -1"),
        (lambda: inductive_bias.sample_losses(None, MEAN, COVARIANCE, TARGETS, 0), "samples: got"),
        (lambda: inductive_bias.exact(Q, math.nan), "target_loss: holds NaN"),
        (lambda: inductive_bias.lower_bound(Q, math.nan), "target_loss: holds NaN"),
        (lambda: inductive_bias.empirical(np.ones(3), math.nan), "target_loss: holds NaN"),
        (lambda: inductive_bias.empirical(np.zeros(0), 1.0), "losses: got shape"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
