"""A kernel's largest part in few columns, and the preconditioner that it makes."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import cho_solve
from jaxtyping import Array, ArrayLike, Float, Int, Key

from ntkens.checks import check_finite, is_concrete
from ntkens.kernels import Operator
from ntkens.predictors.checks import check_operator, check_shape
from ntkens.predictors.panels import invert

# Pivots proposed at once.
PROPOSALS = 256

# In units of rounding of the diagonal: what is less of a pivot, or of a column's norm, is noise.
FLOOR = 100

_product = functools.partial(jnp.matmul, precision="highest")


class PartialCholesky(NamedTuple):
    """F F^T, close to a matrix from below.

    Attributes:
        factor: F; columns of zeros after the last that is not rounding.
        pivots: the rows and columns that F F^T has right, -1 for the columns of zeros.
        count: of pivots.
        left: the diagonal of A - F F^T.
    """

    factor: Float[Array, "n r"]
    pivots: Int[Array, " r"]
    count: Int[Array, ""]
    left: Float[Array, " n"]


class Preconditioner(NamedTuple):
    """M = Q S Q^T + ridge (1 - Q Q^T): of low rank but for the ridge.

    Attributes:
        basis: Q, orthonormal columns, or columns of zeros.
        factor: lower Cholesky factor of S, which holds the ridge.
        ridge: that of the system, and what F leaves.
    """

    basis: Float[Array, "n r"]
    factor: Float[Array, "r r"]
    ridge: Float[Array, ""]


def partial_cholesky(key: Key[Array, ""], operator: Operator, rank: int) -> PartialCholesky:
    """A factor F of low rank of a positive semi-definite matrix A, from r of its columns.

    Randomly pivoted Cholesky (Chen, Epperly, Tropp and Webber, arXiv:2207.06503): each pivot is
    drawn with probability proportional to the diagonal of what is left, A - F F^T. Here many are
    proposed at once, and one is rejected with the probability that makes the outcome that of
    drawing one by one (accelerated; Epperly, Tropp and Webber, arXiv:2410.03969).

    The draws belong to the indices, so that rows of zeros at the end, or rows on other devices,
    leave the pivots as they are. It ends early where the diagonal that is left is rounding.

    Args:
        key: of the draws.
        operator: A; its `columns` is called outside jit.
        rank: of F, from 1 to n.

    Raises:
        ValueError: the rank is out of range; the diagonal is negative somewhere, or NaN.
        TypeError: the operator is none.
    """
    check_operator(operator)
    length = len(operator.diagonal)
    if not isinstance(rank, int | np.integer) or not 1 <= rank <= length:
        raise ValueError(f"rank: got {rank}, wants 1 to {length}, the size of the matrix")
    if is_concrete(operator.diagonal) and not np.all(operator.diagonal >= 0):
        raise ValueError(
            "operator.diagonal: has entries below zero, or NaN; that of a positive semi-definite "
            "matrix has not"
        )
    partial = _empty(operator.diagonal, rank)
    while partial.count < rank and np.any(partial.left > 0):
        key, proposing, accepting = jax.random.split(key, 3)
        proposals = _proposed(proposing, partial.left, min(PROPOSALS, rank))
        columns = operator.columns(proposals)
        partial = _extended(accepting, partial, proposals, columns, operator.diagonal)
    return partial


def preconditioner(
    key: Key[Array, ""], operator: Operator, rank: int, *, ridge: Float[ArrayLike, ""] = 0.0
) -> Preconditioner:
    """M = F F^T + ridge + tau, with F from `partial_cholesky` and tau the mean diagonal it leaves.

    The condition number of M^-1 (A + ridge) is at most 1 + |A - F F^T| / ridge, with tau as
    without (arXiv:2304.12465); with it, the directions that F leaves are brought to the size of
    those it holds, which halves the iterations where what is left is above the ridge (measured).

    M^-1 by the formula of Woodbury would have errors of eps |A| / (ridge + tau) in the directions
    of F; in float32 that can be all there is. Hence Q, by Cholesky, twice. Memory: two arrays
    [n r] while it is built, one after.

    Args:
        key: of the pivots.
        operator: A, positive semi-definite.
        rank: of F, 1 to n; about 10 r^2 n operations.
        ridge: that of the system, in the units of A.

    Raises:
        ValueError, TypeError: as for `partial_cholesky`; the ridge is negative, or 0 where F
            leaves nothing.
    """
    check_shape("ridge", ridge, ())
    if is_concrete(ridge) and not 0 <= np.asarray(ridge) < np.inf:
        raise ValueError(f"ridge: got {ridge}, wants a finite number of at least 0")
    basis, _, count, left = partial_cholesky(key, operator, rank)
    ridge = jnp.asarray(ridge + jnp.sum(left) / jnp.sum(operator.diagonal > 0), basis.dtype)
    if is_concrete(ridge) and not ridge > 0:
        raise ValueError(
            f"ridge: got 0 for a matrix of rank {count}, which is singular; wants a number above 0"
        )
    basis, first = _orthonormalised(basis)
    basis, second = _orthonormalised(basis)
    factor = _small_factor(first, second, ridge)
    check_finite(f"rank: got {rank}, too much for {factor.dtype}; the factor", factor[-1])
    return Preconditioner(basis, factor, ridge)


def inverse_times(
    preconditioner: Preconditioner, columns: Float[Array, "n k"]
) -> Float[Array, "n k"]:
    """M^-1 columns; the part outside the basis is projected twice.

    After once, rounding has left eps of the part inside, and 1 / ridge would make that large
    beside the inverse inside. Twice is also positive definite, whatever the basis.
    """
    basis, factor, ridge = preconditioner
    inside = _product(basis.T, columns)
    outside = columns - _product(basis, inside)
    outside = outside - _product(basis, _product(basis.T, outside))
    return _product(basis, cho_solve((factor, True), inside)) + outside / ridge


@functools.partial(jax.jit, static_argnames="rank")
def _empty(diagonal, rank):
    factor = 0 * jnp.broadcast_to(diagonal[:, None], (len(diagonal), rank))  # sharded as it is
    return PartialCholesky(factor, jnp.full(rank, -1), jnp.zeros((), jnp.int32), jnp.copy(diagonal))


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
    columns = _product(jnp.where(accepted[None, :], columns, 0), invert(triangle).T)

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
    return PartialCholesky(factor, pivots, count + jnp.sum(accepted, dtype=count.dtype), left)


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
    return _product(factor, invert(triangle).T), triangle


@jax.jit
def _small_factor(first, second, ridge):
    """Cholesky factor of S = R R^T + ridge, with F = Q R and R = (first second)^T."""
    root = _product(first, second)
    gram = _product(root.T, root)
    ridged = gram + ridge * jnp.eye(len(gram), dtype=gram.dtype)
    return jnp.linalg.cholesky(ridged, symmetrize_input=False)
