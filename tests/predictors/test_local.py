"""Nearest neighbour and majority against scikit-learn, whole numbers, and counts."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.dummy import DummyClassifier
from sklearn.neighbors import KNeighborsClassifier

from ntkens.predictors import local


def points(count, width, seed=0):
    return np.random.default_rng(seed).normal(size=(count, width))


QUERIES, INPUTS = points(90, 6, 1), points(70, 6, 2)
LABELS = np.random.default_rng(3).choice([-3, 0, 4, 5], 70, p=[0.2, 0.2, 0.2, 0.4])


@pytest.mark.parametrize(
    ("width", "chunk"),
    [(6, 33), (40, None)]
    + [pytest.param(width, 1, marks=pytest.mark.slow) for width in (1, 2, 40)],
)
def test_nearest_neighbour_equals_scikit_learn(width, chunk):
    queries, inputs = points(90, width, 1), points(70, width, 2)
    queries[:5] = inputs[:5]
    predict = functools.partial(local.nearest_neighbour, chunk=chunk)
    expected = KNeighborsClassifier(1, algorithm="brute").fit(inputs, LABELS).predict(queries)
    np.testing.assert_array_equal(local.classify(predict, queries, inputs, LABELS), expected)


def test_on_the_sphere_the_nearest_has_the_largest_cosine():
    queries, inputs = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (QUERIES, INPUTS))
    got = local.nearest_neighbour(queries, inputs, np.arange(70))
    np.testing.assert_array_equal(got, np.argmax(queries @ inputs.T, axis=1))


def test_majority_equals_scikit_learn():
    expected = DummyClassifier(strategy="most_frequent").fit(INPUTS, LABELS).predict(QUERIES)
    np.testing.assert_array_equal(local.classify(local.majority, QUERIES, INPUTS, LABELS), expected)
    votes = local.majority(QUERIES, INPUTS, np.where(LABELS > 0, 1, -1))
    np.testing.assert_allclose(votes, np.full(90, np.mean(np.where(LABELS > 0, 1, -1))), rtol=1e-15)
    assert votes.dtype == float


@given(st.integers(0, 2**32 - 1), st.sampled_from([7, None]))
def test_ties_of_whole_numbers_share_their_query(seed, chunk):
    random = np.random.default_rng(seed)
    queries, inputs = random.integers(0, 3, (40, 3)), random.integers(0, 3, (60, 3))
    targets = random.integers(0, 100, 60).astype(float)
    squares = ((queries[:, None] - inputs) ** 2).sum(-1)
    nearest = squares == squares.min(1, keepdims=True)
    got = local.nearest_neighbour(queries.astype(float), inputs.astype(float), targets, chunk=chunk)
    np.testing.assert_allclose(got, nearest @ targets / nearest.sum(1), rtol=1e-15)


@pytest.mark.parametrize("distance", 10.0 ** -np.arange(1, 15, 2))
def test_near_ties_are_told_apart(distance):
    point, direction = points(1, 50), points(1, 50, 4)
    inputs = np.concatenate([point + distance * t * direction for t in (1.001, -1.0, 1.002)])
    got = local.nearest_neighbour(point, inputs, np.arange(3))
    assert got.tolist() == [1]


@pytest.mark.slow
def test_jit_vmap_and_order_of_inputs():
    queries, inputs, targets = jnp.asarray(QUERIES), jnp.asarray(INPUTS), jnp.arange(70.0)
    expected = local.nearest_neighbour(queries, inputs, targets)
    np.testing.assert_array_equal(
        jax.jit(local.nearest_neighbour)(queries, inputs, targets), expected
    )
    halves = jax.vmap(local.nearest_neighbour, (0, None, None))(
        queries.reshape(2, 45, 6), inputs, targets
    )
    np.testing.assert_array_equal(halves.reshape(90), expected)
    order = np.random.default_rng(0).permutation(70)
    np.testing.assert_array_equal(
        local.nearest_neighbour(queries, inputs[order], targets[order]), expected
    )
    votes = jax.jit(local.majority)(queries, inputs, targets)
    np.testing.assert_allclose(votes, np.full(90, 34.5), rtol=1e-15)
    traced = jax.jit(lambda x: local.classify(local.nearest_neighbour, x, inputs, LABELS))
    np.testing.assert_array_equal(traced(queries), LABELS[np.asarray(expected, int)])


def test_targets_of_any_shape_and_labels_of_any_kind():
    targets = points(70 * 2, 2).reshape(70, 2, 2)
    grid = local.nearest_neighbour(QUERIES, INPUTS, targets)
    assert grid.shape == (90, 2, 2)
    one = local.nearest_neighbour(QUERIES, INPUTS, targets[:, 1, 0])
    np.testing.assert_array_equal(grid[:, 1, 0], one)
    flags = local.classify(local.nearest_neighbour, QUERIES, INPUTS, LABELS > 0)
    assert flags.dtype == bool
    signs = local.nearest_neighbour(QUERIES, INPUTS, np.where(LABELS > 0, 1, -1))
    np.testing.assert_array_equal(flags, signs > 0)


def test_memory_is_that_of_the_chunk_and_a_copy_of_the_data():
    data, labels = jax.ShapeDtypeStruct((4000, 17), float), jax.ShapeDtypeStruct((4000,), float)
    predict = functools.partial(local.nearest_neighbour, chunk=100)
    compiled = jax.jit(predict).lower(data, data, labels).compile()
    temporary = compiled.memory_analysis().temp_size_in_bytes
    copies = 2 * 8 * 4000 * (17 + 4)  # of points; of targets and sums
    assert temporary < 3 * copies + 10 * 8 * 100**2
    assert temporary < 8 * 4000**2 / 10  # the matrix of all pairs


def test_coincident_inputs_of_two_labels_are_named():
    inputs, labels = INPUTS.copy(), LABELS.copy()
    inputs[3, 2], inputs[60] = 0.0, inputs[3]
    inputs[60, 2] = -0.0
    inputs[60, [0, 1, 3, 4, 5]] = inputs[3, [0, 1, 3, 4, 5]]
    labels[3] = labels[60] = 4
    assert local.classify(local.nearest_neighbour, QUERIES, inputs, labels).shape == (90,)
    labels[60] = 5
    with pytest.raises(ValueError, match="inputs: 3 and 60 coincide, and their labels are 4 and 5"):
        local.classify(local.nearest_neighbour, QUERIES, inputs, labels)


@pytest.mark.parametrize(
    "targets",
    [np.array([1, -1, 1, -1]), np.array([[1], [-1], [1], [-1]]), np.eye(3)[[0, 1, 0, 1]]],
)
def test_a_tie_has_no_majority(targets):
    with pytest.raises(ValueError, match=r"targets: their sums .* tie"):
        local.majority(QUERIES, INPUTS[:4], targets)
    local.majority(QUERIES, INPUTS[:3], targets[:3])


def test_bad_arguments_are_named():
    targets = np.ones(70)
    for predict in (local.nearest_neighbour, local.majority):
        with pytest.raises(ValueError, match="queries: its width"):
            predict(QUERIES[:, :3], INPUTS, targets)
        with pytest.raises(ValueError, match="inputs: got shape"):
            predict(QUERIES, INPUTS[0], targets)
        with pytest.raises(ValueError, match="targets: got shape"):
            predict(QUERIES, INPUTS, targets[:9])
        with pytest.raises(ValueError, match="inputs: holds NaN"):
            predict(QUERIES, np.where(INPUTS > 1, np.nan, INPUTS), targets)
        with pytest.raises(ValueError, match="targets: holds NaN"):
            predict(QUERIES, INPUTS, np.inf * targets)
        with pytest.raises(ValueError, match="queries: holds numbers above"):
            predict(1e200 * QUERIES, INPUTS, targets)
        with pytest.raises(TypeError, match="queries: got dtype int"):
            predict(QUERIES.astype(int), INPUTS, targets)
        with pytest.raises(TypeError, match="targets: got complex"):
            predict(QUERIES, INPUTS, 1j * targets)
    for chunk in (0, 1.5):
        with pytest.raises(ValueError, match="chunk: got"):
            local.nearest_neighbour(QUERIES, INPUTS, targets, chunk=chunk)
    with pytest.raises(TypeError, match="labels: got dtype float"):
        local.classify(local.majority, QUERIES, INPUTS, LABELS + 0.5)
    with pytest.raises(ValueError, match="labels: got shape"):
        local.classify(local.majority, QUERIES, INPUTS, LABELS[1:])
    with pytest.raises(TypeError, match="labels: traced"):
        jax.jit(lambda labels: local.classify(local.majority, QUERIES, INPUTS, labels))(LABELS)
