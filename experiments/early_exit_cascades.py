"""Early-exit cascades with windows are ensembles at the cost of one network. arXiv:2303.08010.

    python -m experiments.early_exit_cascades quick    # 40 s, 2 CPU cores
    python -m experiments.early_exit_cascades laptop   # 1 min, 2 CPU cores
    python -m experiments.early_exit_cascades paper    # one accelerator; not run yet

Claim: where predictions are accepted or rejected, the second member of an ensemble need only see
the fifth of the examples whose confidence is nearest to the threshold: such a cascade keeps most of
the ensemble's gain at 1.2 times the cost of one network, is worth a single network scaled up
several times, and improves the detection of unknown classes more reliably than scaling does. For
accuracy the least confident should be passed on instead.

Departures: `quick` and `laptop` are digits with Gaussian pixel noise, of the classes 0 to 7, and
unknown are 8 and 9; networks are MLPs of one layer, scaled by width. The noise is 0.35 of the range
of pixels, at which one network errs on a seventh; it is drawn once an image. `paper` is CIFAR-100
with wide ResNets in place of ImageNet with EfficientNets, with group normalisation in place of
batch statistics, and SVHN unknown. Coverage at a risk is searched from a fifth of the examples on,
where these are hundreds, and as in the paper from 500 on, where these are thousands. A single
threshold lets through as large a share of the validation examples as the window does, 20% or, where
the window is clipped, less; the paper's always 20%.
"""

import dataclasses
import functools
import sys
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from experiments import _early_exit_cascades_networks as networks
from experiments import _early_exit_cascades_policies as policies
from experiments import run
from experiments._early_exit_cascades_figure import plot as plot
from experiments._early_exit_cascades_verdict import verdict as verdict

jax.config.update("jax_enable_x64", True)

SHOWN = ("risk@80", "FPR@80")  # the tasks of other scores, and of more members than two


@dataclasses.dataclass(frozen=True)
class Config:
    """What is measured, and how much of it."""

    seed: int = 0
    """Of every random draw."""
    dataset: str = "digits"
    """digits or cifar100."""
    data_directory: str = ""
    """Where tensorflow-datasets keeps its files; empty for its own default."""
    seeds: int = 12
    """Splits of the data, each with networks of its own."""
    together: int = 100
    """Seeds trained as one program, at most."""
    members: int = 4
    """Networks of a seed at scale 1: pairs in both orders, and all as one cascade."""
    scales: tuple[float, ...] = (1.2, 2.0, 4.0)
    """Of the scaled single networks: factors of the width."""
    scaled: int = 2
    """Single networks of a seed at each other scale."""
    width: int = 20
    """Hidden units of the MLP at scale 1."""
    depth: int = 28
    """Layers of the wide ResNet."""
    widen: int = 1
    """Its factor at scale 1."""
    train: int = 543
    """Training examples."""
    validation: int = 400
    """Held-back examples that thresholds are set on; of digits, the rest is for testing."""
    noise: float = 0.35
    """Standard deviation of the noise on pixels in [0, 1]."""
    epochs: int = 30
    """Of training."""
    batch: int = 32
    """Examples a step."""
    rate: float = 3e-3
    """Largest learning rate: of AdamW for digits, of SGD with momentum otherwise."""
    decay: float = 1e-4
    """Of weights."""

    def __post_init__(self) -> None:
        """Refuses what could not be measured."""
        if self.dataset not in ("digits", "cifar100"):
            raise ValueError(f"dataset: got {self.dataset!r}; want digits or cifar100")
        if self.members < 2 or self.members % 2:
            raise ValueError(f"members: got {self.members}; want pairs, 2 or 4")
        if self.seeds < 2:
            raise ValueError(f"seeds: got {self.seeds}; an error takes at least 2")
        if 1.0 in self.scales or min(self.scales, default=2.0) <= 0:
            raise ValueError(f"scales: got {self.scales}; want positive ones other than 1")
        for name in ("together", "scaled", "train", "validation", "epochs", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: got {getattr(self, name)}; want at least 1")


QUICK = Config(scales=(1.2, 4.0))
LAPTOP = Config(seeds=100, scales=(1.2, 2.0, 4.0, 8.0))
PAPER = Config(
    dataset="cifar100",
    seeds=5,
    together=1,
    members=2,
    scales=(2.0, 4.0),
    train=45_000,
    validation=5000,
    noise=0.0,
    epochs=200,
    batch=128,
    rate=0.1,
    decay=5e-4,
)
TINY = Config(seeds=2, members=2, scales=(2.0,), scaled=1, train=100, validation=100, epochs=1)


def plan(config: Config) -> list[run.Cell]:
    """The ensembles, and then the scaled single networks; as many seeds a cell as fit together."""
    cells = []
    for scale in (1.0, *config.scales):
        count = config.members if scale == 1 else config.scaled
        for start in range(0, config.seeds, config.together):
            seeds = min(config.together, config.seeds - start)
            steps = seeds * count * config.epochs * -(-config.train // config.batch)
            cost = 4 + 10 * (scale == 1) + steps * (1e-4 if config.dataset == "digits" else 0.05)
            key = f"scale={scale:g} seeds={start}-{start + seeds - 1}"
            parameters = {"scale": scale, "start": start, "count": seeds, "networks": count}
            cells.append(run.Cell(key, cost, parameters))
    return cells


def measure(config: Config, cell: run.Cell) -> Iterator[dict]:
    """The rows of one cell; a value for each seed from the first on, a mean over orders."""
    scale, start, count, size = (
        cell.parameters[n] for n in ("scale", "start", "count", "networks")
    )
    data = networks.load(config.dataset, config.data_directory)
    logits, losses = networks.train(config, data, scale, size, np.arange(start, start + count))
    macs = networks.relative_macs(config, data, scale)
    named = {"scale": scale, "first_seed": start, "training_loss": float(jnp.mean(losses))}
    if scale != 1:
        kinds = (policies.MAIN,)
        found = _evaluated(logits, np.arange(size)[:, None], kinds)
        yield from _rows({**named, "kind": "single", "members": 1}, found, kinds, macs)
        return
    alone = np.arange(size)
    pairs = alone.reshape(-1, 2)
    orders = {2: np.concatenate([pairs, pairs[:, ::-1]])}
    if size > 2:
        orders[size] = np.stack([alone, alone[::-1]])
    for members, order in orders.items():
        kinds = tuple(policies.SCORES) if members == 2 else (policies.MAIN,)
        found = _evaluated(logits, order, kinds)
        yield from _rows({**named, "kind": "cascade", "members": members}, found, kinds, macs)
    swept = _swept(logits, orders[2])
    for place, policy in enumerate(("window", "single threshold")):
        for at, width in enumerate(policies.SWEEP):
            row = {"kind": "sweep", "policy": policy, "width": width}
            values = np.asarray(swept.value)[:, :, place, at]
            cost = float(jnp.mean(swept.macs[:, :, place, at]))
            yield {**named, **row, "macs": cost, "values": _rounded(values.mean(axis=1))}


@functools.partial(jax.jit, static_argnames="kinds")
def _evaluated(logits, orders, kinds):
    """Results [seeds orders kinds policies] of each task."""
    return _over_orders(functools.partial(policies.evaluate, kinds=kinds), logits, orders)


@jax.jit
def _swept(logits, orders):
    """Results [seeds orders 2 widths]."""
    return _over_orders(policies.sweep, logits, orders)


def _over_orders(function, logits, orders):
    """Of the members of every seed, in each of several orders."""

    def in_order(logits, order):
        asked = {name: getattr(logits, name)[order] for name in ("validation", "test", "shifted")}
        return function(logits._replace(**asked))

    def of_seed(logits):
        return jax.vmap(in_order, (None, 0))(logits, orders)

    return jax.lax.map(of_seed, logits)  # one after another: all at once take gigabytes


def _rows(named, found, kinds, macs):
    for task, result in found.items():
        for kind, score in enumerate(kinds):
            if task not in SHOWN and (score != policies.MAIN or named["members"] > 2):
                continue
            for place, policy in enumerate(policies.POLICIES[: result.value.shape[-1]]):
                if policy == "adaptive window" and not policies.TASKS[task].has_unknown:
                    continue  # no shift
                values, costs, shares = (np.asarray(part)[:, :, kind, place] for part in result)
                yield {
                    **named,
                    "task": task,
                    "score": score,
                    "policy": policy,
                    "macs": round(macs * float(costs.mean()), 5),
                    "share": round(float(shares.mean()), 5),
                    "values": _rounded(values.mean(axis=1)),
                }


def _rounded(values):
    return [round(float(value), 5) for value in values]


if __name__ == "__main__":
    run.main(sys.modules[__name__])
