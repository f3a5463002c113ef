"""Concrete ticket search finds sparse networks before training, at once. arXiv:2512.07142.

    python -m experiments.concrete_tickets quick    # 40 s, 2 CPU cores
    python -m experiments.concrete_tickets laptop   # 7 min, 2 CPU cores
    python -m experiments.concrete_tickets paper    # one accelerator; not run yet

Claim: below a few percent of the weights, masks found by gradient descent on concrete gates (CTS),
with the sparsity held by balanced gradients, train to more than those of saliency scores (SNIP,
GraSP, SynFlow), and do depend on which weights they keep: shuffled, inverted or with params drawn
anew they lose it. At the sparsest they pass lottery ticket rewinding (LTR), at a twelfth of its
time; and they are best with the reverse KL divergence for the objective.

Departures: digits, and networks of two hidden layers of 100, 17,400 weights; `paper` has ResNet-20
on CIFAR-10 with the published recipe, without running averages: batches are normalised by their
own statistics in evaluation too. Gates are of the standard form, where the authors' code scales the
logits by the temperature; that variant has its own row. Features are those of the ReLUs and the
logits: of the ReLUs alone no gradient reaches the gates of the readout, which then shuts. Standard
errors are over networks, their gates and their batches; the split of the data is fixed. Seconds are
of all seeds and densities as one program, without compilation. One recipe for all is hard on GraSP,
whose masks are sharp: at this rate many of its networks die (a loss of ln 10), at 0.03 they reach
91% at a density of 5% (4 networks), SNIP's 95%. There are 20 seeds because a first run of 10 left
CTS less SynFlow at 1% undecided, at 7.5 +- 3.6 points.
"""

import dataclasses
import functools
import os
import sys
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from experiments import _concrete_tickets_methods as methods
from experiments import _concrete_tickets_networks as networks
from experiments import run
from experiments._concrete_tickets_figure import plot as plot
from experiments._concrete_tickets_verdict import verdict as verdict
from ntkens import tree
from ntkens.sparsity import budgets, masks


@dataclasses.dataclass(frozen=True)
class Config:
    """What is measured, and how much of it."""

    seed: int = 0
    """Of every random draw."""
    dataset: str = "digits"
    """digits or cifar10."""
    data_directory: str = ""
    """Where tensorflow-datasets keeps its files; empty for its own default."""
    widths: tuple[int, ...] = (100, 100)
    """Hidden units for digits; channels of the stages of a residual network for images."""
    blocks: int = 3
    """Of each stage of that network, which is ResNet-20 with three."""
    densities: tuple[float, ...] = (0.02, 0.01)
    """Shares of the weights that are kept."""
    methods: tuple[str, ...] = ("SNIP", "SynFlow", "CTS KL", "LTR")
    """What is measured, of those that `_concrete_tickets_methods` knows."""
    seeds: int = 4
    """Networks."""
    together: int = 100
    """Seeds of a cell, which are one program with all densities."""
    epochs: int = 25
    """Of training."""
    rewind: int = 2
    """Epochs to the rewind point, of those of training."""
    search: int = 25
    """Epochs of a long search."""
    short: int = 3
    """Epochs of a short one."""
    batch: int = 64
    """Examples a step."""
    rate: float = 0.1
    """Of SGD with momentum 0.9."""
    drops: tuple[float, ...] = ()
    """Shares of the epochs after which the rate falls to a tenth."""
    decay: float = 0.0
    """Weight decay."""
    clip: float = float("inf")
    """Norm of the gradient above which it is shortened."""
    search_rate: float = 0.1
    """Of the search's Adam."""
    scored: int = 1257
    """Examples that SNIP and GraSP see."""
    rounds: int = 100
    """Of SynFlow."""

    def __post_init__(self) -> None:
        """Refuses what could not be measured."""
        if self.dataset not in networks.DATASETS:
            raise ValueError(f"dataset: got {self.dataset!r}; want one of {networks.DATASETS}")
        unknown = sorted(set(self.methods) - set(methods.METHODS))
        if unknown or not self.methods:
            raise ValueError(f"methods: got {unknown or 'none'}; want of {[*methods.METHODS]}")
        if not self.densities or not all(0 < density < 1 for density in self.densities):
            raise ValueError(f"densities: got {self.densities}; want shares between 0 and 1")
        if self.seeds < 2:
            raise ValueError(f"seeds: got {self.seeds}; an error takes at least 2")
        if not 0 < self.rewind < self.epochs:
            raise ValueError(f"rewind: got {self.rewind}; want 1 to {self.epochs - 1} epochs")
        for name in ("blocks", "together", "search", "short", "batch", "rounds", "scored"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: got {getattr(self, name)}; want at least 1")


QUICK = Config()
LAPTOP = Config(
    densities=(0.05, 0.02, 0.01),
    methods=tuple(methods.METHODS),
    seeds=20,
    epochs=75,
    rewind=3,
    search=75,
    short=9,
)
PAPER = Config(
    dataset="cifar10",
    widths=(16, 32, 64),
    densities=(0.044, 0.0115, 0.00738, 0.00302),
    methods=tuple(methods.METHODS),
    seeds=3,
    together=1,
    epochs=160,
    rewind=9,
    search=160,
    short=20,
    batch=512,
    drops=(0.5, 0.75),
    decay=1e-3,
    clip=2.0,
    scored=5000,
)
TINY = Config(
    widths=(8,),
    densities=(0.2, 0.1),
    methods=("CTS KL", "LTR"),
    seeds=2,
    epochs=2,
    rewind=1,
    search=2,
    short=1,
    rounds=5,
)


def plan(config: Config) -> list[run.Cell]:
    """Every method, for as many seeds at once as a cell has."""
    cells = []
    for name in config.methods:
        method = methods.METHODS[name]
        levels = np.log(min(config.densities)) / np.log(0.8)
        trainings = (1 + len(method.checks)) * config.epochs
        searching = 4 * (config.short if method.short else config.search) * bool(method.objective)
        if name == "LTR":
            trainings = levels * config.epochs
        epoch = 2e-3 if config.dataset == "digits" else 3.0
        for first in range(0, config.seeds, config.together):
            count = min(config.together, config.seeds - first)
            members = count * (1 if name == "LTR" else len(methods.densities(config, method)))
            cost = 2 + epoch * members * (trainings + searching)
            key = f"{name}, seeds {first} to {first + count - 1}"
            cells.append(run.Cell(key, cost, {"method": name, "first": first}))
    return cells


def measure(config: Config, cell: run.Cell) -> Iterator[dict]:
    """Masks of all seeds and densities; then, at each density, how well each trains."""
    name, first = cell.parameters["method"], cell.parameters["first"]
    method = methods.METHODS[name]
    task = networks.task(config.dataset, config.widths, config.blocks, config.data_directory)
    seeds = methods.start(config, task, first, rewound=method.rewound)
    chosen = methods.choose(config, task, method, seeds)
    at = methods.densities(config, method)
    train, test = map(methods.on_device, task.data)
    for check in ("", *method.checks):
        params = seeds.other if check == "drawn anew" else seeds.params
        mask = chosen.masks.get(check, chosen.masks[""])
        accuracies = chosen.accuracies
        if accuracies is None:
            own, _ = methods.flat((seeds.keys, params), jnp.arange(len(at)))
            trained = _trained(config, task, method.rewound)
            accuracies = methods.mapped(trained, (*own, mask), train, test)
        kept = jax.vmap(masks.kept)(mask)
        empty = jax.vmap(masks.empty_layers)(mask)
        numbers = {} if check else chosen.found
        columns = {"accuracies": accuracies, "kept": kept, "empty_layers": empty, **numbers}
        tables = {key: np.asarray(values).reshape(-1, len(at)) for key, values in columns.items()}
        for place, density in enumerate(at):
            yield {
                "method": name, "check": check, "density": density,
                "wanted": budgets.kept(masks.weights(tree.index(seeds.params, 0)), density),
                "dataset": config.dataset, "first": first,
                "seconds": chosen.seconds, "tickets": len(kept), "steps": chosen.steps,
                **{key: table[:, place].tolist() for key, table in tables.items()},
            }  # fmt: skip


@functools.lru_cache(maxsize=2)  # a new function would be compiled anew
def _trained(config, task, rewound):
    """The test accuracy of one member after training."""

    def one(own, train, test):
        key, params, mask = own
        params = networks.trained(config, task, key, params, mask, train, rewound=rewound)
        return networks.accuracy(task, params, test)

    return one


if __name__ == "__main__":
    if "XLA_FLAGS" not in os.environ:  # a host device a core, for small products leave cores idle
        jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)
    run.main(sys.modules[__name__])
