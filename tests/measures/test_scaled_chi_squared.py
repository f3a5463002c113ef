"""The density against scipy and high precision; the fit against its own truth and scipy's."""

import math

import mpmath
import numpy as np
import pytest
from scipy import stats

from ntkens.measures import generalised_chi_squared as gcs
from ntkens.measures import scaled_chi_squared as scs
from ntkens.measures.scaled_chi_squared import ScaledChiSquared


def test_the_density_is_that_of_scipy_where_that_holds():
    for k, noncentrality in ((1.0, 0.5), (3.0, 0.0), (3.0, 1e-7), (59.0, 10.0), (30.0, 1e5)):
        x = (k + noncentrality) * np.array([0.5, 1, 1.5])
        expected = (stats.chi2.logpdf(x, k) if noncentrality == 0 else
                    stats.ncx2.logpdf(x, k, noncentrality)) - math.log(2)  # fmt: skip
        found = scs.log_density(ScaledChiSquared(k, noncentrality, 2.0), 2 * x)
        np.testing.assert_allclose(found, expected, atol=1e-9)


@pytest.mark.parametrize(("k", "noncentrality"), [(62.5, 10.0), (64.0, 1e-9), (9000.0, 5.0)])
def test_the_density_of_many_degrees_is_right(k, noncentrality):
    """Of 9000 scipy's is zero. The series is at its worst at the first order that it serves."""
    y = 0.5 * k
    with mpmath.workdps(30):
        half = mpmath.mpf(k) / 2
        expected = mpmath.log(mpmath.hyp0f1(half, mpmath.mpf(noncentrality) * y / 4))
        expected += (half - 1) * mpmath.log(y) - (mpmath.mpf(y) + noncentrality) / 2
        expected -= half * mpmath.log(2) + mpmath.loggamma(half)
    found = scs.log_density(ScaledChiSquared(k, noncentrality, 1.0), np.array([y]))[0]
    assert found == pytest.approx(float(expected), abs=1e-7)


@pytest.mark.parametrize(("k", "noncentrality"), [(5.0, 3.0), (10.0, 0.0), (3000.0, 2000.0)])
def test_the_fit_is_more_likely_than_the_truth(k, noncentrality):
    """And by no more than chance: twice the gain is chi-squared with 3 degrees."""
    truth = ScaledChiSquared(k, noncentrality, 0.01)
    losses = 0.01 * np.random.default_rng(1).noncentral_chisquare(k, noncentrality, 2000)
    found = scs.fit(losses)
    assert found.converged
    density = scs.log_density(found.parameters, losses).sum()
    assert found.log_likelihood == pytest.approx(density, rel=1e-9)
    gain = density - scs.log_density(truth, losses).sum()
    assert 0 < 2 * gain < stats.chi2.ppf(0.999, 3)
    q = scs.as_generalised(found.parameters)
    assert gcs.cumulant(q, 1) == pytest.approx(losses.mean(), rel=1e-3)
    assert gcs.cumulant(q, 2) == pytest.approx(losses.var(), rel=0.05)


def test_the_fit_is_at_least_as_likely_as_scipys_from_the_truth():
    losses = np.random.default_rng(2).noncentral_chisquare(5, 3, 200)
    k, noncentrality, _, scale = stats.ncx2.fit(losses, 5, 3, floc=0, scale=1)
    theirs = stats.ncx2.logpdf(losses, k, noncentrality, scale=scale).sum()
    assert scs.fit(losses).log_likelihood > theirs - 1e-3


def test_losses_more_skewed_than_the_family_end_at_the_central_one():
    """Unequal weights: skewness times mean over deviation is above 2, all that the family has."""
    weights = np.geomspace(1, 1e-3, 40)
    rng = np.random.default_rng(0)
    losses = (weights * rng.chisquare(2, size=(3000, 40))).sum(axis=1)
    found = scs.fit(losses).parameters
    assert found.noncentrality < 1e-3 * found.degrees


def test_the_match_has_the_mean_and_the_variance():
    q = gcs.distribution(np.array([1.0, 0.2]), 3, np.array([0.5, 2.0]))
    matched = scs.as_generalised(scs.match(q))
    for order in (1, 2):
        assert gcs.cumulant(matched, order) == pytest.approx(gcs.cumulant(q, order), rel=1e-12)
    with pytest.raises(ValueError, match="all weights are 0"):
        scs.match(gcs.distribution(np.zeros(2), 1, 1.0))


def test_the_power_makes_it_normal():
    """Phi(z) is the distribution function; to a tenth of a probability of 1e-3, and ever less."""
    for k, noncentrality in ((20.0, 0.0), (50.0, 20.0), (10.0, 100.0)):
        probability = np.array([1e-3, 0.05, 0.3])
        x = stats.ncx2.ppf(probability, k, noncentrality)
        nats = scs.sankaran(ScaledChiSquared(k, noncentrality, 3.0), 3 * x)
        np.testing.assert_allclose(stats.norm.cdf(-np.sqrt(2 * nats)), probability, rtol=0.15)
    with pytest.raises(ValueError, match="values: hold"):
        scs.sankaran(ScaledChiSquared(3.0, 1.0, 1.0), -1.0)


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        (np.array([0.5]), "got shape"),
        (np.ones((3, 3)), "got shape"),
        (np.full(10, 0.3), "all are 0.3"),
        (np.array([0.1, 0.2, -0.1]), "above 0"),
        (np.array([0.1, 0.2, math.nan]), "above 0"),
    ],
)
def test_losses_that_cannot_be_fitted_are_refused(losses, message):
    with pytest.raises(ValueError, match=message):
        scs.fit(losses)
