"""The joint dynamics, step by step against the algorithm written out in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ntkens.models import mlp
from ntkens.sparsity import game_dynamics, games, groups
from ntkens.training import losses

MODEL = mlp.mlp([4, 3], 2, parametrisation="standard", b_std=0.5)
INPUTS = jax.random.normal(jax.random.key(1), (8, 5))
LABELS = jnp.arange(8) % 2
OPTIMISERS = {"sgd": optax.sgd(0.1), "adam": optax.adam(0.01)}


@pytest.fixture(scope="module")
def params():
    return jax.jit(MODEL.init)(jax.random.key(0), INPUTS)


def loss(params, inputs, labels):
    return losses.cross_entropy(MODEL.apply(params, inputs), labels)


def ran(params, optimiser, steps=4, **rules):
    """The states of so many steps, the first included."""
    found = groups.neurons(params)
    rules = game_dynamics.Rules(**{"alpha": 1.0, "beta": 0.3, "gamma": 0.2, "eta": 0.0} | rules)
    ascent = optax.sgd(0.5)

    def one(state, _):
        after, info = game_dynamics.step(
            loss, found, rules, optimiser, ascent, state, INPUTS, LABELS
        )
        return after, (state, info)

    start = game_dynamics.start(found, params, optimiser, ascent)
    return jax.jit(lambda: jax.lax.scan(one, start, length=steps)[1])()


def gradients(params, gates):
    """Of theta with gates before the ReLUs, by hand: [W1 b1 W2 b2 W3 b3]."""
    w1, b1, w2, b2, w3, b3 = params
    (s1, s2), inputs = gates, np.asarray(INPUTS)
    z1 = np.maximum(s1 * (inputs @ w1 + b1), 0)
    z2 = np.maximum(s2 * (z1 @ w2 + b2), 0)
    logits = z2 @ w3.T + b3
    p = np.exp(logits - logits.max(1, keepdims=True))
    d3 = (p / p.sum(1, keepdims=True) - np.eye(2)[np.asarray(LABELS)]) / len(LABELS)
    d2 = (d3 @ w3) * (z2 > 0) * s2
    d1 = (d2 @ w2.T) * (z1 > 0) * s1
    return [inputs.T @ d1, d1.sum(0)[None], z1.T @ d2, d2.sum(0)[None], d3.T @ z2, d3.sum(0)[None]]


def leaves(params):
    return [
        np.asarray(params[layer][part])
        for layer in ("hidden_0", "hidden_1", "readout")
        for part in ("kernel", "bias")
    ]


@pytest.mark.parametrize("benefit", games.SIGNS)
def test_steps_are_those_of_the_algorithm(params, benefit):
    sign = {"printed": 1, "descent": -1}[benefit]
    states, info = ran(params, OPTIMISERS["sgd"], sign=games.SIGNS[benefit], eta=0.4)
    theta, gates = leaves(params), [np.ones(4), np.ones(3)]
    for step in range(4):
        for wanted, found in zip(theta, leaves(states.params), strict=True):
            np.testing.assert_allclose(found[step], wanted, rtol=1e-9, atol=1e-12)
        for wanted, found in zip(gates, states.gates.values(), strict=True):
            np.testing.assert_allclose(found[step], wanted, rtol=1e-9, atol=1e-12)
        gradient = gradients(theta, gates)
        after = [w - 0.1 * g for w, g in zip(theta, gradient, strict=True)]
        for layer in range(2):
            own = np.concatenate(theta[2 * layer : 2 * layer + 2]).T
            slope = np.concatenate(gradient[2 * layer : 2 * layer + 2]).T
            gram, s = own @ own.T, gates[layer]
            benefits = sign * np.sum(own * slope, axis=1)
            found = info.benefits[f"hidden_{layer}"][step]
            np.testing.assert_allclose(found, benefits, rtol=1e-8, atol=1e-12)
            cost = 0.6 * np.diag(gram) * s + 0.2 * np.sign(s)
            cost += 0.4 * (gram - np.diag(np.diag(gram))) @ s
            gates[layer] = np.clip(s + 0.5 * (benefits - cost), 0, 1)
        theta = after
    assert any((gate == 0).any() for gate in gates)
    assert any(((gate > 0) & (gate < 1)).any() for gate in gates)


def test_what_is_closed_stays_closed(params):
    """Without competition: its benefit and its costs are all multiples of its gate."""
    states, info = ran(params, OPTIMISERS["adam"], steps=30, sign=1.0)
    for layer, gates in states.gates.items():
        closed = np.asarray(gates) == 0
        assert closed[-1].any()
        assert (np.diff(closed.astype(int), axis=0) >= 0).all()
        assert (np.asarray(info.benefits[layer])[closed] == 0).all()
        kernel = np.asarray(states.params[layer]["kernel"])
        assert np.isfinite(kernel).all()
    assert np.isfinite(info.loss).all()


def test_runs_are_vmapped_over_rules_and_signs(params):
    betas, signs = jnp.array([0.0, 0.3, 0.3]), jnp.array([1.0, 1.0, -1.0])
    many, _ = jax.vmap(lambda beta, sign: ran(params, OPTIMISERS["adam"], beta=beta, sign=sign))(
        betas, signs
    )
    one, _ = ran(params, OPTIMISERS["adam"], beta=0.3, sign=-1.0)
    ends = [tree.gates["hidden_0"] for tree in (many, one)]
    np.testing.assert_allclose(ends[0][2], ends[1], rtol=1e-9, atol=1e-12)
    assert not np.allclose(ends[0][0], ends[0][1])
    assert not np.allclose(ends[0][1], ends[0][2])


def test_no_rules_is_plain_training(params):
    states, _ = ran(params, OPTIMISERS["sgd"], beta=0.0, gamma=0.0, alpha=0.0, sign=1.0)

    def mean(params):
        return jnp.mean(loss(params, INPUTS, LABELS))

    def one(params, _):
        return jax.tree.map(lambda w, g: w - 0.1 * g, params, jax.grad(mean)(params)), params

    plain = jax.jit(lambda: jax.lax.scan(one, params, length=4)[1])()
    for found, wanted in zip(leaves(states.params), leaves(plain), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-14)
    assert all((gate == 1).all() for gate in states.gates.values())


def test_survivors_are_those_at_the_threshold_or_above():
    gates = {"a": jnp.array([0.0, 0.0099, 0.01, 1.0])}
    assert game_dynamics.survivors(gates)["a"].tolist() == [False, False, True, True]
