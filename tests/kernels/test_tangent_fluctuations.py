"""Tangent kernels: other recursions, networks of width 1, wide limits, and sampled weights."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkens.kernels import dual, fully_connected, tangent_fluctuations
from ntkens.kernels.criticality import nonlinearity


@pytest.mark.slow
def test_tangent_kernels_are_those_of_fully_connected_networks():
    """With lambda_b = C_b and lambda_W = C_W: an independent recursion, of three inputs."""
    inputs = np.random.default_rng(0).normal(size=(3, 5))
    first = 0.2 + 1.7 * inputs @ inputs.T / 5
    found = tangent_fluctuations.tangent_kernels(
        dual.relu(), first, 0.2, 1.7, 4, bias_rate=0.2, weight_rate=1.7
    )
    expected = fully_connected.kernel_fn(dual.relu(), 3, 1.7**0.5, 0.2**0.5)(inputs)
    np.testing.assert_allclose(found.nngp[-1], expected.nngp, rtol=1e-12)
    np.testing.assert_allclose(found.ntk[-1], expected.ntk, rtol=1e-12)


def test_a_critical_relu_gains_half_a_weight_rate_a_layer():
    """Theta = 1, 1.5, 2, ... from Theta^1 = 1 at K = 1: linear in the depth, check 6."""
    found = tangent_fluctuations.tangent_kernels(
        dual.relu(), jnp.ones((1, 1)), 0.0, 2.0, 8, bias_rate=0.5 * jnp.eye(8)[0]
    )
    np.testing.assert_allclose(found.ntk[:, 0, 0], 1 + 0.5 * np.arange(8), rtol=1e-13)


def test_equal_layers_at_rates_that_fall_with_depth():
    """K* = 0: what the biases of layer l add at the end is 1 / l of what they add at rate l."""
    depth, layers = 2000, jnp.array([100, 300, 1000, 1999])
    kernel = jnp.full((1, 1), 1.0)

    def share(layer):
        alone = jnp.where(jnp.arange(depth) == layer, 1.0, 0.0)
        return tangent_fluctuations.tangent_kernels(
            dual.erf(), kernel, 0.0, jnp.pi / 4, depth, bias_rate=alone, weight_rate=0.0
        ).ntk[-1, 0, 0]

    shares = np.asarray(jax.jit(jax.vmap(share))(layers))
    equal = shares / np.asarray(layers + 1)
    np.testing.assert_allclose(equal, equal[-1], rtol=0.03)  # the kernel's own log(l) / l
    assert shares[0] < 0.06 * shares[-1]


RATES = jnp.array([[0.3, 0.1, 0.4, 0.2], [0.7, 0.9, 0.2, 1.1]])  # of biases and of weights
SLOPES = jnp.array([[1.0, 0.0], [1.0, 1.0], [0.5, -2.0]])  # ReLU, linear, and a bent one


@jax.jit
@functools.partial(jax.vmap, in_axes=(0, None))
def exact(slopes, widths):
    weight = 2 / jnp.sum(slopes**2)
    return tangent_fluctuations.scale_invariant_fluctuations(
        slopes[0], slopes[1], 1.5, weight, widths, bias_rate=RATES[0], weight_rate=RATES[1]
    )


def leading(slopes, widths):
    above, below = slopes
    activation = nonlinearity(lambda z: jnp.where(z > 0, above, below) * z)
    return tangent_fluctuations.tangent_fluctuations(
        activation,
        1.5,
        0.0,
        2 / jnp.sum(slopes**2),
        widths,
        bias_rate=RATES[0],
        weight_rate=RATES[1],
    )


@pytest.mark.slow
def test_the_leading_order_is_the_limit_of_the_exact_one():
    widths = jnp.array([8.0, 16.0, 4.0, 4.0])
    found = jax.jit(jax.vmap(leading, (0, None)))(SLOPES, widths)
    # scaled so far that the next order is at rounding, and E[G^2] - E[G]^2 not yet
    expected = exact(SLOPES, 1e5 * widths)
    for name, values in found._asdict().items():
        if name != "shift":
            np.testing.assert_allclose(values, getattr(expected, name), 3e-5, 1e-8, err_msg=name)
    np.testing.assert_allclose(found.shift, 0, atol=1e-12)
    assert np.ptp(np.asarray(found.diagonal[:, -1])) > 1


def test_a_linear_chain_of_width_one():
    """z^L = w_L ... w_1 x, whose moments are counted: L 3^(L-1) + L (L-1) 3^(L-2) of Theta^2."""
    depth = 5
    found = tangent_fluctuations.scale_invariant_fluctuations(
        1.0, 1.0, 1.0, 1.0, [1] * depth, bias_rate=0.0
    )
    layers = np.arange(1, depth + 1)
    np.testing.assert_allclose(found.tangent, layers, rtol=1e-14)
    square = layers * 3.0 ** (layers - 1) + layers * (layers - 1) * 3.0 ** (layers - 2)
    variance = np.asarray(found.diagonal + 2 * found.exchange)
    np.testing.assert_allclose(variance, square - layers**2, rtol=1e-13, atol=1e-12)
    mixed = layers * 3.0 ** (layers - 1) - layers  # z^2 Theta has w_k^2 once and others w^4
    np.testing.assert_allclose(
        found.mixed + 2 * found.mixed_exchange, mixed, rtol=1e-13, atol=1e-12
    )


@pytest.mark.slow
def test_sin_at_equal_rates_keeps_its_tangent_kernel():
    """sin^2 + cos^2 = 1: H is 1 in every layer, and all that is left of its spread is rounding."""
    sine = nonlinearity(jnp.sin)
    found = tangent_fluctuations.tangent_fluctuations(
        sine, 1.0, 0.0, 1.0, [7] * 5, bias_rate=0.0, weight_rate=1.0
    )
    np.testing.assert_allclose(found.tangent, 1.0, rtol=1e-13)
    for tensor in (found.diagonal, found.mixed):
        np.testing.assert_allclose(tensor, 0.0, atol=1e-13)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="covariance: got shape"):
        tangent_fluctuations.tangent_kernels(dual.relu(), jnp.ones(3), 0.0, 2.0, 3)
    with pytest.raises(ValueError, match="bias_rate: got shape"):
        tangent_fluctuations.tangent_kernels(
            dual.relu(), jnp.ones((1, 1)), 0.0, 2.0, 3, bias_rate=jnp.ones(2)
        )
    with pytest.raises(ValueError, match="depth: got 0"):
        tangent_fluctuations.tangent_kernels(dual.relu(), jnp.ones((1, 1)), 0.0, 2.0, 0)
    with pytest.raises(ValueError, match="kernel: got"):
        tangent_fluctuations.scale_invariant_fluctuations(1.0, 0.0, 0.0, 2.0, (4, 4))
