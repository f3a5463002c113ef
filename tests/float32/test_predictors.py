import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkens.kernels import Kernel
from ntkens.predictors import gradient_flow, posterior
from ntkens.predictors.gradient_flow import Descent

EPSILON = np.finfo(np.float32).eps


def problem(size=30, features=60):
    random = np.random.default_rng(0)
    train, test = random.normal(size=(size, features)), random.normal(size=(5, features))
    return train @ train.T, test @ train.T, random.normal(size=(size, 2))


@pytest.mark.parametrize("when", [0.0, 0.01, 3.0, jnp.inf, Descent(500, 0.005)])
def test_gradient_flow_to_the_condition_number(when):
    kernel, cross, targets = problem()
    values, vectors = np.linalg.eigh(kernel)  # NumPy stays in float64
    if isinstance(when, Descent):
        left = (1 - when.learning_rate * values) ** when.steps
    else:
        left = np.exp(-values * when)
    expected = cross @ vectors @ np.diag((1 - left) / values) @ vectors.T @ targets
    mean = gradient_flow.mean(gradient_flow.fit(kernel, targets), cross, when)
    assert mean.dtype == jnp.float32
    condition = values[-1] / values[0]
    scale = np.abs(expected).max()
    np.testing.assert_allclose(mean, expected, atol=5 * EPSILON * condition * scale)


def test_gradients_are_finite_at_repeated_eigenvalues():
    kernel = 0.7 * jnp.eye(8) + 0.3

    def predict(kernel, when):
        return gradient_flow.mean(gradient_flow.fit(kernel, jnp.ones(8)), kernel[:2], when).sum()

    for when in (0.0, 1.0, jnp.inf, Descent(5, 0.1)):
        assert np.isfinite(jax.grad(predict)(kernel, when)).all()


def test_posterior_keeps_the_dtype_and_the_digits():
    kernel, cross, targets = problem()
    fitted = posterior.fit(Kernel(kernel, kernel), targets, regime="ntk")
    mean = posterior.mean(fitted, Kernel(cross, cross))
    assert mean.dtype == jnp.float32
    expected = cross @ np.linalg.solve(kernel, targets)
    atol = 5 * EPSILON * np.linalg.cond(kernel) * np.abs(expected).max()
    np.testing.assert_allclose(mean, expected, atol=atol)


def test_what_float32_cannot_tell_from_singular_is_refused():
    kernel = np.diag([1.0, 1e-7])  # no trouble in float64
    with pytest.raises(ValueError, match="ridge"):
        gradient_flow.mean(gradient_flow.fit(kernel, np.ones(2)), kernel)
    with pytest.raises(ValueError, match="ridge"):
        posterior.fit(Kernel(kernel, kernel), np.ones(2))
