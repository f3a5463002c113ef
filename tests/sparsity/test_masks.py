"""Masks against NumPy's stable sort, brute force, and networks that are small instead of masked."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntkens.models import conv
from ntkens.sparsity import masks

SHAPES = {"a/kernel": (3, 4), "b/kernel": (2, 3, 2, 2), "c/kernel": (4, 2)}
TOTAL = 12 + 24 + 8
KERNELS = ["hidden_0/kernel", "hidden_1/kernel", "readout/kernel"]


def split(flat):
    """A flat vector as layers of SHAPES, in alphabetical order, row-major."""
    ends = np.cumsum([np.prod(shape) for shape in SHAPES.values()])[:-1]
    parts = np.split(np.asarray(flat), ends)
    return {n: p.reshape(s) for (n, s), p in zip(SHAPES.items(), parts, strict=True)}


def flat(mask):
    return np.concatenate([np.ravel(mask[name]) for name in sorted(mask)])


def largest(scores, kept):
    """The oracle: a stable sort, so that of equal scores the first are kept."""
    mask = np.zeros(scores.size, bool)
    mask[np.argsort(-scores.ravel(), kind="stable")[:kept]] = True
    return mask.reshape(scores.shape)


def network():
    random = np.random.default_rng(0)
    hidden = {
        f"hidden_{layer}": {
            "kernel": random.normal(size=shape),
            "bias": random.normal(size=(1, shape[1])),
        }
        for layer, shape in enumerate([(5, 6), (6, 4)])
    }
    readout = {"kernel": random.normal(size=(3, 4)), "bias": random.normal(size=(1, 3))}
    return hidden | {"readout": readout}


def outputs(params, inputs):
    for layer in ("hidden_0", "hidden_1"):
        inputs = np.maximum(inputs @ params[layer]["kernel"] + params[layer]["bias"], 0)
    return inputs @ params["readout"]["kernel"].T + params["readout"]["bias"]


every_count = jax.jit(jax.vmap(masks.top, (None, 0)))


@given(st.lists(st.integers(-2, 2), min_size=TOTAL, max_size=TOTAL))
def test_top_keeps_the_first_of_equal_scores_at_every_count(values):
    scores = np.array(values, float)
    scores[scores == 2] = np.inf
    found = jax.device_get(every_count(split(scores), np.arange(TOTAL + 2)))
    for kept in range(TOTAL + 2):
        np.testing.assert_array_equal(
            flat({n: m[kept] for n, m in found.items()}), largest(scores, kept)
        )


def test_order_is_that_of_paths_not_of_the_dictionary():
    scores = {"b/kernel": np.ones((2, 2)), "a/kernel": np.ones((2, 2))}
    assert masks.layers(masks.top(scores, 5)) == {"a/kernel": 4, "b/kernel": 1}


def test_signed_zeros_are_equal():
    found = masks.top({"kernel": np.array([[-0.0, 0.0, -1.0]])}, 1)
    np.testing.assert_array_equal(found["kernel"], [[True, False, False]])


def test_top_by_layer():
    random = np.random.default_rng(0)  # of both signs and 20 orders of magnitude, some twice
    values = (random.normal(size=TOTAL) * 10.0 ** random.integers(-10, 10, TOTAL)).astype(
        np.float32
    )
    values = random.choice(values, TOTAL)
    kept = {"a/kernel": 1, "b/kernel": 24, "c/kernel": 3}
    found = jax.jit(masks.top_by_layer)(split(values), kept)  # the counts are traced
    for name, scores in split(values).items():
        np.testing.assert_array_equal(found[name], largest(scores, kept[name]))


def test_n_of_m_is_brute_force_on_both_layouts():
    random = np.random.default_rng(0)
    scores = {
        "conv/kernel": random.normal(size=(2, 1, 6, 5)),
        "mlp/kernel": random.integers(0, 3, (5, 9)).astype(float),  # [outputs inputs]
    }
    found = jax.jit(lambda scores: masks.n_of_m(scores, 2, 3, transposed=["mlp/kernel"]))(scores)
    found = jax.device_get(found)
    for place in np.ndindex(2, 1, 2, 5):
        row, column, group, output = place
        members = np.s_[row, column, 3 * group : 3 * group + 3, output]
        wanted = largest(scores["conv/kernel"][members], 2)
        np.testing.assert_array_equal(found["conv/kernel"][members], wanted)
    for output, group in np.ndindex(5, 3):
        members = np.s_[output, 3 * group : 3 * group + 3]
        wanted = largest(scores["mlp/kernel"][members], 2)
        np.testing.assert_array_equal(found["mlp/kernel"][members], wanted)


def test_neurons_leave_a_network_that_is_smaller():
    params = network()
    scores = {name: np.abs(w) for name, w in masks.weights(params).items()}
    kept = {"hidden_0/kernel": 3, "hidden_1/kernel": 2}

    @jax.jit
    def prune(params):
        mask = masks.neurons(scores, kept, chain=KERNELS, transposed=["readout/kernel"])
        return masks.layers(mask), masks.apply(params, mask)

    counts, masked = jax.device_get(prune(params))
    assert counts == {"hidden_0/kernel": 15, "hidden_1/kernel": 6, "readout/kernel": 6}
    into = {name: np.asarray(scores[name]).sum(0) for name in KERNELS[:2]}
    first = np.sort(np.argsort(-into["hidden_0/kernel"])[:3])
    second = np.sort(np.argsort(-into["hidden_1/kernel"])[:2])
    small = {
        "hidden_0": {name: leaf[:, first] for name, leaf in params["hidden_0"].items()},
        "hidden_1": {
            "kernel": params["hidden_1"]["kernel"][np.ix_(first, second)],
            "bias": params["hidden_1"]["bias"][:, second],
        },
        "readout": params["readout"] | {"kernel": params["readout"]["kernel"][:, second]},
    }
    inputs = np.random.default_rng(1).normal(size=(7, 5))
    np.testing.assert_allclose(outputs(masked, inputs), outputs(small, inputs), rtol=1e-12)


def test_filters_of_convolutions_go_with_the_weights_that_read_them():
    shapes = {"stem/kernel": (3, 3, 2, 4), "conv/kernel": (3, 3, 4, 5), "readout/kernel": (5, 3)}
    scores = {name: np.random.default_rng(0).random(shape) for name, shape in shapes.items()}
    kept = {"stem/kernel": 1, "conv/kernel": 2}
    mask = jax.jit(lambda scores: masks.neurons(scores, kept, chain=list(shapes)))(scores)
    stem = largest(scores["stem/kernel"].sum((0, 1, 2)), 1)
    conv = largest(scores["conv/kernel"].sum((0, 1, 2)), 2)
    for name, alive in {
        "stem/kernel": np.broadcast_to(stem, shapes["stem/kernel"]),
        "conv/kernel": np.broadcast_to(stem[:, None] & conv, shapes["conv/kernel"]),
        "readout/kernel": np.broadcast_to(conv[:, None], shapes["readout/kernel"]),
    }.items():
        np.testing.assert_array_equal(mask[name], alive)


def test_weights_are_kernels_and_replace_undoes_them():
    model = conv.conv_net([2, 3], 4)
    params = jax.eval_shape(
        model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 4, 4, 1), jnp.float64)
    )
    found = masks.weights(params)
    shapes = {n: w.shape for n, w in found.items()}
    assert shapes == {
        "conv_1/kernel": (3, 3, 2, 3),
        "readout/kernel": (3, 4),
        "stem/kernel": (3, 3, 1, 2),
    }
    assert masks.total(found) == 54 + 12 + 18
    assert jax.tree.structure(masks.replace(params, found)) == jax.tree.structure(params)
    params = network()
    twice = masks.replace(params, {n: 2 * w for n, w in masks.weights(params).items()})
    np.testing.assert_array_equal(twice["hidden_1"]["kernel"], 2 * params["hidden_1"]["kernel"])
    assert twice["hidden_1"]["bias"] is params["hidden_1"]["bias"]


def test_apply_is_idempotent_and_stops_what_a_product_would_not():
    params = {"kernel": jnp.array([[jnp.nan, 1.0], [jnp.inf, 2.0]]), "bias": jnp.ones(2)}
    mask = {"kernel": jnp.array([[False, True], [False, False]])}
    once = masks.apply(params, mask)
    np.testing.assert_array_equal(once["kernel"], [[0, 1], [0, 0]])
    np.testing.assert_array_equal(masks.apply(once, mask)["kernel"], once["kernel"])
    assert (masks.kept(mask), masks.density(mask), masks.total(mask)) == (1, 0.25, 4)


def test_counts_of_layers():
    mask = split(np.arange(TOTAL) < 13)
    assert masks.layers(mask) == {"a/kernel": 12, "b/kernel": 1, "c/kernel": 0}
    assert masks.empty_layers(mask) == 1


@pytest.mark.slow
def test_shuffles_keep_layers_and_inversion_is_the_complement(key):
    scores = split(np.random.default_rng(0).permutation(TOTAL).astype(float))
    mask = masks.top(scores, 17)
    np.testing.assert_array_equal(
        flat(masks.inverted(scores, TOTAL - 17)), ~flat(mask), strict=True
    )
    some = {"a/kernel": mask["a/kernel"], "c/kernel": mask["c/kernel"]}
    draw = jax.jit(jax.vmap(lambda key: masks.shuffled(key, some)))
    shuffled, some = jax.device_get((draw(jax.random.split(key, 400)), some))
    for name, layer in some.items():
        assert (shuffled[name].sum((1, 2)) == layer.sum()).all()
        # Every place is as likely: 5 standard errors of 400 draws, of at most 1 / 2 each.
        assert np.abs(shuffled[name].mean(0) - layer.mean()).max() < 5 * 0.5 / 20
        assert 0 < layer.mean() < 1
    assert (shuffled["a/kernel"][0] != shuffled["a/kernel"][1]).any()


OPTIMISERS = {
    "sgd": lambda: optax.chain(
        optax.clip_by_global_norm(3.0),  # of the kept weights' gradient, which is above it at first
        optax.add_decayed_weights(0.1),
        optax.sgd(0.05, momentum=0.9),
    ),
    "adamw": lambda: optax.adamw(0.05, weight_decay=0.1),
}


@pytest.mark.parametrize("name", OPTIMISERS)
def test_frozen_weights_are_zero_and_the_others_train_as_if_alone(name):
    """The oracle is a problem that has the kept weights only, and the plain optimiser."""
    random = np.random.default_rng(3)
    curvature, start = random.random((6, 6)), random.random((2, 3))
    curvature = curvature @ curvature.T
    mask = np.array([[True, False, True], [False, False, True]])
    optimiser, steps = OPTIMISERS[name](), 5

    def loss(vector):
        return 0.5 * vector @ curvature @ vector + vector.sum()

    def descend(optimiser, params, loss):
        def step(carry, _):
            params, state = carry
            updates, state = optimiser.update(jax.grad(loss)(params), state, params)
            params = optax.apply_updates(params, updates)
            return (params, state), params

        return jax.lax.scan(step, (params, optimiser.init(params)), length=steps)[1]

    @jax.jit
    def run(mask):
        params = {"kernel": jnp.asarray(start)}  # the pruned ones begin away from zero
        held = masks.frozen(optimiser, mask)
        return descend(held, masks.apply(params, mask), lambda p: loss(p["kernel"].ravel()))

    @jax.jit
    def alone():
        kept = np.flatnonzero(mask)
        return descend(optimiser, start.ravel()[kept], lambda v: loss(jnp.zeros(6).at[kept].set(v)))

    found = np.asarray(run({"kernel": mask})["kernel"])
    assert (found[:, ~mask] == 0).all()
    np.testing.assert_allclose(found[:, mask], alone(), rtol=1e-12)


def test_frozen_weights_that_begin_elsewhere_are_zero_after_one_step():
    params = {"kernel": np.array([[0.1, 0.2, 0.3]], np.float32), "bias": np.ones(1)}
    mask = {"kernel": np.array([[True, False, False]])}
    decay = optax.chain(optax.add_decayed_weights(0.5), optax.sgd(0.1, momentum=0.9))
    optimiser = masks.frozen(decay, mask)

    @jax.jit
    def step(params):
        updates, state = optimiser.update(params, optimiser.init(params), params)
        return optax.apply_updates(params, updates), optax.tree.get(state, "trace")

    after, momentum = step(params)
    np.testing.assert_allclose(after["kernel"], [[0.1 - 0.1 * 1.5 * 0.1, 0, 0]], rtol=1e-6, atol=0)
    np.testing.assert_allclose(momentum["kernel"], [[1.5 * 0.1, 0, 0]], rtol=1e-6, atol=0)
    with pytest.raises(ValueError, match="params: got None"):
        optimiser.update(params, optimiser.init(params))


def test_a_mask_that_does_not_match_names_the_layer():
    params = {"a": {"kernel": np.ones((2, 3))}, "b": {"kernel": np.ones((3, 1))}}
    good = {"a/kernel": np.ones((2, 3), bool), "b/kernel": np.ones((3, 1), bool)}
    with pytest.raises(ValueError, match=r"lacks layers \['b/kernel'\]"):
        masks.apply(params, {"a/kernel": good["a/kernel"]})
    with pytest.raises(ValueError, match=r"has \['c/kernel'\] besides"):
        masks.apply(params, good | {"c/kernel": good["b/kernel"]})
    with pytest.raises(ValueError, match=r"mask\['a/kernel'\]: got shape \(4, 2, 3\)"):
        masks.apply(params, good | {"a/kernel": np.ones((4, 2, 3), bool)})
    with pytest.raises(TypeError, match=r"mask\['a/kernel'\]: got dtype float64"):
        masks.apply(params, good | {"a/kernel": np.ones((2, 3))})
    with pytest.raises(ValueError, match=r"new\['b/kernel'\]: got shape"):
        masks.replace(params, masks.weights(params) | {"b/kernel": np.ones((1, 3))})
    with pytest.raises(ValueError, match="got leaves"):
        masks.weights({"bias": np.ones((2, 2)), "kernel": np.ones((2, 2), int)})


def test_bad_scores_and_counts():
    scores = {"a/kernel": np.ones((2, 3)), "b/kernel": np.ones((4, 2))}
    bad = scores | {"b/kernel": np.full((4, 2), np.nan)}
    for make in (
        lambda: masks.top(bad, 3),
        lambda: masks.top_by_layer(bad, {"a/kernel": 1, "b/kernel": 1}),
        lambda: masks.n_of_m(bad, 1, 2),
        lambda: masks.inverted(bad, 3),
        lambda: masks.neurons(bad, {}, chain=[]),
    ):
        with pytest.raises(ValueError, match=r"scores\['b/kernel'\]: holds NaN"):
            make()
    assert masks.kept(jax.jit(masks.top)(bad, 3)) == 0  # under a trace: nothing, so that it shows
    for count in (0, 15):
        with pytest.raises(ValueError, match=f"kept: got {count}; .* from 1 to 14"):
            masks.top(scores, count)
    with pytest.raises(TypeError, match=r"kept: got 2\.0"):
        masks.top(scores, 2.0)
    with pytest.raises(TypeError, match="dtype int64; scores are floating"):
        masks.top({"kernel": np.ones((2, 2), int)}, 1)
    with pytest.raises(ValueError, match="scores: got no layer"):
        masks.top({}, 1)
    with pytest.raises(ValueError, match=r"kept\['a/kernel'\]: got 0"):
        masks.top_by_layer(scores, {"a/kernel": 0, "b/kernel": 1})
    with pytest.raises(ValueError, match=r"kept: lacks layers \['b/kernel'\]"):
        masks.top_by_layer(scores, {"a/kernel": 1})


def test_bad_structures():
    scores = {"a/kernel": np.ones((4, 3)), "b/kernel": np.ones((2, 3)), "c/kernel": np.ones((2, 2))}
    with pytest.raises(ValueError, match="m: got 4, which does not divide the 2 inputs of 'b/k"):
        masks.n_of_m(scores, 2, 4)
    with pytest.raises(ValueError, match=r"n: got 3; .* from 1 to 2"):
        masks.n_of_m(scores, 3, 2)
    with pytest.raises(ValueError, match="m: got 0"):
        masks.n_of_m(scores, 1, 0)
    with pytest.raises(ValueError, match="transposed: got 'd'"):
        masks.n_of_m(scores, 1, 2, transposed=["d"])
    with pytest.raises(ValueError, match="'a/kernel' has 3 outputs and 'b/kernel' 2 inputs"):
        masks.neurons(scores, {"a/kernel": 1}, chain=["a/kernel", "b/kernel"])
    for chain in (["a/kernel"], ["a/kernel", "d"], ["c/kernel", "c/kernel"]):
        with pytest.raises(ValueError, match="chain: got"):
            masks.neurons(scores, {"a/kernel": 1}, chain=chain)
    chain, transposed = ["a/kernel", "b/kernel"], ["b/kernel"]
    with pytest.raises(ValueError, match=r"kept\['a/kernel'\]: got 4; .* to 3"):
        masks.neurons(scores, {"a/kernel": 4}, chain=chain, transposed=transposed)
    with pytest.raises(ValueError, match=r"has \['b/kernel'\] besides"):
        masks.neurons(scores, {"a/kernel": 1, "b/kernel": 1}, chain=chain, transposed=transposed)
