"""Sparse training of seeds x densities: one program against one run after another.

    python -m benchmarks.sparse                  # 3 minutes; all cores, float32
    python -m benchmarks.sparse --out results    # and append the numbers to results/

An MLP of two hidden layers learns the 1297 digits by Adam in batches of 128, for 5 epochs, under
the mask of its largest weights: 4 densities and 1 or 16 seeds. Measured in turn, medians of 5
rounds, with one host device a core:

- ours: `members.map` over keys and counts of kept weights, of init, mask and `fit.epochs`;
- loop: one after another through a jitted epoch. The mask is an argument, and so one compiled epoch
  serves all runs. This is what is judged, at 5 x;
- compiling loop: the same with mask and count known to the compiler, as where a density is a Python
  number: each run compiles an epoch of its own. Of 2 runs, against our first call.

On few cores the 5 x cannot be had, and the last table says why. It is in processor time for a step
of one run, summed over cores: of the matrix products, at the rate of large ones; of the rest of the
forward and backward pass, from runs with plain descent and no mask; of Adam and the mask, from
ours; of what the loop takes beyond ours, which is the dispatch of its calls. One program spares the
dispatch and fills the cores; the rest is work that it does too. `limit`: how many times faster than
a loop on one core it would be if that work kept all cores busy; and if it were the products alone.
"""

import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import _record
from benchmarks.fit import prepared
from benchmarks.members import verdict
from ntkens.data import Examples
from ntkens.models import mlp
from ntkens.sparsity import masks
from ntkens.training import fit, losses, members

WIDTHS, SEEDS, DENSITIES = (64, 256), (1, 16), (0.2, 0.1, 0.05, 0.02)
EPOCHS, BATCH, ROUNDS, LOOPED, COMPILED = 5, 128, 5, 4, 2
LEAST = 5.0
ADAM, DESCENT = optax.adam(3e-3), optax.sgd(3e-3)


class Contest:
    """The ways of training sparse networks of one width."""

    def __init__(self, width: int, train: Examples, mesh):
        self.model = mlp.mlp([width] * 2, 10, parametrisation="standard", w_std=2**0.5, b_std=0.0)
        self.train, self.mesh = train, mesh
        self.weights = masks.weights(jax.eval_shape(self.model.init, jax.random.key(0), train[0]))
        self.steps = EPOCHS * fit.steps_per_epoch(len(train.labels), BATCH)
        self.begin = jax.jit(self._begin)
        self.one_epoch = jax.jit(lambda state, mask, train: self._epochs(state, mask, train, 1))

    def runs(self, seeds: int) -> tuple:
        """Keys and kept weights of seeds x densities."""
        kept = [round(density * masks.total(self.weights)) for density in DENSITIES]
        keys = members.keys(jax.random.key(0), seeds)
        return jnp.repeat(keys, len(kept)), jnp.tile(jnp.array(kept), seeds)

    def _loss(self, params, inputs, labels):
        return losses.cross_entropy(self.model.apply(params, inputs), labels)

    def _begin(self, key, kept, train) -> tuple[fit.State, masks.Mask]:
        params = self.model.init(key, train.inputs)
        mask = masks.top(jax.tree.map(jnp.abs, masks.weights(params)), kept)
        return fit.start(masks.apply(params, mask), ADAM, key), mask

    def _epochs(self, state, mask, train, epochs):
        optimiser = masks.frozen(ADAM, mask)
        return fit.epochs(self._loss, optimiser, state, train, epochs=epochs, batch=BATCH)

    def _member(self, run, train):
        key, kept = run
        state, mask = self._begin(key, kept, train)
        state, info = self._epochs(state, mask, train, EPOCHS)
        return state.params, info.loss[-1]

    def _plain(self, run, train):
        state = fit.start(self.model.init(run[0], train.inputs), DESCENT, run[0])
        return fit.epochs(self._loss, DESCENT, state, train, epochs=EPOCHS, batch=BATCH)

    def ours(self, runs):
        """One program."""
        return members.map(self._member, runs, self.train, mesh=self.mesh)

    def plain(self, runs):
        """One program of runs without a mask and without an optimiser's memory."""
        return members.map(self._plain, runs, self.train, mesh=self.mesh)

    def loop(self, runs):
        """One after another, a call an epoch."""
        trained = []
        for run in zip(*runs, strict=True):
            state, mask = self.begin(*run, self.train)
            for _ in range(EPOCHS):
                state, info = self.one_epoch(state, mask, self.train)
            trained.append((state.params, info.loss[-1]))
        return trained

    def compiling_loop(self, runs):
        """The same, each run with an epoch compiled for its mask."""
        trained = []
        for key, kept in zip(*runs, strict=True):
            begin = jax.jit(lambda key, train, kept=int(kept): self._begin(key, kept, train))
            state, mask = begin(key, self.train)
            epoch = jax.jit(lambda state, train, mask=mask: self._epochs(state, mask, train, 1))
            for _ in range(EPOCHS):
                state, info = epoch(state, self.train)
            trained.append((state.params, info.loss[-1]))
        return trained

    def operations(self) -> int:
        """Of the matrix products of a run: no gradient is taken to the inputs."""
        first, *rest = (layer.size for layer in self.weights.values())
        return EPOCHS * len(self.train.labels) * 2 * (2 * first + 3 * sum(rest))


def seconds(function, *arguments) -> tuple[float, float]:
    """Wall time of a call and its processor time on all cores."""
    wall, processor = time.perf_counter(), time.process_time()
    jax.block_until_ready(function(*arguments))
    return time.perf_counter() - wall, time.process_time() - processor


def measure(width: int, train: Examples, mesh, rate: float) -> list[dict]:
    contest = Contest(width, train, mesh)
    rows = []
    for seeds in SEEDS:
        runs = contest.runs(seeds)
        count = len(runs[0])
        few = tuple(each[:LOOPED] for each in runs)  # all densities; other seeds are as slow
        ways = {
            "ours": (contest.ours, runs, 1.0),
            "plain": (contest.plain, runs, 1.0),
            "loop": (contest.loop, few, count / LOOPED),
        }
        first = {name: seconds(way, each)[0] for name, (way, each, _) in ways.items()}
        compiling = seconds(contest.compiling_loop, tuple(each[:COMPILED] for each in runs))[0]
        rounds = [
            {
                name: scale * np.array(seconds(way, each))
                for name, (way, each, scale) in ways.items()
            }
            for _ in range(ROUNDS)
        ]
        row: dict[str, Any] = {"width": width, "seeds": seeds, "runs": count}
        row |= {name: statistics.median(each[name][0] for each in rounds) for name in ways}
        row["loop / ours"] = statistics.median(each["loop"][0] / each["ours"][0] for each in rounds)
        row |= {"first_call": first["ours"], "compiling_loop": compiling * count / COMPILED}
        processor = {name: statistics.median(each[name][1] for each in rounds) for name in ways}
        products = count * contest.operations() / rate * mesh.size
        row["microseconds"] = {
            name: 1e6 * each / (count * contest.steps)
            for name, each in {
                "products": products,
                "passes": processor["plain"] - products,
                "adam and mask": processor["ours"] - processor["plain"],
                "dispatch": processor["loop"] - processor["ours"],
            }.items()
        }
        row["limit"] = mesh.size * processor["loop"] / processor["ours"]
        row["limit of products"] = mesh.size * processor["loop"] / products
        print(describe(row), flush=True)
        rows.append(row)
    return rows


def describe(row: dict) -> str:
    return (
        f"  {row['width']:>5} {row['seeds']:>5} {row['runs']:>5} {row['ours']:8.3f} s "
        f"{row['loop']:8.3f} s {row['loop / ours']:12.2f} {row['first_call']:10.1f} s "
        f"{row['compiling_loop']:10.1f} s   {verdict(row['loop / ours'] >= LEAST)}"
    )


def report_parts(rows: list[dict], cores: int) -> None:
    names = list(rows[0]["microseconds"])
    print(f"\n  Microseconds of processor time a step of one run; limits of {cores} cores")
    header = " ".join(f"{name:>14}" for name in names)
    print(f"  width  runs {header} {'limit':>10} {'of products':>12}")
    for row in rows:
        cells = " ".join(f"{row['microseconds'][name]:14.0f}" for name in names)
        print(
            f"  {row['width']:>5} {row['runs']:>5} {cells} {row['limit']:10.1f} "
            f"{row['limit of products']:12.1f}"
        )
    most = max(row["limit"] for row in rows)
    if most < LEAST:
        print(
            f"\n  {LEAST:.0f} x is not possible here: the work that both do, on {cores} cores that "
            f"never wait, is done {most:.1f} x faster than by the loop at most."
        )


def main() -> None:
    arguments = _record.parser("sparse", __doc__).parse_args()
    environment, mesh, train, rate = prepared()
    print(
        f"  {'width':>5} {'seeds':>5} {'runs':>5} {'ours':>10} {'loop':>10} {'loop / ours':>12} "
        f"{'first call':>12} {'compiling':>12}"
    )
    print(f"  {'':>39} {f'at least {LEAST:.0f}':>12} {'':>12} {'loop':>12}")
    rows = [row for width in WIDTHS for row in measure(width, train, mesh, rate)]
    report_parts(rows, mesh.size)
    _record.append(
        arguments.out, "sparse", {**environment, "peak_gflops": 1e-9 * rate, "rows": rows}
    )


if __name__ == "__main__":
    main()
