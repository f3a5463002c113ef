"""Objectives of gates against NumPy and scipy, and at gates that are all open."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.special import log_softmax, softmax

from ntkens import tree
from ntkens.sparsity import objectives


class Found(NamedTuple):
    values: dict
    total: dict  # the gradient of the sum of all
    divergences: dict  # that of the sum of these


NAMES = ("hidden/kernel", "readout/kernel")


def apply(params, inputs):
    hidden = jnp.tanh(inputs @ params["hidden"]["kernel"] + params["hidden"]["bias"])
    return hidden @ params["readout"]["kernel"]


def features(params, inputs):
    first = jnp.tanh(inputs @ params["hidden"]["kernel"])
    return first, jnp.tanh(first @ params["readout"]["kernel"])


def loss(params, inputs, labels):
    logs = jax.nn.log_softmax(apply(params, inputs))
    return -jnp.take_along_axis(logs, labels[:, None], axis=1)[:, 0]


ALL = {
    "task_loss": objectives.task_loss(loss),
    "loss_change": objectives.loss_change(loss),
    "gradient_norm": objectives.gradient_norm(loss),
    "reverse_kl": objectives.reverse_kl(apply),
    "forward_kl": objectives.forward_kl(apply),
    "feature_matching": objectives.feature_matching(features),
    "gradient_matching": objectives.gradient_matching(loss),
}
INPUTS = np.random.default_rng(0).normal(size=(6, 3))
LABELS = np.array([0, 1, 2, 0, 3, 3])


RNG = np.random.default_rng(1)
PARAMS = {
    "hidden": {"kernel": RNG.normal(size=(3, 5)), "bias": RNG.normal(size=(1, 5))},
    "readout": {"kernel": RNG.normal(size=(5, 4))},
}
DRAWN = {NAMES[0]: RNG.uniform(size=(3, 5)), NAMES[1]: RNG.uniform(size=(5, 4))}
GATES = {"drawn": DRAWN, "open": jax.tree.map(np.ones_like, DRAWN),
         "shut": jax.tree.map(np.zeros_like, DRAWN)}  # fmt: skip


@functools.cache
def found():
    """Values at the gates, at open ones and at shut ones; and gradients of sums of objectives."""

    @jax.jit
    @jax.vmap
    def values(chosen):
        def each(chosen):
            return {name: ALL[name](chosen, PARAMS, INPUTS, LABELS) for name in ALL}

        summed = {name: jnp.array([1.0, name in ("reverse_kl", "forward_kl")]) for name in ALL}
        value, back = jax.vjp(each, chosen)
        return value, jax.vmap(back)(summed)[0]

    stacked = values(jax.tree.map(lambda *each: np.stack(each), *GATES.values()))
    found = dict(zip(GATES, tree.unstack(jax.tree.map(np.asarray, stacked)), strict=True))
    return {
        name: Found(value, *(tree.index(slopes, place) for place in range(2)))
        for name, (value, slopes) in found.items()
    }


def sparse(chosen):
    return {
        "hidden": {
            "kernel": PARAMS["hidden"]["kernel"] * chosen[NAMES[0]],
            "bias": PARAMS["hidden"]["bias"],
        },
        "readout": {"kernel": PARAMS["readout"]["kernel"] * chosen[NAMES[1]]},
    }


def logits(net):
    hidden = np.tanh(INPUTS @ net["hidden"]["kernel"] + net["hidden"]["bias"])
    return hidden @ net["readout"]["kernel"]


def gradient(chosen):
    """grad_theta of the mean loss by hand: a tanh network of two layers."""
    net = sparse(chosen)
    hidden = np.tanh(INPUTS @ net["hidden"]["kernel"] + net["hidden"]["bias"])
    error = (softmax(hidden @ net["readout"]["kernel"], axis=1) - np.eye(4)[LABELS]) / 6
    back = (error @ net["readout"]["kernel"].T) * (1 - hidden**2)
    return {
        NAMES[0]: INPUTS.T @ back * chosen[NAMES[0]],
        NAMES[1]: hidden.T @ error * chosen[NAMES[1]],
        "bias": back.sum(axis=0),
    }


def test_losses_are_those_of_the_gated_network():
    labels = np.arange(6), LABELS
    means = [-log_softmax(logits(each), axis=1)[labels].mean() for each in (sparse(DRAWN), PARAMS)]
    values = found()["drawn"].values
    np.testing.assert_allclose(values["task_loss"], 100 * means[0], rtol=1e-12)
    np.testing.assert_allclose(values["loss_change"], 1e4 * abs(means[0] / means[1] - 1))


def test_divergences_are_scipys():
    s, d = (softmax(logits(each), axis=1) for each in (sparse(DRAWN), PARAMS))
    values = found()["drawn"].values
    np.testing.assert_allclose(values["reverse_kl"], 100 * stats.entropy(s, d, axis=1).mean())
    np.testing.assert_allclose(values["forward_kl"], 100 * stats.entropy(d, s, axis=1).mean())


def test_the_gradients_norm_is_of_all_of_theta():
    square = sum(np.sum(each**2) for each in gradient(DRAWN).values())
    np.testing.assert_allclose(found()["drawn"].values["gradient_norm"], -np.sqrt(square))


def test_matching_is_by_correlation():
    """The mean square of standardised differences is 2 (1 - r)."""
    pairs = [gradient(GATES[name]) for name in ("drawn", "open")]
    by_layer = [np.corrcoef(*(np.ravel(each[name]) for each in pairs))[0, 1] for name in NAMES]
    np.testing.assert_allclose(
        found()["drawn"].values["gradient_matching"], 200 * (1 - np.mean(by_layer)), rtol=1e-10
    )

    def seen(net):
        first = np.tanh(INPUTS @ net["hidden"]["kernel"])
        return first, np.tanh(first @ net["readout"]["kernel"])

    layers = zip(seen(sparse(DRAWN)), seen(PARAMS), strict=True)
    by_layer = [
        np.mean([np.corrcoef(*rows)[0, 1] for rows in zip(*layer, strict=True)]) for layer in layers
    ]
    np.testing.assert_allclose(
        found()["drawn"].values["feature_matching"], 200 * (1 - np.mean(by_layer)), rtol=1e-10
    )


def test_an_open_network_has_lost_nothing():
    for name in set(ALL) - {"task_loss", "gradient_norm"}:
        np.testing.assert_allclose(found()["open"].values[name], 0, atol=1e-10)  # 10^4 epsilon
    for layer in found()["open"].divergences.values():  # least there
        np.testing.assert_allclose(layer, 0, atol=1e-12)


def test_every_gradient_is_finite():
    """That of the sum is if each one's is; and a network all of whose gates are shut has them."""
    for name in ("drawn", "shut"):
        assert all(np.isfinite(layer).all() for layer in found()[name].total.values())
    assert all(np.any(layer) for layer in found()["drawn"].total.values())


def test_what_does_not_vary_is_zero_and_differs_by_one():
    assert found()["shut"].values["feature_matching"] == pytest.approx(100)
    assert found()["shut"].values["gradient_matching"] == pytest.approx(100)


def test_the_norm_of_small_numbers_does_not_underflow_nor_that_of_none_divide():
    norm = jax.jit(jax.vmap(jax.value_and_grad(objectives.norm)))
    value, slope = norm(jnp.array([[3e-30, 0, 4e-30], [0, 0, 0]], jnp.float32))
    np.testing.assert_allclose(value, [5e-30, 0], rtol=1e-6)
    np.testing.assert_allclose(slope, [[0.6, 0, 0.8], [0, 0, 0]], rtol=1e-6)


def test_features_of_any_size_are_matched():
    """Nearly shut gates leave features so small that the gradient of a variance overflows."""
    params = {"kernel": jnp.array([[3.0, -1.0, 0.5, 2.0]], jnp.float32)}

    def matching(chosen, size):
        of_size = objectives.feature_matching(lambda params, _: [size * params["kernel"]])
        return of_size({"kernel": chosen}, params, INPUTS, LABELS)

    sizes, half = jnp.array([1.0, 1e-25], jnp.float32), jnp.array([[0.1, 0.9, 0.3, 0.5]], "f4")
    slope = jax.jit(jax.vmap(jax.grad(matching), (None, 0)))(half, sizes)
    assert jnp.abs(slope).min() > 0.1
    np.testing.assert_allclose(slope[1], slope[0], rtol=1e-4)
