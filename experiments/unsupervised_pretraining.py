"""Inputs without labels reduce a task of d numbers to one of r. arXiv:2303.01566.

    python -m experiments.unsupervised_pretraining quick    # 25 s, 2 CPU cores
    python -m experiments.unsupervised_pretraining laptop   # 5 min, 2 CPU cores
    python -m experiments.unsupervised_pretraining paper    # one accelerator; not run yet

Claim: where a latent model is learnt by maximum likelihood from m inputs without labels, and a
prediction from its latents by n labels, the excess risk is O(sqrt(C_Phi / m) + sqrt(C_Psi / n)),
against O(sqrt(C_PhiPsi / n)) without pretraining: in a factor model sqrt(r / n) against
sqrt(d / n), in a mixture of K Gaussians sqrt(K / n). The latents must be informative: what p(x) of
two models tells apart must bound what p(x, z) does. Where it does not, pretraining can be useless.

Departures: the paper has no experiments; the settings, and images, are ours. The theorem bounds by
square roots what for squared loss falls as 1 / m and 1 / n: the factor model is judged by its exact
risks. Its excess does not shrink with B as the specification expects, for it is proportional to the
irreducible risk, which rises. The weights of the mixture's components are learnt, where the paper
knows them. The contrastive labels are drawn from the paper's model for the factor model's own
features; on images the pairs are two views of an image or of two. Least squares is not truncated.
Standard errors are over repeats: inputs, labels and starts anew; of digits, the split too.
"""

import dataclasses
import sys
from collections.abc import Iterator

import jax
import numpy as np
import threadpoolctl

from experiments import _unsupervised_pretraining_contrastive as contrastive
from experiments import _unsupervised_pretraining_factors as factors
from experiments import _unsupervised_pretraining_images as images
from experiments import _unsupervised_pretraining_mixtures as mixtures
from experiments import run
from experiments._unsupervised_pretraining_figure import plot as plot
from experiments._unsupervised_pretraining_verdict import verdict as verdict

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_default_matmul_precision", "highest")  # a GPU's own choice is TF32


@dataclasses.dataclass(frozen=True)
class Config:
    """What is measured, and how much of it."""

    seed: int = 0
    """Of every random draw."""
    repeats: int = 20
    """Of everything but images."""
    width: int = 60
    """Inputs d of the factor model."""
    factors: int = 3
    """Factors r."""
    size: float = 2.0
    """Norm of the columns of B; the noise of the inputs has variance 1."""
    label_noise: float = 0.3
    """Standard deviation of the noise in the target."""
    labels: tuple[int, ...] = (80, 240, 960)
    """Labelled examples n; above d + 1, where least squares has a mean risk."""
    samples: tuple[int, ...] = (100, 1000)
    """Unlabelled inputs m."""
    sizes: tuple[float, ...] = (2.0, 0.5)
    """Norms of all columns of B, or of the one that the target needs."""
    informative_samples: int = 1000
    """Unlabelled inputs with these."""
    components: int = 5
    """Of the mixture."""
    mixture_width: int = 30
    """Inputs of the mixture."""
    separations: tuple[float, ...] = (8.0,)
    """Distances between the components' means, in their standard deviations."""
    mixture_labels: tuple[int, ...] = (100,)
    """Labelled examples of the mixture."""
    mixture_samples: tuple[int, ...] = (1000,)
    """Unlabelled inputs of the mixture."""
    contrastive_width: int = 20
    """Inputs of the factor model of which contrastive pairs are made."""
    contrastive_samples: tuple[int, ...] = (1000,)
    """Pairs."""
    contrastive_labels: int = 60
    """Labelled examples after them."""
    contrastive_steps: int = 300
    """Of Adam, 500 pairs each; at least one epoch."""
    strength: float = 2.0
    """Of the features in a pair's logit, in units of the factors' posterior mean."""
    images: tuple[str, ...] = ("digits",)
    """Sets of images: digits, mnist."""
    image_labels: tuple[int, ...] = (20, 50, 100, 200)
    """Labelled images."""
    splits: int = 4
    """Repeats on images; of the digits also of their split."""
    image_factors: int = 10
    """Of the factor model of images."""
    image_components: int = 30
    """Of their mixture."""
    image_widths: tuple[int, ...] = (128,)
    """Hidden layers of their contrastive encoder."""
    image_outputs: int = 32
    """Its features."""
    image_epochs: int = 10
    """Of its training."""
    data_directory: str = ""
    """Where tensorflow-datasets keeps its files; empty for its own default."""

    def __post_init__(self) -> None:
        """Refuses what could not be measured."""
        for name in ("repeats", "splits"):
            if getattr(self, name) < 2:
                raise ValueError(f"{name}: got {getattr(self, name)}; an error takes at least 2")
        if not 1 <= self.factors < self.width or self.factors >= self.contrastive_width:
            raise ValueError(f"factors: got {self.factors}; want fewer than inputs, at least 1")
        for name, least in (
            ("labels", self.width + 2),
            ("samples", self.factors),
            ("mixture_labels", self.components),
            ("mixture_samples", self.components),
            ("contrastive_samples", 1),
            ("image_labels", 2),
        ):
            if min(getattr(self, name), default=0) < least:
                raise ValueError(f"{name}: got {getattr(self, name)}; want {least} or more each")
        if self.contrastive_labels < self.contrastive_width + 2:
            raise ValueError(
                f"contrastive_labels: got {self.contrastive_labels}; want "
                f"{self.contrastive_width + 2} or more"
            )
        if self.components > self.mixture_width:
            raise ValueError(f"components: got {self.components}; want at most mixture_width")
        for name in ("sizes", "separations"):
            if min(getattr(self, name), default=0) <= 0:
                raise ValueError(f"{name}: got {getattr(self, name)}; want numbers above 0")
        for name in self.images:
            if name not in images.SOURCES:
                raise ValueError(f"images: got {name!r}; want one of {images.SOURCES}")


QUICK = Config()
LAPTOP = Config(
    repeats=200,
    labels=(80, 120, 240, 480, 960),
    samples=(100, 300, 1000, 3000, 10_000, 20_000),
    sizes=(2.0, 1.4, 1.0, 0.7, 0.5, 0.35, 0.25, 0.1),
    separations=(8.0, 4.0, 2.0),
    mixture_labels=(50, 100, 200, 400),
    mixture_samples=(100, 1000, 5000),
    contrastive_samples=(1000, 2000, 4000, 8000, 16_000),
    contrastive_steps=600,
    splits=30,
    image_epochs=40,
)
PAPER = dataclasses.replace(
    LAPTOP,
    repeats=1000,
    samples=(*LAPTOP.samples, 100_000),
    mixture_samples=(100, 1000, 5000, 50_000),
    contrastive_samples=(*LAPTOP.contrastive_samples, 64_000),
    images=("mnist",),
    image_labels=(50, 200, 1000, 5000),
    image_factors=32,
    image_components=100,
    splits=10,
    image_widths=(1024, 1024),
    image_outputs=64,
    image_epochs=100,
)
TINY = Config(
    repeats=3,
    width=8,
    factors=2,
    labels=(12, 40),
    samples=(30, 100, 300),
    sizes=(2.0, 0.3),
    informative_samples=100,
    components=2,
    mixture_width=3,
    separations=(8.0,),
    mixture_labels=(20,),
    mixture_samples=(30,),
    contrastive_width=8,
    contrastive_samples=(100,),
    contrastive_labels=40,
    contrastive_steps=2,
    image_labels=(20,),
    splits=2,
    image_factors=3,
    image_components=3,
    image_widths=(4,),
    image_outputs=2,
    image_epochs=1,
)


def plan(config: Config) -> list[run.Cell]:
    """The factor model, its failures, the mixtures, the pairs and the images."""
    cells = []

    def add(kind, cost, **named):
        key = " ".join([kind, *(f"{name}={value}" for name, value in named.items())])
        cells.append(run.Cell(key, cost, {"kind": kind, **named}))

    least_squares = 1e-3 * config.repeats * len(config.labels)
    for method in ("supervised", "oracle"):
        add("factors", 2 + least_squares, method=method, samples=0)
    for samples in config.samples:
        cost = 1 + least_squares + 3e-6 * config.repeats * samples
        add("factors", cost, method="pretrained", samples=samples)
    add("rotation", 1.0)
    for which in ("all", "one"):
        for size in config.sizes:
            add("informative", 0.3 + 5 * least_squares, which=which, size=size)
    for samples in sorted({min(config.samples), max(config.samples)}):
        add("isotropic", 0.3 + 5 * least_squares, samples=samples)
    for separation in config.separations:
        for method, counts in (
            ("oracle", (0,)),
            ("linear", (0,)),
            ("alone", (0,)),
            ("pretrained", config.mixture_samples),
        ):
            for samples in counts:
                cost = 1 + config.repeats * (0.01 + 2e-5 * samples)
                add("mixture", cost, separation=separation, method=method, samples=samples)
    for samples in config.contrastive_samples:
        cost = 2 + 5e-5 * config.repeats * config.contrastive_steps
        add("contrastive", cost, samples=samples)
    for source in config.images:
        for split in range(config.splits):
            cost = {"digits": 1.0, "mnist": 1000.0}[source]
            add("images", cost, source=source, split=split)
    return cells


def measure(config: Config, cell: run.Cell) -> Iterator[dict]:
    """The rows of one cell; each repeats what names the cell."""
    # The matrices are small, and threads would wait for each other.
    with threadpoolctl.threadpool_limits(1):
        for row in _rows(config, **cell.parameters):
            row = {name: _plain(value) for name, value in row.items()}
            yield {**cell.parameters, **row}


def _rows(config, kind, **named):
    match kind:
        case "factors":
            yield from factors.regression(config, **named)
        case "rotation":
            yield factors.rotated(config)
        case "informative":
            yield factors.informative(config, **named)
        case "isotropic":
            yield factors.isotropic(config, **named)
        case "mixture":
            yield from mixtures.measured(config, **named)
        case "contrastive":
            yield contrastive.measured(config, **named)
        case "images":
            yield from images.measured(config, **named)


def _plain(value):
    """Arrays as lists and numbers, for the results file."""
    return value if isinstance(value, str | int) else np.asarray(value, float).tolist()


if __name__ == "__main__":
    run.main(sys.modules[__name__])
