"""Ten lessons of sparse networks, each with the row that shows or limits it. arXiv:2302.02596.

    python -m experiments.sparseland quick    # 40 s, 2 CPU cores
    python -m experiments.sparseland laptop   # 5 min, 2 CPU cores
    python -m experiments.sparseland paper    # one accelerator; not run yet

Claim: sparse networks are confused with one another. In our words, one claim each, in this order:
(1) sparsity is not one thing: where zeros may lie decides what they cost in accuracy. (2) Random
pruning with a good budget is a strong baseline while sparsity is mild. (3) How many weights a layer
keeps matters more than which. (4) A mask that moves during training beats one fixed before it, at
nearly the same cost. (5) Equal parameters are not equal operations, in training or at inference.
(6) A small dense network is the baseline to beat. (7) Scores taken once and ranked globally empty
whole layers. (8) Masks found before training pass sanity checks that tickets fail at the same
density, which says how little they know. (9) What a moving mask gains goes with the share of
weights it has explored. (10) Tickets need a rewind point later than initialisation. And the order
LTR > SynFlow > SNIP > random at 2% and below.

Departures: the paper is a survey and has no experiment; the lessons are its topics, and what is
measured is ours: one zoo of methods on digits, with an MLP 64-256-256-10 without pruned biases, at
the same data, first params, order of examples, optimiser and steps for each seed. Seeds are splits
of the digits too. One-shot, N:M and neurons prune the trained dense network and train on as long
again; IMP and LTR train anew at each level, which is their cost. SET and RigL start from the mask
of random pruning with ERK, and both rest for the last quarter. The small dense network has the
largest width of as many weights or fewer. Operations are those that a machine for sparse products
could save; scores before training, which take a few gradients, are left out. An inverted mask keeps
as many weights in each layer, as a shuffled one does. `paper` is ResNet-20 on CIFAR-10 with
statistics of the batch at hand (SynFlow scores it without any), against tables beside the code of
arXiv:2512.07142; it has no pruned neurons, whose chain residual blocks would break, and N:M leaves
its stem whole.
"""

import dataclasses
import os
import sys
from collections.abc import Iterator

import jax
import numpy as np

from experiments import _sparseland_methods as methods
from experiments import _sparseland_networks as networks
from experiments import _sparseland_table as table
from experiments import _sparseland_training as training
from experiments import run
from experiments._sparseland_figure import plot as plot
from experiments._sparseland_taxonomy import CHECKS, SALIENCIES
from experiments._sparseland_verdict import verdict as verdict
from ntkens.sparsity import budgets, cost, rewinding

FAMILIES = ("dense", "small dense", "before", "after", "IMP", "LTR", "SET", "RigL", "layers")
"""Of methods that share a compiled program; "layers" trains nothing."""


@dataclasses.dataclass(frozen=True)
class Config:
    """What is measured, and how much of it."""

    seed: int = 0
    """Of every random draw."""
    dataset: str = "digits"
    """digits, with an MLP of two hidden layers, or cifar10, with a ResNet-20."""
    data_directory: str = ""
    """Where tensorflow-datasets keeps its files; empty for its own default."""
    families: tuple[str, ...] = FAMILIES
    """Of methods: dense, small dense, before, after, IMP, LTR, SET, RigL, layers."""
    seeds: int = 10
    """Splits, first params and orders of the examples."""
    densities: tuple[float, ...] = (0.2, 0.1, 0.05, 0.02, 0.01)
    """Shares of the weights that are kept."""
    checked: tuple[float, ...] = (0.1, 0.02, 0.01)
    """Of these, where the sanity checks are made."""
    patterns: tuple[tuple[int, int], ...] = ((2, 4), (1, 8), (1, 32))
    """N:M: so many of every so many consecutive weights along the inputs."""
    width: int = 256
    """Hidden units of the MLP, or channels of the first stage of the ResNet."""
    epochs: int = 30
    """Of one training."""
    batch: int = 64
    """Examples a step."""
    rate: float = 0.1
    """Largest learning rate; a tenth from half of the steps on, a hundredth from three quarters."""
    decay: float = 5e-4
    """Of weights."""
    rewind: int = 2
    """The epoch that LTR goes back to."""
    pruned: float = 0.2
    """Share of the remaining weights that IMP and LTR prune at each level."""
    period: int = 20
    """Steps from one move of SET's and RigL's masks to the next."""
    fraction: float = 0.3
    """Of each layer's weights, that they move; RigL ever fewer."""
    fractions: tuple[float, ...] = (0.0, 0.03, 0.1, 0.3, 0.6)
    """For the share of weights that SET explores."""
    explored: float = 0.02
    """The density at which it does."""
    scored: int = 256
    """Examples of the batch that SNIP and GraSP score on."""
    rounds: int = 100
    """Of SynFlow."""
    emptied: tuple[float, ...] = (0.01, 0.005, 0.002, 0.001, 0.0005)
    """Densities at which empty layers are counted, without training."""

    def __post_init__(self) -> None:
        """Refuses what could not be measured."""
        if self.dataset not in networks.NETWORKS:
            raise ValueError(
                f"dataset: got {self.dataset!r}; want {' or '.join(networks.NETWORKS)}"
            )
        unknown = set(self.families) - set(FAMILIES)
        if unknown or not self.families:
            raise ValueError(f"families: got {self.families}; want some of {FAMILIES}")
        if self.seeds < 2:
            raise ValueError(f"seeds: got {self.seeds}; an error takes at least 2")
        for name in ("densities", "emptied"):
            if not all(0 < density < 1 for density in getattr(self, name)):
                raise ValueError(f"{name}: got {getattr(self, name)}; each is above 0 and below 1")
        if not self.densities:
            raise ValueError("densities: got none; want at least one")
        for name, some in (("checked", self.checked), ("explored", (self.explored,))):
            if not some or not set(some) <= set(self.densities):
                raise ValueError(f"{name}: got {some}; want some of the densities {self.densities}")
        if not 0 < self.rewind < self.epochs:
            raise ValueError(
                f"rewind: got epoch {self.rewind}; want one between 0 and the last, {self.epochs}"
            )
        for name, some in (("fraction", (self.fraction,)), ("fractions", self.fractions)):
            if not all(0 <= share <= 1 for share in some):
                raise ValueError(f"{name}: got {some}; a share of the weights lies in [0, 1]")
        if not 0 < self.pruned < 1:
            raise ValueError(f"pruned: got {self.pruned}; want a share between 0 and 1")
        for name in ("epochs", "batch", "width", "period", "scored", "rounds"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: got {getattr(self, name)}; want at least 1")


QUICK = Config(  # nearly all of it is compilation
    families=("dense", "before", "after", "RigL", "layers"),
    seeds=3,
    densities=(0.1, 0.02),
    checked=(0.02,),
    patterns=((1, 8),),
    epochs=10,
    rounds=30,
    emptied=(0.005, 0.001),
)
LAPTOP = Config()
PAPER = Config(
    dataset="cifar10",
    seeds=3,
    densities=(0.1678, 0.044, 0.0115),
    checked=(0.1678, 0.0115),
    patterns=((2, 4), (1, 16)),
    width=16,
    epochs=160,
    batch=512,
    decay=1e-3,
    rewind=9,
    period=100,
    explored=0.0115,
    scored=512,
)
TINY = Config(
    families=("before", "layers"),
    seeds=2,
    densities=(0.2, 0.02),
    checked=(0.02,),
    width=16,
    epochs=2,
    batch=256,
    rewind=1,
    period=2,
    fractions=(0.0, 0.3),
    scored=32,
    rounds=3,
    emptied=(0.1, 0.02),
)


def plan(config: Config) -> list[run.Cell]:
    """A family a cell.

    Raises:
        ValueError: a density so low that a budget leaves a layer no weight, which it names.
    """
    weights = networks.shapes(networks.NETWORKS[config.dataset], config.width)
    for density in config.densities:
        for budget in methods.BUDGETS.values():
            budget(weights, density)
    density, checks = len(config.densities), len(CHECKS) * len(config.checked)
    levels = np.log(min(config.densities)) / np.log(1 - config.pruned) + density
    trainings = {
        "dense": 1,
        "small dense": density / 2,
        "before": 5 * density + 3 * checks,
        "after": 2 * density + 2 * len(config.patterns) + checks + 1,
        "IMP": levels + checks,
        "LTR": levels + checks,
        "SET": 3 * (density + len(config.fractions)),
        "RigL": 3 * density,
        "layers": 1,
    }
    one = 0.004 if config.dataset == "digits" else 1.5  # seconds an epoch
    programs = {"small dense": density}  # a compilation for each width
    return [
        run.Cell(
            family,
            6 * programs.get(family, 1) + one * config.epochs * config.seeds * trainings[family],
        )
        for family in config.families
    ]


def measure(config: Config, cell: run.Cell) -> Iterator[dict]:
    """The rows of a family: what was trained, then its sanity checks."""
    of_family = {
        "dense": _dense,
        "small dense": _small_dense,
        "before": _before,
        "after": _after,
        "IMP": _tickets,
        "LTR": _tickets,
        "SET": _moving,
        "RigL": _moving,
        "layers": _layers,
    }
    for row in of_family[cell.key](config, cell.key):
        yield {"network": networks.NETWORKS[config.dataset], **row}


def _dense(config, family):
    start = methods.dense(config, config.width)
    found = training.train(config, start.params, start.mask)
    yield table.trained(config, "dense", 1.0, found, 0, [_stage(config, found, 0)])


def _small_dense(config, family):
    name = networks.NETWORKS[config.dataset]
    weights = networks.shapes(name, config.width)
    for density in config.densities:
        width = networks.widest(name, config.width, budgets.kept(weights, density))
        start = methods.dense(config, width)
        found = training.train(config, start.params, start.mask, width=width)
        row = table.trained(config, family, density, found, 0, [_stage(config, found, 0)])
        yield row | {"explored": row["kept"], "width": width}


def _before(config, family):
    starts = {
        f"random {budget}": methods.random(config, budget, config.densities)
        for budget in ("uniform", "ERK")
    } | {name: methods.at_initialisation(config, name, config.densities) for name in SALIENCIES}
    named = {name: (config.densities, start) for name, start in starts.items()}
    yield from _zoo(config, named, SALIENCIES, [])


def _after(config, family):
    """All from the same dense networks, which are trained once."""
    whole = methods.dense(config, config.width)
    dense = training.train(config, whole.params, whole.mask)
    params = jax.tree.map(lambda leaf: leaf[:, 0], dense.params)
    shares = [n / m for n, m in config.patterns]
    both = list(dict.fromkeys([*config.densities, *shares]))
    named = {
        "one-shot": (both, methods.after_training(config, params, both)),
        "N:M": (shares, methods.n_of_m(config, params, config.patterns)),
    }
    if config.dataset == "digits":
        start = methods.neurons(config, params, config.densities)
        named["neurons"] = (config.densities, start)
    for row in _zoo(config, named, ("one-shot",), [_stage(config, dense, 0)]):
        yield row | {"explored": 1.0} if row["kind"] == "trained" else row


def _zoo(config, named, checked, stages):
    """Trains all starts and their controls together; their rows.

    `named` has densities and a start by method; `stages` are of the training before.
    """
    fresh = networks.initial(config, config.width, networks.ANEW)
    parts = [(method, "", densities, start) for method, (densities, start) in named.items()]
    for method in checked:
        densities, start = named[method]
        some = methods.at(start, [densities.index(density) for density in config.checked])
        for name in CHECKS:
            broken = methods.control(config, name, some, fresh)
            parts.append((method, name, config.checked, broken))
    all_starts = methods.joined([start for *_, start in parts])
    found = training.train(config, all_starts.params, all_starts.mask)
    place, own = 0, {}
    for method, name, densities, _ in parts:
        for density in densities:
            right = np.asarray(found.accuracy[:, place])
            if not name:
                own[method, density] = right
                costs = [*stages, _stage(config, found, place)]
                yield table.trained(config, method, density, found, place, costs)
            else:
                yield table.check(method, name, density, right, own[method, density])
            place += 1


def _tickets(config, family):
    """IMP from initialisation, LTR from a later epoch; and their controls."""
    first = config.rewind if family == "LTR" else 0
    weights = networks.shapes(networks.NETWORKS[config.dataset], config.width)
    levels = rewinding.levels(weights, config.densities, rate=config.pruned)
    dense = methods.dense(config, config.width)
    point, whole, found = training.walk(config, dense.params, levels, first)
    sizes = table.sizes(config)
    prelude = table.stage(config, sizes, 0, first)
    own = {}
    for place, density in enumerate(config.densities):
        # of a level on the way the count is known, and its layers are taken in proportion
        shares = [kept / levels.kept[0] for kept in levels.kept[: levels.wanted[place]]]
        before = [
            table.stage(config, {name: share * size for name, size in sizes.items()}, first)
            for share in shares
        ]
        own[density] = found.accuracy[:, place]
        costs = [prelude, *before, _stage(config, found, place, first)]
        yield table.trained(config, family, density, found, place, costs)
    ticket = methods.ticket(point, whole, found.mask)
    some = methods.at(ticket, [config.densities.index(density) for density in config.checked])
    # Params of a later epoch cannot be drawn anew.
    checks = CHECKS[:2] if first else CHECKS
    fresh = networks.initial(config, config.width, networks.ANEW)
    joined = methods.joined([methods.control(config, name, some, fresh) for name in checks])
    broken = training.train(config, joined.params, joined.mask, first=first)
    places = [(name, density) for name in checks for density in config.checked]
    for place, (name, density) in enumerate(places):
        yield table.check(family, name, density, broken.accuracy[:, place], own[density])


def _moving(config, family):
    """SET or RigL from random masks; SET also by the fraction that it moves."""
    fractions = [] if family == "RigL" else list(config.fractions)
    densities = [*config.densities, *[config.explored] * len(fractions)]
    fraction = np.array([*[config.fraction] * len(config.densities), *fractions])
    start = methods.random(config, "ERK", densities)
    fraction = np.broadcast_to(fraction, (config.seeds, len(densities)))
    found = training.train_moving(config, family, start.params, start.mask, fraction)
    moves = training.moves(config) if family == "RigL" else 0
    for place, density in enumerate(config.densities):
        costs = [_stage(config, found, place, dense_gradients=moves)]
        yield table.trained(config, family, density, found, place, costs)
    for place, moved in enumerate(fractions, len(config.densities)):
        yield table.exploration(config.explored, moved, found, place)


def _layers(config, family):
    """Layers that untrained masks empty; and what a budget costs at inference."""
    starts = {name: methods.at_initialisation(config, name, config.emptied) for name in SALIENCIES}
    params = networks.initial(config, config.width)
    starts["magnitude"] = methods.after_training(config, params, config.emptied)
    for method, start in starts.items():
        for place, density in enumerate(config.emptied):
            empty = table.empty_layers(table.kept(jax.device_get(start.mask), place)).tolist()
            yield {"kind": "collapse", "method": method, "density": density, "empty_layers": empty}
    for name, width in (("mlp", 256), ("resnet20", 16)):
        weights, uses = networks.shapes(name, width), networks.uses(name, width)
        whole = cost.inference({path: weight.size for path, weight in weights.items()}, uses)
        for density in config.densities:
            for budget, choose in methods.BUDGETS.items():
                share = cost.inference(choose(weights, density), uses) / whole
                place = {"budget": budget, "density": density, "inference_operations": share}
                yield {"kind": "budget", "network": name, **place}


def _stage(config, found, place, first=0, dense_gradients=0):
    kept = table.kept(found.mask, place)
    return table.stage(config, kept, first, dense_gradients=dense_gradients)


if __name__ == "__main__":
    if "XLA_FLAGS" not in os.environ:  # a host device a core, for small products leave cores idle
        jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)
    run.main(sys.modules[__name__])
