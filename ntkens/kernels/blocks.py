"""Any kernel in tiles: the whole matrix, or its products without the matrix; over a device mesh.

    ntk = blocks.kernel(kernel_fn, x, memory=2**30).ntk     # at most 1 GiB beside the result
    product = blocks.matvec(kernel_fn, x, v)                # K(x, x) v; no n x n matrix
    means = blocks.matvec(kernel_fn, test, solution, x)     # K(test, x) solution
    operator = blocks.operator(kernel_fn, x, mesh=mesh)     # what a solver takes

A `kernel_fn` is any function `(x1, x2=None)` of inputs with examples first, traceable, that gives
a `Kernel` or one array; `x2=None` is x1 with itself: symmetric, with an exact diagonal. Of a
symmetric matrix a tile off the diagonal is evaluated once and serves both halves; the tiles on the
diagonal are evaluated as `kernel_fn(tile)`.

All functions compile themselves and choose the side of the tile: what stays in a core's cache on a
CPU, more on an accelerator, less where `memory` asks for it: bytes on each device for all that is
neither input nor result, by the compiler's own count. None is a quarter of the device's memory.

With a mesh, of any axes, the tiles are dealt out evenly to all its devices, each of which holds all
inputs and vectors; a size that the devices do not divide works too. A mesh over several processes
wants the same call in each, with the same arrays, and `memory` where they have not the same;
results are then global arrays.
"""

import functools
from collections.abc import Callable
from typing import Any, Literal, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.tree_util import Partial
from jaxtyping import Array, Float

from ntkens.checks import check_finite, is_concrete
from ntkens.kernels import Kernel, Operator, tiles

Component = Literal["nngp", "ntk"]
Matrices = TypeVar("Matrices", Kernel, Array)

_matmul = functools.partial(jnp.matmul, precision="highest")


def kernel(
    kernel_fn: Callable[..., Matrices],
    x1: Float[Array, "n ..."],
    x2: Float[Array, "m ..."] | None = None,
    *,
    memory: int | None = None,
    mesh: Mesh | None = None,
) -> Matrices:
    """All that `kernel_fn(x1, x2)` gives, tile by tile; symmetric to the bit when x2 is None.

    Args:
        kernel_fn: see the module.
        x1: inputs, examples first.
        x2: other inputs; None for x1 with itself.
        memory: bytes on each device beside inputs and result; see the module.
        mesh: devices; the result is sharded by rows where they divide n, and held whole by each
            where they do not. No tiles are exchanged: a device evaluates all of its rows, which
            is twice the work of symmetric halves.

    Raises:
        ValueError: inputs hold NaN or infinities, or no examples; the memory does not hold the
            smallest tile.
    """
    x1, x2 = _checked_inputs(x1, x2)
    return tiles.run(_gram, x1, x2, static=(kernel_fn, None), memory=memory, mesh=mesh)


def matvec(
    kernel_fn: Callable[..., Kernel | Array],
    x1: Float[Array, "n ..."],
    v: Float[Array, "m *outputs"],
    x2: Float[Array, "m ..."] | None = None,
    *,
    component: Component = "ntk",
    memory: int | None = None,
    mesh: Mesh | None = None,
) -> Float[Array, "n *outputs"]:
    """K(x1, x2) v, never holding more of K than a tile.

    Args:
        kernel_fn: see the module.
        x1: inputs, examples first.
        v: vectors, one row for each row of x2, or of x1 without it.
        x2: other inputs; None for x1 with itself.
        component: of the kernel; the other one is not computed. A kernel that is one array has
            only that.
        memory: bytes on each device beside inputs and result; see the module.
        mesh: devices; the result is held whole by each.

    Raises:
        ValueError: inputs or v hold NaN or infinities, or no examples; v has another number of
            rows; the component is unknown; the memory does not hold the smallest tile.
    """
    _check_component(component)
    x1, x2 = _checked_inputs(x1, x2)
    v = _checked("v", v)
    static = (kernel_fn, component)
    return tiles.run(_product, x1, x2, v, static=static, memory=memory, mesh=mesh)


def operator(
    kernel_fn: Callable[..., Kernel | Array],
    x: Float[Array, "n ..."],
    *,
    component: Component = "ntk",
    memory: int | None = None,
    mesh: Mesh | None = None,
) -> Operator:
    """K(x, x) as what a solver takes: products, diagonal and columns. Arguments as for `matvec`.

    Over a mesh, columns are sharded by rows where the devices divide n; all else is held whole by
    each. The diagonal is that of `kernel_fn(x)`, in the columns too.
    """
    _check_component(component)
    x, _ = _checked_inputs(x, None)
    if mesh is not None:
        x = tiles.placed(x, mesh)  # once, and not at every product
    run = functools.partial(tiles.run, static=(kernel_fn, component), memory=memory, mesh=mesh)
    diagonal = run(_diagonal, x)
    return Operator(  # a pytree: under jit the inputs are arguments, and no constants
        matvec=Partial(lambda x, v: run(_product, x, None, v), x),
        diagonal=diagonal,
        columns=Partial(lambda *arrays: run(_columns, *arrays), x, diagonal),
    )


@tiles.compiled
def _product(x1, x2, v, kernel_fn, component, side, mesh):
    """K(x1, x2) v; the symmetric one from the tiles above the diagonal and those on it."""
    name, x = ("x1", x1) if x2 is None else ("x2", x2)
    if not v.ndim or len(v) != len(x):
        raise ValueError(f"v: got shape {v.shape}; want as many rows as {name}: {len(x)}")
    evaluate = _evaluator(kernel_fn, component)
    vectors = v.reshape(len(v), -1)
    side, firsts = tiles.cut(len(x1), side, mesh)
    take, own = tiles.take, tiles.own

    def above(total, pair, x1, vectors):
        i, j = pair
        tile = evaluate(take(x1, i, side), take(x1, j, side))
        total = tiles.add(total, i, _matmul(tile, own(vectors, j, side)))
        return tiles.add(total, j, _matmul(tile.T, own(vectors, i, side)))

    def diagonal(total, i, x1, vectors):
        tile = evaluate(take(x1, i, side))
        return tiles.add(total, i, _matmul(tile, own(vectors, i, side)))

    def cross(total, pair, x1, x2, vectors):
        i, j = pair
        tile = evaluate(take(x1, i, side), take(x2, j, other))
        return tiles.add(total, i, _matmul(tile, own(vectors, j, other)))

    dtype = jnp.result_type(_shapes(evaluate, x1, x2), v)
    total = jnp.zeros((len(x1), vectors.shape[1]), dtype)
    if x2 is None:
        pairs = firsts[np.stack(np.triu_indices(len(firsts), 1), axis=1)]
        total = tiles.dealt(above, total, pairs, mesh, x1, vectors)
        total += tiles.dealt(diagonal, jnp.zeros_like(total), firsts, mesh, x1, vectors)
    else:
        other, columns = tiles.cut(len(x2), side)
        pairs = np.stack(np.meshgrid(firsts, columns, indexing="ij"), axis=-1).reshape(-1, 2)
        total = tiles.dealt(cross, total, pairs, mesh, x1, x2, vectors)
    return total.reshape(len(x1), *v.shape[1:])


@tiles.compiled
def _diagonal(x, kernel_fn, component, side, mesh):
    evaluate = _evaluator(kernel_fn, component)
    side, firsts = tiles.cut(len(x), side, mesh)

    def diagonal(total, i, x):
        return tiles.add(total, i, jnp.diagonal(evaluate(tiles.take(x, i, side))))

    total = jnp.zeros(len(x), _shapes(evaluate, x).dtype)
    return tiles.dealt(diagonal, total, firsts, mesh, x)


@tiles.compiled
def _columns(x, diagonal, indices, kernel_fn, component, side, mesh):
    found = _strips(_evaluator(kernel_fn, component), x, x[indices], side, mesh)
    return found.at[indices, jnp.arange(len(indices))].set(diagonal[indices])


@tiles.compiled
def _gram(x1, x2, kernel_fn, component, side, mesh):
    evaluate = _evaluator(kernel_fn, component)
    if x2 is None and mesh is None:
        return _halves(evaluate, x1, side)
    return _strips(evaluate, x1, x2, side, mesh)


def _halves(evaluate, x, side):
    """The symmetric matrix: tiles above the diagonal, their transposes, those on the diagonal.

    The transposes are read from the matrix in a loop of their own. Beside the evaluation, the
    compiler would compute a tile twice, and round it differently. The diagonal comes last: where
    the last tile shares rows with its neighbour, their pair holds some of it.
    """
    side, firsts = tiles.cut(len(x), side)

    def above(matrices, pair):
        i, j = pair
        return _written(matrices, evaluate(tiles.take(x, i, side), tiles.take(x, j, side)), i, j)

    def mirrored(matrices, pair):
        i, j = pair
        found = jax.tree.map(lambda one: jax.lax.dynamic_slice(one, (i, j), (side, side)), matrices)
        return _written(matrices, jax.tree.map(jnp.transpose, found), j, i)

    def diagonal(matrices, i):
        return _written(matrices, evaluate(tiles.take(x, i, side)), i, i)

    matrices = _zeros(evaluate, (len(x), len(x)), x)
    pairs = firsts[np.stack(np.triu_indices(len(firsts), 1), axis=1)]
    matrices = tiles.loop(above, matrices, pairs)
    matrices = tiles.loop(mirrored, matrices, pairs)
    return tiles.loop(diagonal, matrices, firsts)


def _strips(evaluate, x1, x2, side, mesh):
    """Each device's rows, all columns.

    Of the symmetric matrix K(i, j) and K(j, i) are two evaluations of one tile, that of the lower
    rows first, and so equal to the bit. The turn is a branch: fused into the evaluation, it might
    change its rounding.
    """
    devices = 1 if mesh is None else mesh.size
    length = -(-len(x1) // devices)
    padded = x1
    if length * devices != len(x1):  # the last row, again, in the places that are left over
        padded = x1[np.arange(length * devices).clip(max=len(x1) - 1)]
    side, firsts = tiles.cut(length, side)
    firsts = firsts.clip(max=length - side)
    strips = np.arange(devices)[:, None] * length + firsts  # where rows of tiles begin in x1
    other, columns = (side, strips.ravel()) if x2 is None else tiles.cut(len(x2), side)

    def cross(matrices, at, x1, x2):
        row, own_row, column = at
        found = evaluate(tiles.take(x1, row, side), tiles.take(x2, column, other))
        return _written(matrices, found, own_row, column)

    def ordered(matrices, at, x):
        row, own_row, column = at
        low, high = jnp.minimum(row, column), jnp.maximum(row, column)
        found = evaluate(tiles.take(x, low, side), tiles.take(x, high, side))
        turn = functools.partial(jax.tree.map, jnp.transpose)
        found = jax.lax.cond(row > column, turn, lambda found: found, found)
        return _written(matrices, found, own_row, column)

    def diagonal(matrices, at, x):
        row, own_row = at
        return _written(matrices, evaluate(tiles.take(x, row, side)), own_row, row)

    def strip(places, rows, x1, x2):
        matrices = _zeros(evaluate, (length, width), x1, x2)
        if x2 is not None:
            return tiles.loop(cross, matrices, places, x1, x2)
        matrices = tiles.loop(ordered, matrices, places, x1)
        return tiles.loop(diagonal, matrices, rows, x1)

    width = length * devices if x2 is None else len(x2)
    rows = np.stack([strips.ravel(), np.tile(firsts, devices)], axis=1)
    places = np.concatenate(
        [rows.repeat(len(columns), axis=0), np.tile(columns, len(rows))[:, None]], axis=1
    )
    if mesh is not None:
        strip = tiles.over(mesh, strip, split=2, whole=2, result_is_split=True)
    matrices = strip(places, rows, padded, x2)
    width = len(x1) if x2 is None else width
    return jax.tree.map(lambda matrix: matrix[: len(x1), :width], matrices)


def _written(matrices, found, row, column):
    return jax.tree.map(
        lambda matrix, tile: jax.lax.dynamic_update_slice(matrix, tile, (row, column)),
        matrices,
        found,
    )


def _zeros(evaluate, shape, x1, x2=None):
    return jax.tree.map(lambda one: jnp.zeros(shape, one.dtype), _shapes(evaluate, x1, x2))


def _shapes(evaluate, x1, x2=None):
    return jax.eval_shape(evaluate, x1[:1], None if x2 is None else x2[:1])


def _evaluator(kernel_fn, component):
    """The kernel function of one component, if one is named and it has them."""

    def evaluate(x1, x2=None) -> Any:
        found = kernel_fn(x1) if x2 is None else kernel_fn(x1, x2)
        if component is None or not isinstance(found, Kernel):
            return found
        return found.ntk if component == "ntk" else found.nngp

    return evaluate


def _check_component(component):
    if component not in Kernel._fields:
        raise ValueError(f"component: got {component!r}; want one of {Kernel._fields}")


def _checked_inputs(x1, x2):
    x1, x2 = _checked("x1", x1), None if x2 is None else _checked("x2", x2)
    for name, x in (("x1", x1), ("x2", x2)):
        if x is not None and (not x.ndim or not len(x)):
            raise ValueError(f"{name}: got shape {x.shape}; want at least one example, first")
    return x1, x2


def _checked(name, array):
    """An array without NaN or infinities, as far as this process can see it."""
    array = array if hasattr(array, "ndim") else jnp.asarray(array)
    if is_concrete(array) and getattr(array, "is_fully_addressable", True):
        check_finite(name, array)
    return array
