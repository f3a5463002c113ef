import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from ntkens.kernels import Kernel, blocks, tiles


@pytest.fixture(autouse=True)
def tiles_of_16(monkeypatch):
    monkeypatch.setattr(tiles, "CPU_TILE", 16)
    tiles._side.cache_clear()
    yield
    tiles._side.cache_clear()


def telltale(x1, x2=None):
    """Not symmetric between two sets, and 7 on the diagonal of one: both tell who was asked."""
    if x2 is None:
        mean = (x1[:, 0][:, None] + x1[:, 0][None, :]) / 2
        return Kernel(nngp=mean, ntk=jnp.where(jnp.eye(len(x1), dtype=bool), 7, jnp.sin(mean)))
    tile = x1[:, :1] + x2[:, 0][None, :] * 1.0625
    return Kernel(nngp=tile, ntk=jnp.sin(tile))


def gaussian(x1, x2=None):
    x2 = x1 if x2 is None else x2
    return jnp.exp(-jnp.sum((x1[:, None] - x2[None, :]) ** 2, axis=-1))


def inputs(n, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(n, 3)))


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("n", [64, 45, 3])
def test_over_a_mesh_as_without_one(n):
    mesh = jax.make_mesh((4,), ("rows",))
    x, other, v = inputs(n), inputs(22, 1), inputs(n, 2)
    kernel, cross = gaussian(x), gaussian(x, other)
    found = blocks.kernel(gaussian, x, mesh=mesh)
    close(found, kernel)
    if n == 64:
        assert [shard.data.shape for shard in found.addressable_shards] == [(16, 64)] * 4
    close(blocks.kernel(gaussian, x, other, mesh=mesh), cross)
    close(blocks.matvec(gaussian, x, other, other, mesh=mesh), cross @ other)
    operator = blocks.operator(gaussian, x, mesh=mesh)
    close(operator.matvec(v), kernel @ v)
    close(jax.jit(operator.matvec)(v), kernel @ v)
    close(operator.diagonal, jnp.diag(kernel))
    close(operator.columns(jnp.array([2, 0])), kernel[:, jnp.array([2, 0])])


def test_any_mesh_set_or_not():
    mesh = jax.make_mesh((2, 2), ("a", "b"), axis_types=(AxisType.Explicit,) * 2)
    x, v = inputs(40), inputs(40, 1)
    expected = gaussian(x) @ v
    close(blocks.matvec(gaussian, x, v, mesh=mesh), expected)
    with jax.set_mesh(mesh):
        close(blocks.operator(gaussian, x, mesh=mesh).matvec(v), expected)


@pytest.mark.parametrize("n", [64, 45])
def test_the_matrix_is_symmetric_to_the_bit_with_the_diagonal_of_one_set(n):
    mesh = jax.make_mesh((4,), ("rows",))
    matrix = np.asarray(blocks.kernel(telltale, inputs(n), mesh=mesh).ntk)
    np.testing.assert_array_equal(matrix, matrix.T)
    np.testing.assert_array_equal(matrix.diagonal(), 7)


@pytest.mark.parametrize("n", [256, 250])
def test_the_work_of_a_device_falls_as_their_number(n):
    """Counted where it is done: every device calls back with the entries it evaluates."""
    x = inputs(n)
    for devices in (1, 2, 4):
        mesh = jax.make_mesh((devices,), ("rows",), devices=jax.devices()[:devices])
        entries = collections.Counter()

        def counted(x1, x2=None, entries=entries):
            size = len(x1) * len(x1 if x2 is None else x2)
            try:
                device = jax.lax.axis_index("rows")
            except NameError:  # only shapes are asked for: nothing runs
                device = -1
            jax.debug.callback(lambda device: entries.update({int(device): size}), device)
            return gaussian(x1, x2)

        tiles._side.cache_clear()
        evaluate = counted
        # Outside a mesh, as when shapes are asked for, there is no such axis.
        blocks.matvec(evaluate, x, x, mesh=mesh).block_until_ready()
        jax.effects_barrier()
        assert len(entries) == devices
        assert set(entries.values()) == {max(entries.values())}  # all the same
        assert max(entries.values()) * devices <= 1.1 * n * (n + 16) / 2
