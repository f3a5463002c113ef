"""Random networks by their preactivations alone: O(width) a layer, and not one weight is drawn.

A layer is z^1 ~ N(0, K) and z^{l+1} = b + W sigma(z^l), with b ~ N(0, C_b) and
W ~ N(0, C_W / n_l). Given z^l the components of z^{l+1} are independent and Gaussian of variance

    G^{l+1} = C_b + C_W mean(sigma(z^l)^2),

and so the preactivations of a network are drawn one layer after another, exactly in law, without
its n_l n_{l+1} weights. `preactivation_tangents` goes back the same way.

What is kept of a network is a few numbers a layer: their means and covariances over networks, with
standard errors, are `mean` and `covariance`; what they should be is `kernels.finite_width`.
Roberts, Yaida and Hanin 2022, arXiv:2106.10165, chapter 4.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from ntkens.checks import is_concrete
from ntkens.models.checks import check_sizes

Elementwise = Callable[[Array], Array]

# Numbers a chunk of networks may hold in one layer: in the cache of a CPU's core, or enough to
# keep an accelerator busy.
CPU_CHUNK, ACCELERATOR_CHUNK = 2**15, 2**24


class Preactivations(NamedTuple):
    """Of each network and layer, numbers whose means over networks are moments.

    Attributes:
        variance: G, of every component given the layer below (given also what is skipped).
        square: the mean of z_i^2 over the components of the layer.
        fourth: the mean of z_i^4.
    """

    variance: Float[Array, "networks depth"]
    square: Float[Array, "networks depth"]
    fourth: Float[Array, "networks depth"]


class Estimate(NamedTuple):
    """An average over networks.

    Attributes:
        value: of it.
        error: its standard error.
    """

    value: Float[Array, "..."]
    error: Float[Array, "..."]


def sample(
    key: Key[Array, ""],
    activation: Elementwise,
    kernel: Float[Array, ""] | float,
    bias_variance: float,
    weight_variance: float,
    widths: Sequence[int],
    networks: int,
    *,
    skip: float = 0.0,
) -> Preactivations:
    """Layers of so many random networks at one input.

    Compiled; networks go through in chunks of bounded memory, and network i is a function of the
    key and of i alone.

    Args:
        key: of all networks.
        activation: sigma, elementwise; a new function object is compiled anew.
        kernel: K^1 = C_b + C_W |x|^2 / n_0, the variance in the first layer; its dtype is that of
            the result.
        bias_variance: C_b.
        weight_variance: C_W, before the fan in.
        widths: n_1, ..., n_L of the layers of preactivations.
        networks: how many.
        skip: gamma of residual layers z^{l+1} = gamma z^l + b + W sigma(z^l).

    Raises:
        ValueError: a variance out of range; widths that are no sizes, or that differ and are
            skipped; fewer than one network.
        TypeError: a kernel that is not floating point.
    """
    check_layers(kernel, bias_variance, weight_variance, widths, networks)
    if is_concrete(skip) and not np.isfinite(skip):
        raise ValueError(f"skip: got {skip}; want a finite factor of the layer below")
    if len(set(widths)) > 1 and not (is_concrete(skip) and skip == 0):
        raise ValueError(f"widths: got {tuple(widths)}; a layer that is skipped to is as wide")
    parameters = as_floats(kernel, bias_variance, weight_variance, skip)
    return _sample(key, activation, tuple(widths), networks, *parameters)


def sample_pairs(
    key: Key[Array, ""],
    activation: Elementwise,
    covariance: Float[Array, "2 2"],
    bias_variance: float,
    weight_variance: float,
    widths: Sequence[int],
    networks: int,
) -> Float[Array, "networks depth 2 2"]:
    """Conditional covariances of so many random networks at two inputs, layer by layer.

    Given the layer below, the two preactivations of a component are Gaussian with covariance
    C_b + C_W mean(sigma(z) sigma(z)^T), one 2 x 2 matrix for the layer: this is returned. A
    singular one, as of inputs that coincide, is no exception.

    Args:
        key: of all networks.
        activation: sigma, elementwise; a new function object is compiled anew.
        covariance: K^1 of the two inputs in the first layer.
        bias_variance: C_b.
        weight_variance: C_W, before the fan in.
        widths: n_1, ..., n_L.
        networks: how many.

    Raises:
        ValueError: as in `sample`; a covariance that is not a positive semidefinite 2 x 2 matrix.
        TypeError: as in `sample`.
    """
    if jnp.shape(covariance) != (2, 2):
        raise ValueError(f"covariance: got shape {jnp.shape(covariance)}; want [2, 2]")
    if is_concrete(covariance):
        matrix = np.asarray(covariance, float)
        if not (np.isfinite(matrix).all() and matrix[0, 1] == matrix[1, 0]) or (
            np.linalg.eigvalsh(matrix)[0] < -1e-6 * np.trace(matrix)
        ):
            raise ValueError(f"covariance: got {matrix.tolist()}; want a symmetric one, and >= 0")
    check_layers(covariance[0, 0], bias_variance, weight_variance, widths, networks)
    parameters = as_floats(covariance, bias_variance, weight_variance)
    return _sample_pairs(key, activation, tuple(widths), networks, *parameters)


def mean(samples: Float[Array, "networks ..."]) -> Estimate:
    """The mean over networks."""
    error = jnp.std(samples, axis=0, ddof=1) / math.sqrt(len(samples))
    return Estimate(jnp.mean(samples, axis=0), error)


def covariance(
    first: Float[Array, "networks ..."], second: Float[Array, "networks ..."]
) -> Estimate:
    """The covariance over networks, of a number with itself its variance.

    The error is that of the mean of the products (x - mean x)(y - mean y), of which it is the mean:
    the two means' own errors are of higher order.
    """
    networks = len(first)
    products = (first - jnp.mean(first, axis=0)[None]) * (second - jnp.mean(second, axis=0)[None])
    value, error = mean(products)
    return Estimate(value * (networks / (networks - 1)), error)


def vertex(samples: Preactivations, widths: Sequence[int] | Array) -> Estimate:
    """The four-point vertex V^l by the variance of G: V^l / n_{l-1} = Var(G^l); V^1 = 0.

    For networks without a skip; several times less noisy than `vertex_by_pairs`.
    """
    scale = _fan_in(widths, samples.variance.dtype)
    value, error = covariance(samples.variance, samples.variance)
    return Estimate(scale * value, scale * error)


def vertex_by_pairs(samples: Preactivations, widths: Sequence[int] | Array) -> Estimate:
    """The four-point vertex by its definition, V^l / n_{l-1} = Cov(z_i^2, z_j^2) with i != j.

    Over all pairs of components, which are (n mean(z^2)^2 - mean(z^4)) / (n - 1) of a network. V^1
    is 0, and is estimated as if n_0 were n_1.

    Raises:
        ValueError: a layer of width 1, which has no pairs.
    """
    if is_concrete(widths) and min(widths) < 2:
        raise ValueError(f"widths: got {tuple(widths)}; a pair of components takes a width of 2")
    scale = _fan_in(widths, samples.square.dtype)
    size = jnp.asarray(widths, samples.square.dtype)[None]
    shifted = samples.square - jnp.mean(samples.square, axis=0)[None]
    # sum over i != j of (z_i^2 - K)(z_j^2 - K) over n (n - 1), K the mean over all networks
    kernel = jnp.mean(samples.square, axis=0)[None]
    alone = samples.fourth - 2 * kernel * samples.square + kernel**2
    value, error = mean((size * shifted**2 - alone) / (size - 1))
    return Estimate(scale * value, scale * error)


def _fan_in(widths, dtype):
    widths = jnp.asarray(widths, dtype)
    return jnp.concatenate([widths[:1], widths[:-1]])


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def _sample(key, activation, widths, networks, kernel, bias_variance, weight_variance, skip):
    def network(key):
        _, (z, variance, _) = forward(
            key, activation, widths, kernel, bias_variance, weight_variance, skip
        )
        return summary(z, variance, widths)

    return in_chunks(network, key, networks, max(widths))


def summary(z, variance, widths) -> Preactivations:
    """What is kept of the layers z [depth width], 0 beyond their own widths, of one network."""
    size = jnp.asarray(widths, z.dtype)
    square, fourth = (jnp.sum(z**power, axis=1) / size for power in (2, 4))
    return Preactivations(variance, square, fourth)


def forward(key, activation, widths, kernel, bias_variance, weight_variance, skip):
    """Layers z [depth width], the variances they were drawn with, and mean(sigma^2) of each.

    All layers are as long as the widest, and beyond their own width 0: one loop for any widths.
    """
    width, dtype = max(widths), kernel.dtype

    def layer(carry, now):
        below, variance = carry
        key, size = now
        noise = jax.random.normal(key, (width,), dtype)
        is_there = jnp.arange(width) < size
        z = jnp.where(is_there, skip * below + jnp.sqrt(variance) * noise, 0)
        power = jnp.sum(jnp.where(is_there, activation(z) ** 2, 0)) / size.astype(dtype)
        return (z, bias_variance + weight_variance * power), (z, variance, power)

    layers = jax.random.split(key, len(widths)), jnp.asarray(widths)
    return jax.lax.scan(layer, (jnp.zeros(width, dtype), kernel), layers)


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def _sample_pairs(key, activation, widths, networks, covariance, bias_variance, weight_variance):
    width, dtype = max(widths), covariance.dtype

    def layer(covariance, now):
        key, size = now
        noise = jax.random.normal(key, (2, width), dtype)
        is_there = jnp.arange(width) < size
        z = jnp.matmul(_root(covariance), noise, precision="highest")
        signal = jnp.where(is_there, activation(z), 0)
        power = jnp.matmul(signal, signal.T, precision="highest") / size.astype(dtype)
        return bias_variance + weight_variance * power, covariance

    def network(key):
        layers = jax.random.split(key, len(widths)), jnp.asarray(widths)
        return jax.lax.scan(layer, covariance, layers)[1]

    return in_chunks(network, key, networks, 2 * width)


def _root(covariance):
    """A lower triangular root of a 2 x 2 covariance, singular ones included."""
    first, both, second = covariance[0, 0], covariance[0, 1], covariance[1, 1]
    is_there = first > 0
    slope = jnp.where(is_there, both / jnp.where(is_there, first, 1), 0)
    rest = jnp.maximum(second - slope * both, 0)  # below zero is rounding
    scale = jnp.sqrt(first)
    return jnp.array([[scale, jnp.zeros_like(scale)], [slope * scale, jnp.sqrt(rest)]])


def in_chunks(network, key, networks, numbers):
    """`network(key)` of each network's own key, in chunks of even size.

    A last chunk of another size would be compiled on its own: it is filled up, and cut off again.
    """
    most = CPU_CHUNK if jax.default_backend() == "cpu" else ACCELERATOR_CHUNK
    chunks = -(-networks // max(1, most // numbers))
    chunk = -(-networks // chunks)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(chunks * chunk))
    samples = jax.lax.map(network, keys, batch_size=chunk)
    return jax.tree.map(lambda leaf: leaf[:networks], samples)


def as_floats(kernel, *others):
    """All in the dtype of the kernel."""
    kernel = jnp.asarray(kernel)
    return kernel, *(jnp.asarray(other, kernel.dtype) for other in others)


def check_layers(kernel, bias_variance, weight_variance, widths, networks):
    """A `ValueError` or `TypeError` that names the argument of a sampler that is out of range."""
    if not jnp.issubdtype(jnp.result_type(kernel), jnp.floating):
        raise TypeError(f"kernel: got dtype {jnp.result_type(kernel)}; want floating point")
    variances = ("kernel", kernel), ("bias_variance", bias_variance)
    for name, value in (*variances, ("weight_variance", weight_variance)):
        if jnp.ndim(value) or (is_concrete(value) and not 0 <= float(value) < np.inf):
            raise ValueError(f"{name}: got {value}; want one variance, finite and >= 0")
    if not len(widths):
        raise ValueError("widths: got none; want one for each layer of preactivations")
    check_sizes("widths", *widths)
    if not isinstance(networks, int | np.integer) or networks < 1:
        raise ValueError(f"networks: got {networks}; want a whole number, at least 1")
