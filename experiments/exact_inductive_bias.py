"""How much inductive bias a task requires, exactly, and how far a fit is from it. arXiv:2406.15941.

    python -m experiments.exact_inductive_bias quick    # 25 s, 2 CPU cores
    python -m experiments.exact_inductive_bias laptop   # 4 min, 2 CPU cores
    python -m experiments.exact_inductive_bias paper    # one accelerator, MNIST; not run yet

Claim: the inductive bias that a target test loss e requires is I(e) = -log P(loss <= e), over
hypotheses that fit the training set, and a scaled non-central chi-squared distribution fitted to
sampled losses gives it where sampling cannot; tasks of higher dimension require more; neural
networks encode much of it, compared with kernels.

Departures: of a Gaussian process the loss is a generalised chi-squared variable, whose tail is
computed exactly, and the fit is judged by it. The paper's numbers are not public; its claims are
judged by their signs. Kernels are solved by Cholesky, and not by Adam; those of networks are scaled
to the RBF kernel's variance. Dimensions are swept by averaging digits down, by a planted function
of one of d inputs, and over tables, with the RBF kernel's length a third of the root mean square
distance (on the digits that is the authors' 1) and a ridge of 0.001, without which the overlapping
classes of 2 x 2 pixels make interpolants of any size. Omniglot is left out, and so is the inverted
pendulum, whose definition we do not have. Standard errors are over splits into training and test.
"""

import dataclasses
import os
import sys
from collections.abc import Iterator

import jax
import numpy as np

from experiments import _exact_inductive_bias_networks as networks
from experiments import _exact_inductive_bias_spaces as spaces
from experiments import run
from experiments._exact_inductive_bias_figure import plot as plot
from experiments._exact_inductive_bias_verdict import AVERAGED, PLANTED
from experiments._exact_inductive_bias_verdict import verdict as verdict
from ntkens.measures import inductive_bias, scaled_chi_squared

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_default_matmul_precision", "highest")  # a GPU's own choice is TF32

DIMENSION_RIDGE = 1e-3


@dataclasses.dataclass(frozen=True)
class Config:
    """What is measured, and how much of it."""

    seed: int = 0
    """Of samples and networks; the splits are numbered on their own."""
    images: str = "digits"
    """The set of images: digits, mnist or cifar10."""
    spaces: tuple[str, ...] = ("rbf", "nngp")
    """Kernel spaces: rbf, and of networks nngp, ntk, wide (trained, of infinite width)."""
    sizes: tuple[int, ...] = (100, 300)
    """Training images of the kernel spaces."""
    splits: int = 3
    """Repeats: other training and test images, other networks."""
    test: int = 400
    """Test images."""
    length: float = 1.0
    """Length scale of the RBF kernel, for pixels in [0, 1]."""
    samples: int = 1000
    """Hypotheses drawn from each kernel space."""
    factors: tuple[float, ...] = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0, 1.1)
    """Target losses, over the mean loss of a space."""
    targets: tuple[float, ...] = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4)
    """Target losses that all spaces and sizes share."""
    sides: tuple[int, ...] = (8, 4, 2)
    """Pixels to which images are averaged down."""
    dimensions: tuple[int, ...] = (1, 4, 16)
    """Inputs of the planted function, which depends on the first."""
    tables: tuple[str, ...] = ("iris", "wine", "breast_cancer")
    """Data sets beside the images: iris, wine, breast_cancer."""
    task_size: int = 100
    """Training examples where dimensions are compared."""
    network_sizes: tuple[int, ...] = (300,)
    """Training images of the networks."""
    members: int = 32
    """Networks of a size and split."""
    widths: tuple[int, ...] = (64,)
    """Hidden units of the networks, and of as many layers the network kernels."""
    epochs: int = 100
    """Of Adam."""
    batch: int = 32
    """Images a step."""
    rate: float = 1e-3
    """Learning rate."""
    data_directory: str = ""
    """Where tensorflow-datasets keeps its files; empty for its own default."""

    def __post_init__(self) -> None:
        """Refuses what could not be measured."""
        if self.images not in spaces.IMAGES:
            raise ValueError(f"images: got {self.images!r}; want one of {spaces.IMAGES}")
        for field, known in (("tables", (*spaces.TABLES,)), ("spaces", spaces.SPACES)):
            for name in getattr(self, field):
                if name not in known:
                    raise ValueError(f"{field}: got {name!r}; want some of {known}")
        if "rbf" not in self.spaces:
            raise ValueError(f"spaces: got {self.spaces}; want rbf among them, the paper's")
        for name in ("splits", "test"):
            if getattr(self, name) < 2:
                raise ValueError(f"{name}: got {getattr(self, name)}; want at least 2")
        for name in ("samples", "members"):
            if getattr(self, name) < 3:
                raise ValueError(f"{name}: got {getattr(self, name)}; a fit takes at least 3")
        for name in ("sizes", "network_sizes", "factors", "targets", "dimensions", "sides"):
            if not min(getattr(self, name), default=0) > 0:
                raise ValueError(f"{name}: got {getattr(self, name)}; want numbers above 0")
        largest = max(*self.sizes, *self.network_sizes, self.task_size)
        if self.images == "digits" and (largest > 1000 or self.test > 797):
            raise ValueError(
                f"sizes: got up to {largest}, and {self.test} test images; of the digits 1000 are "
                "for training and 797 for the test"
            )


QUICK = Config()
LAPTOP = Config(
    spaces=spaces.SPACES,
    sizes=(100, 300, 1000),
    splits=6,
    samples=10_000,
    dimensions=(1, 2, 4, 8, 16, 32),
    network_sizes=(100, 300, 1000),
    members=100,
    epochs=150,
)
PAPER = Config(
    images="mnist",
    spaces=spaces.SPACES,
    sizes=(1000, 2000, 5000),
    splits=5,
    test=1000,
    length=3.3,
    samples=10_000,
    sides=(28, 14, 7),
    task_size=1000,
    tables=(),
    network_sizes=(1000, 5000),
    members=1000,
    widths=(512, 512),
    epochs=200,
)
TINY = Config(
    sizes=(30,),
    splits=2,
    test=30,
    samples=200,
    sides=(8,),
    dimensions=(1, 4),
    tables=("iris",),
    task_size=30,
    network_sizes=(30,),
    members=4,
    widths=(8,),
    epochs=2,
)


def plan(config: Config) -> list[run.Cell]:
    """Kernel spaces of every size, the dimensions, and networks; each once for each split."""
    steps = {size: config.epochs * size / config.batch for size in config.network_sizes}
    tasks = len(config.sides) + len(config.dimensions) + len(config.tables)
    kinds = [
        *(
            ("spaces", size, len(config.spaces) * (0.3 + config.samples / 1e4))
            for size in config.sizes
        ),
        ("dimensions", config.task_size, 0.3 * tasks),
        *(("networks", size, 1 + steps[size] * config.members / 1e5) for size in steps),
    ]
    return [
        run.Cell(f"{kind} n={size} split={split}", cost, {"kind": kind, "n": size, "split": split})
        for kind, size, cost in kinds
        for split in range(config.splits)
    ]


def measure(config: Config, cell: run.Cell) -> Iterator[dict]:
    """The rows of one kind, size and split."""
    kind, size, split = (cell.parameters[name] for name in ("kind", "n", "split"))
    data = spaces.images(config.images, split, config.test, config.data_directory)
    rows = {"spaces": _spaces, "dimensions": _dimensions, "networks": _networks}[kind]
    for row in rows(config, data, size, split):
        yield {"n": size, "split": split} | row


def _spaces(config, data, size, split):
    task = spaces.image_task(data, size)
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(config.seed), size), split)
    for number, name in enumerate(config.spaces):
        space = spaces.space(name, task, length=config.length, depth=len(config.widths))
        moments = spaces.moments(space)
        targets = np.append(np.array(config.factors) * moments["mean"], config.targets)
        yield {
            "kind": "space", "space": name, "factors": [*config.factors],
            "targets": targets.tolist(), **moments, **spaces.nats(space, targets),
            **spaces.sampled(space, jax.random.fold_in(key, number), targets, config.samples),
        }  # fmt: skip


def _dimensions(config, data, size, split):
    tasks = [
        *((AVERAGED, spaces.image_task(data, size, side)) for side in config.sides),
        *((PLANTED, spaces.planted_task(d, split, size, config.test)) for d in config.dimensions),
        *((name, spaces.table_task(name, split, size)) for name in config.tables),
    ]
    for name, task in tasks:
        length = spaces.relative_length(task)
        space = spaces.space("rbf", task, length=length, ridge=DIMENSION_RIDGE)
        target = float(task.test_targets.var(axis=0).mean()) / 4
        yield {
            "kind": "task", "task": name, "dimensions": task.inputs.shape[1], "target": target,
            **spaces.moments(space), **spaces.nats(space, [target]),
        }  # fmt: skip


def _networks(config, data, size, split):
    task = spaces.image_task(data, size)
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(config.seed + 1), size), split)
    test, train = networks.trained(
        key, task, count=config.members, widths=config.widths, epochs=config.epochs,
        batch=config.batch, rate=config.rate,
    )  # fmt: skip
    target, fit = float(test.mean()), scaled_chi_squared.fit(test)
    counted = inductive_bias.empirical(test, target)
    yield {
        "kind": "networks", "members": config.members, "target": target,
        "train": float(train.mean()), "converged": fit.converged,
        "fitted": float(inductive_bias.parametric(fit.parameters, target).nats),
        "counted": float(counted.information.nats),
    }  # fmt: skip
    for name in config.spaces:
        space = spaces.space(name, task, length=config.length, depth=len(config.widths))
        yield {
            "kind": "against", "space": name, "target": target, **spaces.moments(space),
            **spaces.nats(space, [target]),
        }  # fmt: skip


if __name__ == "__main__":
    if "XLA_FLAGS" not in os.environ:  # a host device a core, for small products leave cores idle
        jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)
    run.main(sys.modules[__name__])
