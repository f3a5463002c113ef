"""Depth over width is the size of a network's departure from its infinite limit. arXiv:2106.10165.

    python -m experiments.deep_learning_theory quick    # 20 s, 2 CPU cores
    python -m experiments.deep_learning_theory laptop   # 4 min, 2 CPU cores
    python -m experiments.deep_learning_theory paper    # one accelerator; not run yet

Claim: at the critical point of an activation, found for ReLU, tanh, GELU, SWISH and their like and
absent for sigmoid and softplus, kernels neither grow nor vanish exponentially with depth; at width
n the outputs' four-point vertex is nu l / n of the squared kernel, with nu = 5 of ReLU, 2 of linear
networks and 2/3 of all activations whose critical kernel is 0; the tangent kernel fluctuates and
moves in training by amounts of the same order; and so depth over width says when infinite width is
a good theory.

Departures: the book shows histograms and no tables; each claim is judged by the formula, exact
where there is one. Networks are drawn by their preactivations, exactly in law. With a skip the
outputs of ReLU networks have odd correlations, of which the vertex gets a term that is as large as
the others, and small skips make it grow faster than none: the term is in the theory here, and the
formula for even correlations is shown beside it.
The tangent kernels of digits are those of networks with weights; movement is measured on two
classes of digits, and in `paper` of MNIST and CIFAR-10.
"""

import dataclasses
import sys
import zlib
from collections.abc import Iterator

import jax

from experiments import _deep_learning_theory_activations as activations
from experiments import _deep_learning_theory_images as images
from experiments import _deep_learning_theory_sampled as sampled
from experiments import run
from experiments._deep_learning_theory_figure import plot as plot
from experiments._deep_learning_theory_verdict import verdict as verdict

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_default_matmul_precision", "highest")  # a GPU's own choice is TF32


@dataclasses.dataclass(frozen=True)
class Config:
    """What is measured, and how much of it."""

    seed: int = 0
    """Of every random draw."""
    critical: tuple[str, ...] = ("ReLU", "GELU")
    """Activations whose critical point is sought."""
    universal: tuple[str, ...] = ("tanh",)
    """Those whose vertex is followed to great depth at infinite width."""
    depths: tuple[int, ...] = (10, 100, 1000, 20_000)
    """Of these flows."""
    scale_invariant: tuple[str, ...] = ("ReLU",)
    """Activations with exact theory at any width."""
    widths: tuple[int, ...] = (32, 64, 128)
    """Of their networks."""
    networks: int = 10_000
    """How many of each width."""
    others: tuple[str, ...] = ("tanh",)
    """Activations whose theory is a series in 1 / width."""
    other_widths: tuple[int, ...] = (8, 32)
    """Of their networks: narrow ones, whose next order can be seen."""
    half_stable_widths: tuple[int, ...] = (64, 128, 256)
    """The same for those with K* > 0, which fluctuate as much as ReLU networks."""
    other_networks: int = 30_000
    """How many of each width below 64; of the others, `networks`."""
    depth: int = 5
    """Layers of all these."""
    ratios: tuple[float, ...] = (0.125,)
    """Depths over widths at which ReLU networks are compared."""
    ratio_widths: tuple[int, ...] = (16, 64)
    """Their widths."""
    skipped: tuple[str, ...] = ()
    """Scale-invariant activations of residual networks."""
    skips: tuple[float, ...] = (0.5,)
    """Their gamma."""
    skip_width: int = 128
    """Their width, and that of the networks off criticality."""
    approach: tuple[str, ...] = ()
    """Activations whose approach to a fixed point off criticality is followed."""
    weight_variances: tuple[float, ...] = (1.8, 2.2)
    """C_W of ReLU networks off criticality."""
    digit_widths: tuple[int, ...] = (32,)
    """Hidden widths of networks whose tangent kernels of digits are formed."""
    digit_depths: tuple[int, ...] = (2,)
    """Their hidden layers."""
    digit_networks: int = 200
    """How many of each shape."""
    images: tuple[str, ...] = ()
    """Sets on which networks are trained: digits, mnist, cifar10."""
    trained_widths: tuple[int, ...] = (64,)
    """Hidden widths of trained networks."""
    trained_depths: tuple[int, ...] = (2,)
    """Their hidden layers."""
    trained_networks: int = 8
    """How many of each shape."""
    examples: int = 16
    """Training examples, of two classes."""
    steps: int = 50
    """Of gradient descent."""
    data_directory: str = ""
    """Where tensorflow-datasets keeps its files; empty for its own default."""

    def __post_init__(self) -> None:
        """Refuses what could not be measured."""
        for name in ("critical", "universal", "scale_invariant", "others", "approach"):
            unknown = set(getattr(self, name)) - set(activations.ACTIVATIONS)
            if unknown:
                known = tuple(activations.ACTIVATIONS)
                raise ValueError(f"{name}: got {sorted(unknown)}; want some of {known}")
        for name in ("scale_invariant", "skipped"):
            if set(getattr(self, name)) - set(activations.SLOPES):
                known = tuple(activations.SLOPES)
                raise ValueError(f"{name}: got {getattr(self, name)}; want some of {known}")
        without = {"sigmoid", "softplus"} & {*self.universal, *self.others}
        if without:
            raise ValueError(f"universal, others: {sorted(without)} have no critical point")
        if set(self.images) - set(images.DATASETS):
            raise ValueError(f"images: got {self.images}; want some of {images.DATASETS}")
        for name in ("networks", "other_networks", "digit_networks", "trained_networks", "depth"):
            if getattr(self, name) < 2:
                raise ValueError(f"{name}: got {getattr(self, name)}; want at least 2")
        for name in ("widths", "other_widths", "half_stable_widths"):
            if min(getattr(self, name), default=2) < 2:
                raise ValueError(f"{name}: got {getattr(self, name)}; pairs take a width of 2")
        if self.examples < 4 or self.examples % 2:
            raise ValueError(f"examples: got {self.examples}; want an even number, at least 4")
        if not all(0 < skip < 1 for skip in self.skips):
            raise ValueError(f"skips: got {self.skips}; each is above 0 and below 1")


QUICK = Config()
LAPTOP = Config(
    critical=("ReLU", "linear", "leaky ReLU", "tanh", "sin", "erf", "GELU", "SWISH",
              "sigmoid", "softplus"),
    universal=("tanh", "sin", "erf", "ReLU", "linear"),
    scale_invariant=("ReLU", "linear", "leaky ReLU"),
    networks=100_000,
    others=("tanh", "sin", "GELU", "SWISH"),
    approach=("tanh", "GELU"),
    other_networks=500_000,
    other_widths=(8, 16, 32),
    depth=8,
    ratios=(0.0625, 0.125, 0.25),
    ratio_widths=(16, 32, 64, 128),
    skipped=("ReLU", "linear"),
    skips=(0.25, 0.5, 0.75, 0.9),
    skip_width=256,
    weight_variances=(1.8, 2.0, 2.2),
    digit_widths=(32, 64, 128, 256),
    digit_depths=(2, 4, 8),
    digit_networks=400,
    images=("digits",),
    trained_widths=(32, 64, 128, 256),
    trained_depths=(2, 4, 8),
    trained_networks=16,
    examples=32,
    steps=100,
)  # fmt: skip
PAPER = dataclasses.replace(
    LAPTOP,
    networks=10_000_000,
    widths=(32, 64, 128, 256, 512),
    other_networks=20_000_000,
    other_widths=(8, 16, 32, 64, 128),
    ratio_widths=(16, 32, 64, 128, 256, 512),
    digit_networks=4000,
    images=("digits", "mnist", "cifar10"),
    trained_widths=(64, 128, 256, 512),
    trained_depths=(2, 4, 8, 16),
    trained_networks=64,
    examples=100,
    steps=1000,
)
TINY = Config(
    critical=("ReLU",),
    universal=("ReLU",),
    depths=(10, 20),
    widths=(4,),
    networks=200,
    others=(),
    depth=3,
    ratio_widths=(8,),
    skipped=("ReLU",),
    skip_width=4,
    approach=(),
    weight_variances=(1.8,),
    digit_widths=(4,),
    digit_depths=(1,),
    digit_networks=4,
    images=("digits",),
    trained_widths=(4,),
    trained_depths=(1,),
    trained_networks=2,
    examples=4,
    steps=3,
)


def plan(config: Config) -> list[run.Cell]:
    """Infinite width, random networks, then networks with weights."""
    cells = []

    def add(kind, cost, **named):
        key = " ".join([kind, *(f"{name}={value}" for name, value in named.items())])
        cells.append(run.Cell(key, cost, {"kind": kind, **named}))

    for activation in config.critical:
        add("critical", 2.0, activation=activation)
    for activation in config.universal:
        add("universal", 1 + 1e-4 * max(config.depths), activation=activation)
    for activation in config.approach:
        for weight_variance in (0.7, 1.5):
            add("approach", 0.5, activation=activation, weight_variance=weight_variance)
    draws = 5e-8 * config.depth
    for activation in config.scale_invariant:
        for width in config.widths:
            cost = 2 + draws * width * config.networks
            add("layers", cost, activation=activation, width=width)
    for activation in config.others:
        half_stable = activation in ("GELU", "SWISH")
        for width in config.half_stable_widths if half_stable else config.other_widths:
            networks = config.networks if width >= 64 else config.other_networks
            add("layers", 3 + draws * width * networks, activation=activation, width=width)
    for ratio in config.ratios:
        for width in config.ratio_widths:
            cost = 1 + 2e-8 * config.networks * ratio * width**2
            add("collapsed", cost, activation="ReLU", ratio=ratio, width=width)
    for skip in config.skips:
        for activation in config.skipped:
            cost = 1 + draws / 3 * config.skip_width * config.networks
            add("skipped", cost, activation=activation, skip=skip, width=config.skip_width)
    for weight_variance in config.weight_variances:
        named = {"weight_variance": weight_variance, "width": config.skip_width}
        add("off_critical", 1 + 3e-7 * config.networks, **named)
    for depth in config.digit_depths:
        for width in config.digit_widths:
            cost = 2 + 2e-8 * config.digit_networks * depth * width**2
            add("pairs", cost, width=width, depth=depth)
    for dataset in config.images:
        for depth in config.trained_depths:
            for width in config.trained_widths:
                work = config.trained_networks * config.steps * config.examples
                cost = 3 + 2e-10 * work * width * (64 + depth * width)
                add("movement", cost, dataset=dataset, width=width, depth=depth)
    return cells


def measure(config: Config, cell: run.Cell) -> Iterator[dict]:
    """The rows of one cell; each repeats what names the cell."""
    named = dict(cell.parameters)
    rest = {name: value for name, value in named.items() if name != "kind"}
    key = jax.random.fold_in(jax.random.key(config.seed), zlib.crc32(cell.key.encode()))
    size = {"depth": config.depth, "networks": config.networks}
    match named["kind"]:
        case "critical":
            rows = [activations.critical(**rest, points=200)]
        case "universal":
            rows = activations.universal(**rest, depths=config.depths)
        case "approach":
            rows = [activations.approach(**rest, depth=2000)]
        case "layers":
            if rest["activation"] not in config.scale_invariant and rest["width"] < 64:
                size["networks"] = config.other_networks
            rows = sampled.layers(key, **rest, **size)
        case "collapsed":
            rows = [sampled.collapsed(key, **rest, networks=config.networks)]
        case "skipped":
            rows = [sampled.skipped(key, **rest, **size)]
        case "off_critical":
            rows = sampled.off_critical(key, **rest, **size)
        case "pairs":
            rows = [images.pairs(config, **rest)]
        case "movement":
            rows = [images.movement(config, **rest)]
    yield from ({**named, **row} for row in rows)


if __name__ == "__main__":
    run.main(sys.modules[__name__])
