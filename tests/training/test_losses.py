import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import sklearn.metrics

from ntkens.training import losses

RANDOM = np.random.default_rng(0)
LOGITS = 3 * RANDOM.normal(size=(2, 7, 4))
LABELS = RANDOM.integers(0, 4, size=(2, 7))
PROBABILITIES = scipy.special.softmax(LOGITS, axis=-1)
ONE_HOT = np.eye(4)[LABELS]


def test_cross_entropy_is_scikit_learns_log_loss():
    found = losses.cross_entropy(jnp.asarray(LOGITS), jnp.asarray(LABELS))
    assert found.shape == LABELS.shape
    for row, probabilities, labels in zip(found, PROBABILITIES, LABELS, strict=True):
        expected = sklearn.metrics.log_loss(labels, probabilities, labels=range(4))
        np.testing.assert_allclose(np.mean(row), expected, rtol=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_a_smoothed_label_is_a_mixture_with_the_uniform_one(smoothing):
    target = (1 - smoothing) * ONE_HOT + smoothing / 4
    expected = -np.sum(target * np.log(PROBABILITIES), axis=-1)
    found = losses.cross_entropy(jnp.asarray(LOGITS), jnp.asarray(LABELS), smoothing=smoothing)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_squares_are_those_written_out():
    arguments = jnp.asarray(LOGITS), jnp.asarray(LABELS)
    brier = np.sum((PROBABILITIES - ONE_HOT) ** 2, axis=-1)
    np.testing.assert_allclose(losses.brier(*arguments), brier, rtol=1e-12)
    squares = 0.5 * np.sum((LOGITS - ONE_HOT) ** 2, axis=-1)
    np.testing.assert_allclose(losses.squared_error(*arguments), squares, rtol=1e-12)


@pytest.mark.parametrize("loss", [losses.cross_entropy, losses.brier, losses.squared_error])
def test_contracts_of_every_loss(loss):
    logits, labels = jnp.asarray(LOGITS, jnp.float32), jnp.asarray(LABELS)
    found = loss(logits, labels)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, loss(jnp.asarray(LOGITS), labels), rtol=2e-6)
    np.testing.assert_allclose(jax.jit(loss)(logits, labels), found, rtol=1e-6)
    far = jnp.array([[1e4, -1e4, 0.0]])  # of probabilities 1 and 0
    value, gradient = jax.value_and_grad(lambda z: loss(z, jnp.array([0])).sum())(far)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


def test_an_impossible_class_costs_only_its_own_label():
    logits = jnp.array([[0.0, -jnp.inf, 0.0]])
    assert losses.cross_entropy(logits, jnp.array([0])) == pytest.approx(np.log(2))
    assert losses.cross_entropy(logits, jnp.array([1])) == np.inf


@pytest.mark.parametrize(
    ("labels", "error", "words"),
    [
        (np.array([0, 4]), ValueError, "labels: got 0 to 4; the classes are 0 to 3"),
        (np.array([-1, 0]), ValueError, "labels: got -1 to 0"),
        (np.array([0]), ValueError, "labels: got shape"),
        (np.array([0.0, 1.0]), TypeError, "labels: got dtype float64"),
    ],
)
def test_bad_labels(labels, error, words):
    with pytest.raises(error, match=words):
        losses.cross_entropy(jnp.zeros((2, 4)), jnp.asarray(labels))


def test_bad_logits_and_smoothing():
    with pytest.raises(TypeError, match="logits: got dtype int"):
        losses.brier(jnp.zeros((2, 4), int), jnp.array([0, 1]))
    with pytest.raises(ValueError, match="smoothing: got"):
        losses.cross_entropy(jnp.zeros((2, 4)), jnp.array([0, 1]), smoothing=1.5)
