import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkens.models import mlp
from ntkens.training import gradient_descent, members

K, WIDTH = 5, 33
TARGETS = np.eye(K)[[2, 0, 3, 4, 1]]


def two_layers_by_hand(first, second, rate, steps):
    """The gradients of 0.5 ||f - y||^2 of a two-layer ReLU network written out, in NumPy."""
    inner, outer = 1 / np.sqrt(K), 1 / np.sqrt(second.shape[1])
    for _ in range(steps):
        h = inner * first
        z = np.maximum(h, 0)
        residual = outer * z @ second.T - TARGETS
        back = outer * (residual @ second) * (h > 0) * inner
        second = second - rate * outer * residual.T @ z
        first = first - rate * back
    return first, second


@pytest.mark.parametrize("inputs", [range(K), np.arange(K), jnp.eye(K)], ids=str)
def test_a_run_on_one_hot_inputs_is_the_run_by_hand(inputs, key):
    model = mlp.mlp([WIDTH], K)
    params = model.init(key, jnp.eye(K))
    trained, info = gradient_descent.train(
        lambda params: model.apply(params, inputs), params, TARGETS, 0.5, steps=200
    )
    kernels = [np.asarray(params[name]["kernel"]) for name in ("hidden_0", "readout")]
    first, second = two_layers_by_hand(*kernels, 0.5, 200)
    np.testing.assert_allclose(trained["hidden_0"]["kernel"], first, rtol=1e-9)
    np.testing.assert_allclose(trained["readout"]["kernel"], second, rtol=1e-9)
    assert info.loss < 0.01 * info.initial_loss


def test_a_linear_model_follows_its_closed_form(key):
    """f(t) - y = (I - rate X X^T / d)^t (f(0) - y), the tangent kernel being constant."""
    model = mlp.mlp([], 2)
    x = jax.random.normal(jax.random.key(1), (4, 6))
    y = jax.random.normal(jax.random.key(2), (4, 2))
    params = model.init(key, x)
    start = np.asarray(model.apply(params, x) - y)
    contraction = np.eye(4) - 0.3 * np.asarray(x @ x.T) / 6
    for steps in (0, 1, 50):
        error = np.linalg.matrix_power(contraction, steps) @ start
        trained, info = gradient_descent.train(
            lambda params: model.apply(params, x), params, y, 0.3, steps=steps
        )
        np.testing.assert_allclose(model.apply(trained, x) - y, error, rtol=1e-10, atol=1e-13)
        np.testing.assert_allclose(info.loss, (error**2).sum() / 2, rtol=1e-10)
        np.testing.assert_allclose(info.initial_loss, (start**2).sum() / 2, rtol=1e-12)
        np.testing.assert_allclose(info.residual, np.abs(error).max(), rtol=1e-10)


def test_a_diverged_member_is_reported_and_the_others_are_not(key):
    """A linear model of k one-hot inputs has the tangent kernel I / k: stable for rates below 2k.

    At 100 = 20 k the error grows 19 times a step: at first it is finite, after 500 it is not.
    """
    model = mlp.mlp([], K)
    params = members.init(model.init, key, 4, jnp.eye(K))
    params["readout"]["kernel"] = params["readout"]["kernel"].at[1, 0, 0].set(jnp.nan)
    rates = jnp.array([1.0, 1.0, 100.0, 9.9])

    def train(steps, one):
        params, rate = one
        return gradient_descent.train(
            lambda params: model.apply(params, range(K)), params, TARGETS, rate, steps=steps
        )[1]

    for steps, is_finite in ((2, True), (500, False)):
        info = members.map(functools.partial(train, steps), (params, rates))
        np.testing.assert_array_equal(info.diverged, [False, True, True, False])
        np.testing.assert_array_equal(np.isfinite(info.loss), [True, False, is_finite, True])


def test_losses_that_overflow_from_the_start_are_a_divergence():
    far = np.full((1, 1), 1e200)
    _, info = gradient_descent.train(lambda p: p, jnp.zeros((1, 1)), far, 0.1, steps=0)
    assert info.loss == info.initial_loss == np.inf
    assert info.diverged


def test_training_on_from_the_end_is_no_divergence(key):
    model = mlp.mlp([WIDTH], K)
    params = model.init(key, jnp.eye(K))
    for _ in range(3):
        params, info = gradient_descent.train(
            lambda params: model.apply(params, range(K)), params, TARGETS, 2.0, steps=2000
        )
        assert not info.diverged
    assert info.residual < 1e-14


def test_dtype_follows_the_params(key):
    model = mlp.mlp([WIDTH], K)
    params = model.init(key, jnp.eye(K, dtype=jnp.float32))
    trained, info = gradient_descent.train(
        lambda params: model.apply(params, range(K)), params, TARGETS, np.float64(0.5), steps=3
    )
    leaves = jax.tree.leaves((trained, info._replace(diverged=())))
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype("float32")}


def test_params_that_cannot_be_trained_are_named():
    with pytest.raises(TypeError, match="params: got a leaf of int"):
        gradient_descent.train(lambda p: p * jnp.ones(2), jnp.asarray(1), np.ones(2), 0.1, steps=1)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"targets": TARGETS[:, 0]}, r"targets: got shape \(5,\)"),
        ({"targets": TARGETS[:1]}, r"targets: got shape \(1, 5\)"),
        ({"learning_rate": 0.0}, "learning_rate: got 0.0"),
        ({"learning_rate": np.nan}, "learning_rate: got nan"),
        ({"learning_rate": np.ones(3)}, r"learning_rate: got shape \(3,\)"),
        ({"steps": -1}, "steps: got -1"),
        ({"steps": 1e3}, "steps: got 1000.0"),
    ],
)
def test_bad_arguments_are_named(arguments, named, key):
    model = mlp.mlp([4], K)
    given = {"targets": TARGETS, "learning_rate": 0.5, "steps": 1} | arguments
    params = model.init(key, jnp.eye(K))
    with pytest.raises(ValueError, match=named):
        gradient_descent.train(lambda params: model.apply(params, range(K)), params, **given)
