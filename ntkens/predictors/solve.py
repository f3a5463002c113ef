"""Linear systems (A + ridge) x = b with A a kernel of many inputs: dense, or never held.

Dense: `cholesky` factorises in float32 and refines in float64, in about half the time of a float64
factorisation and to its accuracy:

    solution, info = solve.cholesky(kernel.ntk, targets, ridge=1e-3)

Never held: `conjugate_gradients` sees the matrix as an `Operator`, for several right-hand sides at
once, with a preconditioner of low rank whose factor is the one large array:

    preconditioner = solve.preconditioner(key, operator, rank=4000, ridge=ridge)
    solution, info = solve.conjugate_gradients(
        operator, targets, ridge=ridge, preconditioner=preconditioner, tolerance=1e-3
    )

A long solve is a loop over the states of `iterate`; a stored `State` continues it to the bit:

    for state in solve.iterate(operator, targets, ridge=ridge, state=stored, tolerance=1e-3):
        store(state)
    info = solve.info(state, tolerance=1e-3)

Read `info.converged` first. No residual in a `SolveInfo` is taken from a recursion: it is computed
from the solution returned.
"""

import functools
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from ntkens.checks import check_finite, check_float64, is_concrete
from ntkens.kernels import Operator
from ntkens.predictors import krylov, low_rank, panels
from ntkens.predictors.checks import check_operator, check_real, check_shape
from ntkens.predictors.krylov import State
from ntkens.predictors.low_rank import Preconditioner
from ntkens.predictors.low_rank import preconditioner as preconditioner  # belongs to this door

# Columns and rows compared to see whether a matrix is symmetric.
STRIP = 64

_product = functools.partial(jnp.matmul, precision="highest")


class SolveInfo(NamedTuple):
    """How a solve ended.

    Attributes:
        iterations: products with the matrix that advanced the solution.
        residual: of each right-hand side, what the solver says it measures.
        converged: whether every one of them is within the tolerance.
    """

    iterations: Int[Array, ""]
    residual: Float[Array, "*outputs"]
    converged: Bool[Array, ""]


def dense(matrix: Float[Array, "n n"]) -> Operator:
    """The `Operator` of a symmetric matrix that is held."""
    matrix, _ = _checked_matrix("matrix", matrix)
    return Operator(  # a pytree: under jit the matrix is an argument, and no constant
        matvec=Partial(_dense_product, matrix),
        diagonal=jnp.diag(matrix),
        columns=Partial(_dense_columns, matrix),
    )


def cholesky(
    matrix: Float[Array, "n n"],
    targets: Float[Array, "n *outputs"],
    *,
    ridge: Float[ArrayLike, ""] = 0.0,
    tolerance: float = 1e-13,
    iterations: int = 50,
) -> tuple[Float[Array, "n *outputs"], SolveInfo]:
    """Solves (A + ridge) x = b by a float32 Cholesky factor, refined to float64.

    The matrix is scaled to unit diagonal and factorised in float32; conjugate gradients in
    float64, preconditioned by the factor, refine: they converge where the factor is too rough for
    iterative refinement (Higham and Pranesh 2021, SIAM J. Sci. Comput. 43, A258). Compiles
    itself; holds half of another matrix in float32.

    Args:
        matrix: A, symmetric positive definite with the ridge, float64.
        targets: b; any axes after the first are right-hand sides.
        ridge: added to the diagonal, at least 0.
        tolerance: of the backward error |b - A x| / (|A| |x| + |b|) of each right-hand side, in
            Euclidean norms; for |A| stands the norm of its largest column, which is at most the
            spectral norm, so that the figure errs upwards.
        iterations: at most so many products with the matrix. One refined at a condition number of
            1e6 takes about 10.

    Returns:
        The solution and its info; the residual is the backward error. Beyond the reach of float32
        (condition numbers above 1e7 or so, less where n is large) `converged` is False, and the
        solution NaN if the factor does not exist.

    Raises:
        ValueError: shapes do not match; matrix or targets hold NaN or infinities; the matrix is
            not symmetric (a strip of it is compared); the ridge is negative.
        TypeError: x64 is off, or the matrix is not float64.
    """
    check_float64("solve.cholesky")
    matrix, squares = _checked_matrix("matrix", matrix)
    if matrix.dtype != jnp.float64:
        raise TypeError(f"matrix: got dtype {matrix.dtype}, wants float64, to refine in")
    targets, ridge = _checked_targets(targets, ridge, len(matrix), matrix.dtype)
    _check_limits(tolerance, iterations)
    columns = targets.reshape(len(targets), -1)
    solution, iteration, errors = _refined(matrix, squares, columns, ridge, tolerance, iterations)
    errors = errors.reshape(targets.shape[1:])
    info = SolveInfo(iteration, errors, jnp.all(errors <= tolerance))
    return solution.reshape(targets.shape), info


def conjugate_gradients(
    operator: Operator,
    targets: Float[Array, "n *outputs"],
    *,
    ridge: Float[ArrayLike, ""] = 0.0,
    preconditioner: Preconditioner | None = None,
    tolerance: float = 1e-5,
    iterations: int = 1000,
) -> tuple[Float[Array, "n *outputs"], SolveInfo]:
    """Solves (A + ridge) x = b to |b - (A + ridge) x| <= tolerance |b| for each right-hand side.

    The residuals in the info are relative, and computed from the solution. See `iterate`.
    """
    *_, state = iterate(
        operator,
        targets,
        ridge=ridge,
        preconditioner=preconditioner,
        tolerance=tolerance,
        iterations=iterations,
    )
    summary = info(state, tolerance=tolerance)
    summary = summary._replace(residual=summary.residual.reshape(jnp.shape(targets)[1:]))
    return state.solution.reshape(jnp.shape(targets)), summary


def iterate(
    operator: Operator,
    targets: Float[Array, "n *outputs"],
    *,
    ridge: Float[ArrayLike, ""] = 0.0,
    preconditioner: Preconditioner | None = None,
    state: State | None = None,
    tolerance: float = 1e-5,
    iterations: int = 1000,
) -> Iterator[State]:
    """The states of preconditioned conjugate gradients, each of one product with the matrix.

    Where the recursion says that all columns are done, the residual is computed from the
    solution, and if it is not within the tolerance, the recursion restarts from it. The last
    state is such a one. The end is reached when every column is done; after `iterations`; or when
    a restart has not halved any residual above the tolerance: the precision of the operator is
    spent, and `info` says that it did not converge.

    Args:
        operator: A, symmetric positive semi-definite. Its `matvec` is called outside jit.
        targets: b, [n ...]; cast to the dtype of the operator's diagonal.
        ridge: added to the diagonal, at least 0.
        preconditioner: from `preconditioner`; None for none.
        state: where to continue; None for the start.
        tolerance: of the residual of each right-hand side, relative to the norm of its targets.
        iterations: at most so many steps, those before `state` included.

    Raises:
        ValueError: shapes do not match, or are not those of the state or preconditioner; targets
            hold NaN or infinities; the ridge is negative, or the tolerance not positive.
        TypeError: the operator is none: `dense` makes one of a matrix.
    """
    _check_limits(tolerance, iterations)
    begun = start(operator, targets, ridge=ridge, preconditioner=preconditioner)
    if state is None:
        state = begun
    else:
        check_shape("state.solution", state.solution, begun.solution.shape)
    return _states(operator, begun.residual, ridge, preconditioner, state, tolerance, iterations)


def start(
    operator: Operator,
    targets: Float[Array, "n *outputs"],
    *,
    ridge: Float[ArrayLike, ""] = 0.0,
    preconditioner: Preconditioner | None = None,
) -> State:
    """The state at solution 0; arguments as for `iterate`."""
    check_operator(operator)
    length, dtype = len(operator.diagonal), operator.diagonal.dtype
    targets, _ = _checked_targets(targets, ridge, length, dtype)
    if preconditioner is not None:
        rank = preconditioner.factor.shape[-1]
        check_shape("preconditioner.basis", preconditioner.basis, (length, rank))
    return _started(targets.reshape(length, -1), preconditioner)


def step(
    operator: Operator,
    state: State,
    *,
    ridge: Float[ArrayLike, ""] = 0.0,
    preconditioner: Preconditioner | None = None,
    tolerance: float = 0.0,
) -> State:
    """One step; columns whose residual is within the tolerance, by recursion, rest after it."""
    product = operator.matvec(state.direction)
    return _stepped(state, product, ridge, preconditioner, tolerance)


def restart(
    operator: Operator,
    targets: Float[Array, "n k"],
    state: State,
    *,
    ridge: Float[ArrayLike, ""] = 0.0,
    preconditioner: Preconditioner | None = None,
    tolerance: float = 0.0,
) -> State:
    """The residual computed from the solution, and the recursion begun anew where it is above."""
    product = operator.matvec(state.solution)
    return _restarted(state, targets, product, ridge, preconditioner, tolerance)


def info(state: State, *, tolerance: float) -> SolveInfo:
    """How the solve stands, by the residuals last computed from the solution."""
    return SolveInfo(state.iteration, state.verified, jnp.all(state.verified <= tolerance))


def _states(operator, targets, ridge, preconditioner, state, tolerance, iterations):
    arguments = {"ridge": ridge, "preconditioner": preconditioner, "tolerance": tolerance}
    if state.verified_at == state.iteration:  # perhaps for another tolerance
        state = state._replace(active=state.verified > tolerance)
        if not np.any(state.active):
            yield state
            return
    while True:
        if state.iteration < iterations and np.any(state.active):
            state = step(operator, state, **arguments)
            yield state
            continue
        before = state.verified
        state = restart(operator, targets, state, **arguments)
        yield state
        improves = state.verified <= before / 2
        if state.iteration >= iterations or not np.any(state.active & improves):
            return


@jax.jit
def _started(targets, preconditioner):
    return krylov.begin(targets, _inverse_of(preconditioner))


@jax.jit
def _restarted(state, targets, product, ridge, preconditioner, tolerance):
    product = product + ridge * state.solution
    return krylov.restart(state, targets, product, _inverse_of(preconditioner), tolerance)


@jax.jit
def _stepped(state, product, ridge, preconditioner, tolerance):
    product = product + ridge * state.direction
    goal = tolerance * state.scale
    return krylov.step(state, product, _inverse_of(preconditioner), lambda solution: goal)


def _inverse_of(preconditioner):
    if preconditioner is None:
        return lambda columns: columns
    return functools.partial(low_rank.inverse_times, preconditioner)


@jax.jit
def _refined(matrix, squares, targets, ridge, tolerance, iterations):
    """The solution, the iterations and the backward errors."""
    diagonal = jnp.diag(matrix) + ridge
    scale = 1 / jnp.sqrt(diagonal)
    factor = panels.factorise(matrix, scale)
    largest = jnp.sqrt(jnp.max(squares - jnp.diag(matrix) ** 2 + diagonal**2))

    def product(columns):
        return _product(matrix, columns) + ridge * columns

    def apply(columns):
        scaled = scale[:, None] * columns
        size = krylov.nonzero(krylov.norms(scaled))[None, :]  # float32 has not float64's range
        rough = panels.substitute(factor, (scaled / size).astype(jnp.float32))
        return scale[:, None] * size * rough

    def reach(solution):
        return largest * krylov.norms(solution) + krylov.norms(targets)

    def goal(solution):
        return tolerance / 2 * reach(solution)  # half: by rounding the recursion drifts

    state = jax.lax.while_loop(
        lambda state: jnp.any(state.active) & (state.iteration < iterations),
        lambda state: krylov.step(state, product(state.direction), apply, goal),
        krylov.begin(targets, apply),
    )
    residual = krylov.norms(targets - product(state.solution))
    errors = residual / krylov.nonzero(reach(state.solution))
    return state.solution, state.iteration, errors


@jax.jit
def _dense_product(matrix, columns):
    return _product(matrix, columns)


@jax.jit
def _dense_columns(matrix, indices):
    return matrix[:, indices]


@jax.jit
def _row_squares(matrix):
    return jnp.sum(matrix**2, axis=1)


def _checked_matrix(name, matrix):
    """The matrix and the squared norms of its rows: finite, square, symmetric in a strip.

    By one pass over its memory, and without another matrix of its size.
    """
    check_real(name, matrix)
    matrix = jnp.asarray(matrix)
    if matrix.dtype not in (jnp.float32, jnp.float64):
        raise TypeError(f"{name}: got dtype {matrix.dtype}, wants floating point, 32 or 64 bits")
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
        raise ValueError(f"{name}: got shape {matrix.shape}, wants [n n]")
    squares = _row_squares(matrix)
    check_finite(name, squares)
    if is_concrete(matrix):
        asymmetry = np.max(np.abs(matrix[:, :STRIP] - matrix[:STRIP].T))
        largest = np.sqrt(np.max(squares))
        if asymmetry > 100 * jnp.finfo(matrix.dtype).eps * largest:
            raise ValueError(
                f"{name}: not symmetric (a difference of {asymmetry:.3g}, the largest column "
                f"{largest:.3g}); a kernel of the training inputs with themselves is"
            )
    return matrix, squares


def _checked_targets(targets, ridge, length, dtype):
    check_real("targets", targets)
    if not jnp.ndim(targets) or len(targets) != length:
        raise ValueError(
            f"targets: got shape {jnp.shape(targets)}, wants ({length}, ...): one row for each "
            "row of the matrix"
        )
    check_shape("ridge", ridge, ())
    targets, ridge = jnp.asarray(targets, dtype), jnp.asarray(ridge, dtype)
    check_finite("targets", targets)
    if is_concrete(ridge) and not 0 <= np.asarray(ridge) < np.inf:
        raise ValueError(f"ridge: got {ridge}, wants a finite number of at least 0")
    return targets, ridge


def _check_limits(tolerance, iterations):
    if not 0 < tolerance < 1:
        raise ValueError(f"tolerance: got {tolerance}, wants a number between 0 and 1")
    if iterations < 1:
        raise ValueError(f"iterations: got {iterations}, wants at least 1")
