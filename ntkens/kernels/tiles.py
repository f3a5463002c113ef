"""Inputs cut into tiles, and a program over pairs of them: what `blocks` loops over.

A tile goes by the first of its own rows. The last tile of an axis begins early and shares rows with
its neighbour, so that all have one shape and no input is copied to be padded; sums take from it
the rows that are its own.
"""

import functools
import os

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ntkens.checks import is_concrete

# Rows of a tile. On a CPU 512 x 512 floats are 1 MiB, a core's cache, and smaller products are
# slower; an accelerator wants more at once.
CPU_TILE, ACCELERATOR_TILE = 512, 4096

# Below, a tile's overheads outweigh its work.
SMALLEST = 16


def cut(length, side, mesh=None):
    """The side of the tiles, at most `side`, and the first own row of each.

    Over a mesh their number is a multiple of twice the devices, so that of pairs is one of the
    devices.
    """
    count = -(-length // side)
    if mesh is not None:
        count = min(length, -(-count // (2 * mesh.size)) * 2 * mesh.size)
    side = -(-length // count)
    return side, np.arange(0, length, side, dtype=np.int32)


def take(array, first, side):
    """The rows of a tile. Beyond the end the slice is moved back by JAX."""
    return jax.lax.dynamic_slice_in_dim(array, first, side)


def own(array, first, side):
    """The same, with zeros for the rows that are not its own."""
    return _masked(take(array, first, side), first, len(array))


def add(total, first, rows):
    """Add what a tile makes of its own rows."""
    rows = take(total, first, len(rows)) + _masked(rows, first, len(total)).astype(total.dtype)
    return jax.lax.dynamic_update_slice_in_dim(total, rows, first, 0)


def _masked(rows, first, length):
    start = jnp.minimum(first, length - len(rows))
    is_own = start + jnp.arange(len(rows)) >= first
    return jnp.where(is_own.reshape(-1, *(1 for _ in rows.shape[1:])), rows, 0)


def mirrored(matrix):
    """The lower triangle, and its mirror image above: symmetric to the bit.

    Of a matrix that is held in memory (by a loop or a conditional around this): fused into what
    makes the matrix, the two halves would be computed twice, and rounded differently.
    """
    index = jnp.arange(len(matrix))
    return jnp.where(index[:, None] >= index[None, :], matrix, matrix.T)


def loop(body, carry, places, *arrays):
    """`carry = body(carry, place, *arrays)` for each place: one compiled body."""
    if not len(places):
        return carry
    return jax.lax.scan(lambda carry, place: (body(carry, place, *arrays), None), carry, places)[0]


def dealt(body, total, places, mesh, *arrays):
    """The same of sums, the places dealt out evenly to the devices; `total` begins with zeros.

    Where they do not divide, some devices have a tile beyond the end, without own rows.
    """
    if mesh is None:
        return loop(body, total, places, *arrays)

    def part(places, total, *arrays):
        return jax.lax.psum(loop(body, total, places, *arrays), mesh.axis_names)

    idle = np.full((-len(places) % mesh.size, *places.shape[1:]), np.iinfo(np.int32).max, np.int32)
    places = np.concatenate([places, idle])
    return over(mesh, part, split=1, whole=1 + len(arrays))(places, total, *arrays)


def over(mesh, function, *, split, whole, result_is_split=False):
    """`function` on every device; of its arguments the first are split by rows, the others whole.

    Without checks of varying axes: a kernel's loops may well start from constants.
    """
    rows, all_rows = PartitionSpec(mesh.axis_names), PartitionSpec()
    return jax.shard_map(
        function,
        mesh=mesh,
        in_specs=(rows,) * split + (all_rows,) * whole,
        out_specs=rows if result_is_split else all_rows,
        check_vma=False,
    )


compiled = functools.partial(jax.jit, static_argnames=("kernel_fn", "component", "side", "mesh"))


def run(program, *arrays, static, memory, mesh):
    """`program(*arrays, kernel_fn, component, side, mesh)` with the largest tiles that fit."""
    if memory is not None and not memory >= 1:
        raise ValueError(f"memory: got {memory}; want bytes, or None for a quarter of the device's")
    if mesh is None:
        side = _side(program, _shapes(arrays), static, memory, None)
        return program(*arrays, *static, side, None)
    mesh = automatic(mesh)
    arrays = placed(arrays, mesh)
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
        side = _side(program, _shapes(arrays), static, memory, mesh)
        return program(*arrays, *static, side, mesh)


@functools.lru_cache(maxsize=256)
def _side(program, shapes, static, memory, mesh):
    """The side of the tiles, halved until the whole program fits by the compiler's count.

    The call that follows finds the program compiled.
    """
    device = jax.local_devices()[0] if mesh is None else mesh.local_devices[0]
    memory = _quarter(device) if memory is None else memory
    longest = max(one.shape[0] for one in jax.tree.leaves(shapes))
    side = min(longest, CPU_TILE if device.platform == "cpu" else ACCELERATOR_TILE)
    smallest = min(side, SMALLEST)
    while True:
        analysis = program.lower(*shapes, *static, side, mesh).compile().memory_analysis()
        needed = analysis.temp_size_in_bytes
        if needed <= memory:
            return side
        if side == smallest:
            raise ValueError(
                f"memory: got {memory} bytes, and the smallest tiles, of {side} rows, need "
                f"{needed}; give that much, or fewer or smaller inputs"
            )
        side = max(smallest, min(side // 2, int(side * (memory / needed) ** 0.5)))


def _quarter(device):
    """A quarter of the memory; host devices share theirs."""
    if device.platform == "cpu":
        whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return whole // jax.local_device_count("cpu") // 4
    statistics = device.memory_stats()
    if statistics is None:
        raise ValueError(f"memory: got None, but {device} does not tell its own; give bytes")
    return statistics["bytes_limit"] // 4


def _shapes(arrays):
    """What the compiler must know of the arrays: the same key as a call with them has."""

    def shape(array):
        sharding = getattr(array, "sharding", None)
        sharding = sharding if isinstance(sharding, NamedSharding) else None
        return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=sharding)

    return jax.tree.map(shape, arrays)


def automatic(mesh):
    """The mesh with axes of the kind in which the compiler moves the arrays."""
    return Mesh(mesh.devices, mesh.axis_names)


def placed(arrays, mesh):
    """Whole on every device of the mesh; of several processes each serves its own devices."""
    sharding = NamedSharding(automatic(mesh), PartitionSpec())

    def place(array):
        if not is_concrete(array):
            return array
        if not mesh.is_multi_process or not getattr(array, "is_fully_addressable", True):
            return jax.device_put(array, sharding)
        values = np.asarray(array)
        return jax.make_array_from_callback(values.shape, sharding, lambda index: values[index])

    return jax.tree.map(place, arrays)
