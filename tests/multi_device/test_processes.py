"""What runs over the devices of two processes equals the same in a single process."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

START = """
import sys
import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

jax.config.update("jax_enable_x64", True)
address, rank = sys.argv[1], int(sys.argv[2])
jax.distributed.initialize(address, 2, rank)
assert jax.device_count() == 2 * jax.local_device_count() == 8
"""

ENSEMBLE = """
from ntkens.models import mlp
from ntkens.training import gradient_descent, members

mesh = jax.make_mesh((8,), ("members",))
model = mlp.mlp([16], 5)


def member(key, inputs):
    params = model.init(key, inputs)
    outputs = lambda params: model.apply(params, inputs)
    return gradient_descent.train(outputs, params, jnp.eye(5), 1.0, steps=20)[0]


for size in (16, 11):  # divided by the devices, and not
    keys = members.keys(jax.random.key(0), size)
    spread = multihost_utils.process_allgather(
        members.map(member, keys, jnp.eye(5), mesh=mesh), tiled=True
    )
    alone = members.map(member, keys, jnp.eye(5))
    for one, other in zip(jax.tree.leaves(spread), jax.tree.leaves(alone), strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)
print("equal")
"""


SOLVE = """
from ntkens.kernels import blocks
from ntkens.predictors import sharded, solve


def kernel_fn(x1, x2=None):
    x2 = x1 if x2 is None else x2
    return jnp.exp(-jnp.sum((x1[:, None] - x2[None, :]) ** 2, axis=-1))


key, ridge = jax.random.key(3), 0.1
x = np.random.default_rng(0).normal(size=(118, 3))  # which 8 devices do not divide
targets = np.sin(3 * x[:, :2])


def solved(operator, solver, **mesh):
    preconditioner = solve.preconditioner(key, operator, 12, ridge=ridge)
    arguments = {"ridge": ridge, "preconditioner": preconditioner, "iterations": 12}
    solution, info = solver(operator, targets, tolerance=1e-13, **arguments, **mesh)
    means = blocks.matvec(kernel_fn, x[:5] + 0.1, solution, x, **mesh)
    return np.asarray(solution), np.asarray(means), int(info.iterations)


mesh = jax.make_mesh((8,), ("rows",))
operator = sharded.operator(blocks.operator(kernel_fn, x, mesh=mesh), mesh)
spread = solved(operator, sharded.conjugate_gradients, mesh=mesh)
alone = solved(blocks.operator(kernel_fn, x), solve.conjugate_gradients)
assert spread[2] == alone[2] == 12
for one, other in zip(spread, alone, strict=True):
    np.testing.assert_allclose(one, other, atol=1e-6 * np.abs(other).max())
matrix = blocks.kernel(kernel_fn, x[:112], mesh=mesh)
gathered = multihost_utils.process_allgather(matrix, tiled=True)
np.testing.assert_allclose(gathered, kernel_fn(x[:112]), rtol=1e-12)
print("equal")
"""


@pytest.mark.parametrize("program", [ENSEMBLE, SOLVE], ids=["members", "solve"])
def test_two_processes_equal_one(program):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    command = [sys.executable, "-c", START + program, address]
    processes = [
        subprocess.Popen(
            [*command, str(rank)], cwd=ROOT, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        for rank in range(2)
    ]  # fmt: skip
    try:
        outputs = [process.communicate(timeout=120)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, output in zip(processes, outputs, strict=True):
        assert process.returncode == 0, output
        assert output.rstrip().endswith("equal"), output
