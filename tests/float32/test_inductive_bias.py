"""Tails are in float64 whatever the setting; posteriors and samples of float32 are served."""

import jax
import numpy as np
import pytest
from scipy import stats

from ntkens.kernels import Kernel, rbf
from ntkens.measures import generalised_chi_squared as gcs
from ntkens.measures import inductive_bias
from ntkens.predictors import posterior


def test_tails_do_not_depend_on_the_setting():
    q = gcs.distribution(np.full(3, 0.1, np.float32), 4)
    found = gcs.log_cdf(q, np.array([1e-30, 0.5]))
    expected = stats.chi2.logcdf(np.array([1e-30, 0.5]) / float(np.float32(0.1)), 12)
    np.testing.assert_allclose(found.log_probability, expected, rtol=1e-12)


def test_a_posterior_in_float32_is_served():
    """Its loss is that of the same kernel in float64, to the rounding of float32."""
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(20, 3)).astype(np.float32)
    targets = np.sin(inputs[:, :1])
    gram = rbf.kernel_fn(1.0)
    assert gram(inputs).dtype == np.float32

    def kernel(rows, columns):
        return Kernel(*(gram(inputs[rows], inputs[columns]),) * 2)

    seen, unseen = slice(8), slice(8, None)
    fitted = posterior.fit(kernel(seen, seen), targets[seen])
    cross, test = kernel(unseen, seen), kernel(unseen, unseen)
    mean, covariance = posterior.mean(fitted, cross), posterior.covariance(fitted, cross, test)
    q = inductive_bias.loss_distribution(mean, covariance, targets[unseen])
    wide = np.exp(-((inputs[:, None].astype(float) - inputs[None]) ** 2).sum(-1) / 2)
    smoother = np.linalg.solve(wide[:8, :8], wide[:8, 8:]).T
    expected = wide[8:, 8:] - smoother @ wide[:8, 8:]
    exact = inductive_bias.loss_distribution(smoother @ targets[:8], expected, targets[8:])
    assert gcs.cumulant(q, 1) == pytest.approx(gcs.cumulant(exact, 1), rel=1e-4)
    losses = inductive_bias.sample_losses(jax.random.key(0), mean, covariance, targets[8:], 2000)
    assert losses.dtype == np.float32
    error = (gcs.cumulant(exact, 2) / 2000) ** 0.5
    assert abs(losses.mean() - gcs.cumulant(exact, 1)) < 5 * error
