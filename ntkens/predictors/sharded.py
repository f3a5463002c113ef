"""The solvers of `solve` over a device mesh, on one process or several.

    operator = sharded.operator(blocks.operator(kernel_fn, x, mesh=mesh), mesh)
    preconditioner = solve.preconditioner(key, operator, rank, ridge=ridge)
    solution, info = sharded.conjugate_gradients(
        operator, targets, mesh=mesh, ridge=ridge, preconditioner=preconditioner
    )
    means = blocks.matvec(kernel_fn, test, solution, x, mesh=mesh)    # streams too

The recursion is that of `solve`, on arrays split by rows: the state, and the factor [n r], the one
large array. Each device works on its rows, sums over rows are sums over devices, and inside a
product with the matrix (`jax.shard_map`, in `blocks`) the vectors are held whole. Where the devices
do not divide n, rows of zeros follow the last: in every array of a solver they stay zeros, and the
pivots of the preconditioner do not depend on them.

Over several processes each makes the same calls with the same arrays.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, ArrayLike, Float

from ntkens.checks import check_finite
from ntkens.kernels import Operator
from ntkens.predictors import solve
from ntkens.predictors.checks import check_operator, check_real
from ntkens.predictors.low_rank import Preconditioner


def operator(operator: Operator, mesh: Mesh) -> Operator:
    """The operator for vectors split by rows: A, with rows and columns of zeros at the end.

    Args:
        operator: A, made with the same mesh, of size n.
        mesh: devices, in any axes.

    Returns:
        An operator of the next multiple of the devices from n.

    Raises:
        TypeError: the operator is none.
    """
    check_operator(operator)
    length = len(operator.diagonal)
    split = functools.partial(_split, _by_rows(mesh))
    whole = functools.partial(_whole, _by_rows(mesh, whole=True), length)
    return Operator(
        matvec=lambda v: split(operator.matvec(whole(v))),
        diagonal=split(operator.diagonal),
        columns=lambda indices: split(operator.columns(indices)),
    )


def padded(array: Float[ArrayLike, "n *axes"], mesh: Mesh) -> Float[Array, "padded *axes"]:
    """Rows of zeros at the end, as many as the operator has; held whole by every device.

    Whole, because a solver checks the values of its targets, and a process must see them to do so.
    The first step splits the state.
    """
    values = np.asarray(array)
    values = np.pad(values, _padding(values, mesh))
    whole = _by_rows(mesh, whole=True)
    return jax.make_array_from_callback(values.shape, whole, lambda index: values[index])


def conjugate_gradients(
    operator: Operator,
    targets: Float[ArrayLike, "n *outputs"],
    *,
    mesh: Mesh,
    ridge: Float[ArrayLike, ""] = 0.0,
    preconditioner: Preconditioner | None = None,
    tolerance: float = 1e-5,
    iterations: int = 1000,
) -> tuple[Float[Array, "n *outputs"], solve.SolveInfo]:
    """`solve.conjugate_gradients` of rows on several devices.

    A long solve is a loop over `solve.iterate(operator, sharded.padded(targets, mesh), ...)`.

    Args:
        operator: from `operator`.
        targets: b, the same in every process.
        mesh: that of the operator.
        ridge: added to the diagonal, at least 0.
        preconditioner: `solve.preconditioner` of the operator; None for none.
        tolerance: of the residual of each right-hand side, relative to the norm of its targets.
        iterations: at most so many products with the matrix.

    Returns:
        The solution, held whole by every device, and its info.

    Raises:
        ValueError: targets have not the n rows of the operator, or hold NaN or infinities; as for
            `solve.iterate`.
    """
    check_real("targets", targets)
    check_finite("targets", targets)
    shape, length = np.shape(targets), len(operator.diagonal)
    if not shape or shape[0] + -shape[0] % mesh.size != length:
        raise ValueError(
            f"targets: got shape {shape}; want the rows of the operator, of size {length} with "
            f"the zeros that make it a multiple of {mesh.size} devices; see `operator`"
        )
    solution, info = solve.conjugate_gradients(
        operator,
        padded(targets, mesh),
        ridge=ridge,
        preconditioner=preconditioner,
        tolerance=tolerance,
        iterations=iterations,
    )
    return _whole(_by_rows(mesh, whole=True), shape[0], solution), info


def _by_rows(mesh, whole=False):
    """Split over the devices of all axes; in each of them the compiler moves the arrays."""
    mesh = Mesh(mesh.devices, mesh.axis_names)
    return NamedSharding(mesh, PartitionSpec() if whole else PartitionSpec(mesh.axis_names))


def _padding(array, mesh):
    return [(0, -len(array) % mesh.size)] + [(0, 0)] * (array.ndim - 1)


@functools.partial(jax.jit, static_argnums=0)
def _split(sharding, array):
    """Rows of zeros at the end, and the rows to their devices."""
    array = jnp.pad(array, _padding(array, sharding.mesh))
    return jax.lax.with_sharding_constraint(array, sharding)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _whole(sharding, length, array):
    """The rows before the zeros, on every device."""
    return jax.lax.with_sharding_constraint(array[:length], sharding)
