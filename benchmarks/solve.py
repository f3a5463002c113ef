"""Solvers: the mixed-precision Cholesky, and the kernel of 60,000 inputs that is never held.

    python -m benchmarks.solve cholesky                     # 4 minutes; one core
    python -m benchmarks.solve iterative --n 6000           # a minute; all cores
    python -m benchmarks.solve iterative --out results      # n = 60,000: 6 minutes, 3 GB

cholesky: the whole of `solve.cholesky` with 10 right-hand sides, casts and refinement included,
over `jnp.linalg.cholesky` in float64, in turn on the same core, in seconds of that core: at most
0.7; and that it says so where the matrix is beyond its reach. Eigenvalues in equal ratios.

iterative: the ReLU NTK of depth 3 in float32, ridge 1e-3 trace / n. Inputs: a smooth manifold of
dimension 12 in 784, sines of random waves of a latent vector uniform in the cube, on the sphere of
radius sqrt(784); its spectrum is printed, and the kernel's. Targets: one-hot, less the mean, of 10
regions of the manifold, each where one of 10 smooth functions of the latent vector is the largest.
It can be killed at any time: the same command goes on from the last step, stored under runs/ (to
start anew, delete that folder). Reported: the time of completed steps and phases, over all runs;
peak memory; iterations; the residual as computed from the solution, and again in float64 on some
rows; the accuracy of streamed predictions; and the time of a step over that of the products X X^T
alone.
"""

import functools
import hashlib
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import scipy.fft
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from benchmarks import _record
from benchmarks.members import pin_to_one_core, seconds, verdict
from experiments import _environment
from ntkens.kernels import blocks, dual, fully_connected
from ntkens.predictors import solve

SIZES, CONDITIONS, BEYOND = (4000, 8000), (1e2, 1e4, 1e6), 1e9
ROUNDS, OUTPUTS, MOST_TIME = 5, 10, 0.7

FEATURES, LATENT, TEST, TOLERANCE = 784, 12, 2000, 1e-3
SMOOTHNESS, RELATIVE_RIDGE, MOST_ITERATIONS = 0.5, 1e-3, 300
SAMPLE, CHECKED_ROWS, PRODUCT_COLUMNS = 2000, 2000, 2048
RUNS = Path("runs/benchmarks/solve")


def symmetric(eigenvalues: np.ndarray) -> np.ndarray:
    """Of these eigenvalues; the directions are two cosine transforms with random signs between."""
    random = np.random.default_rng(0)
    basis = np.eye(len(eigenvalues))
    for _ in range(2):
        signs = random.choice([-1.0, 1.0], len(eigenvalues))
        basis = np.asarray(scipy.fft.dct(signs[:, None] * basis, axis=0, norm="ortho"))
    root = basis * np.sqrt(eigenvalues)
    return root @ root.T


def core_seconds(function, *arguments) -> float:
    """That this process had its core: wall time, but for what others took of it."""
    start = time.process_time()
    jax.block_until_ready(function(*arguments))
    return time.process_time() - start


def measure_cholesky(n: int, condition: float) -> dict:
    matrix = jnp.asarray(symmetric(np.geomspace(1 / condition, 1, n)))
    targets = jax.random.normal(jax.random.key(1), (n, OUTPUTS), matrix.dtype)
    factorise = jax.jit(jnp.linalg.cholesky)
    jax.block_until_ready(factorise(matrix))
    solution, info = jax.block_until_ready(solve.cholesky(matrix, targets))
    pairs = [
        (core_seconds(solve.cholesky, matrix, targets), core_seconds(factorise, matrix))
        for _ in range(ROUNDS)
    ]
    ours, theirs = (min(times) for times in zip(*pairs, strict=True))  # the least disturbed
    residual = np.linalg.norm(targets - matrix @ solution, axis=0)
    scale = np.linalg.norm(solution, axis=0) + np.linalg.norm(targets, axis=0)  # |A| = 1
    return {
        "n": n,
        "condition": condition,
        "seconds": ours,
        "float64_seconds": theirs,
        "ratio": ours / theirs,
        "iterations": int(info.iterations),
        "converged": bool(info.converged),
        "backward_error": float(np.max(residual / scale)),
    }


def cholesky() -> dict:
    core = pin_to_one_core()
    print(f"pinned to core {core}; {OUTPUTS} right-hand sides, the least of {ROUNDS}\n")
    print(f"  {'n':>5} {'condition':>9} {'ours':>6} {'float64':>7} {'ratio':>5}  backward error")
    rows = []
    for n in SIZES:
        for condition in (*CONDITIONS, BEYOND):
            row = measure_cholesky(n, condition)
            rows.append(row)
            if condition == BEYOND:
                judged = verdict(not row["converged"]) + " (beyond its reach: not converged)"
            else:
                reached = row["converged"] and row["ratio"] <= MOST_TIME
                judged = f"{row['backward_error']:.1e}, at most {MOST_TIME}: {verdict(reached)}"
            print(
                f"  {n:>5} {condition:>9.0e} {row['seconds']:6.2f} {row['float64_seconds']:7.2f} "
                f"{row['ratio']:5.2f}  {judged}",
                flush=True,
            )
    return {"rows": rows}


def manifold(seed: int, n: int) -> tuple[jax.Array, jax.Array]:
    """Inputs [n d] and their regions [n], from the seed."""
    waves, phases, points, borders, shifts = jax.random.split(jax.random.key(seed), 5)
    waves = SMOOTHNESS * jax.random.normal(waves, (LATENT, FEATURES), jnp.float32)
    phases = jax.random.uniform(phases, (FEATURES,), jnp.float32, 0, 2 * jnp.pi)
    borders = SMOOTHNESS * jax.random.normal(borders, (LATENT, OUTPUTS), jnp.float32)
    shifts = jax.random.uniform(shifts, (OUTPUTS,), jnp.float32, 0, 2 * jnp.pi)
    latent = jax.random.uniform(points, (n, LATENT), jnp.float32, -1, 1)
    inputs = jnp.sin(latent @ waves + phases)
    inputs *= jnp.sqrt(FEATURES) / jnp.linalg.norm(inputs, axis=1, keepdims=True)
    return inputs, jnp.argmax(jnp.sin(latent @ borders + shifts), axis=1)


def spectrum(matrix) -> dict:
    """Of a Gram matrix of the sample, as shares of the trace."""
    shares = np.linalg.eigvalsh(np.asarray(matrix, np.float64))[::-1] / np.trace(matrix)
    return {
        "leading": [float(share) for share in shares[:16]],
        "at_ranks": {
            rank: float(shares[rank - 1]) for rank in (32, 100, 316, 1000) if rank <= len(shares)
        },
        "participation_ratio": float(1 / np.sum(shares**2)),
    }


class Store:
    """Phases of a run as files: each is written whole or not at all, with the seconds it took."""

    def __init__(self, settings: dict):
        text = json.dumps(settings, sort_keys=True)
        self.folder = RUNS / hashlib.sha256(text.encode()).hexdigest()[:12]
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "settings.json").write_text(text + "\n")

    def write(self, name: str, **arrays) -> None:
        """Replaces the file in one move, so that a kill leaves the old one or the new one."""
        partial = self.folder / f"{name}.partial.npz"
        np.savez(partial, **arrays)
        os.replace(partial, self.folder / f"{name}.npz")

    def read(self, name: str) -> dict[str, np.ndarray] | None:
        """The arrays of that name; None if there are none."""
        path = self.folder / f"{name}.npz"
        if not path.exists():
            return None
        with np.load(path) as file:
            return dict(file)

    def once(self, name: str, compute: Callable[[], dict]) -> dict:
        """What was stored under the name, or computed now and stored, with seconds and peak."""
        found = self.read(name)
        if found is None:
            start = time.perf_counter()
            computed = jax.block_until_ready(compute())
            found = {"seconds": time.perf_counter() - start, "peak": peak()} | computed
            self.write(name, **found)
        return found


def peak() -> int:
    """The most memory held by this process so far: the accelerator's, or the host's."""
    held = _environment.peak_bytes()
    return held.get("device", held["host"])


def show(spectra: dict) -> None:
    for name, found in spectra.items():
        leading = " ".join(f"{share:.1e}" for share in found["leading"][:14])
        tail = ", ".join(f"{share:.1e} at {rank}" for rank, share in found["at_ranks"].items())
        print(f"  {name}, shares of the trace of {SAMPLE}: {leading}; {tail}")
        print(f"    participation ratio {found['participation_ratio']:.1f}")


def conjugate_gradients(store: Store, operator, targets, ridge, preconditioner) -> dict:
    """The last state, with the seconds of each step and the peak; goes on from a stored state."""
    stored = store.read("state")
    steps, most, state = np.empty(0), peak(), None
    if stored is not None:
        steps, most = stored.pop("steps"), max(most, stored.pop("most"))
        state = solve.State(**{name: jnp.asarray(value) for name, value in stored.items()})
        print(f"  goes on from iteration {int(state.iteration)}, {np.sum(steps):.0f} s")
        if solve.info(state, tolerance=TOLERANCE).converged:
            return {"state": state, "steps": steps, "peak": most}
    states = solve.iterate(
        operator,
        targets,
        ridge=ridge,
        preconditioner=preconditioner,
        state=state,
        tolerance=TOLERANCE,
        iterations=MOST_ITERATIONS,
    )
    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    left = TimeRemainingColumn()  # by the digits of the residual
    digits = -np.log10(TOLERANCE)
    with Progress(*columns, left, speed_estimate_period=3600) as progress:
        task = progress.add_task("conjugate gradients", total=digits)
        start = time.perf_counter()
        for state in states:
            worst = float(jnp.max(jnp.linalg.norm(state.residual, axis=0) / state.scale))
            steps, start = np.append(steps, time.perf_counter() - start), time.perf_counter()
            most = max(most, peak())
            store.write("state", **state._asdict(), steps=steps, most=most)
            doing = f"iteration {int(state.iteration)}, residual {worst:.2e}"
            progress.update(task, completed=min(-np.log10(worst), digits), description=doing)
            if not progress.console.is_terminal:
                print(f"  {doing}, {np.sum(steps):.0f} s", flush=True)
    return {"state": state, "steps": steps, "peak": most}


def iterative(n: int, rank: int, seed: int, memory: int | None) -> dict:
    settings = {"n": n, "rank": rank, "seed": seed, "smoothness": SMOOTHNESS}
    settings |= {"relative_ridge": RELATIVE_RIDGE, "tolerance": TOLERANCE}
    store = Store(settings)
    print(f"n = {n}, rank {rank}, {OUTPUTS} outputs; {store.folder}")
    everything, regions = manifold(seed, n + TEST)
    inputs, test = everything[:n], everything[n:]
    del everything
    one_hot = jax.nn.one_hot(regions[:n], OUTPUTS, dtype=inputs.dtype) - 1 / OUTPUTS
    kernel_fn = fully_connected.kernel_fn(dual.relu(), depth=3, w_std=2**0.5)
    operator = blocks.operator(kernel_fn, inputs, component="ntk", memory=memory)
    ridge = RELATIVE_RIDGE * jnp.mean(operator.diagonal)

    sample = inputs[:SAMPLE]
    spectra = {"inputs": spectrum(sample @ sample.T), "ntk": spectrum(kernel_fn(sample).ntk)}
    show(spectra)

    def product_of_inputs():
        """Seconds of X X^T, from some of its columns."""
        product = jax.jit(lambda x, y: jnp.matmul(x, y.T, precision="highest"))
        some = inputs[:PRODUCT_COLUMNS]
        jax.block_until_ready(product(inputs, some))
        return {"full": min(seconds(product, inputs, some) for _ in range(3)) * n / len(some)}

    def precondition():
        key = jax.random.key(seed + 1)
        return solve.preconditioner(key, operator, rank, ridge=ridge)._asdict()

    bare = store.once("product", product_of_inputs)
    made = store.once("preconditioner", precondition)
    print(
        f"  preconditioner: {made['seconds']:.0f} s, ridge {float(ridge):.2e}, "
        f"with what the factor leaves {float(made['ridge']):.2e}",
        flush=True,
    )
    preconditioner = solve.Preconditioner(
        *(jnp.asarray(made.pop(name)) for name in solve.Preconditioner._fields)
    )
    solved = conjugate_gradients(store, operator, one_hot, ridge, preconditioner)
    state = solved["state"]
    info = solve.info(state, tolerance=TOLERANCE)
    del preconditioner

    stream = functools.partial(blocks.matvec, kernel_fn, component="ntk", memory=memory)
    predicted = jnp.argmax(stream(test, state.solution, inputs), axis=1)

    some = jnp.linspace(0, n - 1, min(CHECKED_ROWS, n), dtype=int)
    exact, solution = inputs.astype(jnp.float64), state.solution.astype(jnp.float64)
    left = one_hot[some] - stream(exact[some], solution, exact) - ridge * solution[some]
    checked = jnp.linalg.norm(left, axis=0) * (n / len(some)) ** 0.5 / state.scale

    step, total = statistics.median(solved["steps"]), float(np.sum(solved["steps"]))
    return {
        "settings": settings,
        "spectra": spectra,
        "ridge": float(ridge),
        "preconditioner_seconds": float(made["seconds"]),
        "solve_seconds": total,
        "seconds": float(made["seconds"]) + total,
        "step_seconds": step,
        "inputs_product_seconds": float(bare["full"]),
        "step_over_product": step / float(bare["full"]),
        "peak_gigabytes": int(max(made["peak"], solved["peak"], peak())) / 1e9,
        "iterations": int(info.iterations),
        "residual": float(jnp.max(info.residual)),
        "residual_float64": float(jnp.max(checked)),
        "converged": bool(info.converged),
        "test_accuracy": (float(jnp.mean(predicted == regions[n:])) if info.converged else None),
    }


def report(row: dict) -> None:
    reached = verdict(row["converged"])
    print(f"  time             {row['seconds']:.0f} s")
    print(f"    preconditioner {row['preconditioner_seconds']:.0f} s")
    print(f"    a step         {row['step_seconds']:.1f} s, median", end="")
    print(f"; {row['step_over_product']:.2f} of X X^T alone")
    print(f"  peak memory      {row['peak_gigabytes']:.1f} GB")
    print(f"  iterations       {row['iterations']}")
    print(f"  residual         {row['residual']:.2e}, at most {TOLERANCE}: {reached}")
    print(f"    in float64     {row['residual_float64']:.2e}, estimated from {CHECKED_ROWS} rows")
    print(f"  test accuracy    {row['test_accuracy']}")


def main() -> None:
    parser = _record.parser("solve", __doc__)
    parser.add_argument("part", choices=("cholesky", "iterative"))
    parser.add_argument("--n", type=int, default=60_000, help="training inputs (iterative)")
    parser.add_argument("--rank", type=int, help="of the preconditioner; default min(4000, n / 8)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--memory", type=int, help="bytes that the kernel's tiles may take")
    arguments = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    environment = _environment.describe()
    print(f"JAX {environment['versions']['jax']}, {environment['device']['kind']}")
    if arguments.part == "cholesky":
        row = cholesky()
    else:
        rank = arguments.rank or min(4000, arguments.n // 8)
        row = iterative(arguments.n, rank, arguments.seed, arguments.memory)
        report(row)
    _record.append(arguments.out, "solve", environment | {"part": arguments.part} | row)


if __name__ == "__main__":
    main()
