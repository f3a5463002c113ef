"""The Hilbert estimate against scikit-learn's weighted neighbours, 80 bits, and its limits."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsRegressor

from ntkens.kernels import singular
from ntkens.predictors import local

pytestmark = pytest.mark.optimised


def points(count, width, seed=0):
    return np.random.default_rng(seed).normal(size=(count, width))


QUERIES, INPUTS = points(23, 5, 1), points(57, 5, 2)  # and few other shapes: each is compiled
TARGETS = np.eye(3)[np.random.default_rng(3).integers(0, 3, 57)]


def brute_force(queries, inputs, targets, exponent):
    """In 80 bits; a row of logarithms is moved to end at 0."""
    squares = ((queries[:, None].astype(np.longdouble) - inputs) ** 2).sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = -exponent * np.log(squares) / 2
        weights = np.exp(logs - logs.max(1, keepdims=True))
    coincide = (squares == 0).any(1, keepdims=True)
    weights = np.where(coincide, squares == 0, weights)
    return (weights / weights.sum(1, keepdims=True) @ targets).astype(float)


@pytest.mark.parametrize("width", [5, 40])  # both ways to the squares
@pytest.mark.parametrize("exponent", [0.5, 3.0, 40.0])
def test_equals_weighted_neighbours_of_scikit_learn(width, exponent):
    queries, inputs = points(23, width, 1), points(57, width, 2)
    neighbours = KNeighborsRegressor(
        57, algorithm="kd_tree", weights=lambda distances: distances**-exponent
    )
    expected = neighbours.fit(inputs, TARGETS).predict(queries)
    got = singular.estimate(queries, inputs, TARGETS, exponent)
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("width", [5, 40])
@pytest.mark.parametrize("exponent", [0.5, 1000.0])
def test_near_and_coincident_points(width, exponent):
    inputs = points(57, width, 2)
    steps = 10.0 ** -np.arange(1, 16)
    near = inputs[:15] + steps[:, None] * points(15, width, 4)
    queries = np.concatenate([near, inputs[20:28]])
    got = singular.estimate(queries, inputs, TARGETS, exponent)
    expected = brute_force(queries, inputs, TARGETS, exponent)
    np.testing.assert_allclose(got, expected, rtol=1e-11, atol=1e-14)
    np.testing.assert_array_equal(got[15:], TARGETS[20:28])


@pytest.mark.parametrize("width", [pytest.param(3, marks=pytest.mark.slow), 17])
def test_coincident_inputs_share_their_query(width):
    inputs = points(40, width)
    inputs[[7, 30]] = inputs[2]
    targets = np.arange(40.0)
    got = singular.estimate(inputs, inputs, targets, 2.0, chunk=16)  # the three in three chunks
    expected = targets.copy()
    expected[[2, 7, 30]] = (2 + 7 + 30) / 3
    np.testing.assert_array_equal(got, expected)


@pytest.mark.slow
@pytest.mark.parametrize("chunk", [1, 7, 57, 10_000])
def test_streamed_equals_unstreamed(chunk):
    streamed = singular.estimate(QUERIES, INPUTS, TARGETS, 5.0, chunk=chunk)
    np.testing.assert_allclose(
        streamed, brute_force(QUERIES, INPUTS, TARGETS, 5.0), rtol=1e-12, atol=1e-15
    )


@pytest.mark.parametrize("width", [pytest.param(16, marks=pytest.mark.slow), 17])
def test_memory_is_that_of_the_chunk_and_a_copy_of_the_data(width):
    data = jax.ShapeDtypeStruct((4000, width), float)
    estimate = functools.partial(singular.estimate, exponent=2.0, chunk=100)
    labels = jax.ShapeDtypeStruct((4000,), float)
    compiled = jax.jit(estimate).lower(data, data, labels).compile()
    temporary = compiled.memory_analysis().temp_size_in_bytes
    copies = 2 * 8 * 4000 * (width + 4)  # of points; of targets and sums
    assert temporary < 2 * copies + 10 * 8 * 100**2
    assert temporary < 8 * 4000**2 / 10  # the matrix of all pairs


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.5, 5.0, 100.0]))
def test_neither_order_nor_motion_nor_scale_of_the_points_matters(seed, exponent):
    random = np.random.default_rng(seed)
    order = random.permutation(57)
    rotation, _ = np.linalg.qr(random.normal(size=(5, 5)))
    scale, shift = np.exp(random.uniform(-100, 100)), random.normal(size=5)
    moved = [scale * (x @ rotation + shift) for x in (QUERIES, INPUTS[order])]
    got = singular.estimate(*moved, TARGETS[order], exponent)
    expected = singular.estimate(QUERIES, INPUTS, TARGETS, exponent)
    np.testing.assert_allclose(got, expected, atol=1e-15 * 100 * exponent + 1e-14)


def test_a_constant_is_reproduced_and_probabilities_stay_on_the_simplex():
    constant = singular.estimate(QUERIES, INPUTS, np.full((57, 3), 3.0), 5.0)
    np.testing.assert_allclose(constant, np.full((23, 3), 3.0), rtol=1e-15)
    probabilities = np.asarray(singular.estimate(QUERIES, INPUTS, TARGETS, 1000.0))
    assert (probabilities >= 0).all()
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-15)


def test_limits_of_the_exponent_are_majority_and_nearest_neighbour():
    many = singular.estimate(QUERIES, INPUTS, TARGETS, 1e-9)
    # log(|x - x_i| / |x - x_j|) is below 3: to first order 1e-9 of it
    np.testing.assert_allclose(many, local.majority(QUERIES, INPUTS, TARGETS), atol=3e-9)
    nearest = singular.estimate(QUERIES, INPUTS, TARGETS, 1e6)
    np.testing.assert_array_equal(nearest, local.nearest_neighbour(QUERIES, INPUTS, TARGETS))


def test_targets_of_any_shape():
    expected = brute_force(QUERIES, INPUTS, TARGETS, 2.0)
    one = singular.estimate(QUERIES, INPUTS, TARGETS[:, 0], 2.0)
    grid = singular.estimate(QUERIES, INPUTS, TARGETS[:, None, :], 2.0)
    assert (one.shape, grid.shape) == ((23,), (23, 1, 3))
    np.testing.assert_allclose(one, expected[:, 0], rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(grid[:, 0], expected, rtol=1e-12, atol=1e-15)
    assert singular.estimate(QUERIES, INPUTS, np.ones(57, int), 2.0).dtype == float


@pytest.mark.slow
@pytest.mark.parametrize("width", [5, 40])
def test_jit_vmap_and_derivatives(width):
    queries, inputs, step = points(23, width, 1), points(57, width, 2), points(23, width, 5)
    near = jnp.asarray(np.concatenate([queries, inputs[:1] + 1e-3]))

    def estimate(queries, exponent):
        return singular.estimate(queries, inputs, TARGETS, exponent)

    expected = estimate(near, 3.0)
    np.testing.assert_allclose(jax.jit(estimate)(near, 3.0), expected, rtol=1e-12)
    both = jax.vmap(estimate, (None, 0))(near, jnp.array([3.0, 1.0]))
    np.testing.assert_allclose(both[0], expected, rtol=1e-12)
    _, slope = jax.jvp(lambda queries: estimate(queries, 3.0), (queries,), (step,))
    ends = [brute_force(queries + t * step, inputs, TARGETS, 3.0) for t in (1e-5, -1e-5)]
    np.testing.assert_allclose(slope, (ends[0] - ends[1]) / 2e-5, atol=1e-7)
    total, pull = jax.vjp(lambda y: singular.estimate(near, inputs, y, 3.0), jnp.asarray(TARGETS))
    (weights,) = pull(jnp.ones_like(total))
    np.testing.assert_allclose(jnp.vdot(weights, TARGETS), total.sum(), rtol=1e-12)


@pytest.mark.parametrize("width", [pytest.param(5, marks=pytest.mark.slow), 40])
def test_log_kernel(width):
    x, others = points(31, width, 1), points(23, width, 2)
    others[3], others[4] = x[5], x[6] + 1e-12 * x[7]
    with np.errstate(divide="ignore"):
        squares = ((x[:, None].astype(np.longdouble) - others) ** 2).sum(-1)
        expected = -2.5 * np.log(squares) / 2
    got = np.asarray(singular.log_kernel(2.5)(x, others))
    assert got[5, 3] == np.inf
    np.testing.assert_allclose(got, expected.astype(float), rtol=1e-13, atol=1e-13)
    alone = np.asarray(singular.log_kernel(2.5)(x))
    np.testing.assert_array_equal(alone, alone.T)
    np.testing.assert_array_equal(alone == np.inf, np.eye(31, dtype=bool))


def test_bad_arguments_are_named():
    estimate, log_kernel = singular.estimate, singular.log_kernel
    for exponent in (0, -1.0, np.inf, np.nan, np.ones(2)):
        with pytest.raises(ValueError, match="exponent: got"):
            estimate(QUERIES, INPUTS, TARGETS, exponent)
        with pytest.raises(ValueError, match="exponent: got"):
            log_kernel(exponent)
    for chunk in (0, 2.5):
        with pytest.raises(ValueError, match="chunk: got"):
            estimate(QUERIES, INPUTS, TARGETS, 2.0, chunk=chunk)
    for name, arguments in {
        "queries": (QUERIES[:, :4], INPUTS, TARGETS),
        "inputs": (QUERIES, INPUTS[0], TARGETS),
        "targets": (QUERIES, INPUTS, TARGETS[:5]),
    }.items():
        with pytest.raises(ValueError, match=name):
            estimate(*arguments, 2.0)
        broken = dict(
            zip(("queries", "inputs", "targets"), (QUERIES, INPUTS, TARGETS), strict=True)
        )
        broken[name] = np.where(np.arange(len(broken[name]))[:, None] == 3, np.nan, broken[name])
        with pytest.raises(ValueError, match=f"{name}: holds NaN"):
            estimate(**broken, exponent=2.0)
    with pytest.raises(ValueError, match="queries: got shape"):
        estimate(QUERIES[:0], INPUTS, TARGETS, 2.0)
    with pytest.raises(ValueError, match="queries: holds numbers above"):
        estimate(1e200 * QUERIES, INPUTS, TARGETS, 2.0)
    with pytest.raises(TypeError, match="inputs: got dtype int"):
        estimate(QUERIES, INPUTS.astype(int), TARGETS, 2.0)
    with pytest.raises(TypeError, match="targets: got complex"):
        estimate(QUERIES, INPUTS, 1j * TARGETS, 2.0)
    with pytest.raises(ValueError, match="x1: its width"):
        log_kernel(2.0)(QUERIES[:, :4], INPUTS)


DIRICHLET = {  # of the classes, 1 with probability 0.4; accuracies of another program, two seeds
    1: ((1, 2), (2, 1), 0.7288, 0.6765),
    2: ((0.5, 0.5, 2.5), (2.5, 0.1, 0.5), 0.9310, 0.9107),
    4: ((3, 1, 2, 1, 1), (1, 2, 2, 2, 3), 0.8740, 0.8510),
}


@pytest.mark.slow
@pytest.mark.parametrize("dimension", DIRICHLET)
def test_accuracies_on_the_sphere(dimension):
    first, second, hilbert, nearest = DIRICHLET[dimension]

    def draw(random, count):
        labels = np.where(random.random(count) < 0.4, 1, -1)
        x = np.where(
            labels[:, None] == 1, random.dirichlet(first, count), random.dirichlet(second, count)
        )
        return x / np.linalg.norm(x, axis=1, keepdims=True), labels

    limits = (
        functools.partial(singular.estimate, exponent=dimension),
        local.nearest_neighbour,
        local.majority,
    )
    accuracies, seeds = [], 10
    for seed in range(seeds):
        random = np.random.default_rng(seed)
        inputs, labels = draw(random, 600)
        queries, truth = draw(random, 2000)
        predicted = [local.classify(limit, queries, inputs, labels) for limit in limits]
        accuracies.append([np.mean(np.asarray(labels_) == truth) for labels_ in predicted])
    mean, deviation = np.mean(accuracies, axis=0), np.std(accuracies, axis=0, ddof=1)
    errors = np.abs(mean - [hilbert, nearest, 0.6])
    assert (errors < 5 * deviation * np.sqrt([1 / 2 + 1 / seeds] * 2 + [1 / seeds])).all()
    gains = -np.diff(accuracies, axis=1)  # of the estimate over the neighbour, of that over all
    assert (gains.mean(0) > 5 * gains.std(0, ddof=1) / seeds**0.5).all()
