"""Neurons that play a game prune themselves. arXiv:2512.22106, Table 2.

    python -m experiments.pruning_game quick    # 50 s, 2 CPU cores
    python -m experiments.pruning_game laptop   # 7 min, 2 CPU cores
    python -m experiments.pruning_game paper    # one accelerator; not run yet

Claim: each neuron of a network has a gate that climbs a utility, benefit less cost, while the
network learns. In equilibrium gates are near 0 or near 1; on MNIST three of four configurations
prune 95 to 98% of 768 neurons at 90 to 92% accuracy, the fourth none at 97%; mild costs prune
nobody; a cost of the norm (L2) is essential, one of the gate (L1) rarely suffices; dominated
neurons go.

Departures: `quick` and `laptop` are digits and 128 + 64 neurons, with the paper's 9380 steps of 128
examples; `quick` has a tenth of the steps, gates that are as many times faster, and half of the
neurons. The paper states neither how weights and gates are optimised, nor the weights' rate, their
first values, or what belongs to a neuron; its benefit, as printed, climbs the loss. `LITERAL` are
both signs by both optimisers; `OTHERS` fill in more, and some of these depart from the text: the
slope dL/ds_i of backpropagation in place of s_i dL/ds_i, Adam for the gates, costs without the
norm, weights that pay. One, whose gates are half as fast again, was added after plain gates had
been seen to stop at 0.06; the nearest to the table is the nearest of them all. Learning rates of
weights are 0.1 (SGD) and 0.001 (Adam). Networks that are compared with magnitude and random pruning
are those of `COMPARED`, which keep some neurons and work.
"""

import dataclasses
import os
import sys
from collections.abc import Iterator

import jax
import numpy as np

from experiments import _pruning_game_baselines as baselines
from experiments import _pruning_game_frozen as frozen
from experiments import _pruning_game_training as training
from experiments import run
from experiments._pruning_game_figure import plot as plot
from experiments._pruning_game_readings import (
    COMPARED,
    LITERAL,
    MILD,
    OTHERS,
    PUBLISHED,
    READINGS,
    TELLING,
)
from experiments._pruning_game_verdict import verdict as verdict
from ntkens.sparsity import game_dynamics

jax.config.update("jax_enable_x64", True)

BINS = 20  # of the histograms of gates


@dataclasses.dataclass(frozen=True)
class Config:
    """What is measured, and how much of it."""

    seed: int = 0
    """Of every random draw."""
    dataset: str = "digits"
    """digits, or mnist through tensorflow-datasets."""
    data_directory: str = ""
    """Where tensorflow-datasets keeps its files; empty for its own default."""
    seeds: int = 5
    """Networks of each reading and configuration; of the digits one split."""
    widths: tuple[int, ...] = (128, 64)
    """Hidden neurons, all with gates."""
    epochs: int = 938
    """Of training; of the digits one has 10 steps."""
    batch: int = 128
    """Examples a step."""
    sgd_rate: float = 0.1
    """Learning rate of the weights by SGD, which the paper does not state."""
    adam_rate: float = 1e-3
    """The same by Adam."""
    gate_rate: float = 1e-3
    """Of the gates; the paper's."""
    retraining: int = 94
    """Epochs of retraining after neurons are dropped."""
    readings: tuple[str, ...] = tuple(OTHERS)
    """Beside the literal ones: names of `OTHERS`."""

    def __post_init__(self) -> None:
        """Refuses what could not be measured."""
        if self.seeds < 2:
            raise ValueError(f"seeds: got {self.seeds}; an error takes at least 2")
        for name in self.readings:
            if name not in OTHERS:
                raise ValueError(f"readings: got {name!r}; want some of {tuple(OTHERS)}")
        for name in ("epochs", "batch", "retraining"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: got {getattr(self, name)}; want at least 1")
        for name in ("sgd_rate", "adam_rate", "gate_rate"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: got {getattr(self, name)}; want above 0")
        if not self.widths or min(self.widths) < 1:
            raise ValueError(f"widths: got {self.widths}; want one hidden layer or more")


QUICK = Config(seeds=2, widths=(64, 32), epochs=94, gate_rate=0.01, retraining=9, readings=COMPARED)
LAPTOP = Config(readings=TELLING)
PAPER = Config(dataset="mnist", widths=(512, 256), epochs=20, retraining=2)
TINY = Config(seeds=2, widths=(6, 4), epochs=2, gate_rate=0.5, retraining=1, readings=COMPARED)


def plan(config: Config) -> list[run.Cell]:
    """The theory; the literal readings as one program; the others, as one for each kind of groups.

    And the neurons that are kept against as many others, after the readings that are compared.
    """
    steps = config.epochs * (10 if config.dataset == "digits" else 469)
    each = 1e-4 * steps * config.seeds
    cells = [
        run.Cell("frozen", 5),
        run.Cell("literal", 10 + each * len(LITERAL) * (len(PUBLISHED) + len(MILD)),
                 {"readings": tuple(LITERAL), "configurations": (*PUBLISHED, *MILD)}),
    ]  # fmt: skip
    kinds: dict[tuple, list[str]] = {}
    for name in config.readings:
        if name not in COMPARED:
            kinds.setdefault(READINGS[name].own, []).append(name)
    if set(COMPARED) <= set(config.readings):
        kinds["compared",] = list(COMPARED)
    for kind, names in kinds.items():
        cost = 10 + each * len(names) * len(PUBLISHED) * (2.5 if kind == ("compared",) else 1)
        parameters = {"readings": tuple(names), "configurations": tuple(PUBLISHED)}
        cells.append(run.Cell("others: " + " + ".join(kind), cost, parameters))
    return cells


def measure(config: Config, cell: run.Cell) -> Iterator[dict]:
    """Rows of a reading and a configuration, with a value for each seed."""
    data = training.load(config, jax.random.key(config.seed))
    if cell.key == "frozen":
        yield from frozen.measure(config, data)
        return
    names, configurations = (cell.parameters[part] for part in ("readings", "configurations"))
    each = [(name, configuration) for name in names for configuration in configurations]
    settings = [
        training.setting(config, READINGS[name], (PUBLISHED | MILD)[configuration])
        for name, configuration in each
        for _ in range(config.seeds)
    ]
    seeds = np.tile(np.arange(config.seeds), len(each))
    plain: tuple[str, ...] = COMPARED if names == COMPARED else ()  # the same without a game
    settings += [
        training.setting(config, READINGS[name], None)
        for name in plain
        for _ in range(config.seeds)
    ]
    all_seeds = np.append(seeds, np.tile(np.arange(config.seeds), len(plain)))
    own = READINGS[names[0]].own
    found = training.train(config, data, settings, all_seeds, own=own, epochs=config.epochs)
    game, dense = (
        jax.tree.map(lambda leaf, part=part: leaf[part], found)
        for part in (slice(len(seeds)), slice(len(seeds), None))
    )
    for place, (name, configuration) in enumerate(each):
        here = slice(place * config.seeds, (place + 1) * config.seeds)
        row = {"kind": "game", "reading": name, "configuration": configuration}
        yield row | summary(jax.tree.map(lambda leaf, here=here: np.asarray(leaf[here]), game))
    if names == COMPARED:
        yield from baselines.compare(config, data, game, dense.joint.params, seeds)


def summary(found: training.Trained) -> dict:
    """What is kept of the members of a row: numbers of each seed, and a histogram of all gates."""
    kept = game_dynamics.survivors(found.joint.gates)
    gates, is_kept, opposed = (
        np.concatenate(list(part.values()), axis=1)
        for part in (found.joint.gates, kept, found.opposed)
    )
    some = np.where(is_kept.any(axis=1), is_kept.sum(axis=1), np.nan)
    others = np.where(is_kept.all(axis=1), np.nan, (~is_kept).sum(axis=1))
    return {
        "accuracy": training.rounded(found.accuracy),
        "pruned_accuracy": training.rounded(found.pruned_accuracy),
        "kept": np.stack([layer.sum(axis=1) for layer in kept.values()], axis=1).tolist(),
        "neurons": gates.shape[1],
        "exactly_closed": (gates == 0).sum(axis=1).tolist(),
        "largest": training.rounded(gates.max(axis=1)),
        "mean_gate": training.rounded(gates.mean(axis=1)),
        "mean_kept": training.rounded((gates * is_kept).sum(axis=1) / some),
        "between": training.rounded(((gates > 0.1) & (gates < 0.9)).mean(axis=1)),
        "opposed_kept": training.rounded((opposed * is_kept).sum(axis=1) / some),
        "opposed_pruned": training.rounded((opposed * ~is_kept).sum(axis=1) / others),
        "histogram": np.histogram(gates, bins=BINS, range=(0, 1))[0].tolist(),
    }


if __name__ == "__main__":
    if "XLA_FLAGS" not in os.environ:  # a host device a core, for small products leave cores idle
        jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)
    run.main(sys.modules[__name__])
