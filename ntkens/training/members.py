"""Many networks as one program: an ensemble is a pytree with a leading members axis.

`map` runs a function of one member over all of them. What is done to each is the function's
business, and so one call may initialise, train and evaluate, and keep the predictions alone:

    model = mlp.mlp([2048], outputs=k)

    def member(key, targets, inputs):
        params = model.init(key, jnp.eye(k))
        outputs = lambda params: model.apply(params, range(k))
        params, info = gradient_descent.train(outputs, params, targets, 0.5, steps=1000)
        return model.apply(params, inputs), info

    predictions, info = members.map(member, members.keys(key, 10_000), targets, inputs)
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Key

from ntkens import tree

# What one core has for itself, 1 to 2 MiB on most servers. Past it the members of a chunk evict
# one another at every step.
CACHE = 2**20

# Below this many members a chunk loses to one at a time: batched products of small matrices are
# 1.1-1.3 times slower than single ones (x86), and the fewer dispatches do not make up for it.
FEWEST = 4


def keys(key: Key[Array, ""], members: int) -> Key[Array, " members"]:
    """One key per member. Member i's is `fold_in(key, i)`: the same in an ensemble of any size.

    Raises:
        ValueError: members < 1.
    """
    if not isinstance(members, int | np.integer) or members < 1:
        raise ValueError(f"members: got {members}; an ensemble has a whole number, at least 1")
    return jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(members))


def all_devices() -> Mesh:
    """A mesh of all devices, of all processes, to split members over."""
    return jax.make_mesh((jax.device_count(),), ("members",))


def init(
    init: Callable[[Key[Array, ""], Array], Any],
    key: Key[Array, ""],
    members: int,
    inputs: Array,
    *,
    chunk: int | None = None,
    mesh: Mesh | None = None,
) -> Any:
    """The params of an ensemble, stacked: `init(keys(key, members)[i], inputs)` is member i's.

    Args:
        init: a model's `(key, inputs) -> params`.
        key: of the ensemble.
        members: how many, at least 1.
        inputs: for shape and dtype.
        chunk: see `map`.
        mesh: see `map`.

    Raises:
        ValueError: members < 1, or a chunk < 1.
    """
    return map(init, keys(key, members), inputs, chunk=chunk, mesh=mesh)


def map(
    function: Callable[..., Any],
    stacked: Any,
    *shared: Any,
    chunk: int | None = None,
    mesh: Mesh | None = None,
) -> Any:
    """`function(member, *shared)` of every member, results stacked: one compiled program.

    Members go through in chunks: one chunk is vmapped, chunks follow one another, and a member's
    whole run stays within its chunk. `chunk=None` asks the compiler for the bytes one member's run
    takes, and fits a chunk to a core's cache on a CPU and to half the memory on an accelerator. The
    result does not depend on it, but for the order of sums.

    With a mesh the members are split over all its devices, each going through its own in chunks,
    with no communication and results left where they were computed. A number of members that the
    devices do not divide works too, but then every device sees all of `stacked` and of the results.
    A mesh over several processes wants the same call in each, with the same arrays; the results
    are then global arrays, of which a process sees its part.
    On a CPU small products keep one core busy: with a host device per core, 2 of them by
    `XLA_FLAGS=--xla_force_host_platform_device_count=2`, `mesh=members.all_devices()` uses all.

    A new `function` object, such as a lambda written in the call, is compiled anew: define it once,
    and pass what changes as `shared`.

    Args:
        function: of one member, and of `shared`; pure and traceable.
        stacked: pytree, members first: keys, params, learning rates, data of their own.
        *shared: pytrees of arrays that every member sees whole.
        chunk: members at a time on each device, at least 1.
        mesh: devices to split the members over.

    Raises:
        ValueError: leading axes that differ, or no members; a chunk < 1.
    """
    if tree.size(stacked) < 1:
        raise ValueError("stacked: got 0 members; an ensemble has at least 1")
    if chunk is not None and (not isinstance(chunk, int | np.integer) or chunk < 1):
        raise ValueError(f"chunk: got {chunk}; it is at least 1 member at a time, or None")
    if mesh is not None:
        mesh = Mesh(mesh.devices, mesh.axis_names)  # in every axis the compiler moves the inputs
        split = PartitionSpec(mesh.axis_names if tree.size(stacked) % mesh.size == 0 else None)
        stacked = _placed(stacked, NamedSharding(mesh, split))
        shared = _placed(shared, NamedSharding(mesh, PartitionSpec()))
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return _map(function, stacked, shared, chunk, mesh)
    return _map(function, stacked, shared, chunk, mesh)


def _placed(arrays, sharding):
    """The arrays on the mesh; over several processes, each gives its own devices their parts."""

    def place(leaf):
        if not sharding.mesh.is_multi_process or not getattr(leaf, "is_fully_addressable", True):
            return jax.device_put(leaf, sharding)
        if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            data = place(jax.random.key_data(leaf))
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
        values = np.asarray(leaf)
        return jax.make_array_from_callback(values.shape, sharding, lambda index: values[index])

    return jax.tree.map(place, arrays)


@functools.partial(jax.jit, static_argnums=(0, 3, 4))
def _map(function, stacked, shared, chunk, mesh):
    members = tree.size(stacked)
    devices = 1 if mesh is None else mesh.size
    local = -(-members // devices)
    if chunk is None:
        device = jax.local_devices()[0] if mesh is None else mesh.local_devices[0]
        chunk = _chunk(_member_bytes(function, stacked, shared), local, device)

    def run(stacked, shared):
        def member(one):
            return function(one, *shared)

        if chunk == 1:
            return jax.lax.map(member, stacked)
        return jax.lax.map(member, stacked, batch_size=min(chunk, local))

    if mesh is None:
        return run(stacked, shared)
    is_uneven = members % devices != 0
    if is_uneven:  # the last member, again, in the places that are left over
        stacked = tree.index(stacked, jnp.minimum(jnp.arange(local * devices), members - 1))
    split, whole = PartitionSpec(mesh.axis_names), PartitionSpec()
    # No checks of varying axes: a member's loop may well start from constants.
    sharded = jax.shard_map(
        run, mesh=mesh, in_specs=(split, whole), out_specs=split, check_vma=False
    )
    results = sharded(stacked, shared)
    return tree.index(results, slice(members)) if is_uneven else results


def _member_bytes(function, stacked, shared):
    """What one member's run touches: its input, its result, and the compiler's scratch space."""
    one = jax.eval_shape(lambda stacked: tree.index(stacked, 0), stacked)
    program = jax.jit(function).lower(one, *jax.eval_shape(lambda: shared)).compile()
    memory = program.memory_analysis()
    if memory is None:
        raise ValueError(
            "chunk: got None, but this compiler does not tell what memory a member "
            "takes; give the number of members at a time"
        )
    scratch = memory.temp_size_in_bytes + memory.output_size_in_bytes
    return scratch + sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(one))


def _chunk(member_bytes, members, device):
    """As many members as the device's cache or memory holds, in chunks of even size."""
    on_cpu = device.platform == "cpu"
    statistics = {} if on_cpu else device.memory_stats()
    if statistics is None:
        raise ValueError(
            f"chunk: got None, but {device} does not tell its memory; give the number "
            "of members at a time"
        )
    most = (CACHE if on_cpu else statistics["bytes_limit"] // 2) // max(member_bytes, 1)
    if most < (FEWEST if on_cpu else 1):
        return 1
    return -(-members // -(-members // most))
