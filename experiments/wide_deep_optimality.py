"""Wide and deep networks are optimal classifiers, for one activation a dimension. arXiv:2204.14126.

    python -m experiments.wide_deep_optimality quick    # 1 min, 2 CPU cores
    python -m experiments.wide_deep_optimality laptop   # 10 min, 2 CPU cores
    python -m experiments.wide_deep_optimality paper    # one accelerator; not run yet

Claim: with depth an infinitely wide network without biases becomes the nearest neighbour, the
majority's vote, or a singular kernel smoother r^-alpha, by its activation alone; alpha is read off
the dual activation; and with alpha = d it is consistent on the sphere S^d: its error tends to the
Bayes error, as that of the Hilbert estimate of Devroye, Gyorfi and Krzyzak.

Departures: the paper's tables are not public in numbers, and the claims are judged by what its
theory says: nearness to the Hilbert estimate, and the gap to the exact Bayes rule, known for its
distributions. Kernels of 10,000 points are read off a table of the exact recursion. Networks of
finite width start from zero output (their initial function is taken off), and are compared with
gradient descent on the NTK for as many steps. The ReLU baseline of the spheres has three layers;
of infinite depth it is the majority.
"""

import dataclasses
import functools
import math
import operator
import sys
import zlib
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from experiments import _rows, run
from experiments import _wide_deep_optimality_classifiers as classifiers
from experiments import _wide_deep_optimality_data as tasks
from experiments import _wide_deep_optimality_networks as networks
from experiments._wide_deep_optimality_figure import plot as plot
from experiments._wide_deep_optimality_verdict import LIMITS, TAXONOMY
from experiments._wide_deep_optimality_verdict import verdict as verdict
from ntkens.data import Examples, offline, tfds
from ntkens.kernels import deep, deep_classifier, infinite_depth

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_default_matmul_precision", "highest")  # a GPU's own choice is TF32

MISMATCHED = {1: 2, 2: 1, 4: 2, 8: 2}  # the dimension whose optimal activation is taken instead
SINE_DEPTHS = {1: 100, 2: 100, 4: 50, 8: 50}  # the paper's
RELU_NETWORK = functools.partial(classifiers.relu_network, depth=3)


@dataclasses.dataclass(frozen=True)
class Config:
    """What is measured, and how much of it."""

    seed: int = 0
    """Of every random draw."""
    depths: tuple[int, ...] = (4, 8, 16, 32, 100)
    """At which classifiers are compared with their limits; of 40 points on S^2."""
    relu_depths: tuple[int, ...] = (1, 10, 100, 1000)
    """The same for ReLU, whose kernels converge like 1 / depth."""
    taxonomy_seeds: int = 5
    """Training sets of the taxonomy."""
    dimensions: tuple[int, ...] = (1, 2, 4, 8)
    """Of the spheres."""
    sizes: tuple[int, ...] = (100, 300, 1000)
    """Training examples on the spheres."""
    seeds: tuple[int, ...] = (10, 5, 5)
    """Data sets of each size."""
    largest_solve: int = 1000
    """Above, of the kernels that need a solve only the matched one is left."""
    largest_matched: int = 1000
    """Above, it is left out too, and the classifiers that solve nothing go on."""
    test: int = 1000
    """Test points of each data set."""
    images: tuple[str, ...] = ("digits",)
    """Sets of images: digits, mnist, cifar10."""
    pairs: int = 5
    """Pairs of classes, of the 45."""
    image_train: int = 100
    """Training examples of a pair, or as many as there are."""
    image_test: int = 500
    """Test examples of a pair, or as many as there are."""
    image_exponents: tuple[int, ...] = (2, 4, 8, 16)
    """Exponents of the singular kernels on images, whose dimension is not known."""
    data_directory: str = ""
    """Where tensorflow-datasets keeps its files; empty for its own default."""
    widths: tuple[int, ...] = (64, 256)
    """Hidden widths of the trained networks."""
    trained_depths: tuple[int, ...] = (1, 2)
    """Their hidden layers."""
    networks: int = 4
    """Trained networks of each shape."""
    steps: int = 300
    """Of gradient descent."""

    def __post_init__(self) -> None:
        """Refuses what could not be measured."""
        if len(self.sizes) != len(self.seeds):
            raise ValueError(f"seeds: got {self.seeds}; want one number for each of {self.sizes}")
        for name in ("sizes", "depths", "relu_depths", "dimensions", "image_exponents"):
            if min(getattr(self, name), default=0) < 1:
                raise ValueError(f"{name}: got {getattr(self, name)}; want numbers of at least 1")
        for name in ("seeds", "taxonomy_seeds", "networks"):
            if np.min(getattr(self, name)) < 2:
                raise ValueError(f"{name}: got {getattr(self, name)}; an error takes at least 2")
        for dimension in self.dimensions:
            if dimension not in tasks.SPHERES:
                raise ValueError(f"dimensions: got {dimension}; the paper has {[*tasks.SPHERES]}")
        for name in self.images:
            if name not in ("digits", "mnist", "cifar10"):
                raise ValueError(f"images: got {name!r}; want digits, mnist or cifar10")
        if not 1 <= self.pairs <= 45:
            raise ValueError(f"pairs: got {self.pairs}; ten classes have 1 to 45")


QUICK = Config(
    dimensions=(8,), seeds=(5, 5, 5), pairs=3, image_exponents=(8, 16), trained_depths=(1,)
)
LAPTOP = Config(
    depths=(2, 3, 4, 5, 6, 8, 12, 16, 32, 64, 100, 300, 1000),
    relu_depths=(1, 10, 100, 1000, 3000),
    taxonomy_seeds=8,
    sizes=(100, 300, 1000, 3000, 10_000),
    seeds=(20, 10, 10, 6, 3),
    largest_matched=10_000,
    test=3000,
    pairs=45,
    widths=(64, 256, 512),
    trained_depths=(1, 2, 3, 4),
    networks=8,
    steps=300,
)
PAPER = dataclasses.replace(
    LAPTOP,
    sizes=(*LAPTOP.sizes, 20_000),
    seeds=(40, 20, 20, 10, 10, 5),
    largest_solve=10_000,
    largest_matched=20_000,
    test=10_000,
    images=("digits", "mnist", "cifar10"),
    pairs=10,
    image_train=10_000,
    image_test=2000,
    widths=(64, 128, 256, 512, 1024, 2048, 4096, 8192),
    networks=16,
    steps=2000,
)
TINY = Config(
    depths=(8,),
    relu_depths=(30,),
    taxonomy_seeds=2,
    dimensions=(8,),
    sizes=(50,),
    seeds=(2,),
    largest_solve=10,
    test=100,
    pairs=1,
    image_train=50,
    image_test=100,
    image_exponents=(8,),
    widths=(8,),
    trained_depths=(1,),
    networks=2,
    steps=20,
)


def plan(config: Config) -> list[run.Cell]:
    """The taxonomy, the exponents, the spheres, the images, and networks of finite width."""
    cells = []

    def add(kind, cost, **named):
        key = " ".join([kind, *(f"{name}={value}" for name, value in named.items())])
        cells.append(run.Cell(key, cost, {"kind": kind, **named}))

    for activation in TAXONOMY:
        layers = sum(config.relu_depths) if activation == "ReLU" else 20 * len(config.depths)
        add("taxonomy", 2 + 1e-3 * config.taxonomy_seeds * layers, activation=activation)
    add("exponents", 6.0)
    for dimension in config.dimensions:
        for size, seeds in zip(config.sizes, config.seeds, strict=True):
            cost = 2 + 1e-8 * seeds * size * config.test
            solves = 5 * (size <= config.largest_solve) or size <= config.largest_matched
            cost += seeds * solves * (3e-8 * size * (size + config.test) + 2e-11 * size**3)
            add("sphere", cost, dimension=dimension, size=size, seeds=seeds)
    for name in config.images:
        size = min(config.image_train, 350 if name == "digits" else config.image_train)
        cost = 2 + config.pairs * (0.1 + 2e-7 * size**2 + 1e-10 * size**3)
        add("images", cost, source=name)
    for activation in ("sine", "optimal, d = 2", "optimal, d = 1"):
        for depth in config.trained_depths:
            for width in config.widths:
                products = 1 + 2e-11 * config.networks * config.steps * width * (
                    1e4 + (depth - 1) * 240 * width / 10
                )
                add("trained", products, activation=activation, depth=depth, width=width)
    return cells


def measure(config: Config, cell: run.Cell) -> Iterator[dict]:
    """The rows of one cell; each repeats what names the cell."""
    named = dict(cell.parameters)
    rest = {name: value for name, value in named.items() if name != "kind"}
    stream = zlib.crc32(cell.key.encode())
    rng = np.random.default_rng([config.seed, stream])
    match named["kind"]:
        case "taxonomy":
            rows = _taxonomy(rng, config, **rest)
        case "exponents":
            rows = _exponents(config.dimensions)
        case "sphere":
            rows = _sphere(rng, config, **rest)
        case "images":
            rows = _images(jax.random.key(config.seed), config, **rest)
        case "trained":
            rows = [networks.trained(config, **rest)]
    yield from ({**named, **row} for row in rows)


def _taxonomy(rng, config, activation):
    """Agreement of a deep network's classifier with the three limits, at each depth.

    16 points of the class +1 and 24 of -1 that say nothing about it: the limits differ most.
    """
    kernel = TAXONOMY[activation][1]
    moments = {
        "h_2": classifiers.SQUARE.dual,
        "ReLU": classifiers.RELU,
        "optimal, d = 2": classifiers.optimal(2).dual,
    }[activation]
    depths = config.relu_depths if activation == "ReLU" else config.depths
    agreements = {depth: [] for depth in depths}
    for _ in range(config.taxonomy_seeds):
        train, queries = _uniform(rng, 16, 24), _uniform(rng, 100, 0).inputs
        limits = [
            classifiers.nearest_neighbour(train, queries).labels,
            classifiers.majority(train, queries).labels,
            classifiers.hilbert(train, queries, 2.0).labels,
        ]
        targets = jnp.asarray(train.labels[:, None], float)
        points = jnp.concatenate([jnp.asarray(train.inputs), jnp.asarray(queries)])
        for depth in depths:
            whole = deep.kernel_fn(moments, depth)(points, points[:40])  # one shape to compile
            inner, cross = (jax.tree.map(operator.itemgetter(part), whole) for part in SPLIT)
            if kernel == "nngp" and _is_singular(inner):
                agreements[depth].append([math.nan] * 3)
                continue
            decision = deep_classifier.decide(inner, cross, targets, kernel=kernel)
            predicted = np.where(np.asarray(decision)[:, 0] > 0, 1, -1)
            agreements[depth].append([np.mean(predicted == limit) for limit in limits])
    for depth, samples in agreements.items():
        failed = int(np.isnan(samples).any(axis=1).sum())
        row = {
            "depth": depth,
            "failed": f"{failed} of {len(samples)}: {SINGULAR}" if failed else None,
        }
        for name, values in zip(LIMITS, np.transpose(samples), strict=True):
            row[name], row[f"{name} error"] = _rows.mean_and_error(values)
        yield row


SPLIT = (slice(40), slice(40, None))  # the training points, and the queries
SINGULAR = "the kernel of the training set is singular to rounding"


def _uniform(rng, positive, negative):
    """Points of uniform density in the positive orthant of S^2, so many of each class."""
    points = np.abs(rng.normal(size=(positive + negative, 3)))
    labels = np.repeat([1, -1], [positive, negative])
    return Examples(points / np.linalg.norm(points, axis=1, keepdims=True), labels)


def _is_singular(kernel):
    """A shallow network with a polynomial activation has as few features as the polynomial."""
    eigenvalues = np.linalg.eigvalsh(kernel.sign * np.exp(kernel.log_nngp))
    return eigenvalues[0] < 1e-12 * eigenvalues[-1]


def _exponents(dimensions):
    """Slopes of deep kernels against the distance, sampled once a period of their oscillation."""
    for dimension in dimensions:
        yield _exponent(dimension, "optimal", classifiers.optimal(dimension))
        if dimension > 1:
            yield _exponent(dimension, "sine", classifiers.matched_sine(dimension))


def _exponent(dimension, activation, at):
    """By least squares at ten phases, from r = 0.03 down to 1e-4; their spread is the error.

    The NTK by its increments K_L / a^L - K_(L-1) / a^(L-1), r^2 of K_L (so rounding below 1e-4):
    K_L itself has a term of exponent alpha + 2 until the depth exceeds r^-2.
    """
    depth = 400
    found = infinite_depth.limit(at.dual)
    a, period = found.slope_at_zero, math.log(found.slope_at_one) / 2
    periods = np.arange(min(8, int(math.log(300) / period)))
    log_r = math.log(0.03) - (np.arange(10)[:, None] / 10 + periods) * period
    versine = jnp.asarray(np.exp(2 * log_r) / 2)
    now, before = (deep.iterate(at.dual, layers, 1 - versine, versine) for layers in (depth, 399))
    raw = np.asarray(now.log_ntk) - depth * math.log(a)
    increment = raw + np.log(-np.expm1(np.asarray(before.log_ntk) - now.log_ntk + math.log(a)))
    row = {"dimension": dimension, "activation": activation, "theory": found.exponent}
    for name, values in (("nngp", now.coordinate), ("increments", increment), ("ntk", raw)):
        slopes = [-np.polyfit(x, y, 1)[0] for x, y in zip(log_r, np.asarray(values), strict=True)]
        row |= {name: np.mean(slopes), f"{name} error": np.std(slopes, ddof=1)}
    return row


def _sphere(rng, config, dimension, size, seeds):
    """Accuracies on the same test points of each classifier, one row each."""
    accuracies: dict[str, list] = {}
    agreements: dict[str, list] = {}
    couplings: dict[str, list] = {}
    failures: dict[str, list] = {}
    methods = _methods(config, dimension, size)
    for _ in range(seeds):
        train, test = tasks.sphere(rng, dimension, size), tasks.sphere(rng, dimension, config.test)
        reference = classifiers.hilbert(train, test.inputs, dimension).labels
        exact = classifiers.Decision(tasks.bayes(test.inputs, dimension))
        for name, method in {"Bayes": lambda *_, exact=exact: exact, **methods}.items():
            decision = method(train, test.inputs)
            right, same = (
                math.nan if decision.failed else np.mean(decision.labels == labels)
                for labels in (test.labels, reference)
            )
            accuracies.setdefault(name, []).append(right)
            agreements.setdefault(name, []).append(same)
            couplings.setdefault(name, []).append(decision.coupling)
            failures.setdefault(name, []).append(decision.failed)
    for name, values in accuracies.items():
        failed = [reason for reason in failures[name] if reason]
        coupling = [value for value in couplings[name] if value is not None]
        yield {
            "classifier": name,
            "accuracies": values,
            "with_hilbert": np.mean(agreements[name]),
            "coupling": max(coupling, default=None),
            "failed": f"{len(failed)} of {seeds}: {failed[0]}" if failed else None,
        }


def _methods(config, dimension, size):
    """The classifiers of one sphere, (train, queries) -> Decision."""
    mismatched = MISMATCHED[dimension]
    methods = {
        "1-NN": classifiers.nearest_neighbour,
        "majority": classifiers.majority,
        "Hilbert": lambda train, queries: classifiers.hilbert(train, queries, dimension),
        "Hilbert, mismatched": lambda train, queries: classifiers.hilbert(
            train, queries, mismatched
        ),
    }
    if size <= config.largest_matched:
        methods["matched"] = _network(classifiers.optimal(dimension).dual, 100)
    if size > config.largest_solve:
        return methods
    methods |= {
        "sine": _network(classifiers.matched_sine(dimension).dual, SINE_DEPTHS[dimension]),
        "mismatched": _network(classifiers.optimal(mismatched).dual, 100),
        "ReLU": RELU_NETWORK,
    }
    if dimension == 1:
        methods["erf"] = _network(classifiers.ERF, 200)
    return methods


def _network(moments, depth):
    return lambda train, queries: classifiers.deep_kernel(train, queries, moments, depth)


def _images(key, config, source):
    """Accuracies on pairs of classes, in the order of the pairs; one row a classifier."""
    if source == "digits":
        data = offline.digits(key)
    else:
        data = tfds.load(source, directory=config.data_directory or None)
    pairs = [(first, second) for first in range(10) for second in range(first + 1, 10)]
    chosen = np.asarray(jax.random.permutation(key, len(pairs)))[: config.pairs]
    methods = {
        "1-NN": classifiers.nearest_neighbour,
        "majority": classifiers.majority,
        "ReLU": RELU_NETWORK,
    }
    for exponent in config.image_exponents:
        methods[f"alpha = {exponent}"] = _network(classifiers.optimal(exponent).dual, 100)
    accuracies, failures = {name: [] for name in methods}, {name: [] for name in methods}
    for index in sorted(chosen):
        train, test = tasks.pair(data, pairs[index], config.image_train, config.image_test)
        for name, method in methods.items():
            decision = method(train, test.inputs)
            right = math.nan if decision.failed else np.mean(decision.labels == test.labels)
            accuracies[name].append(right)
            failures[name] += [decision.failed] if decision.failed else []
    for name, values in accuracies.items():
        reasons = failures[name]
        failed = f"{len(reasons)} of {len(values)}: {reasons[0]}" if reasons else None
        yield {"classifier": name, "accuracies": values, "failed": failed}


if __name__ == "__main__":
    run.main(sys.modules[__name__])
