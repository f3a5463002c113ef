"""Binary concrete gates against their probabilities in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit, logit

from ntkens.sparsity import gates

SHARES = np.array([0.01, 0.3, 0.5, 0.9])
DRAWS = 100_000
TAU = 2 / 3


def drawn(key, variant, temperature):
    """Many gates of each logit at once: [shares, draws]."""
    logits = {"kernel": jnp.tile(logit(SHARES)[:, None], (1, DRAWS))}
    sample = jax.jit(gates.sample, static_argnames=("variant",))
    return np.asarray(sample(key, logits, temperature=temperature, variant=variant)["kernel"])


def quantile(share, variant, temperature, z):
    """P(gate <= z) in closed form: u is uniform."""
    shift = logit(share) / temperature if variant == "standard" else logit(share)
    return expit(temperature * (logit(z) - shift))


@pytest.mark.parametrize("variant", ["standard", "authors"])
def test_gates_have_their_distribution(key, variant):
    found = drawn(key, variant, TAU)
    for z in (0.02, 0.5, 0.97):
        exact = quantile(SHARES, variant, TAU, z)
        error = np.sqrt(exact * (1 - exact) / DRAWS)
        assert (np.abs((found <= z).mean(axis=1) - exact) < 4 * error).all()


def test_a_gate_is_open_as_often_as_its_logit_says(key):
    """P(z > 1/2) is sigmoid(l), and sigmoid(tau l) of the authors' gates."""
    for variant, exact in (("standard", SHARES), ("authors", expit(TAU * logit(SHARES)))):
        error = np.sqrt(exact * (1 - exact) / DRAWS)
        share = (drawn(key, variant, TAU) > 0.5).mean(axis=1)
        assert (np.abs(share - exact) < 3 * error).all()


def test_the_temperature_is_two_thirds_unless_it_is_given(key):
    logits = {"kernel": jnp.zeros(1000)}
    default, given = (gates.sample(key, logits, **named) for named in ({}, {"temperature": 2 / 3}))
    np.testing.assert_array_equal(default["kernel"], given["kernel"])


def test_cold_gates_are_coins(key):
    found = drawn(key, "standard", 1e-4)
    assert np.mean((found > 1e-6) & (found < 1 - 1e-6)) < 1e-3  # P = O(tau)
    error = np.sqrt(SHARES * (1 - SHARES) / DRAWS)
    assert (np.abs(found.mean(axis=1) - SHARES) < 4 * error).all()


def test_gates_are_finite_in_float32_and_so_are_their_gradients(key):
    logits = {"kernel": jnp.array([-200.0, -5.0, 0.0, 200.0], jnp.float32)}

    def total(logits):
        return jnp.sum(gates.sample(key, logits)["kernel"])

    value, gradient = jax.jit(jax.value_and_grad(total))(logits)
    assert value.dtype == gradient["kernel"].dtype == jnp.float32
    assert jnp.isfinite(value)
    assert jnp.isfinite(gradient["kernel"]).all()


def test_layers_have_noise_of_their_own_whatever_their_order(key):
    layer, sample = jnp.zeros(5), jax.jit(gates.sample)
    found = sample(key, {"b": layer, "a": layer})
    with jax.disable_jit():
        same = gates.sample(key, {"b": layer, "a": layer})
    assert not np.allclose(found["a"], found["b"])
    np.testing.assert_allclose(found["a"], same["a"])


def test_first_logits_expect_the_density():
    weights = {"a": jnp.zeros((3, 4)), "b": jnp.zeros((5,), jnp.float32)}
    logits = gates.logits(weights, 0.2)
    np.testing.assert_allclose(gates.expected(logits), 0.2 * 17, rtol=1e-6)  # one is float32
    assert logits["b"].dtype == jnp.float32


def test_gates_multiply_the_weights_alone():
    params = {"hidden": {"kernel": jnp.full((2, 3), 3.0), "bias": jnp.ones((1, 3))}}
    gated = gates.apply(params, {"hidden/kernel": jnp.full((2, 3), 0.25)})
    np.testing.assert_array_equal(gated["hidden"]["kernel"], np.full((2, 3), 0.75))
    np.testing.assert_array_equal(gated["hidden"]["bias"], params["hidden"]["bias"])
    with pytest.raises(ValueError, match=r"gates\['hidden/kernel'\]: got shape"):
        gates.apply(params, {"hidden/kernel": jnp.ones((3, 2))})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda key: gates.logits({}, 0.1), "weights: got none"),
        (lambda key: gates.logits({"a": jnp.zeros(2)}, 0.0), "density: got 0.0"),
        (lambda key: gates.logits({"a": jnp.zeros(2)}, 1.0), "density: got 1.0"),
        (lambda key: gates.logits({"a": jnp.zeros(2)}, np.nan), "density: got nan"),
        (lambda key: gates.sample(key, {"a": jnp.zeros(2)}, temperature=0), "temperature: got 0"),
        (lambda key: gates.sample(key, {"a": jnp.zeros(2)}, variant="hard"), "variant: got 'hard'"),
    ],
)
def test_what_is_no_gate_is_refused(key, call, message):
    with pytest.raises(ValueError, match=message):
        call(key)


@pytest.mark.parametrize("density", ["a tenth", None, True, np.array([0.1, 0.2])])
def test_a_density_is_one_number(density):
    with pytest.raises(TypeError, match="density: got"):
        gates.logits({"a": jnp.zeros(2)}, density)
