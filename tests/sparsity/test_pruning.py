"""Scores against closed forms and finite differences, and what rounds do to collapse."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkens.models import conv
from ntkens.sparsity import budgets, masks, pruning
from ntkens.training import losses

WIDTHS = (8, 6, 6, 6, 3)
CONV = conv.conv_net([2, 3], 4, normalisation="none")
IMAGES = jax.ShapeDtypeStruct((5, 8, 8, 2), jnp.float64)


def network(seed, widths=WIDTHS):
    random = np.random.default_rng(seed)
    return {
        f"layer_{layer}": {
            "kernel": random.normal(size=shape),
            "bias": random.normal(size=shape[1]),
        }
        for layer, shape in enumerate(itertools.pairwise(widths))
    }


def apply(params, inputs, activation=jax.nn.relu):
    signal = inputs
    for layer in range(len(params)):
        own = params[f"layer_{layer}"]
        signal = signal @ own["kernel"] + own["bias"][None]
        signal = activation(signal) if layer < len(params) - 1 else signal
    return signal


def relu_loss(params, inputs, labels):
    return losses.cross_entropy(apply(params, inputs), labels)


def smooth_loss(params, inputs, labels):
    return losses.cross_entropy(apply(params, inputs, jnp.tanh), labels)


def batch(rows=6, seed=0):
    random = np.random.default_rng(seed)
    return random.normal(size=(rows, WIDTHS[0])), random.integers(0, WIDTHS[-1], rows)


def test_synflow_is_the_flow_through_each_weight():
    """|W_l| times what comes in times what goes on; every layer's sum is all that flows."""
    params = network(0)
    found = jax.jit(lambda params: pruning.synflow(apply, params, batch()[0]))(params)
    kernels = [np.abs(own["kernel"]) for own in params.values()]
    inwards, onwards = [np.ones(WIDTHS[0])], [np.ones(WIDTHS[-1])]
    for kernel in kernels[:-1]:
        inwards.append(inwards[-1] @ kernel)
    for kernel in kernels[:0:-1]:
        onwards.insert(0, kernel @ onwards[0])
    flow = inwards[-1] @ kernels[-1] @ np.ones(3)
    for scores, kernel, before, after in zip(
        found.values(), kernels, inwards, onwards, strict=True
    ):
        np.testing.assert_allclose(scores, before[:, None] * kernel * after, rtol=1e-12)
        np.testing.assert_allclose(scores.sum(), flow, rtol=1e-12)


def test_synflow_is_conserved_through_convolutions():
    random, shapes = np.random.default_rng(0), jax.eval_shape(CONV.init, jax.random.key(0), IMAGES)
    params = jax.tree.map(lambda leaf: random.normal(size=leaf.shape), shapes)  # biases too
    sums = jax.jit(
        lambda params: [each.sum() for each in pruning.synflow(CONV.apply, params, IMAGES).values()]
    )(params)
    np.testing.assert_allclose(sums, sums[0], rtol=1e-12)


def test_w_times_gradient_is_conserved_without_biases():
    """Each layer's sum is that of the outputs times the gradient with respect to them."""
    params = {name: own | {"bias": 0 * own["bias"]} for name, own in network(1).items()}
    inputs, labels = batch()

    @jax.jit
    def sums(params):
        gradient = jax.grad(lambda params: relu_loss(params, inputs, labels).mean())(params)
        outputs = apply(params, inputs)
        at_outputs = jax.grad(lambda logits: losses.cross_entropy(logits, labels).mean())(outputs)
        by_layer = [jnp.sum(params[name]["kernel"] * gradient[name]["kernel"]) for name in params]
        return by_layer, jnp.sum(outputs * at_outputs)

    by_layer, expected = sums(params)
    np.testing.assert_allclose(by_layer, expected, rtol=1e-10)


@pytest.mark.slow
def test_rounds_of_synflow_compress_to_one_path_and_others_collapse():
    """Maximal critical compression: as many weights as layers, and signal still flows."""
    inputs, labels = batch(32)
    counts = jnp.array([4, 8, 16])  # of 138

    def empty_and_flow(params, kept):
        def score(mask):
            return pruning.synflow(apply, masks.apply(params, mask), inputs)

        weights = masks.weights(params)
        chosen = {
            "synflow": pruning.in_rounds(score, weights, kept),
            "synflow once": pruning.in_rounds(score, weights, kept, rounds=1),
            "snip": masks.top(pruning.snip(relu_loss, params, inputs, labels), kept),
        }
        return {
            name: (masks.empty_layers(mask), masks.kept(mask), score(mask)["layer_0/kernel"].sum())
            for name, mask in chosen.items()
        }

    params = jax.tree.map(lambda *leaves: np.stack(leaves), *map(network, range(6)))
    each = jax.vmap(jax.vmap(empty_and_flow, (None, 0)), (0, None))
    found = jax.jit(each)(params, counts)
    for empty, kept, flow in found.values():
        np.testing.assert_array_equal(kept, np.tile(counts, (6, 1)))
        assert ((empty == 0) | (flow == 0)).all()
    empty, _, flow = found["synflow"]
    assert (empty == 0).all()
    assert (flow > 0).all()
    for name in ("snip", "synflow once"):
        empty, _, flow = found[name]
        assert (empty[:, 0] > 0).sum() > 3  # of 6 seeds
        assert (flow[:, 0] == 0).sum() > 4


def test_grasp_of_a_quadratic():
    """Of w^T A w / 2 - b^T w: w (A (A w - b))."""
    random = np.random.default_rng(0)
    matrix, vector, point = random.normal(size=(6, 6)), random.normal(size=6), random.normal(size=6)
    matrix = matrix + matrix.T

    def loss(params, inputs, labels):
        w = params["kernel"].ravel()
        return jnp.broadcast_to(w @ matrix @ w / 2 - vector @ w, labels.shape)

    found = jax.jit(lambda w: pruning.grasp(loss, {"kernel": w}, *batch()))(point.reshape(2, 3))
    closed = point * (matrix @ (matrix @ point - vector))
    np.testing.assert_allclose(found["kernel"].ravel(), closed, rtol=1e-12)


@pytest.mark.slow
def test_first_order_effects_of_removing_a_weight():
    """Central differences in t of w_q -> (1 - t) w_q: |dL/dt| is snip, d||g||^2/dt = -2 grasp."""
    params, (inputs, labels), small = network(2, (8, 3, 3)), batch(), 1e-5

    @jax.jit
    def differences(params):
        weights = masks.weights(params)
        flat, restore = jax.flatten_util.ravel_pytree(weights)

        def loss(flat):
            return smooth_loss(masks.replace(params, restore(flat)), inputs, labels).mean()

        def both(flat):
            return jnp.stack([loss(flat), jnp.sum(jax.grad(loss)(flat) ** 2)])

        changes = small * jnp.diag(flat)
        slopes = jax.vmap(lambda change: (both(flat - change) - both(flat + change)) / (2 * small))
        snip = pruning.snip(smooth_loss, params, inputs, labels)
        grasp = pruning.grasp(smooth_loss, params, inputs, labels)
        scores = [jax.flatten_util.ravel_pytree(each)[0] for each in (snip, grasp)]
        return slopes(changes), scores

    slopes, (snip, grasp) = differences(params)
    # The error of central differences is of order small^2, and that of rounding 1e-16 / small.
    np.testing.assert_allclose(np.abs(slopes[:, 0]), snip, atol=1e-9)
    np.testing.assert_allclose(slopes[:, 1], -2 * grasp, atol=1e-8)
    assert (grasp > 0).any()
    assert (grasp < 0).any()


def test_rounds_are_the_plain_loop():
    """Scores that follow the mask, of ties; counts fall geometrically and stay where they must."""
    weights = {"a/kernel": np.zeros((3, 5)), "b/kernel": np.zeros((5, 2))}
    base = np.random.default_rng(0).integers(1, 5, 25).astype(float)

    def score(mask):  # favours what the layer has few of, and revives nothing
        values = {"a/kernel": base[:15].reshape(3, 5), "b/kernel": base[15:].reshape(5, 2)}
        return {name: values[name] / jnp.sum(mask[name]) for name in values}

    def plain(kept, rounds):
        mask = np.ones(25, bool)
        for index in range(1, rounds + 1):
            few = np.repeat([mask[:15].sum(), mask[15:].sum()], [15, 10])
            count = kept if index == rounds else int(25 * (kept / 25) ** (index / rounds))
            scores = np.divide(base, few, where=mask, out=np.full(25, -np.inf))
            order = np.argsort(-scores, kind="stable")
            mask = np.isin(np.arange(25), order[: max(count, kept)])
        return mask

    counts = np.array([1, 7, 24, 25])
    rounds = jax.vmap(lambda kept: pruning.in_rounds(score, weights, kept, rounds=7))
    found = jax.device_get(jax.jit(rounds)(counts))
    for place, kept in enumerate(counts):
        flat = np.concatenate([found[name][place].ravel() for name in weights])
        np.testing.assert_array_equal(flat, plain(int(kept), 7))


SCORES = {
    "random": lambda key, params, data: pruning.random(key, masks.weights(params)),
    "magnitude": lambda key, params, data: pruning.magnitude(masks.weights(params)),
    "snip": lambda key, params, data: pruning.snip(relu_loss, params, *data),
    "grasp": lambda key, params, data: pruning.grasp(relu_loss, params, *data),
    "synflow": lambda key, params, data: pruning.synflow(apply, params, data[0]),
}


@pytest.mark.slow
def test_every_score_with_every_budget(key):
    """Vmapped over seeds is one by one; every budget is exact, and the dtype is that of params."""
    float32 = jax.tree.map(lambda leaf: leaf.astype(np.float32), network(0, (8, 6, 3)))
    params = jax.tree.map(lambda leaf: np.stack([leaf, 2 * leaf[::-1]]), float32)
    data, keys = batch(), jax.random.split(key)
    weights = masks.weights(float32)

    def scores(key, params):
        each = [score(key, params, data) for score in SCORES.values()]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)

    vmapped = jax.device_get(jax.jit(jax.vmap(scores))(keys, params))
    alone = jax.jit(scores)(keys[1], jax.tree.map(lambda leaf: leaf[1], params))
    for name, layer in vmapped.items():
        assert layer.dtype == np.float32
        # Sums of a hundred float32 terms at most, in another order.
        scale = np.abs(layer[1]).max((1, 2), keepdims=True)
        np.testing.assert_allclose(layer[1] / scale, alone[name] / scale, atol=1e-5)
    random = vmapped["layer_0/kernel"][:, 0]
    assert (random[0] != random[1]).all()
    assert (random[0, :6, :3] != vmapped["layer_1/kernel"][0, 0]).all()

    kept = budgets.kept(weights, 0.3)
    by_layer = [b(weights, 0.3) for b in (budgets.uniform, budgets.erk)]

    @jax.jit
    @jax.vmap
    def counts(scores):
        return [masks.kept(masks.top(scores, kept))] + [
            masks.layers(masks.top_by_layer(scores, budget)) for budget in by_layer
        ]

    found = counts({name: layer[1] for name, layer in vmapped.items()})
    assert kept == 19  # of 48 + 18
    wanted = [kept, *by_layer]
    assert jax.tree.map(lambda found: set(found.tolist()), found) == jax.tree.map(
        lambda count: {count}, wanted
    )


def test_scores_take_kernels_of_convolutions():
    params = jax.eval_shape(CONV.init, jax.random.key(0), IMAGES)
    shapes = {name: w.shape for name, w in masks.weights(params).items()}
    labels = jax.ShapeDtypeStruct((5,), int)

    def loss(params, inputs, labels):
        return losses.cross_entropy(CONV.apply(params, inputs), labels)

    for score in (pruning.snip, pruning.grasp):
        found = jax.eval_shape(lambda *own, score=score: score(loss, *own), params, IMAGES, labels)
        assert {name: each.shape for name, each in found.items()} == shapes


def test_overflow_and_bad_arguments():
    huge = {"layer_0": {"kernel": np.full((8, 3), 1e308), "bias": np.zeros(3)}}
    scores = jax.jit(
        lambda params: pruning.synflow(
            lambda params, inputs: 3 * apply(params, inputs), params, batch()[0]
        )
    )(huge)
    with pytest.raises(ValueError, match="holds NaN"):
        masks.top(scores, 2)
    broken = pruning.in_rounds(lambda mask: scores, scores, 2, rounds=3)
    assert not broken["layer_0/kernel"].any()  # and not what the second round finds
    weights = masks.weights(huge)
    with pytest.raises(ValueError, match="rounds: got 0"):
        pruning.in_rounds(lambda mask: weights, weights, 2, rounds=0)
    with pytest.raises(ValueError, match="kept: got 25"):
        pruning.in_rounds(lambda mask: weights, weights, 25)
    with pytest.raises(ValueError, match="scores: lacks layers"):
        pruning.in_rounds(lambda mask: {}, weights, 2)
    inputs, labels = batch()
    for score in (pruning.snip, pruning.grasp):
        with pytest.raises(ValueError, match="one number an example, not their mean"):
            score(lambda *own: relu_loss(*own).mean(), network(0), inputs, labels)
