import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkens.predictors import low_rank, solve

N = 60


def kernel(scale=1.0, size=N):
    """exp(-|x - y| / scale): positive definite, eigenvalues falling as the inverse square."""
    points = np.sort(np.random.default_rng(0).uniform(size=size))
    return np.exp(-np.abs(points[:, None] - points[None, :]) / scale)


def partial_cholesky(seed, matrix, rank):
    return low_rank.partial_cholesky(jax.random.key(seed), solve.dense(matrix), rank)


@pytest.mark.parametrize("rank", [12, pytest.param(N, marks=pytest.mark.slow)])
def test_it_is_right_in_its_pivots_and_below_elsewhere(rank):
    matrix = kernel()
    factor, pivots, count, left = partial_cholesky(0, matrix, rank)
    assert count == rank
    assert len(set(np.asarray(pivots))) == rank
    rest = matrix - np.asarray(factor @ factor.T)
    np.testing.assert_allclose(rest[pivots], 0, atol=1e-12)
    np.testing.assert_allclose(np.diag(rest), left, atol=1e-12)
    assert np.linalg.eigvalsh(rest)[0] > -1e-12


@pytest.mark.slow
def test_pivots_are_drawn_as_if_one_by_one():
    """The probability of every ordered set of 3 pivots of 5, from the definition."""
    matrix = with_unequal_rows()
    expected = {}
    for pivots in itertools.permutations(range(5), 3):
        rest, probability = matrix, 1.0
        for pivot in pivots:
            probability *= rest[pivot, pivot] / np.trace(rest)
            rest = rest - np.outer(rest[:, pivot], rest[pivot]) / rest[pivot, pivot]
        expected[pivots] = probability
    draws = 1000
    counts = dict.fromkeys(expected, 0)
    for seed in range(draws):
        counts[tuple(partial_cholesky(seed, matrix, 3).pivots.tolist())] += 1
    probability = np.array([*expected.values()])
    frequency = np.array([*counts.values()]) / draws
    error = np.sqrt(probability * (1 - probability) / draws)
    assert np.all(np.abs(frequency - probability) < 5 * error + 2 / draws)
    # Together: chi-squared of 59 degrees of freedom has mean 59 and deviation 11.
    assert draws * np.sum((frequency - probability) ** 2 / probability) < 59 + 5 * 11


def with_unequal_rows():
    random = np.random.default_rng(4)
    root = random.normal(size=(5, 5)) * np.array([3, 2, 1, 1, 0.5])[:, None]
    return root @ root.T + 0.1 * np.eye(5)


@pytest.mark.slow
def test_error_on_average_is_within_the_theorem():
    """Theorem 3 of arXiv:2207.06503: E tr(A - FF^T) <= (1 + e) tr(A - A_r) with
    k >= r / e + r log(1 / (e eta)) pivots, eta = tr(A - A_r) / tr(A).
    """
    matrix = kernel()
    eigenvalues = np.linalg.eigvalsh(matrix)[::-1]
    best, excess, rank, pivots = np.sum(eigenvalues[2:]), 0.5, 2, 12
    eta = best / np.sum(eigenvalues)
    assert rank / excess + rank * np.log(1 / (excess * eta)) <= pivots
    left = [float(jnp.sum(partial_cholesky(seed, matrix, pivots).left)) for seed in range(20)]
    assert np.mean(left) <= (1 + excess) * best
    assert min(left) >= np.sum(eigenvalues[pivots:])  # no factor of that rank is better


@pytest.mark.parametrize("proposals", [pytest.param(4, marks=pytest.mark.slow), 256])
def test_rows_of_zeros_at_the_end_change_nothing(proposals, monkeypatch):
    monkeypatch.setattr(low_rank, "PROPOSALS", proposals)
    matrix = kernel()
    padded = np.zeros((N + 5, N + 5))
    padded[:N, :N] = matrix
    plain, longer = partial_cholesky(0, matrix, 12), partial_cholesky(0, padded, 12)
    np.testing.assert_array_equal(plain.pivots, longer.pivots)
    np.testing.assert_allclose(plain.factor, longer.factor[:N], atol=1e-12)
    assert not np.any(longer.factor[N:])
    key = jax.random.key(0)
    ours, theirs = (
        solve.preconditioner(key, solve.dense(each), 12, ridge=0.1) for each in (matrix, padded)
    )
    np.testing.assert_allclose(ours.ridge, theirs.ridge, rtol=1e-12)


def test_it_ends_at_the_rank_of_the_matrix():
    root = np.random.default_rng(0).normal(size=(N, 5))
    factor, pivots, count, left = partial_cholesky(0, root @ root.T, 12)
    assert count == 5
    assert np.all((np.asarray(pivots) == -1) == (np.arange(12) >= 5))
    assert not np.any(factor[:, 5:])
    assert not np.any(left)
    np.testing.assert_allclose(factor @ factor.T, root @ root.T, atol=1e-10)


@pytest.mark.parametrize("true_rank", [N, 5])
def test_preconditioner_is_the_inverse_of_what_it_says(true_rank):
    root = np.linalg.cholesky(kernel())[:, :true_rank]
    operator = solve.dense(root @ root.T)
    made = solve.preconditioner(jax.random.key(0), operator, 12, ridge=1e-3)
    factor, _, _, left = low_rank.partial_cholesky(jax.random.key(0), operator, 12)
    ridge = 1e-3 + np.mean(left)
    dense = np.asarray(factor @ factor.T) + ridge * np.eye(N)
    np.testing.assert_allclose(made.ridge, ridge, rtol=1e-12)
    actual = low_rank.inverse_times(made, dense)
    np.testing.assert_allclose(actual, np.eye(N), atol=1e-9)


def test_condition_number_is_within_its_bound():
    matrix, ridge = kernel(), 1e-2
    made = solve.preconditioner(jax.random.key(0), solve.dense(matrix), 12, ridge=ridge)
    factor = partial_cholesky(0, matrix, 12).factor
    left = np.linalg.norm(matrix - np.asarray(factor @ factor.T), 2)
    product = low_rank.inverse_times(made, matrix + ridge * np.eye(N))
    eigenvalues = np.linalg.eigvals(np.asarray(product)).real
    condition = np.max(eigenvalues) / np.min(eigenvalues)
    assert condition <= 1 + left / ridge
    assert condition < 0.1 * np.linalg.cond(matrix + ridge * np.eye(N))


def test_bad_input_is_named():
    key, operator = jax.random.key(0), solve.dense(np.eye(4))
    negative = operator._replace(diagonal=jnp.array([1.0, -1.0, 1.0, 1.0]))
    one = solve.dense(np.ones((N, N)))
    for call, message in (
        (lambda: solve.preconditioner(key, operator, 0), "rank: got 0"),
        (lambda: solve.preconditioner(key, operator, 5), "rank: got 5"),
        (lambda: solve.preconditioner(key, operator, 2.5), "rank: got 2.5"),
        (lambda: solve.preconditioner(key, operator, 2, ridge=-1.0), "ridge: got -1"),
        (lambda: solve.preconditioner(key, negative, 2), "operator.diagonal: has entries below"),
        (lambda: solve.preconditioner(key, one, 12), "ridge: got 0 .*rank 1"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(TypeError, match="operator: got ndarray, wants an `Operator`"):
        solve.preconditioner(key, np.eye(4), 2)
