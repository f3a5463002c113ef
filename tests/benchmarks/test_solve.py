"""The solve that `benchmarks/solve.py` runs at n = 60,000, at a size for a test: real processes."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from benchmarks import solve as benchmark
from ntkens.kernels import dual, fully_connected

ROOT = Path(__file__).parents[2]
N, KILLED_AT = 1000, 3

KILLED = f"""
import os, signal
from benchmarks import solve

write = solve.Store.write

def write_and_die(store, name, **arrays):
    write(store, name, **arrays)
    if name == "state" and arrays["iteration"] == {KILLED_AT}:
        os.kill(os.getpid(), signal.SIGKILL)

solve.Store.write = write_and_die
solve.main()
"""


def run(folder, *command):
    return subprocess.run(
        [sys.executable, *command, "iterative", "--n", str(N), "--rank", "50"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def stored(folder):
    (path,) = folder.glob("runs/benchmarks/solve/*/state.npz")
    return dict(np.load(path))


@pytest.mark.slow
def test_a_solve_that_is_killed_goes_on_to_its_end(tmp_path):
    """That it is to the same bits is tested of `solve.iterate`; here, that the answer is right."""
    assert run(tmp_path, "-c", KILLED).returncode == -signal.SIGKILL
    assert stored(tmp_path)["iteration"] == KILLED_AT
    done = run(tmp_path, "-m", "benchmarks.solve", "--out", "results")
    assert done.returncode == 0, done.stderr
    assert f"goes on from iteration {KILLED_AT}" in done.stdout
    row = json.loads((tmp_path / "results/benchmarks/solve.jsonl").read_text())
    assert row["converged"]
    assert row["iterations"] == stored(tmp_path)["iteration"] > KILLED_AT

    with jax.numpy_rank_promotion("allow"):
        inputs, regions = benchmark.manifold(0, N + benchmark.TEST)
    exact = np.asarray(inputs[:N], float)
    kernel = np.asarray(fully_connected.kernel_fn(dual.relu(), 3, w_std=2**0.5)(exact).ntk)
    ridged = kernel + 1e-3 * np.trace(kernel) / N * np.eye(N)
    targets = np.eye(10)[np.asarray(regions[:N])] - 1 / 10
    residual = np.linalg.norm(ridged @ stored(tmp_path)["solution"] - targets, axis=0)
    assert (residual <= 1e-3 * np.linalg.norm(targets, axis=0)).all()
