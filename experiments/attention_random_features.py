"""A layer of random attention learns averages over keys with few samples. arXiv:2307.11353.

    python -m experiments.attention_random_features quick    # 25 s, 2 CPU cores
    python -m experiments.attention_random_features laptop   # 90 s, 2 CPU cores
    python -m experiments.attention_random_features paper    # one accelerator; not run yet

Claim: with frozen random query-key products and trained values (RFA), a layer of ReLU attention
learns functions (1/N) sum_i F(x_0, x_i) from far fewer samples than random features of the tokens
side by side (RFMLP), by a factor that grows like N^(p-1) for averages of <b, x_i>^p; its kernel is
blind to the order of the keys; finitely many heads are as good as M^-1/2 says. With the identity as
the mean of the products (BRFA) correlations <x_0, x_i>^p <b, x_i> need fewer samples still.

Departures: the ridge is chosen on a quarter of the training examples, with which it is then trained
again; the paper bounds the norm of the values. Its figures are not public in numbers: `theirs` are
those of an independent small run (one draw, d = N = 8, 300 test examples, a ridge chosen on the
test set), and beside them stand ours made in that way too. Errors are squared errors over the
variance of the target. `paper` has d = N = 16, 1000 heads and sizes to 2^14. RFMLP has as many
trained parameters as RFA, M (d + 1). The factor N^(p-1) is of two upper bounds; here samples are
counted that reach half the variance. Errors and intervals are over draws of the training set, the
target and the heads, of which all methods see the same.
"""

import dataclasses
import sys
from collections.abc import Iterator

import jax
import numpy as np

from experiments import _attention_random_features_methods as methods
from experiments import run
from experiments._attention_random_features_figure import plot as plot
from experiments._attention_random_features_verdict import verdict as verdict

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_default_matmul_precision", "highest")  # a GPU's own choice is TF32

TARGETS = (("average", 2), ("average", 4), ("correlation", 1), ("correlation", 3))


@dataclasses.dataclass(frozen=True)
class Config:
    """What is measured, and how much of it."""

    seed: int = 0
    """Of every random draw."""
    dimension: int = 8
    """Numbers in a token, d."""
    keys: int = 8
    """Tokens beside the query, N."""
    heads: int = 200
    """Heads M of finite attention; the finite network has M (d + 1) units."""
    sizes: tuple[int, ...] = (15, 40, 100, 200)
    """Training examples, those that choose the ridge included."""
    test: int = 300
    """Examples on which errors are measured."""
    draws: int = 4
    """Training sets, each with a direction b and heads of its own."""
    block: int = 4
    """Of these, how many make one cell."""
    widths: tuple[int, ...] = (25, 100, 400)
    """Numbers of heads at which the rate of convergence is measured."""
    head_draws: int = 16
    """Draws of heads for that."""
    growth_dimension: int = 3
    """Numbers in a token where samples are counted against N."""
    growth_keys: tuple[int, ...] = (1, 2, 4)
    """The values of N there."""
    growth_sizes: tuple[int, ...] = (15, 40, 100, 200)
    """Training examples there."""

    def __post_init__(self) -> None:
        """Refuses what could not be measured."""
        for name in ("dimension", "keys", "heads", "growth_dimension", "block"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: got {getattr(self, name)}; want at least 1")
        for name in ("draws", "head_draws", "test"):
            if getattr(self, name) < 2:
                raise ValueError(f"{name}: got {getattr(self, name)}; want at least 2")
        for name in ("sizes", "growth_sizes"):
            sizes = getattr(self, name)
            if not sizes or min(sizes) < methods.VALIDATION or list(sizes) != sorted({*sizes}):
                raise ValueError(
                    f"{name}: got {sizes}; want rising sizes of at least {methods.VALIDATION}, of "
                    "which one example chooses the ridge"
                )
        for name in ("widths", "growth_keys"):
            counts = getattr(self, name)
            if len(counts) < 2 or min(counts) < 1 or list(counts) != sorted({*counts}):
                raise ValueError(f"{name}: got {counts}; want two or more rising numbers")


QUICK = Config()
LAPTOP = Config(
    heads=600,
    sizes=(50, 100, 200, 400, 800),
    draws=10,
    block=5,
    widths=(94, 375, 1500, 6000),
    head_draws=24,
    growth_keys=(1, 2, 4, 8),
    growth_sizes=(12, 16, 32, 64, 128, 256, 512, 1024),
)
PAPER = Config(
    dimension=16,
    keys=16,
    heads=1000,
    sizes=tuple(2**power for power in range(5, 15)),
    test=2000,
    draws=5,
    block=1,
    widths=(94, 375, 1500, 6000),
    head_draws=24,
    growth_keys=(1, 2, 4, 8, 16),
    growth_sizes=(*LAPTOP.growth_sizes, 2048, 4096, 8192),
)
TINY = Config(
    dimension=2,
    keys=2,
    heads=4,
    sizes=(8, 16),
    test=20,
    draws=2,
    block=2,
    widths=(4, 16),
    head_draws=2,
    growth_dimension=2,
    growth_keys=(1, 2),
    growth_sizes=(8, 16),
)


def plan(config: Config) -> list[run.Cell]:
    """Convergence in heads; curves of all methods; counts of samples against N."""
    blocks = [
        (first, min(config.block, config.draws - first))
        for first in range(0, config.draws, config.block)
    ]
    cells = [
        run.Cell(f"heads {method}", 5, {"study": "heads", "method": method})
        for method in ("RFA", "BRFA")
    ]

    def curves(study, chosen, dimension, keys, sizes):
        for method in chosen:
            for first, count in blocks:
                pairs = count * (keys * max(sizes)) ** 2
                cost = 0.5 + 1e-8 * pairs * (20 if method == "BRFA kernel" else 1)
                cost += 3e-10 * count * sum(size**3 for size in sizes)
                where = {"study": study, "method": method, "dimension": dimension, "keys": keys}
                key = f"{study} {method} d={dimension} N={keys} draws from {first}"
                yield run.Cell(key, cost, {**where, "first": first, "count": count})

    cells += curves("curves", methods.METHODS, config.dimension, config.keys, config.sizes)
    for keys in config.growth_keys:
        chosen = ("RFA kernel", "RFMLP kernel")
        cells += curves("growth", chosen, config.growth_dimension, keys, config.growth_sizes)
    return cells


def measure(config: Config, cell: run.Cell) -> Iterator[dict]:
    """The rows of one cell; lists are over draws."""
    task = methods.Task(
        config.dimension, config.keys, TARGETS, config.sizes, config.test, config.heads
    )
    key = jax.random.key(config.seed)
    if cell.parameters["study"] == "heads":
        yield from _convergence(config, task, cell.parameters["method"], key)
    else:
        yield from _curves(config, task, cell, key)


def _convergence(config, task, method, key):
    size = min(100, max(config.sizes))
    task = task._replace(sizes=(size,), test=min(100, config.test))
    found = methods.convergence(task, method, config.widths, key, config.head_draws)
    about = {"kind": "convergence", "method": method, "size": size}
    for index, width in enumerate(config.widths):
        row = {name: getattr(found, name)[:, index].tolist() for name in found._fields[:3]}
        yield {**about, "heads": width, **row}
    mean, spread = found.entries.mean(axis=0), found.entries.std(axis=0, ddof=1)
    scores = (mean - 1) / spread * np.sqrt(config.head_draws)
    yield {
        "kind": "mean", "method": method, "heads": config.widths[-1], "draws": config.head_draws,
        "entries": len(scores), "score": float(np.max(np.abs(scores))),
    }  # fmt: skip


def _curves(config, task, cell, key):
    """One draw after another: products of such matrices keep all cores busy."""
    about = {name: cell.parameters[name] for name in ("study", "method", "dimension", "keys")}
    task = task._replace(dimension=about["dimension"], keys=about["keys"])
    if about["study"] == "growth":
        task = task._replace(sizes=config.growth_sizes)
    first, count = cell.parameters["first"], cell.parameters["count"]
    draws = range(first, first + count)
    found = []
    for draw in draws:
        of_data, of_heads, of_order = jax.random.split(jax.random.fold_in(key, draw), 3)
        inputs, targets = methods.drawn(task, of_data)
        gram = methods.gram(about["method"], task.heads, of_heads, inputs)
        found.append(jax.tree.map(np.asarray, methods.curves(task.sizes, gram, targets)))
        if draw == 0 and about["study"] == "curves":
            moved = methods.permuted(of_order, inputs)
            again = methods.gram(about["method"], task.heads, of_heads, moved)
            change = float(np.max(np.abs(np.asarray(again / gram) - 1)))
            yield {"kind": "permutation", "method": about["method"], "change": change}
    for column, target in enumerate(task.targets):
        for row, size in enumerate(task.sizes):
            yield {
                "kind": "curve", **about, "target": methods.name(target), "size": size,
                "heads": task.heads, "draws": list(draws),
                "errors": [float(each.held_out[row, column]) for each in found],
                "oracle": [float(each.oracle[row, column]) for each in found],
                "ridges": [methods.RIDGES[each.ridge[row, column]] for each in found],
            }  # fmt: skip


if __name__ == "__main__":
    run.main(sys.modules[__name__])
