"""Tangent kernels of random networks, whose weights are never drawn: O(width) a layer.

The tangent kernel of one output at one input is, with rates lambda_b of biases and
lambda_W / fan in of weights,

    Theta^L = sum_l |d z_i^L / d z^l|^2 (lambda_b + lambda_W mean(sigma(z^{l-1})^2)).

Backwards, d z_i^L / d z^l = sigma'(z^l) W^T d z_i^L / d z^{l+1} needs the weights W given the
preactivations on both sides (see `preactivations`). Of a row w_k, the part along sigma(z^l) is
known from z_k^{l+1} up to the bias; the rest is Gaussian, and independent of all that was drawn
above. So W^T delta is a multiple of sigma(z^l) and a Gaussian vector orthogonal to it: again O(n)
draws, exactly in law. Roberts, Yaida and Hanin 2022, arXiv:2106.10165, chapter 8; what is expected
of it is `kernels.tangent_fluctuations`.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from ntkens.checks import is_concrete
from ntkens.models.preactivations import (
    Elementwise,
    Preactivations,
    as_floats,
    check_layers,
    forward,
    in_chunks,
    summary,
)


class Tangents(NamedTuple):
    """Of each network, cut off after each layer in turn: one of its outputs z_i.

    Attributes:
        layers: as `preactivations.sample` gives them; z_i is drawn with their `variance`.
        output: z_i.
        tangent: Theta_ii, the squared gradient of z_i in the parameters, weighted by their rates.
            That of each layer has the law of a network that ends there; those of two layers of one
            network are not drawn jointly.
    """

    layers: Preactivations
    output: Float[Array, "networks depth"]
    tangent: Float[Array, "networks depth"]


def sample(
    key: Key[Array, ""],
    activation: Elementwise,
    kernel: Float[Array, ""] | float,
    bias_variance: float,
    weight_variance: float,
    widths: Sequence[int],
    networks: int,
    *,
    bias_rate: Float[Array, " depth"] | float = 1.0,
    weight_rate: Float[Array, " depth"] | float = 1.0,
    derivative: Elementwise | None = None,
) -> Tangents:
    """Tangent kernels of so many random networks at one input, after each layer.

    Costs depth times what `preactivations.sample` costs in arithmetic, and twice in random numbers.

    Args:
        key: of all networks.
        activation: sigma, elementwise; a new function object is compiled anew.
        kernel: K^1, the variance in the first layer; |x|^2 / n_0 is then (K^1 - C_b) / C_W.
        bias_variance: C_b.
        weight_variance: C_W, above 0.
        widths: n_1, ..., n_L.
        networks: how many.
        bias_rate: lambda_b, of all layers or of each.
        weight_rate: lambda_W, of all layers or of each; a weight's learning rate is
            lambda_W / fan in.
        derivative: of the activation; None differentiates it.

    Raises:
        ValueError: as `preactivations.sample`; a weight variance of 0; a kernel below the bias
            variance; rates that are not one number or one for each layer.
        TypeError: a kernel that is not floating point.
    """
    check_layers(kernel, bias_variance, weight_variance, widths, networks)
    if is_concrete(weight_variance) and not weight_variance > 0:
        raise ValueError(
            f"weight_variance: got {weight_variance}; without weights no input is seen"
        )
    if is_concrete(kernel, bias_variance) and float(kernel) < float(bias_variance):
        raise ValueError(
            f"kernel: got {kernel}, less than the biases' share of it, {bias_variance}"
        )
    for name, rate in (("bias_rate", bias_rate), ("weight_rate", weight_rate)):
        if jnp.shape(rate) not in ((), (len(widths),)):
            raise ValueError(f"{name}: got shape {jnp.shape(rate)}; want one, or {len(widths)}")
    parameters = as_floats(kernel, bias_variance, weight_variance)
    rates = [
        jnp.broadcast_to(jnp.asarray(rate, parameters[0].dtype), len(widths))
        for rate in (bias_rate, weight_rate)
    ]
    derivative = derivative or _derivative(activation)
    return _sample(key, activation, derivative, tuple(widths), networks, *parameters, *rates)


@functools.partial(jax.jit, static_argnums=(1, 2, 3, 4))
def _sample(
    key, activation, derivative, widths, networks,
    kernel, bias_variance, weight_variance, bias_rate, weight_rate,
):  # fmt: skip
    depth, width, dtype = len(widths), max(widths), kernel.dtype

    def network(key):
        forward_key, backward_key = jax.random.split(key)
        _, (z, variance, power) = forward(
            forward_key, activation, widths, kernel, bias_variance, weight_variance,
            jnp.zeros((), dtype),
        )  # fmt: skip
        first = (kernel - bias_variance) / weight_variance
        power_below = jnp.concatenate([first[None], power[:-1]])
        z_below = jnp.concatenate([jnp.zeros((1, width), dtype), z[:-1]])
        fan_in = jnp.asarray([1, *widths[:-1]])

        def layer(carry, now):
            """Row L' of `gradient` is d z_0^L' / d z^l; those that end below l are still 0."""
            gradient, tangent = carry
            at, key, z, z_below, variance, power, size, bias_rate, weight_rate = now
            gradient = gradient.at[at, 0].set(1)
            norms = jnp.sum(gradient**2, axis=1)
            tangent = tangent + norms * (bias_rate + weight_rate * power)
            noise = jax.random.normal(key, (width + 1,), dtype)
            is_there = jnp.arange(width) < size
            signal = jnp.where(is_there, activation(z_below), 0)
            count = size.astype(dtype)
            scale = jnp.sqrt(weight_variance / count)
            share = weight_variance * power / jnp.where(variance > 0, variance, 1)
            # (W sigma) . delta given z, less what the noise below has of it
            along = share * jnp.matmul(gradient, z, precision="highest") + jnp.sqrt(norms) * (
                jnp.sqrt(share * bias_variance) * noise[width]
                - scale * jnp.sum(signal * noise[:width])
            )
            square = count * power
            along = jnp.where(square > 0, along / jnp.where(square > 0, square, 1), 0)
            back = (
                scale * jnp.sqrt(norms)[:, None] * noise[None, :width]
                + along[:, None] * signal[None]
            )
            slope = jnp.where(is_there, derivative(z_below), 0)
            return (back * slope[None], tangent), None

        layers = (
            jnp.arange(depth), jax.random.split(backward_key, depth), z, z_below, variance,
            power_below, fan_in, bias_rate, weight_rate,
        )  # fmt: skip
        start = jnp.zeros((depth, width), dtype), jnp.zeros(depth, dtype)
        (_, tangent), _ = jax.lax.scan(layer, start, layers, reverse=True)
        return Tangents(summary(z, variance, widths), z[:, 0], tangent)

    return in_chunks(network, key, networks, width * (depth + 1))


@functools.cache  # a new function object would be compiled anew
def _derivative(activation):
    return jnp.vectorize(jax.grad(activation))
