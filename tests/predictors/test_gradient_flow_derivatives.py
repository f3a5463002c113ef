"""Derivatives of gradient flow and descent against closed forms, the loop and the equation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from ntkens.predictors import gradient_flow
from ntkens.predictors.gradient_flow import Descent
from tests import oracles

TRAIN, TEST = 7, 3
_random = np.random.default_rng(0)
_features = 0.5 * _random.normal(size=(TRAIN + TEST, 11))
KERNEL, CROSS = _features[:TRAIN] @ _features[:TRAIN].T, _features[TRAIN:] @ _features[:TRAIN].T
TARGETS = _random.normal(size=(TRAIN, 2))


def psi_derivative(kernel, direction, time):
    """The derivative of `psi` in a direction: a block of psi of a block-triangular matrix."""
    size = len(kernel)
    block = np.block([[kernel, direction], [np.zeros((size, size)), kernel]])
    return oracles.psi(block, time)[:size, size:]


def repeated(size=TRAIN):
    """The Gram matrix of orthogonal inputs: size - 1 equal eigenvalues."""
    return 0.7 * np.eye(size) + 0.3


def low_rank(size=TRAIN):
    features = np.random.default_rng(5).normal(size=(size, 2))
    return features @ features.T / 5


@pytest.mark.slow
@pytest.mark.parametrize("kernel", [repeated(), low_rank(), KERNEL])
@pytest.mark.parametrize("time", [1e-6, 0.4, 5.0, 300.0])
def test_gradient_with_respect_to_the_kernel(kernel, time):
    random = np.random.default_rng(3)
    direction = random.normal(size=kernel.shape)
    direction = direction + direction.T
    cross, targets = random.normal(size=(TEST, TRAIN)), random.normal(size=TRAIN)

    def predict(kernel):
        return gradient_flow.mean(gradient_flow.fit(kernel, targets), cross, time)

    expected = cross @ psi_derivative(kernel, direction, time) @ targets
    _, forward = jax.jvp(predict, (jnp.asarray(kernel),), (jnp.asarray(direction),))
    backward = jnp.einsum("mij,ij->m", jax.jacrev(predict)(jnp.asarray(kernel)), direction)
    for actual in (forward, backward):
        np.testing.assert_allclose(actual, expected, rtol=1e-10, atol=1e-12 * time**2)


@pytest.mark.parametrize("kernel", [repeated(), KERNEL])
def test_gradient_at_infinite_time_is_that_of_the_solve(kernel):
    random = np.random.default_rng(3)
    cross, targets = random.normal(size=(TEST, TRAIN)), random.normal(size=TRAIN)

    def predict(kernel):
        return gradient_flow.mean(gradient_flow.fit(kernel, targets), cross)

    def solve(kernel):
        return cross @ jnp.linalg.solve((kernel + kernel.T) / 2, targets)

    kernel = jnp.asarray(kernel)
    expected = jax.jacrev(solve)(kernel)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(jax.jacrev(predict)(kernel), expected, rtol=1e-9, atol=1e-12 * scale)


@pytest.mark.slow
@pytest.mark.parametrize("kernel", [repeated(), low_rank(), KERNEL])
@pytest.mark.parametrize("steps", [0, 1, 60])
@pytest.mark.parametrize("fraction", [0.1, 1.95])
def test_gradients_of_descent_are_those_of_the_loop(kernel, steps, fraction):
    random = np.random.default_rng(3)
    cross, targets = random.normal(size=(TEST, TRAIN)), random.normal(size=TRAIN)
    learning_rate = fraction / np.linalg.eigvalsh(kernel)[-1]

    def closed(kernel, learning_rate, ridge):
        flow = gradient_flow.fit(kernel, targets, ridge=ridge)
        return gradient_flow.mean(flow, cross, Descent(steps, learning_rate))

    def loop(kernel, learning_rate, ridge):
        kernel = (kernel + kernel.T) / 2
        weights = jnp.zeros(TRAIN)
        for _ in range(steps):
            weights = weights + learning_rate * (targets - kernel @ weights - ridge * weights)
        return cross @ weights

    at = (jnp.asarray(kernel), jnp.asarray(learning_rate), jnp.asarray(0.0))
    for actual, expected in zip(
        jax.jacrev(closed, (0, 1, 2))(*at), jax.jacrev(loop, (0, 1, 2))(*at), strict=True
    ):
        scale = max(np.abs(expected).max(), 1e-3)  # some are zero exactly, one step's for one
        np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-11 * scale)


@pytest.mark.slow
@pytest.mark.parametrize("time", [0.0, 1e-9, 0.4, 200.0])
def test_gradient_with_respect_to_time_is_the_differential_equation(time):
    flow = gradient_flow.fit(KERNEL, TARGETS)
    slope = jax.jacfwd(lambda time: gradient_flow.mean(flow, CROSS, time))(time)
    expected = CROSS @ scipy.linalg.expm(-KERNEL * time) @ TARGETS
    np.testing.assert_allclose(slope, expected, rtol=1e-10, atol=1e-13)
    ended = jax.jacrev(lambda time: gradient_flow.mean(flow, CROSS, time))(jnp.inf)
    np.testing.assert_array_equal(ended, 0)


@pytest.mark.slow
def test_second_derivatives_are_right_or_an_error():

    def predict(time, shift):
        flow = gradient_flow.fit(KERNEL + shift * jnp.eye(TRAIN), TARGETS)
        return gradient_flow.mean(flow, CROSS, time).sum()

    second = jax.grad(jax.grad(predict))(0.6, 0.0)
    exact = -CROSS @ KERNEL @ scipy.linalg.expm(-KERNEL * 0.6) @ TARGETS
    np.testing.assert_allclose(second, exact.sum(), rtol=1e-11)
    mixed = jax.grad(jax.grad(predict, 1), 0)(0.6, 0.0)
    exact = -0.6 * CROSS @ scipy.linalg.expm(-KERNEL * 0.6) @ TARGETS
    np.testing.assert_allclose(mixed, exact.sum(), rtol=1e-11)
    for inner in (0, 1):
        with pytest.raises(NotImplementedError, match="second derivatives"):
            jax.grad(jax.grad(predict, inner), 1)(0.6, 0.0)
