import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, special, stats

from ntkens.data import synthetic


@pytest.mark.parametrize("separation", [0.0, 0.5, 3.0, 40.0])
def test_the_accuracy_of_two_classes_is_in_closed_form(separation):
    found = synthetic.bayes_accuracy(2, separation)
    np.testing.assert_allclose(found, stats.norm.cdf(separation / 2), rtol=1e-8)


@pytest.mark.parametrize("classes", [3, 10, 1000])
def test_the_accuracy_of_many_classes_is_the_integral(classes):
    shift = 2.5 / np.sqrt(2)
    expected, _ = integrate.quad(
        lambda t: stats.norm.pdf(t - shift) * stats.norm.cdf(t) ** (classes - 1), -8, 12, limit=200
    )
    np.testing.assert_allclose(synthetic.bayes_accuracy(classes, 2.5), expected, rtol=1e-7)
    np.testing.assert_allclose(synthetic.bayes_accuracy(classes, 0.0), 1 / classes, rtol=1e-8)


def test_the_posterior_is_bayes_rule_on_the_densities(key):
    data, posterior = synthetic.mixture(key, 3, 5, separation=1.7, train=4, test=6)
    assert data.train.inputs.shape == (4, 5)
    assert data.test.labels.shape == (6,)
    densities = np.stack(
        [
            stats.multivariate_normal(1.7 / np.sqrt(2) * np.eye(5)[c]).pdf(data.test.inputs)
            for c in range(3)
        ],
        axis=1,
    )
    expected = densities / densities.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(jax.jit(posterior)(data.test.inputs), expected, rtol=1e-10)


def test_the_examples_are_of_that_mixture(key):
    """Means, covariance, accuracy and calibration of the posterior on what is drawn."""
    n = 20_000
    data, posterior = synthetic.mixture(key, 4, 6, separation=2.0, train=n, test=1)
    inputs, labels = data.train
    counts = np.bincount(labels, minlength=4)
    assert stats.chisquare(counts).pvalue > 1e-4
    for label, count in enumerate(counts):
        drawn = inputs[labels == label]
        mean = np.sqrt(2) * np.eye(6)[label]
        # Means err by 1 / sqrt(count), entries of the covariance by sqrt(2 / count) at most.
        assert abs(drawn.mean(axis=0) - mean).max() < 5 / np.sqrt(count)
        assert abs(np.cov(drawn.T) - np.eye(6)).max() < 5 * np.sqrt(2 / count)
    probabilities = np.asarray(posterior(inputs))
    right = probabilities.argmax(axis=1) == labels
    exact = synthetic.bayes_accuracy(4, 2.0)
    assert abs(right.mean() - exact) < 5 * stats.sem(right)
    assert abs(probabilities.max(axis=1).mean() - exact) < 5 * stats.sem(probabilities.max(axis=1))


def test_noise_is_normal_of_the_deviation_asked_for(key):
    inputs = np.linspace(0, 1, 40_000).reshape(10, 20, 200)
    noise = np.asarray(synthetic.noisy(key, inputs, 0.3)) - inputs
    assert stats.kstest(noise.ravel() / 0.3, special.ndtr).pvalue > 1e-4
    assert abs(np.corrcoef(noise.ravel(), inputs.ravel())[0, 1]) < 5 / np.sqrt(noise.size)


def test_noise_keeps_the_dtype_and_is_traceable(key):
    inputs = np.ones((3, 2), np.float32)
    found = jax.jit(jax.vmap(synthetic.noisy, (None, None, 0)))(key, inputs, jnp.array([0.0, 2.0]))
    assert found.dtype == jnp.float32
    np.testing.assert_array_equal(found[0], inputs)
    np.testing.assert_allclose(found[1], synthetic.noisy(key, inputs, 2.0), rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": 1}, "classes: got 1"),
        ({"features": 2}, "features: got 2; wants one for each of the 3"),
        ({"separation": -1.0}, "separation: got -1"),
        ({"separation": np.nan}, "separation: got nan"),
        ({"test": 0}, "train, test: got 5 and 0"),
    ],
)
def test_bad_input_is_refused(key, change, message):
    wanted = {"classes": 3, "features": 3, "separation": 1.0, "train": 5, "test": 5}
    with pytest.raises(ValueError, match=message):
        synthetic.mixture(key, **{**wanted, **change})
