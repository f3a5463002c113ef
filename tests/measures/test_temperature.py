"""Temperatures against scipy's minimiser, known temperatures, and data that has none."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, special

from ntkens.ensembles import aggregate
from ntkens.measures import temperature

EXAMPLES, CLASSES = 200, 4


def draw(seed=0, true=1.0, examples=EXAMPLES):
    """Logits, and labels drawn from softmax(logits / true)."""
    random = np.random.default_rng(seed)
    logits = 3 * random.normal(size=(examples, CLASSES))
    cumulative = special.softmax(logits / true, axis=1).cumsum(axis=1)
    return logits, (cumulative < random.random((examples, 1))).sum(axis=1)


def likelihood(log_temperature, logits, labels):
    scaled = logits / np.exp(log_temperature)
    return -special.log_softmax(scaled, axis=1)[np.arange(len(labels)), labels].mean()


def by_scipy(logits, labels):
    found = optimize.minimize_scalar(
        likelihood, bounds=(-6, 6), args=(logits, labels), method="bounded",
        options={"xatol": 1e-10},
    )  # fmt: skip
    return np.exp(found.x)


@pytest.mark.parametrize("scale", [0.02, 1.0, 30.0])
def test_equal_to_scipy(scale):
    logits, labels = draw()
    found = temperature.fit(scale * logits, labels)
    # Near its minimum the likelihood is flat: scipy knows the place to the root of its precision.
    np.testing.assert_allclose(found, by_scipy(scale * logits, labels), rtol=1e-6)
    assert not temperature.at_bound(found)


def test_the_gradient_vanishes_at_the_answer():
    logits, labels = draw(1)
    found = temperature.fit(logits, labels)
    slope = jax.grad(
        lambda beta: -jnp.mean(jax.nn.log_softmax(beta * logits)[np.arange(EXAMPLES), labels])
    )(1 / found)
    assert abs(slope) < 1e-13


def test_a_known_temperature_is_found():
    """The standard error is 1 / sqrt(n h) in 1/T; 5 of them, delta method."""
    true, examples = 2.5, 20_000
    logits, labels = draw(2, true, examples)
    probabilities = special.softmax(logits / true, axis=1)
    mean = (probabilities * logits).sum(axis=1, keepdims=True)
    variance = (probabilities * (logits - mean) ** 2).sum(axis=1).mean()
    error = true**2 / np.sqrt(examples * variance)
    assert abs(temperature.fit(logits, labels) - true) < 5 * error


def test_members_are_vmapped_and_jit_changes_nothing():
    logits, labels = draw()
    members = jnp.stack([logits, 7 * logits, logits[:, ::-1]])
    together = jax.jit(jax.vmap(temperature.fit, (0, None)))(members, labels)
    alone = [temperature.fit(member, labels) for member in members]
    np.testing.assert_allclose(together, alone, rtol=1e-12)
    np.testing.assert_allclose(together[1], 7 * together[0], rtol=1e-10)


def test_the_ensemble_has_a_temperature_of_its_own():
    logits, labels = draw()
    members = np.stack([logits, draw(5)[0]])
    pooled = aggregate.log_mean(members)
    found = temperature.fit(pooled, labels)
    np.testing.assert_allclose(found, by_scipy(np.asarray(pooled), labels), rtol=1e-6)


def test_scale_divides_by_the_temperature_of_each_member():
    logits, _ = draw()
    members, temperatures = np.stack([logits, -logits]), np.array([0.5, 3.0])
    found = temperature.scale(members, temperatures)
    np.testing.assert_allclose(
        found, special.softmax(members / temperatures[:, None, None], axis=2), rtol=1e-12
    )
    np.testing.assert_allclose(temperature.scale(logits, 0.5), found[0], rtol=1e-12)


def test_separable_logits_stop_at_the_lowest():
    logits, _ = draw()
    found = temperature.fit(logits, logits.argmax(axis=1))
    assert found == temperature.LOWEST
    assert temperature.at_bound(found)


def test_useless_logits_stop_at_the_highest():
    logits, _ = draw()
    found = temperature.fit(logits, logits.argmin(axis=1))
    assert found == temperature.HIGHEST
    assert temperature.at_bound(found)


def test_constant_logits_have_temperature_one():
    found = temperature.fit(np.full((5, 3), 4.2), np.array([0, 1, 2, 0, 0]))
    assert found == 1


def test_one_wrong_example_is_not_separable():
    logits, _ = draw()
    labels = logits.argmax(axis=1)
    labels[0] = logits[0].argmin()
    found = temperature.fit(logits, labels)
    np.testing.assert_allclose(found, by_scipy(logits, labels), rtol=1e-6)


def test_bad_input_is_named():
    logits, labels = draw(examples=3)
    with pytest.raises(ValueError, match="logits: holds NaN"):
        temperature.fit(np.where(logits > 0, np.nan, logits), labels)
    with pytest.raises(TypeError, match="logits: got dtype int"):
        temperature.fit(np.ones((3, 2), int), labels)
    with pytest.raises(ValueError, match=r"logits: got shape \(3,\)"):
        temperature.fit(logits[:, 0], labels)
    with pytest.raises(ValueError, match=r"logits: got shape \(0, 4\)"):
        temperature.fit(logits[:0], labels[:0])
    with pytest.raises(ValueError, match="labels: from 1 to 4, want 0 to 3"):
        temperature.fit(logits, np.array([1, 4, 2]))
    with pytest.raises(ValueError, match=r"labels: got shape \(2,\)"):
        temperature.fit(logits, labels[:2])
    with pytest.raises(ValueError, match="temperature: got 0"):
        temperature.scale(logits, 0.0)
    with pytest.raises(ValueError, match=r"temperature: got shape \(2,\)"):
        temperature.scale(logits, np.ones(2))
