import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkens.kernels import Kernel, blocks, dual, fully_connected, stax, tiles

pytestmark = pytest.mark.optimised

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def tiles_of_16(monkeypatch):
    monkeypatch.setattr(tiles, "CPU_TILE", 16)
    tiles._side.cache_clear()
    yield
    tiles._side.cache_clear()


def gaussian(x1, x2=None):
    """One array, of any two inputs."""
    x2 = x1 if x2 is None else x2
    return jnp.exp(-jnp.sum((x1[:, None] - x2[None, :]) ** 2, axis=-1))


def telltale(x1, x2=None):
    """Not symmetric between two sets, and 7 on the diagonal of one: both tell who was asked."""
    if x2 is None:
        one = x1[:, 0]
        mean = (one[:, None] + one[None, :]) / 2
        return Kernel(nngp=jnp.cbrt(mean), ntk=jnp.where(jnp.eye(len(x1), dtype=bool), 7, mean))
    tile = x1[:, :1] + 3 * x2[:, 0][None, :]
    return Kernel(nngp=jnp.cbrt(tile), ntk=tile)


def inputs(n, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(n, 3)))


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("n", "m"), [(37, 50), (3, 20)])
def test_matrix_products_and_operator_are_the_dense_ones(n, m):
    x, other, v = inputs(n), inputs(m, 1), inputs(n, 2)
    kernel, cross = gaussian(x), gaussian(x, other)
    close(blocks.kernel(gaussian, x), kernel)
    close(blocks.kernel(gaussian, x, other), cross)
    close(blocks.matvec(gaussian, x, v), kernel @ v)
    close(blocks.matvec(gaussian, x, other[:, 0], other), cross @ other[:, 0])
    operator = blocks.operator(gaussian, x)
    close(operator.matvec(v), kernel @ v)
    close(operator.diagonal, jnp.diag(kernel))
    at = jnp.array([2, 0, 2])
    close(operator.columns(at), kernel[:, at])


@pytest.mark.slow
def test_both_kernels_of_a_network_symmetric_to_the_bit_in_float32():
    x = inputs(40).at[21].set(inputs(40)[20])  # a duplicate, in another tile
    kernel_fn = fully_connected.kernel_fn(dual.relu(), 2, 1.4, 0.1)
    found = blocks.kernel(kernel_fn, x.astype(jnp.float32))
    for one, dense in zip(found, kernel_fn(x), strict=True):
        assert one.dtype == jnp.float32
        np.testing.assert_array_equal(one, one.T)
        np.testing.assert_allclose(one, dense, rtol=2e-6, atol=2e-6)  # 20 roundings


def test_the_diagonal_is_that_of_one_set_and_both_halves_are_one():
    n = 41  # 3 tiles of 14 rows: the last shares one with its neighbour
    x = jnp.arange(1.0, n + 1)[:, None]
    matrix = blocks.kernel(telltale, x).ntk
    np.testing.assert_array_equal(jnp.diag(matrix), 7)
    np.testing.assert_array_equal(matrix, matrix.T)
    assert matrix[0, n - 1] == 1 + 3 * n  # the tile of the lower rows first
    product = blocks.matvec(telltale, x, jnp.eye(n))
    np.testing.assert_array_equal(jnp.diag(product), 7)
    close(product, product.T)
    operator = blocks.operator(telltale, x)
    np.testing.assert_array_equal(operator.diagonal, 7)
    np.testing.assert_array_equal(operator.columns(jnp.arange(3))[:3].diagonal(), 7)


def test_a_tile_off_the_diagonal_is_evaluated_once_and_the_other_kernel_never():
    evaluated = []

    def counted(x1, x2=None):
        size = len(x1) * len(x1 if x2 is None else x2)
        jax.debug.callback(lambda: evaluated.append(size))
        return telltale(x1, x2)

    x = inputs(64)
    blocks.matvec(counted, x, x).block_until_ready()
    jax.effects_barrier()
    assert sum(evaluated) == 16**2 * (6 + 4)  # of 16 tiles: above the diagonal, and on it

    def program(component):
        product = jax.jit(lambda x: blocks.matvec(telltale, x, x, component=component))
        return product.lower(x).compile().as_text()

    assert "cbrt" in program("nngp")
    assert "cbrt" not in program("ntk")


def test_an_operator_is_a_pytree_whose_inputs_are_arguments():
    def linear(x1, x2=None):
        return x1 @ (x1 if x2 is None else x2).T

    traced = []

    @jax.jit
    def product(operator, v):
        traced.append(operator)
        return operator.matvec(v)

    x = inputs(40)
    operator = blocks.operator(linear, x)
    close(product(operator, x), x @ (x.T @ x))
    doubled = jax.tree.map(lambda leaf: 2 * leaf, operator)
    close(product(doubled, x), 4 * x @ (x.T @ x))
    assert len(traced) == 1


def test_gradients_are_those_of_the_dense_product():
    x, v = inputs(20), inputs(20, 1)
    found = jax.grad(lambda x: jnp.sum(v * blocks.matvec(gaussian, x, v)))(x)
    close(found, jax.grad(lambda x: jnp.sum(v * (gaussian(x) @ v)))(x))


@pytest.mark.slow
def test_images_through_stax():
    images = jnp.asarray(np.random.default_rng(0).normal(size=(20, 3, 3, 2)))
    network = stax.serial(stax.Conv(1, (2, 2)), stax.Relu(), stax.Flatten(), stax.Dense(1))
    kernel_fn = stax.kernel_fn(network)
    v = inputs(20)
    found = blocks.matvec(kernel_fn, images, v)
    np.testing.assert_allclose(found, kernel_fn(images).ntk @ v, rtol=1e-6, atol=1e-6)


def test_less_memory_smaller_tiles_and_the_least_is_told():
    seen = []

    def watched(x1, x2=None):
        seen.append(len(x1))
        return gaussian(x1, x2)

    tiles.CPU_TILE = 128  # the fixture puts it back
    x = inputs(256)
    plenty = blocks.matvec(watched, x, x)
    assert max(seen) == 128
    seen.clear()
    close(blocks.matvec(watched, x, x, memory=2**17), plenty)
    compiled_last = seen[-1]
    assert 16 <= compiled_last < 128
    with pytest.raises(ValueError, match=r"memory: got 100 bytes.*16 rows, need \d+"):
        blocks.matvec(watched, x, x, memory=100)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda x: blocks.kernel(gaussian, x.at[3, 1].set(jnp.nan)), ValueError, "x1: holds NaN"),
        (lambda x: blocks.kernel(gaussian, x, x[:0]), ValueError, "x2: got shape"),
        (lambda x: blocks.matvec(gaussian, x, x[:5]), ValueError, "v: got shape .* rows as x1: 20"),
        (lambda x: blocks.matvec(gaussian, x, x, x[:5]), ValueError, "rows as x2: 5"),
        (lambda x: blocks.matvec(gaussian, x, x * jnp.inf), ValueError, "v: holds NaN"),
        (lambda x: blocks.operator(gaussian, x, component="ntks"), ValueError, "component: got"),
        (lambda x: blocks.operator(gaussian, x).matvec(x[:19]), ValueError, "rows as x1: 20"),
        (lambda x: blocks.kernel(gaussian, x, memory=0), ValueError, "memory: got 0"),
        (lambda x: blocks.kernel(gaussian, x, memory=np.nan), ValueError, "memory: got nan"),
    ],
)  # fmt: skip
def test_mistakes_are_named(call, error, words):
    with pytest.raises(error, match=words):
        call(inputs(20))


PEAK = """
import sys
import jax, jax.numpy as jnp, numpy as np
from ntkens.kernels import blocks, dual, fully_connected, tiles

tiles.CPU_TILE = 4096  # as on an accelerator, so that it is the memory that decides
n, memory, how = 6000, 64 * 2**20, sys.argv[1]
kernel_fn = fully_connected.kernel_fn(dual.relu(), 3)


def peak():
    line = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


def tangent(*x):  # one function: a new one would be compiled within what is measured
    return kernel_fn(*x).ntk


def work(x):
    v = jnp.ones((len(x), 10), jnp.float32)
    if how == "matvec":
        return blocks.matvec(kernel_fn, x, v, memory=memory)
    if how == "kernel":
        return blocks.kernel(tangent, x, memory=memory)
    return kernel_fn(x).ntk @ v


x = jnp.asarray(np.random.default_rng(0).normal(size=(n, 50)), jnp.float32)
work(x[:1200]).block_until_ready()  # what threads and the allocator take, once
jax.eval_shape(work, x)  # compiles, and does not run
before = peak()
work(x).block_until_ready()
print(peak() - before, memory, 4 * n * n)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from /proc")
@pytest.mark.parametrize("how", ["matvec", "kernel", "dense"])
def test_the_process_stays_within_the_memory(how):
    command = [sys.executable, "-c", PEAK, how]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    grown, memory, matrix = map(int, output.split())
    result = matrix if how == "kernel" else 0
    # the product's packed operands and pages not given back; a quarter of the matrix
    slack = 32 * 2**20
    if how == "dense":
        assert grown > matrix > memory + slack
    else:
        assert grown <= result + memory + slack
