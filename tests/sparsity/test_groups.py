"""Groups of weights against sums over explicit lists of their members."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkens.models import conv, mlp
from ntkens.sparsity import groups


@pytest.fixture(scope="module")
def params():
    model = mlp.mlp([4, 3], 2, parametrisation="standard", b_std=1.0)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 5)))
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape)), shapes)


def test_groups_count_what_they_say(params):
    assert groups.count(groups.weights(params), params) == 5 * 4 + 4 * 3 + 3 * 2
    assert groups.count(groups.neurons(params), params) == 7
    network = conv.conv_net([4, 8], 10)
    filters = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
    found = groups.filters(filters)
    assert {layer: gate.shape for layer, gate in groups.ones(found, filters).items()} == {
        "stem": (4,), "conv_1": (8,),
    }  # fmt: skip


def test_inner_products_and_competition_are_those_of_the_vectors(params):
    """theta_i is the column of the kernel with its bias."""
    found = groups.neurons(params)
    gates = {"hidden_0": jnp.array([0.5, 1.0, 0.0, 0.2]), "hidden_1": jnp.array([0.3, 0.9, 1.0])}
    other = jax.tree.map(jnp.cos, params)
    norms, mixed = groups.inner(found, params, params), groups.inner(found, params, other)
    crowds = groups.competition(found, params, gates)
    for layer, gate in gates.items():
        first, second = (
            np.concatenate([tree[layer]["kernel"], tree[layer]["bias"]]).T
            for tree in (params, other)
        )
        gram = first @ first.T
        np.testing.assert_allclose(norms[layer], np.diag(gram), rtol=1e-12)
        np.testing.assert_allclose(mixed[layer], np.sum(first * second, axis=1), rtol=1e-12)
        expected = (gram - np.diag(np.diag(gram))) @ np.asarray(gate)
        np.testing.assert_allclose(crowds[layer], expected, rtol=1e-10, atol=1e-12)


def test_single_weights_compete_as_scalars(params):
    found = groups.weights(params)
    gates = jax.tree.map(lambda gate: 0.5 * gate, groups.ones(found, params))
    kernel = np.asarray(params["hidden_0"]["kernel"])
    expected = 0.5 * kernel * (kernel.sum() - kernel)
    crowds = groups.competition(found, params, gates)
    np.testing.assert_allclose(crowds["hidden_0"], expected, rtol=1e-10, atol=1e-12)


def test_a_gate_before_the_relu_is_one_after_it(params):
    """Of incoming weights with the bias, or of outgoing weights: the same function for s >= 0."""
    model = mlp.mlp([4, 3], 2, parametrisation="standard", b_std=1.0)
    inputs = jax.random.normal(jax.random.key(1), (6, 5))
    gates = {"hidden_0": jnp.array([0.5, 1.0, 0.0, 0.2]), "hidden_1": jnp.array([0.3, 0.9, 1.0])}
    before = groups.gated(groups.neurons(params), params, gates)
    after = groups.gated(groups.neurons(params, own=["outgoing"]), params, gates)
    np.testing.assert_allclose(
        model.apply(before, inputs), model.apply(after, inputs), rtol=1e-9, atol=1e-12
    )
    no_bias = groups.gated(groups.neurons(params, own=["incoming"]), params, gates)
    assert jnp.abs(model.apply(no_bias, inputs) - model.apply(before, inputs)).max() > 1e-3


def test_a_gradient_of_weights_times_weights_is_that_of_gates_times_gates(params):
    """<g_i, theta_i> = s_i dL/ds_i, on which the sign of the benefit turns."""
    found = groups.neurons(params)
    gates = {"hidden_0": jnp.array([0.5, 1.0, 0.1, 0.2]), "hidden_1": jnp.array([0.3, 0.9, 1.0])}

    def loss(params, gates):
        leaves = jax.tree.leaves(groups.gated(found, params, gates))
        return sum(jnp.sum(jnp.sin(leaf)) for leaf in leaves)

    of_params, of_gates = jax.jit(jax.grad(loss, argnums=(0, 1)))(params, gates)
    found = groups.inner(found, of_params, params)
    for layer, gate in gates.items():
        np.testing.assert_allclose(found[layer], gate * of_gates[layer], rtol=1e-10)


def test_groups_that_overlap_are_refused(params):
    with pytest.raises(ValueError, match=r"'hidden_1/kernel' belongs to several of .* overlap"):
        groups.neurons(params, own=["incoming", "outgoing"])
    twice = {"a": (groups.Part("hidden_0/kernel", (1,)), groups.Part("hidden_0/kernel", (0,)))}
    with pytest.raises(ValueError, match="overlap"):
        groups.check(twice, params)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ((), "owns no part"),
        ((groups.Part("hidden_7/kernel", (1,)),), "owns 'hidden_7/kernel'"),
        ((groups.Part("hidden_0/kernel", (2,)),), "axes"),
        ((groups.Part("hidden_0/kernel", (1, 0)),), "ascending"),
        ((groups.Part("hidden_0/kernel", ()),), "axes"),
        ((groups.Part("hidden_0/kernel", (1,)), groups.Part("hidden_1/bias", (1,))), "count"),
    ],
)
def test_groups_that_are_none_are_refused(params, parts, message):
    with pytest.raises(ValueError, match=message):
        groups.ones({"a": parts}, params)


def test_gates_that_do_not_fit_are_refused(params):
    found = groups.neurons(params)
    with pytest.raises(ValueError, match="gates: got shape"):
        groups.gated(found, params, {"hidden_0": jnp.ones(3), "hidden_1": jnp.ones(3)})
    with pytest.raises(ValueError, match="there is an array for each"):
        groups.gated(found, params, {"hidden_0": jnp.ones(4)})
    with pytest.raises(ValueError, match=r"second: lacks \['hidden_0/bias'"):
        groups.inner(found, params, {"hidden_0": {"kernel": params["hidden_0"]["kernel"]}})
    with pytest.raises(ValueError, match="own: got"):
        groups.neurons(params, own=["both"])  # pyright: ignore
