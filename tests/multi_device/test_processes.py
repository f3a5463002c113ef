"""An ensemble over the devices of two processes equals the same one in a single process."""

import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

PROGRAM = """
import sys
import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

jax.config.update("jax_enable_x64", True)
address, rank = sys.argv[1], int(sys.argv[2])
jax.distributed.initialize(address, 2, rank)

from ntkens.models import mlp
from ntkens.training import gradient_descent, members

assert jax.device_count() == 2 * jax.local_device_count() == 8
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


def test_two_processes_equal_one():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    command = [sys.executable, "-c", PROGRAM, address]
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
