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
from jax.scipy.linalg import cho_solve
from jaxtyping import Array, ArrayLike, Bool, Float, Int, Key

from ntkens.checks import check_finite, check_float64, is_concrete
from ntkens.kernels import Operator
from ntkens.predictors.checks import check_real, check_shape

# Of the float32 factor. More panels are less work on the diagonal and a longer compilation.
PANELS = 8

# Columns and rows compared to see whether a matrix is symmetric.
STRIP = 64

# Pivots proposed at once by the randomly pivoted Cholesky.
PROPOSALS = 256

# In units of rounding of the diagonal: less of a pivot, or of a column's norm, is noise.
FLOOR = 100

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


class State(NamedTuple):
    """Conjugate gradients between two steps: arrays, to be stored as they are.

    Attributes:
        iteration: steps made.
        solution: so far.
        residual: targets - (A + ridge) solution, by recursion; true at a restart.
        direction: the next step's.
        alignment: of each column, residual . M^-1 residual at the preconditioner M.
        scale: of each column, the norm of the targets.
        active: the columns that the next step moves.
        verified: of each column, the relative residual when it was last computed from the
            solution; infinite before.
    """

    iteration: Int[Array, ""]
    solution: Float[Array, "n k"]
    residual: Float[Array, "n k"]
    direction: Float[Array, "n k"]
    alignment: Float[Array, " k"]
    scale: Float[Array, " k"]
    active: Bool[Array, " k"]
    verified: Float[Array, " k"]


class Preconditioner(NamedTuple):
    """M = Q S Q^T + ridge (1 - Q Q^T), a matrix of low rank plus the ridge.

    Attributes:
        basis: Q, orthonormal columns; columns of zeros where the matrix had no more to give.
        factor: lower Cholesky factor of S, which holds the ridge.
        ridge: outside the span of the basis.
    """

    basis: Float[Array, "n r"]
    factor: Float[Array, "r r"]
    ridge: Float[Array, ""]


def dense(matrix: Float[Array, "n n"]) -> Operator:
    """The `Operator` of a symmetric matrix that is held."""
    matrix = _checked_matrix("matrix", matrix)
    return Operator(
        functools.partial(_dense_product, matrix), jnp.diag(matrix), lambda at: matrix[:, at]
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
        (condition numbers above about 1e7) `converged` is False, and the solution NaN if the
        factor does not exist.

    Raises:
        ValueError: shapes do not match; matrix or targets hold NaN or infinities; the matrix is
            not symmetric (a strip of it is compared); the ridge is negative.
        TypeError: x64 is off, or the matrix is not float64.
    """
    check_float64("solve.cholesky")
    matrix = _checked_matrix("matrix", matrix)
    if matrix.dtype != jnp.float64:
        raise TypeError(f"matrix: got dtype {matrix.dtype}, wants float64, to refine in")
    targets, ridge = _checked_targets(targets, ridge, len(matrix), matrix.dtype)
    _check_limits(tolerance, iterations)
    columns = targets.reshape(len(targets), -1)
    solution, iteration, errors = _refined(matrix, columns, ridge, tolerance, iterations)
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
    """
    _check_limits(tolerance, iterations)
    begun = start(operator, targets, ridge=ridge, preconditioner=preconditioner)
    if state is None:
        state = begun
    else:
        check_shape("state.solution", state.solution, begun.solution.shape)
    return _states(operator, begun.residual, ridge, preconditioner, state, tolerance, iterations)


def partial_cholesky(
    key: Key[Array, ""], operator: Operator, rank: int
) -> tuple[Float[Array, "n r"], Int[Array, " r"]]:
    """A factor F of low rank, F F^T close to the matrix from below, and its pivots.

    Randomly pivoted Cholesky (Chen, Epperly, Tropp and Webber, arXiv:2207.06503): each pivot is
    drawn with probability proportional to the diagonal of what is left, A - F F^T. Here many are
    proposed at once, and one is rejected with the probability that makes the outcome that of
    drawing one by one (accelerated; Epperly, Tropp and Webber, arXiv:2410.03969).

    The draws belong to the indices, so that rows of zeros at the end, or rows on other devices,
    leave the pivots as they are. Where the diagonal that is left is rounding, columns of F are 0
    and their pivots -1.

    Args:
        key: of the draws.
        operator: a positive semi-definite matrix; its `columns` is called outside jit.
        rank: columns of F, from 1 to n.

    Raises:
        ValueError: the rank is out of range; the diagonal is negative or holds NaN.
    """
    length = len(operator.diagonal)
    if not 1 <= rank <= length:
        raise ValueError(f"rank: got {rank}, wants 1 to {length}, the size of the matrix")
    if is_concrete(operator.diagonal) and not np.all(operator.diagonal >= 0):
        raise ValueError(
            "operator.diagonal: has entries below zero, or NaN; a positive semi-definite matrix "
            "has not"
        )
    partial = _empty(operator.diagonal, rank)
    while partial.count < rank and np.any(partial.left > 0):
        key, proposing, accepting = jax.random.split(key, 3)
        proposals = _proposed(proposing, partial.left, min(PROPOSALS, rank))
        columns = operator.columns(proposals)
        partial = _extended(accepting, partial, proposals, columns, operator.diagonal)
    return partial.factor, partial.pivots


def preconditioner(
    key: Key[Array, ""], operator: Operator, rank: int, *, ridge: Float[ArrayLike, ""]
) -> Preconditioner:
    """M = F F^T + ridge from a randomly pivoted partial Cholesky factor F of the given rank.

    The condition number of M^-1 (A + ridge) is at most 1 + |A - F F^T| / ridge (arXiv:2304.12465).
    M^-1 by the formula of Woodbury would lose eps |A| / ridge of the directions in F, all
    of them in float32; hence F is brought to orthonormal columns, by Cholesky, twice. Memory: two
    arrays [n r] while it is built, one after; r^2 n operations a few times over.

    Args:
        key: of the pivots.
        operator: A, positive semi-definite.
        rank: 1 to n.
        ridge: positive, in the units of A; that of the system, or where that is 0 or far below the
            eigenvalues that F leaves, a number of their size.

    Raises:
        ValueError: as `partial_cholesky`, or the ridge is not positive.
    """
    check_shape("ridge", ridge, ())
    if is_concrete(ridge) and not 0 < np.asarray(ridge) < np.inf:
        raise ValueError(
            f"ridge: got {ridge}, wants a finite number above 0, since M is singular without; in "
            "a system without ridge, say the mean eigenvalue that the factor leaves out"
        )
    basis, _ = partial_cholesky(key, operator, rank)
    basis, first = _orthonormalised(basis)
    basis, second = _orthonormalised(basis)
    ridge = jnp.asarray(ridge, basis.dtype)
    return Preconditioner(basis, _small_factor(first, second, ridge), ridge)


def start(
    operator: Operator,
    targets: Float[Array, "n *outputs"],
    *,
    ridge: Float[ArrayLike, ""] = 0.0,
    preconditioner: Preconditioner | None = None,
) -> State:
    """The state at solution 0; arguments as for `iterate`."""
    length, dtype = len(operator.diagonal), operator.diagonal.dtype
    targets, _ = _checked_targets(targets, ridge, length, dtype)
    if preconditioner is not None:
        rank = preconditioner.factor.shape[-1]
        check_shape("preconditioner.basis", preconditioner.basis, (length, rank))
    columns = targets.reshape(length, -1)
    return _started(columns, jnp.zeros_like(columns), columns, 0, preconditioner, 0.0)


def step(
    operator: Operator,
    state: State,
    *,
    ridge: Float[ArrayLike, ""] = 0.0,
    preconditioner: Preconditioner | None = None,
    tolerance: float = 0.0,
) -> State:
    """One step of conjugate gradients; columns within the tolerance, by recursion, rest after it."""
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
    """The state with its residual computed from the solution, and a fresh direction."""
    product = operator.matvec(state.solution)
    return _restarted(state, targets, product, ridge, preconditioner, tolerance)


def info(state: State, *, tolerance: float) -> SolveInfo:
    """How the solve stands, by the residuals last computed from the solution."""
    return SolveInfo(state.iteration, state.verified, jnp.all(state.verified <= tolerance))


def _states(operator, targets, ridge, preconditioner, state, tolerance, iterations):
    arguments = {"ridge": ridge, "preconditioner": preconditioner, "tolerance": tolerance}
    if np.all(state.verified <= tolerance):  # a stored state, the last of its solve
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
def _started(targets, solution, residual, iteration, preconditioner, tolerance):
    apply = functools.partial(_preconditioned, preconditioner)
    return _begin(targets, solution, residual, iteration, apply, tolerance)


@jax.jit
def _restarted(state, targets, product, ridge, preconditioner, tolerance):
    residual = targets - product - ridge * state.solution
    apply = functools.partial(_preconditioned, preconditioner)
    fresh = _begin(targets, state.solution, residual, state.iteration, apply, tolerance)
    return fresh._replace(verified=_norms(residual) / _nonzero(fresh.scale))


@jax.jit
def _stepped(state, product, ridge, preconditioner, tolerance):
    apply = functools.partial(_preconditioned, preconditioner)
    product = product + ridge * state.direction
    return _advance(state, product, apply, lambda _: tolerance * state.scale)


def _begin(targets, solution, residual, iteration, apply, tolerance):
    direction, scale = apply(residual), _norms(targets)
    return State(
        iteration=jnp.asarray(iteration),
        solution=solution,
        residual=residual,
        direction=direction,
        alignment=_dots(residual, direction),
        scale=scale,
        active=_norms(residual) > tolerance * scale,
        verified=jnp.full_like(scale, jnp.inf),
    )


def _advance(state, product, apply, goal):
    """One step, with product = (A + ridge) direction; `goal` is where a solution's residual rests.

    Beta in the flexible form (Polak and Ribiere), which allows for a preconditioner that rounding
    makes a little different at each step.
    """
    curvature = _dots(state.direction, product)
    active = state.active & (curvature > 0)
    rate = jnp.where(active, state.alignment / _nonzero(curvature), 0)[None, :]
    solution, residual = state.solution + rate * state.direction, state.residual - rate * product
    downhill = apply(residual)
    turn = _dots(downhill, residual - state.residual) / _nonzero(state.alignment)
    direction = downhill + turn[None, :] * state.direction
    return state._replace(
        iteration=state.iteration + 1,
        solution=solution,
        residual=residual,
        direction=jnp.where(active[None, :], direction, state.direction),
        alignment=jnp.where(active, _dots(downhill, residual), state.alignment),
        active=active & (_norms(residual) > goal(solution)),
    )


def _preconditioned(preconditioner, columns):
    """M^-1 columns; the part outside the basis is projected twice.

    After once, rounding has left eps of the part inside, and 1 / ridge would make that large
    beside the inverse inside. Twice is also positive definite, whatever the basis.
    """
    if preconditioner is None:
        return columns
    basis, factor, ridge = preconditioner
    inside = _product(basis.T, columns)
    outside = columns - _product(basis, inside)
    outside = outside - _product(basis, _product(basis.T, outside))
    return _product(basis, cho_solve((factor, True), inside)) + outside / ridge


@functools.partial(jax.jit, static_argnames="iterations")
def _refined(matrix, targets, ridge, tolerance, iterations):
    """The solution, the iterations and the backward errors."""
    diagonal = jnp.diag(matrix) + ridge
    scale = 1 / jnp.sqrt(diagonal)
    panels = _panels(matrix, scale)
    squares = jnp.sum(matrix**2, axis=1) - jnp.diag(matrix) ** 2 + diagonal**2
    largest = jnp.sqrt(jnp.max(squares))

    def apply(residual):
        scaled = scale[:, None] * residual
        size = _nonzero(_norms(scaled))[None, :]  # float32 has not the range of float64
        return size * scale[:, None] * _substituted(panels, (scaled / size).astype(jnp.float32))

    def product(columns):
        return _product(matrix, columns) + ridge * columns

    def denominator(solution):
        return largest * _norms(solution) + _norms(targets)

    def advance(state):
        goal = 0.5 * tolerance  # half, since the recursion drifts from the residual by rounding
        product_ = product(state.direction)
        return _advance(state, product_, apply, lambda solution: goal * denominator(solution))

    state = jax.lax.while_loop(
        lambda state: jnp.any(state.active) & (state.iteration < iterations),
        advance,
        _begin(targets, jnp.zeros_like(targets), targets, 0, apply, 0.0),
    )
    solution = state.solution
    residual = _norms(targets - product(solution))
    return solution, state.iteration, residual / _nonzero(denominator(solution))


def _panels(matrix, scale):
    """The float32 Cholesky factor of the matrix at unit diagonal, in panels of columns.

    Each is the inverse of its triangle on the diagonal and what lies below it. All that is
    large is then a matrix product, here and in the substitutions.
    """
    length = len(matrix)
    width = -(-length // PANELS)
    panels = []
    for first in range(0, length, width):
        last = min(first + width, length)
        panel = scale[first:, None] * matrix[first:, first:last] * scale[None, first:last]
        panel = panel.astype(jnp.float32)
        at = jnp.arange(last - first)
        panel = panel.at[at, at].set(1)  # the ridge included
        for _, below in panels:
            rows = below[first - length :]
            panel = panel - _product(rows, rows[: last - first].T)
        triangle = jax.lax.linalg.cholesky(panel[: last - first], symmetrize_input=False)
        inverse = _inverse(triangle)
        panels.append((inverse, _product(panel[last - first :], inverse.T)))
    return panels


def _substituted(panels, columns):
    """The inverse of the factorised matrix times columns, forwards and backwards."""
    rest, forward = columns, []
    for inverse, below in panels:
        width = len(inverse)
        forward.append(_product(inverse, rest[:width]))
        rest = rest[width:] - _product(below, forward[-1])
    solution = rest  # no rows are left
    for (inverse, below), part in zip(reversed(panels), reversed(forward), strict=True):
        part = _product(inverse.T, part - _product(below.T, solution))
        solution = jnp.concatenate([part, solution])
    return solution


class _Partial(NamedTuple):
    """A partial Cholesky factor that grows: the factor, its pivots, their count, what is left."""

    factor: Array
    pivots: Array
    count: Array
    left: Array


@functools.partial(jax.jit, static_argnames="rank")
def _empty(diagonal, rank):
    factor = 0 * jnp.broadcast_to(diagonal[:, None], (len(diagonal), rank))  # sharded as it is
    return _Partial(factor, jnp.full(rank, -1), jnp.asarray(0), diagonal)


@functools.partial(jax.jit, static_argnames="count")
def _proposed(key, weights, count):
    """Indices drawn in proportion to the weights, each draw by the largest of Gumbel numbers.

    Unlike the inverse of a cumulative sum, this is not moved by the rounding of other weights.
    """
    noise = jax.random.gumbel(key, (len(weights), count), weights.dtype)
    return jnp.argmax(jnp.log(weights)[:, None] + noise, axis=0)


@functools.partial(jax.jit, donate_argnames="partial")
def _extended(key, partial, proposals, columns, diagonal):
    """The factor with those of the proposed pivots that are accepted, in their order."""
    factor, pivots, count, left = partial
    width, rank = len(proposals), factor.shape[1]
    columns = columns - _product(factor, factor[proposals].T)
    block, proposed = columns[proposals], left[proposals]
    thresholds = jax.random.uniform(key, (width,), block.dtype) * proposed
    floor = FLOOR * jnp.finfo(block.dtype).eps * diagonal[proposals]

    def decide(i, carry):
        triangle, accepted = carry
        remaining = block[i, i] - jnp.sum(triangle[i] ** 2)
        accept = (remaining > jnp.maximum(thresholds[i], floor[i])) & (
            count + jnp.sum(accepted) < rank
        )
        column = (block[:, i] - _product(triangle, triangle[i])) / jnp.sqrt(remaining)
        column = jnp.where(jnp.arange(width) < i, 0, column)
        triangle = triangle.at[:, i].set(jnp.where(accept, column, 0))
        return triangle, accepted.at[i].set(accept)

    begun = jnp.zeros_like(block), jnp.zeros(width, bool)
    triangle, accepted = jax.lax.fori_loop(0, width, decide, begun)
    both = accepted[:, None] & accepted[None, :]
    triangle = jnp.where(both, triangle, jnp.eye(width, dtype=block.dtype))
    columns = _product(jnp.where(accepted[None, :], columns, 0), _inverse(triangle).T)

    spent = accepted | (jnp.diag(block) <= floor)
    left = jnp.maximum(left - jnp.sum(columns**2, axis=1), 0)
    left = left.at[proposals].multiply(jnp.where(spent, 0, 1))

    # The accepted ones first, written where the factor ends; never past its last column.
    at = jnp.minimum(count, rank - width)
    source = jnp.arange(width) - (count - at)
    order = jnp.argsort(~accepted)[jnp.maximum(source, 0)]
    old = jax.lax.dynamic_slice_in_dim(factor, at, width, axis=1)
    new = jnp.where((source >= 0)[None, :], columns[:, order], old)
    factor = jax.lax.dynamic_update_slice_in_dim(factor, new, at, axis=1)
    new = jnp.where(accepted[order], proposals[order], -1)
    new = jnp.where(source >= 0, new, jax.lax.dynamic_slice_in_dim(pivots, at, width))
    pivots = jax.lax.dynamic_update_slice_in_dim(pivots, new, at, axis=0)
    return _Partial(factor, pivots, count + jnp.sum(accepted), left)


@jax.jit
def _orthonormalised(factor):
    """Q and L, F = Q L^T: Q orthonormal as far as the columns of F are independent in rounding.

    The Gram matrix is raised by a little of its own diagonal, so that its Cholesky factor exists;
    that leaves Q well-conditioned, and a second time orthonormal (Fukaya et al. 2020, SIAM J. Sci.
    Comput. 42, A477). A column of zeros stays one.
    """
    gram = _product(factor.T, factor)
    diagonal = jnp.diag(gram)
    raised = jnp.where(diagonal > 0, FLOOR * jnp.finfo(gram.dtype).eps * diagonal, 1)
    triangle = jnp.linalg.cholesky(gram + jnp.diag(raised), symmetrize_input=False)
    return _product(factor, _inverse(triangle).T), triangle


@jax.jit
def _small_factor(first, second, ridge):
    """Cholesky factor of S = R R^T + ridge, with F = Q R and R = (first second)^T."""
    root = _product(first, second)
    gram = _product(root.T, root)
    return jnp.linalg.cholesky(gram + ridge * jnp.eye(len(gram), dtype=gram.dtype))


def _inverse(triangle):
    """Of a lower triangular matrix."""
    identity = jnp.eye(len(triangle), dtype=triangle.dtype)
    return jax.lax.linalg.triangular_solve(triangle, identity, left_side=True, lower=True)


def _dots(first, second):
    return jnp.sum(first * second, axis=0)


def _norms(columns):
    return jnp.sqrt(_dots(columns, columns))


def _nonzero(values):
    return jnp.where(values == 0, 1, values)


@jax.jit
def _dense_product(matrix, columns):
    return _product(matrix, columns)


@jax.jit
def _largest(matrix):
    return jnp.max(jnp.abs(matrix))


def _checked_matrix(name, matrix):
    """Checked without another matrix of its size: finite; square; symmetric, in a strip."""
    check_real(name, matrix)
    matrix = jnp.asarray(matrix)
    if matrix.dtype not in (jnp.float32, jnp.float64):
        raise TypeError(f"{name}: got dtype {matrix.dtype}, wants floating point, 32 or 64 bits")
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
        raise ValueError(f"{name}: got shape {matrix.shape}, wants [n n]")
    if is_concrete(matrix):
        largest = _largest(matrix)
        check_finite(name, largest)
        asymmetry = np.max(np.abs(matrix[:, :STRIP] - matrix[:STRIP].T))
        if asymmetry > 1000 * jnp.finfo(matrix.dtype).eps * largest:
            raise ValueError(
                f"{name}: not symmetric (a difference of {asymmetry:.3g}, largest entry "
                f"{largest:.3g}); a kernel of the training inputs with themselves is"
            )
    return matrix


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
