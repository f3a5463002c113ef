"""Measures in float32, at a size where careless sums would show, against NumPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special
from sklearn import metrics

from ntkens.measures import ranking, selective, temperature, uncertainty

EXAMPLES, CLASSES = 20_000, 5


def draw():
    """Logits, probabilities and labels; the logits are exact in float32."""
    random = np.random.default_rng(0)
    logits = (2 * random.normal(size=(EXAMPLES, CLASSES))).astype(np.float32)
    cumulative = special.softmax(logits.astype(float), axis=1).cumsum(axis=1)
    labels = (cumulative < random.random((EXAMPLES, 1))).sum(axis=1)
    return logits, jax.nn.softmax(logits, axis=1), labels


def test_rankings_and_risks_keep_their_precision():
    """Cumulative sums of 20,000 terms round at 1e-7 of their size; a sum of them at 1e-5."""
    _, probabilities, labels = draw()
    confidence = probabilities.max(axis=1)
    right = np.asarray(probabilities.argmax(axis=1) == labels)
    wrong = 1.0 - right[np.argsort(-confidence, stable=True)]
    risk = np.cumsum(wrong) / np.arange(1, EXAMPLES + 1)
    found = jax.jit(selective.aurc)(confidence, ~right)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, (risk.sum() - risk[-1] / 2) / EXAMPLES, rtol=1e-5)
    auroc = jax.jit(ranking.auroc)(confidence, right)
    assert auroc.dtype == jnp.float32
    np.testing.assert_allclose(auroc, metrics.roc_auc_score(right, confidence), rtol=1e-5)
    aupr = jax.jit(ranking.aupr)(confidence, right)
    np.testing.assert_allclose(aupr, metrics.average_precision_score(right, confidence), rtol=1e-5)


def test_brier_decomposition_stays_exact():
    """The terms within bins are a thousandth of the score: they have digits of their own."""
    _, probabilities, labels = draw()
    found = jax.jit(uncertainty.brier_decomposition)(probabilities, labels)
    assert found.reliability.dtype == jnp.float32
    brier = uncertainty.brier(probabilities, labels)
    np.testing.assert_allclose(np.dot(found, [1, -1, 1, 1, -1]), brier, rtol=1e-5)
    within = 0.0
    for column in np.asarray(probabilities, float).T:
        index = np.searchsorted(np.linspace(0, 1, 16)[1:-1], column)
        within += sum(column[index == b].var() * np.mean(index == b) for b in np.unique(index))
    np.testing.assert_allclose(found.within_variance, within, rtol=1e-4)


def test_temperature_settles():
    """The likelihood is flat to 1e-7 over 1e-4 of the temperature; its slope tells more."""
    logits, _, labels = draw()
    found = jax.jit(temperature.fit)(logits, labels)
    assert found.dtype == jnp.float32

    def slope(beta):
        p = special.softmax(beta * logits.astype(float), axis=1)
        return np.mean(np.sum(p * logits, axis=1) - logits[np.arange(EXAMPLES), labels])

    low, high = slope(1 / (found * (1 + 1e-4))), slope(1 / (found * (1 - 1e-4)))
    assert low < 0 < high


def test_members_that_almost_agree_have_their_information():
    """The difference of two entropies would be noise of 1e-7."""
    logits, _, _ = draw()
    members = jnp.stack([logits, logits * (1 + 1e-3)])
    found = uncertainty.entropy_split(jax.nn.softmax(members, axis=-1))
    exact = special.softmax(np.asarray(members, float), axis=2)
    information = special.rel_entr(exact, exact.mean(axis=0)).sum(axis=2).mean()
    assert information < 1e-6
    np.testing.assert_allclose(found.mutual_information.mean(), information, rtol=0.05)
