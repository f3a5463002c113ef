"""Contrastive losses against a logistic regression by hand, scikit-learn, and invariance."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import sklearn.metrics
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from ntkens.training import contrastive

RANDOM = np.random.default_rng(0)
FIRST, SECOND = RANDOM.normal(size=(2, 3, 50, 4))
LABELS = RANDOM.integers(0, 2, size=(3, 50))


def test_it_is_the_log_loss_of_the_inner_product():
    found = contrastive.logistic(jnp.asarray(FIRST), jnp.asarray(SECOND), jnp.asarray(LABELS))
    assert found.shape == LABELS.shape
    probabilities = expit(np.sum(FIRST * SECOND, axis=-1))
    for row, p, labels in zip(found, probabilities, LABELS, strict=True):
        np.testing.assert_allclose(np.mean(row), sklearn.metrics.log_loss(labels, p), rtol=1e-12)
    flags = contrastive.logistic(jnp.asarray(FIRST), jnp.asarray(SECOND), jnp.asarray(LABELS > 0))
    np.testing.assert_array_equal(flags, found)


def test_it_knows_features_up_to_an_orthogonal_map_and_no_further():
    rng = np.random.default_rng(1)
    turn = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    found, turned, stretched = (
        contrastive.logistic(jnp.asarray(FIRST @ by), jnp.asarray(SECOND @ by), jnp.asarray(LABELS))
        for by in (np.eye(4), turn, 2 * turn)
    )
    np.testing.assert_allclose(turned, found, rtol=1e-10)
    assert not np.allclose(stretched, found)


def test_a_linear_encoder_is_a_logistic_regression_on_products():
    """x^T A A^T x' is linear in x x'^T: where that optimum is a square, they share it."""
    rng = np.random.default_rng(2)
    truth = np.array([[1.0, 0.0], [0.5, 0.8]])
    first, second = rng.normal(size=(2, 3000, 2))
    labels = rng.random(3000) < expit(np.sum((first @ truth) * (second @ truth), axis=1))

    def mean(flat):
        encoder = flat.reshape(2, 2)
        arguments = jnp.asarray(first) @ encoder, jnp.asarray(second) @ encoder
        return jnp.mean(contrastive.logistic(*arguments, jnp.asarray(labels)))

    found = scipy.optimize.minimize(
        jax.jit(jax.value_and_grad(mean)), truth.ravel(), jac=True, tol=1e-12
    )
    gram = found.x.reshape(2, 2) @ found.x.reshape(2, 2).T
    products = np.einsum("ni,nj->nij", first, second)
    symmetric = np.stack(
        [products[:, 0, 0], products[:, 0, 1] + products[:, 1, 0], products[:, 1, 1]], axis=1
    )
    regression = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10)
    expected = regression.fit(symmetric, labels).coef_[0]
    np.testing.assert_allclose(gram[np.triu_indices(2)], expected, rtol=1e-4)


def test_large_products_stay_finite_and_the_dtype_stays():
    far = jnp.array([[1e3], [-1e3]], jnp.float32)
    values, gradients = jax.value_and_grad(
        lambda first: jnp.sum(contrastive.logistic(first, far, jnp.array([0, 1])))
    )(far)
    assert values == 1e6  # of the pair that is told not to be one
    assert values.dtype == jnp.float32
    assert np.isfinite(gradients).all()


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((FIRST.astype(int), SECOND, LABELS), TypeError, "first: got dtype int"),
        ((FIRST, SECOND[:2], LABELS), ValueError, "second: got shape"),
        ((FIRST, SECOND, LABELS[:, 0]), ValueError, "labels: got shape"),
        ((FIRST, SECOND, 1.0 * LABELS), TypeError, "labels: got dtype float"),
        ((FIRST, SECOND, 2 * LABELS - 1), ValueError, "labels: some are neither 0 nor 1"),
    ],
)
def test_bad_pairs_are_named(arguments, error, words):
    with pytest.raises(error, match=words):
        contrastive.logistic(*map(jnp.asarray, arguments))
