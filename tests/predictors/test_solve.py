import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkens.kernels import Operator
from ntkens.predictors import solve

pytestmark = pytest.mark.optimised

N = 200


def with_spectrum(eigenvalues, seed=0):
    """A symmetric matrix of these eigenvalues in random orthogonal directions."""
    random = np.random.default_rng(seed)
    directions, _ = np.linalg.qr(random.normal(size=(len(eigenvalues),) * 2))
    matrix = directions * np.asarray(eigenvalues) @ directions.T
    return (matrix + matrix.T) / 2


def conditioned(condition, seed=0):
    """Eigenvalues in equal ratios, from 1 down to 1 / condition."""
    return with_spectrum(np.geomspace(1 / condition, 1, N), seed)


def right_hand_sides(*outputs, seed=1):
    return np.random.default_rng(seed).normal(size=(N, *outputs))


def backward_errors(matrix, solution, targets):
    residual = np.linalg.norm(targets - matrix @ solution, axis=0)
    scale = np.linalg.norm(matrix, 2) * np.linalg.norm(solution, axis=0)
    return residual / (scale + np.linalg.norm(targets, axis=0))


@pytest.mark.parametrize("condition", [1e2, 1e4, 1e6])
def test_cholesky_to_the_backward_error_it_states(condition):
    matrix, targets = conditioned(condition), right_hand_sides(3)
    solution, info = solve.cholesky(matrix, targets)
    actual = backward_errors(matrix, np.asarray(solution), targets)
    assert info.converged
    assert actual.max() <= 1e-13
    # At least as large as by the spectral norm, but for the rounding of the two residuals.
    assert np.all(info.residual >= actual - 1e-15)
    exact = np.linalg.solve(matrix, targets)
    error = np.linalg.norm(solution - exact, axis=0) / np.linalg.norm(exact, axis=0)
    assert error.max() <= 2 * condition * 1e-13


@pytest.mark.slow
@pytest.mark.parametrize("condition", [1e9, 1e12, 1e30])
def test_cholesky_beyond_its_reach_says_so(condition):
    _, info = solve.cholesky(conditioned(condition), right_hand_sides(3))
    assert not info.converged
    assert not np.all(info.residual <= 1e-13)


@pytest.mark.parametrize("shift", [-0.5, -2.0])
def test_cholesky_of_an_indefinite_matrix_is_nan(shift):
    matrix = conditioned(10) + shift * np.eye(N)
    solution, info = solve.cholesky(matrix, right_hand_sides(3))
    assert not info.converged
    assert np.isnan(solution).all()


def test_cholesky_out_of_iterations_says_so_and_tells_the_residual():
    matrix, targets = conditioned(1e6), right_hand_sides(3)
    solution, info = solve.cholesky(matrix, targets, iterations=1)
    actual = backward_errors(matrix, np.asarray(solution), targets)
    assert info.iterations == 1
    assert not info.converged
    assert np.all((info.residual >= actual) & (info.residual <= 20 * actual))


def test_cholesky_adds_the_ridge_and_keeps_the_axes_of_the_targets():
    matrix, targets = conditioned(1e6), right_hand_sides(3)
    exact = np.linalg.solve(matrix + 0.1 * np.eye(N), targets)
    solution, info = solve.cholesky(matrix, targets[:, :, None], ridge=0.1)
    np.testing.assert_allclose(solution, exact[:, :, None], rtol=0, atol=1e-11)
    assert info.residual.shape == (3, 1)


@pytest.mark.parametrize(("of_matrix", "of_targets"), [(1e-60, 1e60), (1e60, 1e-60)])
def test_cholesky_at_scales_that_float32_has_not(of_matrix, of_targets):
    matrix, targets = conditioned(100), right_hand_sides(3)
    solution, info = solve.cholesky(of_matrix * matrix, of_targets * targets)
    exact = np.linalg.solve(matrix, targets) * (of_targets / of_matrix)
    np.testing.assert_allclose(solution, exact, rtol=0, atol=1e-11 * np.abs(exact).max())
    assert info.converged


def test_cholesky_of_rows_of_unequal_scale():
    """Of condition number 1e24, and 100 at unit diagonal, which is what float32 has to hold."""
    scale = np.geomspace(1e-6, 1e6, N)
    matrix, targets = scale[:, None] * conditioned(100) * scale, right_hand_sides(3)
    solution, info = solve.cholesky(matrix, targets)
    assert info.converged
    assert backward_errors(matrix, np.asarray(solution), targets).max() <= 1e-13


@pytest.mark.parametrize("size", [1, 2])
def test_cholesky_of_few_rows_and_a_vector(size):
    matrix = with_spectrum(np.arange(1.0, size + 1))
    solution, info = solve.cholesky(matrix, np.ones(size))
    np.testing.assert_allclose(solution, np.linalg.solve(matrix, np.ones(size)), rtol=0, atol=1e-12)
    assert info.converged
    assert info.residual.shape == ()


@pytest.mark.slow
def test_cholesky_under_jit():
    matrix, targets = jnp.asarray(conditioned(1e4)), jnp.asarray(right_hand_sides(3))
    solution, info = jax.jit(solve.cholesky)(matrix, targets)
    np.testing.assert_allclose(solution, np.linalg.solve(matrix, targets), rtol=1e-8)
    assert info.converged


def test_cholesky_of_zero_targets_is_zero():
    solution, info = solve.cholesky(conditioned(10), np.zeros((N, 3)))
    assert info.converged
    assert not np.any(solution)


def asymmetric():
    return np.triu(conditioned(10))


def with_nan():
    matrix = conditioned(10)
    matrix[-1, -1] = np.nan
    return matrix


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: solve.cholesky(asymmetric(), np.ones(N)), ValueError, "matrix: not symmetric"),
        (lambda: solve.cholesky(with_nan(), np.ones(N)), ValueError, "matrix: holds NaN"),
        (lambda: solve.cholesky(np.ones((2, 3)), np.ones(2)), ValueError, r"matrix: .*\(2, 3\)"),
        (lambda: solve.cholesky(np.eye(2, dtype=np.float32), np.ones(2)), TypeError, "float32"),
        (lambda: solve.cholesky(1j * np.eye(2), np.ones(2)), TypeError, "matrix: got complex"),
        (lambda: solve.cholesky(np.eye(2), np.ones(3)), ValueError, r"targets: .*\(3,\)"),
        (lambda: solve.cholesky(np.eye(2), 1j * np.ones(2)), TypeError, "targets: got complex"),
        (lambda: solve.cholesky(np.eye(2), np.array([1, np.inf])), ValueError, "targets: holds"),
        (lambda: solve.cholesky(np.eye(2), np.ones(2), ridge=-1.0), ValueError, "ridge: got -1"),
        (lambda: solve.cholesky(np.eye(2), np.ones(2), ridge=np.ones(2)), ValueError, "ridge"),
        (lambda: solve.cholesky(np.eye(2), np.ones(2), tolerance=0.0), ValueError, "tolerance"),
        (lambda: solve.cholesky(np.eye(2), np.ones(2), iterations=0), ValueError, "iterations"),
        (lambda: solve.dense(asymmetric()), ValueError, "matrix: not symmetric"),
    ],
)
def test_bad_systems_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def conjugate_gradients(matrix, targets, **keywords):
    solution, info = solve.conjugate_gradients(solve.dense(matrix), targets, **keywords)
    return np.asarray(solution), info


def relative_residual(matrix, solution, targets):
    residual = np.linalg.norm(targets - matrix @ solution, axis=0)
    return residual / np.linalg.norm(targets, axis=0)


def test_conjugate_gradients_is_the_dense_solve():
    matrix, targets = conditioned(100), right_hand_sides(3)
    solution, info = conjugate_gradients(matrix, targets, ridge=0.1, tolerance=1e-12)
    exact = np.linalg.solve(matrix + 0.1 * np.eye(N), targets)
    np.testing.assert_allclose(solution, exact, rtol=0, atol=1e-10)
    assert info.converged


@pytest.mark.parametrize("distinct", [1, 4])
def test_as_many_steps_as_distinct_eigenvalues(distinct):
    matrix = with_spectrum(np.repeat(np.arange(1.0, distinct + 1), N // distinct))
    _, info = conjugate_gradients(matrix, right_hand_sides(3), tolerance=1e-10)
    assert info.converged
    assert info.iterations == distinct


@pytest.mark.slow
def test_several_right_hand_sides_are_each_alone():
    """One column is an eigenvector, done in a step; it rests while the others go on."""
    matrix, targets = conditioned(100), right_hand_sides(3)
    targets[:, 1] = np.linalg.eigh(matrix)[1][:, -1]
    operator = solve.dense(matrix)
    together = [*solve.iterate(operator, targets, tolerance=1e-8)]
    assert len(together) > 20
    for column in range(3):
        alone = [*solve.iterate(operator, targets[:, [column]], tolerance=1e-8)]
        at = min(len(alone), 15) - 1  # later, rounding has parted the directions
        ours = together[at].solution[:, column]
        np.testing.assert_allclose(ours, alone[at].solution[:, 0], rtol=0, atol=1e-9)
    for state in together:
        np.testing.assert_array_equal(state.solution[:, 1], together[0].solution[:, 1])


def deflating(matrix, rank):
    """The preconditioner that takes the largest eigenvalues to 1, and leaves the others."""
    eigenvalues, directions = np.linalg.eigh(matrix)
    factor = np.diag(np.sqrt(eigenvalues[-rank:]))
    arrays = directions[:, -rank:], factor, np.float64(1)
    return solve.Preconditioner(*map(jnp.asarray, arrays))


@pytest.mark.slow
def test_iterations_are_what_the_spectrum_left_by_the_preconditioner_bounds():
    """|r_k| <= 2 sqrt(kappa) rho^k |r_0| in the norm of M^-1, with kappa = 2 when the outliers are
    gone.
    """
    outliers, rest = np.geomspace(1e3, 1e7, 10), np.linspace(1, 2, N - 10)
    matrix, targets = with_spectrum([*outliers, *rest]), right_hand_sides(3)
    made = deflating(matrix, 10)
    solution, info = conjugate_gradients(matrix, targets, preconditioner=made, tolerance=1e-6)
    rho = (np.sqrt(2) - 1) / (np.sqrt(2) + 1)
    largest = np.sqrt(outliers[-1])  # from the norm of M^-1 to the Euclidean one
    assert info.converged
    assert info.iterations <= np.log(2 * np.sqrt(2) * largest / 1e-6) / -np.log(rho)
    assert relative_residual(matrix, solution, targets).max() <= 1e-6
    _, without = conjugate_gradients(matrix, targets, tolerance=1e-6)
    assert without.iterations > 2 * info.iterations


def test_a_stored_state_continues_to_the_bit(tmp_path):
    matrix, targets = conditioned(100), right_hand_sides(3)
    operator = solve.dense(matrix)
    made = deflating(matrix, 10)
    arguments = {"ridge": 0.1, "preconditioner": made, "tolerance": 1e-9}
    states = [*solve.iterate(operator, targets, **arguments)]
    for killed in (0, 5, len(states) - 2):
        np.savez(tmp_path / "state.npz", **states[killed]._asdict())
        with np.load(tmp_path / "state.npz") as file:
            stored = solve.State(**file)
        resumed = [*solve.iterate(operator, targets, state=stored, **arguments)]
        assert len(resumed) == len(states) - 1 - killed
        for ours, theirs in zip(resumed, states[killed + 1 :], strict=True):
            jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    (again,) = solve.iterate(operator, targets, state=states[-1], **arguments)
    jax.tree.map(np.testing.assert_array_equal, again, states[-1])


def test_a_looser_solve_continues_to_a_tighter_one():
    matrix, targets = conditioned(100), right_hand_sides(3)
    operator = solve.dense(matrix)
    *_, loose = solve.iterate(operator, targets, tolerance=1e-2)
    *_, tight = solve.iterate(operator, targets, state=loose, tolerance=1e-8)
    assert solve.info(tight, tolerance=1e-8).converged
    assert not solve.info(loose, tolerance=1e-8).converged
    assert relative_residual(matrix, tight.solution, targets).max() <= 1e-8


def test_out_of_iterations_is_not_converged_and_tells_the_residual():
    matrix, targets = conditioned(1e4), right_hand_sides(3)
    solution, info = conjugate_gradients(matrix, targets, tolerance=1e-8, iterations=7)
    assert info.iterations == 7
    assert not info.converged
    actual = relative_residual(matrix, solution, targets)
    np.testing.assert_allclose(info.residual, actual, rtol=1e-10)


def test_an_operator_of_few_digits_ends_before_its_iterations_and_is_not_converged():
    """Products in float32 hold a residual of 1e-7 |A| |x|; the recursion runs on below it."""
    matrix, targets = conditioned(1e4), right_hand_sides(3)
    operator = solve.dense(matrix)
    rounded = jnp.asarray(matrix, jnp.float32)

    def matvec(columns):
        return jnp.matmul(rounded, columns.astype(jnp.float32)).astype(jnp.float64)

    coarse = operator._replace(matvec=matvec)
    solution, info = solve.conjugate_gradients(coarse, targets, tolerance=1e-8, iterations=5000)
    assert not info.converged
    assert info.iterations < 5000
    assert relative_residual(matrix, np.asarray(solution), targets).max() > 1e-8


def test_an_indefinite_operator_is_not_converged():
    matrix = with_spectrum(np.linspace(-1, 1, N))
    _, info = conjugate_gradients(matrix, right_hand_sides(3), tolerance=1e-8, iterations=100)
    assert not info.converged


def test_zero_targets_take_no_step():
    targets = right_hand_sides(3)
    targets[:, 0] = 0
    solution, info = conjugate_gradients(conditioned(10), targets, tolerance=1e-6)
    assert info.converged
    assert not np.any(solution[:, 0])
    _, info = conjugate_gradients(conditioned(10), np.zeros((N, 3)), tolerance=1e-6)
    assert info.converged
    assert info.iterations == 0


def test_step_is_traceable():
    operator = solve.dense(conditioned(100))
    state = solve.start(operator, right_hand_sides(3), ridge=0.1)
    stepped = jax.jit(lambda *arguments: solve.step(*arguments, ridge=0.1))(operator, state)
    plain = solve.step(operator, state, ridge=0.1)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), stepped, plain)


def test_dense_is_its_matrix():
    matrix = conditioned(10)
    operator = solve.dense(matrix)
    assert isinstance(operator, Operator)
    np.testing.assert_allclose(operator.matvec(np.eye(N)), matrix, atol=1e-15)
    np.testing.assert_array_equal(operator.diagonal, np.diag(matrix))
    np.testing.assert_array_equal(operator.columns(jnp.array([3, 1])), matrix[:, [3, 1]])


def test_bad_solves_are_named_before_any_product():
    operator = solve.dense(np.eye(4))
    other = solve.Preconditioner(jnp.ones((3, 2)), jnp.eye(2), jnp.ones(()))
    state = solve.start(operator, np.ones((4, 2)))
    for keywords, message in (
        ({"targets": np.ones(3)}, r"targets: got shape \(3,\)"),
        ({"targets": np.full(4, np.nan)}, "targets: holds NaN"),
        ({"ridge": -1.0}, "ridge: got -1"),
        ({"tolerance": 0.0}, "tolerance: got 0"),
        ({"iterations": 0}, "iterations: got 0"),
        ({"preconditioner": other}, r"preconditioner.basis: got shape \(3, 2\)"),
        ({"state": state}, r"state.solution: got shape \(4, 2\)"),
    ):
        arguments = {"targets": np.ones(4)} | keywords
        with pytest.raises(ValueError, match=message):
            solve.iterate(operator, **arguments)
    with pytest.raises(TypeError, match=r"operator: got ndarray, wants an `Operator`, as `solve.d"):
        solve.conjugate_gradients(np.eye(4), np.ones(4))
