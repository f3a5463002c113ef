"""Tasks ask for far more inductive bias than data, exponentially in dimension. arXiv:2305.01034.

    python -m experiments.generalisation_difficulty quick    # 15 s, 2 CPU cores
    python -m experiments.generalisation_difficulty laptop   # 25 s, 2 CPU cores
    python -m experiments.generalisation_difficulty paper    # one accelerator; not run yet

Claim: the bits of inductive bias that a task asks for, beyond its training data, are exponential in
the intrinsic dimension of its inputs, polynomial in the resolution, and fall linearly with the
number of examples; MNIST asks for less than CIFAR-10, and that for less than ImageNet; a Markov
decision process that is observed in full for less than one that is not; images of many kinds for
less than few-shot learning of simple ones.

Departures: the paper's figures are not public in numbers; its table is the formula at the
parameters in the authors' code, with d classes and d - 1 outputs as there. For Omniglot the number
of training sets is counted from the characters of its 30 background alphabets; a factor of ten in
it moves the answer by less than a thousandth of a decade. The dimension is estimated from all
points, not 10,000 of them, and not rounded; the separation from all pairs, near ones included. A
bootstrap of a minimum is too narrow, and so subsets of the examples are measured too. Data
sets of scikit-learn stand beside the paper's, and `paper` estimates m, delta and R of MNIST, SVHN
and CIFAR-10 anew.
"""

import dataclasses
import sys
import zlib
from collections.abc import Iterator

import jax
import numpy as np

from experiments import _generalisation_difficulty_data as data
from experiments import _generalisation_difficulty_tasks as table
from experiments import run
from experiments._generalisation_difficulty_figure import plot as plot
from experiments._generalisation_difficulty_verdict import verdict as verdict
from ntkens.data import Examples

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_default_matmul_precision", "highest")  # a GPU's own choice is TF32


@dataclasses.dataclass(frozen=True)
class Config:
    """What is measured, and how much of it."""

    seed: int = 0
    """Of every random draw."""
    datasets: tuple[str, ...] = data.OFFLINE
    """Whose m, delta and R are estimated: digits, iris, wine, breast_cancer, and through
    tensorflow-datasets mnist, svhn_cropped, cifar10."""
    shares: tuple[float, ...] = (0.5,)
    """Of the examples, in subsets; all of them are measured anyway."""
    subsets: int = 5
    """Of each share."""
    error: float = 0.01
    """Epsilon, the error that is asked for on data sets."""
    resamples: int = 300
    """Of the bootstrap."""
    pairs: int = 100_000
    """From which extreme values tell the separation; half of all pairs where that is less."""
    top: int = 500
    """The nearest of them that are fitted; a hundredth of all pairs where that is less."""
    spheres: tuple[int, ...] = (2, 5, 10)
    """Dimensions of spheres whose points have a known estimate."""
    points: int = 300
    """Points on a sphere."""
    samples: int = 30
    """Sets of points of each sphere."""
    data_directory: str = ""
    """Where tensorflow-datasets keeps its files; empty for its own default."""

    def __post_init__(self) -> None:
        """Refuses what could not be measured."""
        known = (*data.OFFLINE, *data.IMAGES)
        for name in self.datasets:
            if name not in known:
                raise ValueError(f"datasets: got {name!r}; want some of {', '.join(known)}")
        if not self.error > 0:
            raise ValueError(f"error: got {self.error}; want a number above 0")
        if not all(0 < share < 1 for share in self.shares):
            raise ValueError(f"shares: got {self.shares}; each is above 0 and below 1")
        for name in ("subsets", "samples", "resamples"):
            if getattr(self, name) < 2:
                raise ValueError(f"{name}: got {getattr(self, name)}; an error takes at least 2")
        if not all(1 <= dimension < data.WIDTH for dimension in self.spheres):
            raise ValueError(f"spheres: got {self.spheres}; want dimensions 1 to {data.WIDTH - 1}")
        if self.points < 10:
            raise ValueError(f"points: got {self.points}; want at least 10, for 5 neighbours")
        if self.top < 10:
            raise ValueError(f"top: got {self.top}; want at least 10, for two moments")


QUICK = Config()
LAPTOP = Config(
    shares=(0.25, 0.5),
    subsets=20,
    resamples=2000,
    pairs=400_000,
    top=2000,
    points=1000,
    samples=200,
)
PAPER = dataclasses.replace(
    LAPTOP,
    datasets=(*data.OFFLINE, *data.IMAGES),
    subsets=5,
    resamples=500,
    pairs=4_000_000,
)
TINY = Config(datasets=("iris",), subsets=2, resamples=20, pairs=2000, spheres=(2,), samples=3)


def plan(config: Config) -> list[run.Cell]:
    """The formula, the spheres, and each data set with its subsets."""
    cells = [run.Cell("tasks", 1.0, {"kind": "task"})]
    for dimension in config.spheres:
        cost = 1 + 3e-8 * config.samples * config.points**2
        parameters = {"kind": "sphere", "dimension": dimension}
        cells.append(run.Cell(f"sphere m={dimension}", cost, parameters))
    for name in config.datasets:
        size = 6e4 if name in data.IMAGES else 1e3
        for share in (*config.shares, 1.0):
            count = 1 if share == 1 else config.subsets
            cost = 2 + count * (3e-9 * (share * size) ** 2 + 2e-8 * config.resamples * size)
            parameters = {"kind": "data", "dataset": name, "share": share}
            cells.append(run.Cell(f"{name} share={share:g}", cost, parameters))
    return cells


def measure(config: Config, cell: run.Cell) -> Iterator[dict]:
    """The rows of one cell; each repeats what names the cell."""
    named = dict(cell.parameters)
    key = jax.random.fold_in(jax.random.key(config.seed), zlib.crc32(cell.key.encode()))
    match named["kind"]:
        case "task":
            for kind, rows in (
                ("task", table.tasks()),
                ("curve", table.curves()),
                ("model", table.models()),
            ):
                yield from ({"kind": kind, **row} for row in rows)
        case "sphere":
            rows = data.spheres(key, named["dimension"], config.points, config.samples)
            yield from ({**named, **row} for row in rows)
        case "data":
            for row in _data(key, config, named["dataset"], named["share"]):
                yield {**named, **row}


def _data(key, config, name, share):
    """All examples, with the separation by extreme values; or subsets of them."""
    examples = data.load(jax.random.key(config.seed), name, config.data_directory)
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    if share == 1:
        row = data.difficulty_row(rng, examples, config.error, config.resamples)
        yield row | data.extremes_row(key, examples, config.pairs, config.top)
        return
    for _ in range(config.subsets):
        count = round(share * len(examples.labels))
        chosen = rng.permutation(len(examples.labels))[:count]
        subset = Examples(examples.inputs[chosen], examples.labels[chosen])
        yield data.difficulty_row(rng, subset, config.error, config.resamples)


if __name__ == "__main__":
    run.main(sys.modules[__name__])
