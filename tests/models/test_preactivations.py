"""Networks by their preactivations have the law of networks whose weights are drawn."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkens.kernels import tangent_fluctuations
from ntkens.models import preactivation_tangents, preactivations

WIDTHS = (5, 3, 4)
BIAS, WEIGHT, RATES = 0.3, 1.4, (0.2, 0.9)
NETWORKS = 30_000
INPUT = np.array([[0.8, -1.1], [0.4, 0.9]])  # two inputs of two features


def activation(z):
    """Neither even nor odd, and curved."""
    return jnp.sin(z) + 0.3 * z**2


def drawn(key):
    """One network with weights: z_0 and z_1 of each layer, z_0 at the other input, Theta_00."""

    def layers(params, x):
        found = []
        for bias, weight in params:
            x = bias + weight @ (activation(x) if found else x)
            found.append(x)
        return found

    params, sizes = [], (INPUT.shape[1], *WIDTHS)
    for fan_in, width in itertools.pairwise(sizes):
        key, bias_key, weight_key = jax.random.split(key, 3)
        bias = math.sqrt(BIAS) * jax.random.normal(bias_key, (width,))
        weight = math.sqrt(WEIGHT / fan_in) * jax.random.normal(weight_key, (width, fan_in))
        params.append((bias, weight))
    gradient = jax.grad(lambda params: layers(params, INPUT[0])[-1][0])(params)
    tangent = sum(
        RATES[0] * jnp.sum(of_bias**2) + RATES[1] / fan_in * jnp.sum(of_weight**2)
        for (of_bias, of_weight), fan_in in zip(gradient, sizes[:-1], strict=True)
    )
    first, second = (layers(params, x) for x in INPUT)
    outputs = [[a[0], a[1], b[0]] for a, b in zip(first, second, strict=True)]
    return jnp.array(outputs).T, tangent


@pytest.fixture(scope="module")
def reference():
    outputs, tangent = jax.jit(jax.vmap(drawn))(jax.random.split(jax.random.key(1), NETWORKS))
    return *jnp.moveaxis(outputs, 1, 0), tangent


FIRST = BIAS + WEIGHT * INPUT @ INPUT.T / INPUT.shape[1]


def agree(first, second):
    """Two estimates of the same numbers, within five standard errors of their difference."""
    error = np.hypot(first.error, second.error) + 1e-12
    deviations = (np.asarray(first.value) - np.asarray(second.value)) / error
    assert np.all(np.abs(deviations) < 5), deviations


@pytest.mark.slow
def test_tangents_have_the_law_of_gradients(reference):
    """Biases, unequal widths: means, variances, third moments, and covariances with the output."""
    outputs, *_, tangent = reference
    output = outputs[:, -1]
    found = preactivation_tangents.sample(
        jax.random.key(0), activation, FIRST[0, 0], BIAS, WEIGHT, WIDTHS, NETWORKS,
        bias_rate=RATES[0], weight_rate=RATES[1],
    )  # fmt: skip
    first = RATES[0] + RATES[1] * (FIRST[0, 0] - BIAS) / WEIGHT  # exactly, in the first layer
    np.testing.assert_allclose(found.tangent[:, 0], first)
    sampled, z = found.tangent[:, -1], found.output[:, -1]
    mean, covariance = preactivations.mean, preactivations.covariance
    for function in (lambda theta: theta, jnp.log, lambda theta: jnp.log(theta) ** 2):
        agree(mean(function(sampled)), mean(function(tangent)))
    agree(covariance(sampled, sampled), covariance(tangent, tangent))
    agree(covariance(sampled, z**2), covariance(tangent, output**2))
    agree(covariance(sampled, z), covariance(tangent, output))
    agree(mean(found.layers.variance), mean(outputs**2))
    agree(mean(found.layers.fourth), mean(outputs**4))
    assert np.std(sampled) > 0.3


@pytest.mark.slow
def test_layers_have_the_law_of_networks(reference):
    """One input: second and fourth moments, of one and of two components. Then two inputs."""
    output, neighbour, other, _ = reference
    found = preactivations.sample(
        jax.random.key(2), activation, FIRST[0, 0], BIAS, WEIGHT, WIDTHS, NETWORKS
    )
    mean, covariance = preactivations.mean, preactivations.covariance
    agree(mean(found.square), mean(output**2))
    agree(mean(found.fourth), mean(output**4))
    scale = np.array([5, *WIDTHS[:-1]])
    value, error = covariance(output**2, neighbour**2)
    agree(
        preactivations.vertex(found, WIDTHS), preactivations.Estimate(scale * value, scale * error)
    )
    agree(preactivations.vertex(found, WIDTHS), preactivations.vertex_by_pairs(found, WIDTHS))
    pairs = preactivations.sample_pairs(
        jax.random.key(3), activation, FIRST, BIAS, WEIGHT, WIDTHS, NETWORKS
    )
    np.testing.assert_allclose(pairs[:, 0], np.broadcast_to(FIRST, (NETWORKS, 2, 2)))
    agree(mean(pairs[..., 0, 1]), mean(output * other))
    agree(mean(pairs[..., 0, 0] * pairs[..., 1, 1] + 2 * pairs[..., 0, 1] ** 2),
          mean(output**2 * other**2))  # fmt: skip


@pytest.mark.slow
def test_relu_has_the_exact_vertex_and_tangent_kernel():
    """The specification's checks 1 and 2 at width 32, and the exact tangent kernel, in float32."""
    widths = (32,) * 5
    relu = preactivation_tangents.sample(
        jax.random.key(4), jax.nn.relu, jnp.float32(1), 0.0, 2.0, widths, 30_000
    )
    assert relu.tangent.dtype == relu.layers.square.dtype == jnp.float32
    exact = tangent_fluctuations.scale_invariant_fluctuations(1.0, 0.0, 1.0, 2.0, widths)
    mean, variance = preactivations.mean, relu.layers.variance
    for samples, expected in ((variance, exact.kernel), (relu.tangent, exact.tangent)):
        value, error = mean(samples)
        assert np.all(np.abs(value - expected)[1:] < 5 * error[1:])
    for first, second, expected in (
        (variance, variance, exact.four_point),
        (relu.tangent, relu.tangent, exact.diagonal + 2 * exact.exchange),
        (relu.tangent, variance, exact.mixed),
    ):
        value, error = preactivations.covariance(first, second)
        assert np.all(np.abs(32 * value - expected)[1:] < 5 * 32 * error[1:])


def test_estimates_know_their_errors():
    """Over 400 ensembles of 500 pairs of correlated Gaussians, of known moments."""
    rng = np.random.default_rng(0)
    first, noise = rng.normal(size=(2, 500, 400))
    second = 0.5 * first + noise
    for estimate, expected in (
        (preactivations.mean(second), 0.0),
        (preactivations.covariance(jnp.asarray(first), jnp.asarray(second)), 0.5),
    ):
        deviations = (np.asarray(estimate.value) - expected) / np.asarray(estimate.error)
        assert abs(deviations.mean()) < 5 / 20
        assert deviations.std() == pytest.approx(1, abs=5 / math.sqrt(800))


def test_a_network_is_its_key_and_number(monkeypatch):
    """The same in an ensemble of any size and chunk; jit, float32 and dead networks included."""
    key, widths = jax.random.key(0), (3, 2, 4)

    def sample(networks, kernel=1.0):
        return preactivations.sample(key, jax.nn.relu, kernel, 0.0, 2.0, widths, networks)

    many = sample(200)
    monkeypatch.setattr(preactivations, "CPU_CHUNK", 28)  # chunks of 7, the last one filled up
    in_chunks = preactivations._sample.__wrapped__(
        key, jax.nn.relu, widths, 30, *map(jnp.asarray, (1.0, 0.0, 2.0, 0.0))
    )
    for all_of, part in zip(many, in_chunks, strict=True):
        np.testing.assert_allclose(part, all_of[:30], rtol=1e-13)
    assert np.any(np.asarray(many.variance)[:, -1] == 0)  # all units of a layer below are off


@pytest.mark.slow
def test_coincident_inputs_stay_so():
    """A singular covariance, also one of an input that is 0."""
    for covariance in (jnp.full((2, 2), 1.3), jnp.diag(jnp.array([0.0, 1.3]))):
        found = preactivations.sample_pairs(
            jax.random.key(0), activation, covariance, 0.0, 1.0, (4, 4), 3
        )
        expected = found[..., 1:, 1:] if covariance[0, 0] else covariance[:1, :1]
        np.testing.assert_allclose(found[..., 0, 0], expected[..., 0, 0] * jnp.ones((3, 2)))
        assert np.all(np.isfinite(found))


def test_bad_arguments_are_refused():
    sample = functools.partial(preactivations.sample, jax.random.key(0), jnp.tanh)
    good = (1.0, 0.1, 1.0, (4, 4), 2)

    def replaced(place, value):
        return (*good[:place], value, *good[place + 1 :])

    for place, value, message in (
        (0, -1.0, "kernel: got"),
        (1, math.nan, "bias_variance: got"),
        (2, jnp.ones(2), "weight_variance: got"),
        (3, (), "widths: got none"),
        (3, (4, 0), "widths: got"),
        (4, 0, "networks: got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            sample(*replaced(place, value))
    with pytest.raises(TypeError, match="kernel: got dtype"):
        sample(*replaced(0, 1))
    with pytest.raises(ValueError, match=r"widths: got .*skipped to"):
        sample(*replaced(3, (4, 5)), skip=0.5)
    with pytest.raises(ValueError, match="skip: got"):
        sample(*good, skip=math.inf)
    tangents = functools.partial(preactivation_tangents.sample, jax.random.key(0), jnp.tanh)
    with pytest.raises(ValueError, match="weight_variance: got"):
        tangents(*replaced(2, 0.0))
    with pytest.raises(ValueError, match="kernel: got"):
        tangents(*replaced(1, 2.0))
    with pytest.raises(ValueError, match="weight_rate: got shape"):
        tangents(*good, weight_rate=jnp.ones(3))
    for covariance in (jnp.ones(2), jnp.array([[1.0, 2.0], [2.0, 1.0]]), jnp.eye(2) * math.nan):
        with pytest.raises(ValueError, match="covariance: got"):
            preactivations.sample_pairs(
                jax.random.key(0), jnp.tanh, covariance, 0.0, 1.0, (4, 4), 2
            )
    found = preactivations.sample(jax.random.key(0), jnp.tanh, 1.0, 0.1, 1.0, (1, 1), 4)
    with pytest.raises(ValueError, match="a pair of components"):
        preactivations.vertex_by_pairs(found, (1, 1))
