"""Polynomials in the angle against the layers that they replace."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkens.kernels import angular, dual, fully_connected

pytestmark = pytest.mark.optimised

SLOPES = [(1.0, 0.0), (1.0, -1.0), (2.0, 0.1), (0.7, 0.1), (-1.0, 0.5)]


def on_a_circle(angles):
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


@pytest.mark.parametrize("slopes", SLOPES)
def test_the_recursion_in_angles_is_that_of_the_dual(slopes):
    angles = np.concatenate([np.linspace(0, np.pi, 25), 10.0 ** -np.arange(1, 9)])
    it = dual._piecewise_linear(*slopes)
    kernel = fully_connected.kernel_fn(it, 3)(on_a_circle([0.0]), on_a_circle(angles))
    # the points themselves are rounded, and with them angles near 0 and pi
    ours = angular._kernels(slopes, 3, angles)
    for theirs, mine in zip(kernel, ours, strict=True):
        # inputs of width 2
        np.testing.assert_allclose(2 * theirs[0], mine, rtol=1e-7, atol=1e-15 * mine[0])
        np.testing.assert_allclose(2 * theirs[0, :25], mine[:25], atol=1e-14 * mine[0])


@pytest.mark.parametrize("slopes", SLOPES)
@pytest.mark.parametrize("depth", [2, 3, 7, 10])
def test_the_polynomials_hold_their_accuracy(slopes, depth):
    series = angular.series(slopes, depth)
    if series is None:
        assert depth > 7  # longer than the limit
        return
    angles = np.linspace(0, np.pi, 777)
    if slopes == (1.0, 0.0):  # as the module has it
        assert series.shape[1] == {2: 15, 3: 14, 7: 15, 10: 18}[depth]
    for coefficients, exact in zip(series, angular._kernels(slopes, depth, angles), strict=True):
        in_double = angular.evaluate(coefficients, jnp.asarray(angles))
        np.testing.assert_allclose(in_double, exact, rtol=0, atol=3e-8 * exact[0])
        in_single = angular.evaluate(coefficients, jnp.asarray(angles, jnp.float32))
        # theta near pi is known to 2^-23, where the NTK of deep |x| falls by 3 a radian
        np.testing.assert_allclose(in_single, exact, rtol=0, atol=8e-7 * exact[0])


def test_where_polynomials_do_not_serve():
    assert angular.series((1.0, 0.0), 1) is None
    assert angular.series((1.0, 0.0), 100) is None
    assert angular.series((1.0, 1.0), 3) is None
    assert angular.series((1.0, 0.9), 3) is None


@pytest.mark.slow
@pytest.mark.parametrize("w_std", [0.7, 1.5])
def test_used_for_float32_without_biases_and_close_to_float64(w_std, key):
    x = jax.random.normal(key, (40, 30))
    kernel_fn = fully_connected.kernel_fn(dual.leaky_relu(0.1), 4, w_std)
    for single, double in zip(kernel_fn(x.astype(jnp.float32)), kernel_fn(x), strict=True):
        norm = np.sqrt(np.diagonal(double))
        error = np.abs(single - double) / (norm * norm[:, None])
        assert error.max() < 1e-6
        assert single.dtype == jnp.float32
    # where polynomials replace the layers, no loop over 4 of them is left
    assert "length=4\n" not in str(jax.make_jaxpr(kernel_fn)(x.astype(jnp.float32)))
    assert "length=4\n" in str(jax.make_jaxpr(kernel_fn)(x))
