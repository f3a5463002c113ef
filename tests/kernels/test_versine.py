"""Versines of near pairs: none, few, many, against differences in long double."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkens.kernels import versine

pytestmark = pytest.mark.optimised

N, M, D = 48, 40, 7


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def planted(count, seed=0):
    """Unit vectors of which `count` pairs are near, at distances 1e-1 ... 1e-8 or opposite."""
    rng = np.random.default_rng(seed)
    x1, x2 = unit(rng.normal(size=(N, D))), unit(rng.normal(size=(M, D)))
    if count == "all":
        x1 = unit(np.ones(D) + 1e-3 * rng.normal(size=(N, D)))
        x2 = unit(np.ones(D) + 1e-3 * rng.normal(size=(M, D)))
    else:
        for k in range(count):
            step = 10.0 ** -(k % 8 + 1) * unit(rng.normal(size=(1, D)))[0]
            x2[k % M] = unit((-1) ** k * (x1[k % N] + step)[None])[0]
    return x1, x2


def exact(x1, x2):
    x1, x2 = x1.astype(np.longdouble), x2.astype(np.longdouble)
    sign = np.where(x1 @ x2.T < 0, -1, 1)
    difference = x1[:, None, :] - sign[:, :, None] * x2[None]
    # |u - v|^2 / 2 for unit vectors; these are unit to rounding, which is not a matter of pairs
    return np.sum(difference**2, axis=2) / 2


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("count", [0, 1, 30, "all"])
def test_near_pairs_are_relative(count, dtype):
    x1, x2 = (x.astype(dtype) for x in planted(count))
    cosine = jnp.asarray(x1) @ jnp.asarray(x2).T
    got = jax.jit(versine.versine)(x1, x2, cosine, np.zeros((N, M), bool))
    truth = exact(x1, x2)
    near = truth < versine.NEAR
    assert near.sum() >= (N * M if count == "all" else count)
    rounding = np.finfo(dtype).eps
    np.testing.assert_allclose(got[near], truth[near], rtol=2 * D * rounding)
    np.testing.assert_allclose(got[~near], truth[~near], atol=8 * rounding)


def test_an_input_with_itself_is_exactly_zero_and_not_looked_at():
    x, _ = planted(0)
    got = versine.versine(x, x, jnp.asarray(x @ x.T) + 1e-3, np.eye(N, dtype=bool))
    np.testing.assert_array_equal(np.diagonal(got), 0)


def test_more_near_pairs_than_slots_in_one_row():
    x1, x2 = planted(0)
    x2 = unit(
        np.repeat(x1[:1], 500, axis=0) + 1e-6 * np.random.default_rng(0).normal(size=(500, D))
    )
    cosine = jnp.asarray(x1 @ x2.T)
    near = np.asarray(1 - jnp.abs(cosine) < versine.NEAR)
    assert versine.SLOTS < near.sum() < near.size // 16
    got = versine.versine(x1, x2, cosine, np.zeros(cosine.shape, bool))
    np.testing.assert_allclose(got[near], exact(x1, x2)[near], rtol=1e-14)


@pytest.mark.slow
@pytest.mark.parametrize("count", [0, 30])
def test_derivative_is_that_of_the_differences(count):
    x1, x2 = planted(count)

    def total(x1, x2):
        return jnp.sum(jnp.sqrt(versine.versine(x1, x2, x1 @ x2.T, np.zeros((N, M), bool))))

    def plainly(x1, x2):
        sign = jnp.where(x1 @ x2.T < 0, -1.0, 1.0)
        difference = x1[:, None, :] - sign[:, :, None] * x2[None]
        square = jnp.sum(difference**2, axis=2) / 2
        return jnp.sum(jnp.sqrt(jnp.where(square < versine.NEAR, square, 1 - sign * (x1 @ x2.T))))

    for got, truth in zip(
        jax.grad(total, (0, 1))(x1, x2), jax.grad(plainly, (0, 1))(x1, x2), strict=True
    ):
        np.testing.assert_allclose(got, truth, rtol=1e-10, atol=1e-10)


def test_orthogonal_vectors_are_on_the_side_of_near_ones():
    """The derivative of 1 - |c| at c = 0 is -1: the sign that `dual` and the kernels give c = 0."""
    x1, x2 = jnp.eye(3)[:1], jnp.eye(3)[1:2]

    def one(x1):
        return versine.versine(x1, x2, x1 @ x2.T, np.zeros((1, 1), bool))[0, 0]

    np.testing.assert_array_equal(jax.grad(one)(x1), -x2)
