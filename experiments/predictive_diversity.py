"""Pressing members to disagree helps weak networks and not strong ones. arXiv:2302.00704.

    python -m experiments.predictive_diversity quick    # 40 s, 2 CPU cores, digits
    python -m experiments.predictive_diversity laptop   # 3 min, 2 CPU cores, digits
    python -m experiments.predictive_diversity paper    # one accelerator; not run yet, CIFAR-10

Claim: train M networks jointly on their mean loss less gamma times a measure of their diversity.
gamma > 0 improves ensembles of small networks and harms those of large ones, whose members are
right and sure: there is one way to be so, and any disagreement leads away from it. gamma < 0 does
large ones no harm. Diversity that costs members nothing, of different architectures, gains less
than better members do.

Departures: the paper's tables are not public in numbers; claims are judged by signs, over seeds.
Its networks are ResNets and others on CIFAR and larger sets: here they are multilayer perceptrons
on digits, and in `paper` a small convolutional network and a ResNet-18 on CIFAR, with group
normalisation. The variance is over all classes. KL is from the mean, KL(pbar || p_i); the other
direction is the Jensen-Shannon divergence. With KL the loss has no lower bound at any gamma > 0,
and what is measured is a run of so many epochs. Who is right and sure is asked of a further
ensemble with gamma = 0: asked of the one that is compared, it would fall back to the mean.
"""

import dataclasses
import functools
import itertools
import sys
from collections.abc import Iterator
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from experiments import _predictive_diversity_training as training
from experiments import run
from experiments._predictive_diversity_figure import plot as plot
from experiments._predictive_diversity_verdict import BINS
from experiments._predictive_diversity_verdict import verdict as verdict
from ntkens.ensembles import aggregate, diversity
from ntkens.measures import uncertainty
from ntkens.models import cost

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_default_matmul_precision", "highest")  # a GPU's own choice is TF32


@dataclasses.dataclass(frozen=True)
class Config:
    """What is measured, and how much of it."""

    seed: int = 0
    """Of every random draw."""
    dataset: str = "digits"
    """digits; or cifar10, cifar100, or another set of images of tensorflow-datasets."""
    data_directory: str = ""
    """Where tensorflow-datasets keeps its files; empty for its own default."""
    networks: tuple[str, ...] = ("mlp-3", "mlp-6", "mlp-16", "mlp-256")
    """The members, the weakest first: mlp and conv by their widths, or resnet18."""
    gammas: tuple[float, ...] = (-1.0, -0.5, 0.0, 0.5, 1.0)
    """Strengths; 0 among them."""
    regularisers: tuple[diversity.Regulariser, ...] = get_args(diversity.Regulariser)
    """What is encouraged; the Jensen gap is measured at all networks, and others at the ends."""
    mixed: tuple[str, ...] = ("mlp-8", "mlp-16", "mlp-8-8", "mlp-16-16")
    """Architectures of the heterogeneous ensemble, one for each member."""
    single: str = "mlp-52"
    """One larger network, of as many multiply-accumulates as the heterogeneous ensemble."""
    seeds: int = 10
    """Ensembles of everything."""
    seeds_at_once: int = 100
    """Of a cell: fewer, and a run that is stopped loses less."""
    members: int = 4
    """Networks of an ensemble."""
    train: int = 1000
    """Training examples, of digits; the other 797 are for testing."""
    epochs: int = 75
    """Passes through the training set; 75 of 1000 in batches of 128 are 600 steps."""
    batch: int = 128
    """Examples a step, the same for all members."""
    optimiser: Literal["adam", "sgd"] = "adam"
    """Adam, or Nesterov's momentum with warm-up and cosine."""
    rate: float = 3e-3
    """Learning rate of a member."""
    weight_decay: float = 0.0
    """With sgd."""
    augment: bool = False
    """Training images are shifted and mirrored."""

    def __post_init__(self) -> None:
        """Refuses what could not be measured."""
        if self.seeds < 2:
            raise ValueError(f"seeds: got {self.seeds}; an error takes at least 2")
        if len(self.networks) < 2:
            raise ValueError(f"networks: got {self.networks}; want a weak and a strong one")
        if len(self.mixed) != self.members or self.members < 2:
            raise ValueError(
                f"mixed: got {self.mixed}; want an architecture for each of members, "
                f"{self.members}, at least 2"
            )
        if 0.0 not in self.gammas or not min(self.gammas) < 0 < max(self.gammas):
            raise ValueError(f"gammas: got {self.gammas}; want 0, and some on either side")
        if "jensen_gap" not in self.regularisers:
            raise ValueError(f"regularisers: got {self.regularisers}; want jensen_gap among them")
        for regulariser in self.regularisers:
            for gamma in self.gammas:
                diversity.check_gamma(gamma, regulariser)


QUICK = Config(
    networks=("mlp-3", "mlp-256"),
    gammas=(-1.0, 0.0, 1.0),
    regularisers=("jensen_gap",),
    mixed=("mlp-8", "mlp-16-16", "mlp-8", "mlp-16-16"),
)
LAPTOP = Config(networks=("mlp-3", "mlp-6", "mlp-12", "mlp-24", "mlp-64", "mlp-256"), seeds=20)
PAPER = Config(
    dataset="cifar10",
    networks=("conv-8-16-32", "conv-32-64-128", "resnet18"),
    mixed=("conv-32-64-128", "conv-48-48-96", "conv-24-48-96-96", "conv-32-64-64-128"),
    single="conv-64-120-240",
    seeds=3,
    seeds_at_once=1,
    epochs=30,
    optimiser="sgd",
    rate=0.1,
    weight_decay=5e-4,
    augment=True,
)
TINY = Config(
    networks=("mlp-2", "mlp-8"),
    gammas=(-1.0, 0.0, 1.0),
    regularisers=("jensen_gap",),
    mixed=("mlp-2", "mlp-8"),
    single="mlp-8",
    seeds=2,
    members=2,
    train=300,
    epochs=4,
)


def plan(config: Config) -> list[run.Cell]:
    """Every network with every gamma and regulariser; then heterogeneous members."""
    cells = []
    images = config.train if config.dataset == "digits" else 50_000
    work = config.members * config.epochs * images

    def add(kind, networks, seeds, **named):
        macs = sum(_macs(config, network) for network in networks)
        names = [kind, *map(str, named.values()), f"seeds {seeds.start}-{seeds.stop - 1}"]
        rate = 1e-10 if config.dataset == "digits" else 3e-13
        seconds = 0.5 + len(seeds) * work * rate * (macs + 2000)
        cells.append(run.Cell(" ".join(names), seconds, {"kind": kind, "seeds": [*seeds], **named}))

    starts = range(0, config.seeds, config.seeds_at_once)
    blocks = [range(start, min(start + config.seeds_at_once, config.seeds)) for start in starts]
    # a network's seeds share a reference: its cells follow one another
    for network, seeds in itertools.product(config.networks, blocks):
        for regulariser, gamma in itertools.product(config.regularisers, config.gammas):
            is_baseline, is_gap = gamma == 0, regulariser == "jensen_gap"
            if is_gap or (network in _ends(config) and not is_baseline):
                named = {"network": network, "regulariser": regulariser, "gamma": gamma}
                add("joint", [network], seeds, **named)
    for seeds in blocks:
        add("mixed", [*config.mixed, config.single], seeds)
    return cells


def _ends(config):
    return config.networks[0], config.networks[-1]


def measure(config: Config, cell: run.Cell) -> Iterator[dict]:
    """The row of one cell: lists over its seeds."""
    named = dict(cell.parameters)
    seeds = np.array(named["seeds"])
    if named["kind"] == "mixed":
        yield {**named, **_mixed(config, seeds)}
        return
    network, regulariser, gamma = named["network"], named["regulariser"], named["gamma"]
    logits = training.train(config, network, regulariser, gamma, seeds)
    reference = _reference(config, network, tuple(named["seeds"]))
    row = _lists(_judged(logits, reference, training.test_labels(config, seeds)))
    diverged = int(np.sum(~np.isfinite(np.asarray(logits)).all(axis=(1, 2, 3))))
    yield {**named, "macs": _macs(config, network), "diverged": diverged, **row}


@functools.lru_cache(maxsize=1)  # the cells of one network follow one another
def _reference(config, network, seeds):
    """Another ensemble with gamma = 0, which says what is easy; a resumed run trains it again."""
    return training.train(config, network, "jensen_gap", 0.0, np.array(seeds), stream=1)


def _lists(values):
    return {name: np.asarray(value).tolist() for name, value in values.items()}


@jax.jit
@jax.vmap
def _judged(logits, reference, labels):
    """One seed: how good the ensemble and its members are, and how diverse."""
    logits = logits.astype(float)
    probabilities, predictions = jax.nn.softmax(logits), jnp.argmax(logits, axis=-1)
    entropy = diversity.cross_entropy(logits, labels)
    right = diversity.cross_entropy(reference.astype(float), labels).ensemble
    sure = jnp.digitize(jnp.exp(-right), jnp.array(BINS[1:-1]))
    parts = jax.nn.one_hot(sure, len(BINS) - 1)
    worst = jnp.max(-jnp.log(jnp.take_along_axis(probabilities, labels[None, :, None], 2)), 0)
    members = len(logits)
    return {
        "accuracy": uncertainty.accuracy(aggregate.mean(probabilities), labels),
        "member_accuracy": jnp.mean(predictions == labels[None]),
        "nll": jnp.mean(entropy.ensemble),
        "member_nll": jnp.mean(entropy.average),
        "gap": jnp.mean(entropy.gap),
        "variance": jnp.mean(diversity.variance(logits)),
        "jensen_shannon": jnp.mean(diversity.jensen_shannon(logits)),
        "kl": jnp.mean(diversity.kl_from_mean(logits)),
        "disagreement": jnp.sum(diversity.disagreement(predictions)) / (members * (members - 1)),
        "shares": jnp.mean(parts, axis=0),
        "nll_parts": jnp.mean(entropy.ensemble[:, None] * parts, axis=0),
        "room_left": jnp.min(worst[:, 0] - entropy.gap),
    }


def _mixed(config, seeds):
    """Ensembles of one architecture, of four, and one network of the same cost, per seed.

    Of M networks of each of M architectures a Latin square forms M ensembles of one of each. Their
    members are those of the M ensembles of one architecture, and so on average as good: what they
    are better by is diversity for free.
    """
    labels = training.test_labels(config, seeds)
    pool = np.stack(
        [
            np.asarray(training.train(config, network, "jensen_gap", 0.0, seeds))
            for network in config.mixed
        ]
    )  # [architectures seeds members n classes]
    single = np.asarray(training.train(config, config.single, "jensen_gap", 0.0, seeds))
    turns = range(config.members)
    different = np.stack(
        [np.stack([pool[i, :, (i + turn) % config.members] for i in turns], 1) for turn in turns]
    )
    row = {"macs": sum(_macs(config, network) for network in config.mixed)}
    row["single_macs"] = _macs(config, config.single)
    for name, groups in {
        "alike": pool,
        "mixed": different,
        "single": np.moveaxis(single, 1, 0)[:, :, None],  # each network, an ensemble of one
        "single_ensemble": single[None],
    }.items():
        found = [_lists(_judged_alone(group, labels)) for group in groups]
        for measure in ("accuracy", "nll", "member_nll", "gap"):
            row[f"{name}_{measure}"] = np.mean([each[measure] for each in found], axis=0).tolist()
    return row


@jax.jit
@jax.vmap
def _judged_alone(logits, labels):
    logits = logits.astype(float)
    entropy = diversity.cross_entropy(logits, labels)
    return {
        "accuracy": uncertainty.accuracy(aggregate.mean(jax.nn.softmax(logits)), labels),
        "nll": jnp.mean(entropy.ensemble),
        "member_nll": jnp.mean(entropy.average),
        "gap": jnp.mean(entropy.gap),
    }


@functools.cache
def _macs(config, network):
    image = jnp.zeros((1, 8, 8, 1) if config.dataset == "digits" else (1, 32, 32, 3), jnp.float32)
    model = training.build(network, 10)
    params = jax.eval_shape(model.init, jax.random.key(0), image)
    return cost.macs(model, params, image)


if __name__ == "__main__":
    run.main(sys.modules[__name__])
