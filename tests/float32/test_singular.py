"""The Hilbert estimate in float32 against 80 bits, from exponent 0.5 to 1000."""

import jax.numpy as jnp
import numpy as np
import pytest

from ntkens.kernels import singular
from ntkens.predictors import local

EPS = np.finfo(np.float32).eps


def sets(width, offset=0.0):
    """300 inputs with a duplicate; queries 1 ... 1e-8 away from inputs, on them, and elsewhere.

    Those 0.4 away are just beyond what counts as near.
    """
    random = np.random.default_rng(width)
    inputs = random.normal(size=(300, width)) + offset
    inputs[7] = inputs[3]
    inputs = inputs.astype(np.float32)
    steps = np.array([1, 0.4, *10.0 ** -np.arange(1, 9)])[:, None]
    near = [point + steps * random.normal(size=(10, width)) for point in inputs[:20]]
    queries = [random.normal(size=(10, width)) + offset, inputs[:10], *near]
    return np.concatenate(queries).astype(np.float32), inputs


def exact(queries, inputs):
    """Squares of distances, and of the distances to the centre, in 80 bits."""
    queries, inputs = queries.astype(np.longdouble), inputs.astype(np.longdouble)
    squares = np.stack([((query - inputs) ** 2).sum(1) for query in queries])
    size1, size2 = (((points - inputs.mean(0)) ** 2).sum(1) for points in (queries, inputs))
    return squares, size1[:, None] + size2


def rounding(squares, sizes):
    """What log |x - x_i|^2 may be off by: a few eps, and up to 16 times it between far and near."""
    with np.errstate(divide="ignore"):
        return 8 * EPS * np.minimum(sizes / squares, 16)


@pytest.mark.parametrize("offset", [0.0, 100.0])
@pytest.mark.parametrize("width", [3, 16, 17, 784])
def test_the_error_of_each_log_kernel_is_bounded(width, offset):
    queries, inputs = sets(width, offset)
    squares, sizes = exact(queries, inputs)
    apart = squares > 0
    got = np.asarray(singular.log_kernel(width)(queries, inputs))
    np.testing.assert_array_equal(got == np.inf, ~apart)
    logs = np.log(squares[apart]) / 2
    errors = np.abs(got[apart] / width + logs)
    # beside the squares', the logarithms' own, of what is scaled by 2 d^1/2 and the largest input
    own = 2 * EPS * (np.abs(logs) + np.log(2 * width**0.5 * np.abs(inputs).max()) + 1)
    assert (errors <= rounding(squares, sizes)[apart] / 2 + own).all()


@pytest.mark.parametrize("exponent", [0.5, 2.0, 12.0, 784.0, 1000.0])
@pytest.mark.parametrize("width", [3, 784])
def test_the_error_of_the_estimate_is_that_of_its_weights(width, exponent):
    queries, inputs = sets(width)
    targets = np.eye(3, dtype=np.float32)[np.random.default_rng(0).integers(0, 3, 300)]
    targets[7] = targets[3]
    got = np.asarray(singular.estimate(queries, inputs, targets, exponent, chunk=128))
    squares, sizes = exact(queries, inputs)
    nearest = squares.min(1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        weights = np.where(nearest > 0, (nearest / squares) ** (exponent / 2), squares == 0)
    weights /= weights.sum(1, keepdims=True)
    # an error e_i of log k_i moves the estimate by the sum of w_i e_i (y_i - estimate)
    moved = (weights * (exponent / 2 * rounding(squares, sizes))).sum(1, keepdims=True)
    assert (np.abs(got - weights @ targets) <= 1.1 * moved + 30 * EPS).all()
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got[10:20], targets[:10])


def test_pairs_of_a_cluster_are_all_served():
    random = np.random.default_rng(0)
    centres = 100 * random.normal(size=(3, 20))
    inputs = (centres[random.integers(0, 3, 200)] + random.normal(size=(200, 20))).astype("f4")
    queries = (centres[random.integers(0, 3, 50)] + random.normal(size=(50, 20))).astype("f4")
    squares, sizes = exact(queries, inputs)
    assert (squares < singular.NEAR * sizes).mean() > 0.2
    got = np.asarray(singular.log_kernel(2.0)(queries, inputs))
    np.testing.assert_allclose(got, -np.log(squares).astype(float), rtol=8 * EPS)


@pytest.mark.parametrize("scale", [2.0**-100, 2.0**-50, 2.0**50, 2.0**120])
@pytest.mark.parametrize("width", [3, 784])
def test_any_scale_in_range(width, scale):
    queries, inputs = sets(width)
    targets, scale = np.sign(inputs[:, 0]), np.float32(scale)
    one = singular.estimate(queries, inputs, targets, 3.0)
    got = singular.estimate(queries * scale, inputs * scale, targets, 3.0)
    np.testing.assert_array_equal(got, one)
    one = local.nearest_neighbour(queries, inputs, targets)
    got = local.nearest_neighbour(queries * scale, inputs * scale, targets)
    np.testing.assert_array_equal(got, one)


@pytest.mark.parametrize("width", [3, 784])
def test_only_equal_points_coincide(width):
    inputs = np.zeros((300, width), np.float32)
    inputs[1:, 0] = np.arange(1, 300)
    near = np.zeros((1, width), np.float32)
    near[0, -1] = 1e-30  # the square is 0
    got = np.asarray(singular.log_kernel(1.0)(np.concatenate([near, inputs[:1]]), inputs))
    assert np.isfinite(got[0]).all()
    assert got[0, 0] > 25  # closer than exp(-25) = 1e-11
    assert got[1, 0] == np.inf


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_half_precision_is_of_the_points_alone(dtype):
    queries, inputs = (jnp.asarray(points, dtype) for points in sets(40))
    targets = np.sign(np.asarray(inputs[:, 0], np.float32))
    got = singular.estimate(queries, inputs, targets, 40.0)
    wide = singular.estimate(queries.astype(jnp.float32), inputs.astype(jnp.float32), targets, 40.0)
    assert got.dtype == dtype
    np.testing.assert_array_equal(got, wide.astype(dtype))


@pytest.mark.parametrize("width", [3, 784])
def test_the_nearest_of_near_ones_is_found(width):
    queries, inputs = sets(width, offset=10.0)
    crowd = inputs[:1] + 1e-4 * np.random.default_rng(1).normal(size=(64, width))
    inputs = np.concatenate([inputs, crowd]).astype(np.float32)
    inputs = np.delete(inputs, 7, axis=0)
    squares, _ = exact(queries, inputs)
    got = local.nearest_neighbour(queries, inputs, np.arange(len(inputs)), chunk=100)
    index = np.asarray(got).astype(int)
    best = squares.min(1)
    found = squares[np.arange(len(queries)), index]
    assert (found <= best * (1 + 2 * width * EPS)).all()  # sums of `width` squares
    clear = np.sort(squares, axis=1)[:, 1] > best * (1 + 4 * width * EPS)
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(index[clear], squares.argmin(1)[clear])
