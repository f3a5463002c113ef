"""The joint dynamics, step by step against the algorithm written out in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ntkens import tree
from ntkens.data import Examples
from ntkens.models import mlp
from ntkens.sparsity import game_dynamics, games, groups
from ntkens.training import fit, losses

MODEL = mlp.mlp([4, 3], 2, parametrisation="standard", b_std=0.5)
INPUTS = np.random.default_rng(0).normal(size=(8, 5))
LABELS = np.arange(8) % 2
PARAMS = jax.tree.map(
    lambda leaf: np.random.default_rng(leaf.size).normal(size=leaf.shape) / 2,
    jax.eval_shape(MODEL.init, jax.random.key(0), jnp.asarray(INPUTS)),
)
GROUPS = groups.neurons(PARAMS)
STEPS = 12


def loss(params, inputs, labels):
    return losses.cross_entropy(MODEL.apply(params, inputs), labels)


@jax.jit
@jax.vmap
def ran(rules, is_adam):
    """What is trained, before each step; by full batches of `fit.epochs`."""
    adam, sgd = optax.adam(0.02), optax.sgd(0.1)

    def joint(params):
        return game_dynamics.Joint(params, groups.ones(GROUPS, params))

    def trained(weights):
        optimiser = game_dynamics.optimiser(GROUPS, rules, weights, optax.sgd(0.5))
        start = fit.start(joint(jax.tree.map(jnp.asarray, PARAMS)), optimiser, jax.random.key(0))

        def one(state, _):
            examples = Examples(INPUTS, LABELS)
            on_gates = game_dynamics.gated_loss(GROUPS, loss)
            after, info = fit.epochs(on_gates, optimiser, state, examples, epochs=1, batch=8)
            return after, (state.params, info.loss)

        return jax.lax.scan(one, start, length=STEPS)[1]

    return jax.tree.map(lambda a, b: jnp.where(is_adam, a, b), trained(adam), trained(sgd))


RULES = {  # alpha, beta, gamma, eta, sign; Adam or not
    "printed": (1.0, 0.3, 0.2, 0.4, games.SIGNS["printed"], False),
    "descent": (1.0, 0.3, 0.2, 0.4, games.SIGNS["descent"], False),
    "adam": (1.0, 0.3, 0.2, 0.0, games.SIGNS["printed"], True),
    "none": (0.0, 0.0, 0.0, 0.0, 1.0, False),
}


@pytest.fixture(scope="module")
def runs():
    *rules, is_adam = np.array(list(RULES.values())).T
    found, values = ran(game_dynamics.Rules(*rules), is_adam.astype(bool))
    assert np.isfinite(values).all()
    found = jax.tree.map(np.asarray, found)
    return {name: tree.index(found, place) for place, name in enumerate(RULES)}


def gradients(params, gates):
    """Of theta with gates before the ReLUs, by hand: [W1 b1 W2 b2 W3 b3]."""
    w1, b1, w2, b2, w3, b3 = params
    s1, s2 = gates
    z1 = np.maximum(s1 * (INPUTS @ w1 + b1), 0)
    z2 = np.maximum(s2 * (z1 @ w2 + b2), 0)
    logits = z2 @ w3.T + b3
    p = np.exp(logits - logits.max(1, keepdims=True))
    d3 = (p / p.sum(1, keepdims=True) - np.eye(2)[LABELS]) / len(LABELS)
    d2 = (d3 @ w3) * (z2 > 0) * s2
    d1 = (d2 @ w2.T) * (z1 > 0) * s1
    return [INPUTS.T @ d1, d1.sum(0)[None], z1.T @ d2, d2.sum(0)[None], d3.T @ z2, d3.sum(0)[None]]


def leaves(params):
    return [
        params[layer][part]
        for layer in ("hidden_0", "hidden_1", "readout")
        for part in ("kernel", "bias")
    ]


@pytest.mark.parametrize("name", ["printed", "descent", "none"])
def test_steps_are_those_of_the_algorithm(runs, name):
    alpha, beta, gamma, eta, sign, _ = RULES[name]
    run, theta, gates = runs[name], leaves(PARAMS), [np.ones(4), np.ones(3)]
    for step in range(STEPS):
        for wanted, found in zip(theta, leaves(run.params), strict=True):
            np.testing.assert_allclose(found[step], wanted, rtol=1e-9, atol=1e-12)
        for wanted, found in zip(gates, run.gates.values(), strict=True):
            np.testing.assert_allclose(found[step], wanted, rtol=1e-9, atol=1e-12)
        gradient = gradients(theta, gates)
        after = [w - 0.1 * g for w, g in zip(theta, gradient, strict=True)]
        for layer in range(2):
            own = np.concatenate(theta[2 * layer : 2 * layer + 2]).T
            slope = np.concatenate(gradient[2 * layer : 2 * layer + 2]).T
            gram, s = own @ own.T, gates[layer]
            cost = 2 * beta * np.diag(gram) * s + gamma * np.sign(s)
            cost += eta * (gram - np.diag(np.diag(gram))) @ s
            climb = sign * alpha * np.sum(own * slope, axis=1) - cost
            gates[layer] = np.clip(s + 0.5 * climb, 0, 1)
        theta = after
    ends = np.concatenate(gates)
    if name == "none":
        assert (ends == 1).all()
    else:
        assert (ends == 0).any()
        assert ((ends > 0) & (ends < 1)).any()


def test_the_sign_and_the_optimiser_matter(runs):
    printed, descent, adam = (
        runs[name].gates["hidden_0"] for name in ("printed", "descent", "adam")
    )
    assert np.abs(printed - descent).max() > 1e-2
    assert np.abs(printed - adam).max() > 1e-2


def test_what_is_closed_stays_closed(runs):
    """Without competition: benefit and costs are all multiples of the gate, or of its sign."""
    for gates in runs["adam"].gates.values():
        closed = gates == 0
        assert closed[-1].any()
        assert (np.diff(closed.astype(int), axis=0) >= 0).all()


def test_survivors_are_those_at_the_threshold_or_above():
    gates = {"a": jnp.array([0.0, 0.0099, 0.01, 1.0])}
    assert game_dynamics.survivors(gates)["a"].tolist() == [False, False, True, True]


def test_what_is_no_game_is_refused():
    twice = {name: (groups.Part("hidden_0/kernel", (1,)),) for name in ("a", "b")}
    rules, sgd = game_dynamics.Rules(1, 1, 1, 0, 1), optax.sgd(1.0)
    of = game_dynamics.optimiser(twice, rules, sgd, sgd)
    with pytest.raises(ValueError, match="overlap"):
        of.init(game_dynamics.Joint(PARAMS, {}))  # pyright: ignore
    with pytest.raises(ValueError, match="params: got None"):
        of.update(game_dynamics.Joint(PARAMS, {}), None)  # pyright: ignore
