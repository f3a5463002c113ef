"""Solvers in float32, whose 7 digits are fewer than the spectrum of a kernel spans."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkens.predictors import low_rank, solve

N, RANK = 300, 60


def smooth_kernel():
    """exp(-|x - y|^2): eigenvalues fall faster than any power, below rounding after about 60."""
    points = np.random.default_rng(0).uniform(-1, 1, (N, 2))
    return np.exp(-np.sum((points[:, None] - points[None, :]) ** 2, axis=-1))


def test_cholesky_asks_for_float64():
    with pytest.raises(TypeError, match=r'jax\.config\.update\("jax_enable_x64", True\)'):
        solve.cholesky(np.eye(2), np.ones(2))


@pytest.mark.parametrize("ridge", [1e-2, 1e-4])
def test_conjugate_gradients_reach_their_tolerance(ridge):
    """|A| / ridge is 1e6 at the smaller ridge: Woodbury's formula would leave no digit."""
    matrix = smooth_kernel()
    targets = np.sin(3 * matrix[:, :4])
    operator = solve.dense(jnp.asarray(matrix, jnp.float32))
    made = solve.preconditioner(jax.random.key(0), operator, RANK, ridge=ridge)
    solution, info = solve.conjugate_gradients(
        operator, targets, ridge=ridge, preconditioner=made, tolerance=1e-3
    )
    exact = np.asarray(solution, np.float64)
    residual = np.linalg.norm(targets - matrix @ exact - ridge * exact, axis=0)
    assert info.converged
    assert info.iterations <= 10
    assert solution.dtype == jnp.float32
    # The matrix itself is rounded to float32, which moves the residual by 1e-7 |A| |x|.
    rounding = 1e-7 * np.linalg.norm(matrix, 2) * np.linalg.norm(exact, axis=0)
    assert np.all(residual <= 1e-3 * np.linalg.norm(targets, axis=0) + rounding)


def test_preconditioner_is_positive_definite_and_the_inverse():
    matrix, ridge = smooth_kernel(), 1e-5
    operator = solve.dense(jnp.asarray(matrix, jnp.float32))
    made = solve.preconditioner(jax.random.key(0), operator, RANK, ridge=ridge)
    inverse = np.asarray(low_rank.inverse_times(made, jnp.eye(N)), np.float64)
    eigenvalues = np.linalg.eigvalsh((inverse + inverse.T) / 2)
    assert eigenvalues[0] > 0
    # In the largest direction, of eigenvalue 1e7 times the ridge, where cancellation would be.
    values, directions = np.linalg.eigh(matrix)
    top = directions[:, -1:]
    found = low_rank.inverse_times(made, jnp.asarray(top, jnp.float32))
    np.testing.assert_allclose(top.T @ found, 1 / values[-1], rtol=0.01)


def test_the_factor_ends_where_rounding_begins():
    operator = solve.dense(jnp.asarray(smooth_kernel(), jnp.float32))
    factor, _, count, left = low_rank.partial_cholesky(jax.random.key(0), operator, 200)
    assert RANK / 3 < count < 200
    assert np.all(np.isfinite(factor))
    rest = smooth_kernel() - np.asarray(factor, np.float64) @ np.asarray(factor, np.float64).T
    # A pivot is above 100 eps, so that columns hold errors of up to sqrt(eps) / 10 of the matrix.
    assert np.abs(rest).max() < 1e-4
    assert not np.any(np.asarray(left) < 0)
