"""Data and kernel hypothesis spaces of `exact_inductive_bias`: exact information, and samples."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ntkens.data import Dataset, Examples, offline, tfds
from ntkens.kernels import Kernel, dual, fully_connected, rbf
from ntkens.measures import generalised_chi_squared as gcs
from ntkens.measures import inductive_bias, scaled_chi_squared
from ntkens.predictors import posterior

IMAGES = ("digits", "mnist", "cifar10")
TABLES = {"iris": offline.iris, "wine": offline.wine, "breast_cancer": offline.breast_cancer}
SPACES = ("rbf", "nngp", "ntk", "wide")
RELATIVE_LENGTH = 1 / 3  # of the RBF kernel, over the root mean square distance; digits: 1
SPREAD = 3.0  # root mean square distance of the inputs of planted functions


class Task(NamedTuple):
    """A regression on one-hot labels, or on a function; inputs are vectors in float64."""

    inputs: Any
    targets: Any
    test_inputs: Any
    test_targets: Any


def images(name: str, split: int, test: int, directory: str) -> Dataset:
    """A set of images in an order drawn from the split; of the digits 1000 come before the test."""
    if name == "digits":
        from sklearn.datasets import load_digits

        pixels, labels = load_digits(return_X_y=True)
        everything = Examples(pixels.reshape(-1, 8, 8, 1) / 16, labels)
        order = np.random.default_rng(split).permutation(len(labels))
        train, held = order[:1000], order[1000 : 1000 + test]
        return Dataset(*(Examples(*(each[rows] for each in everything)) for rows in (train, held)))
    data = tfds.load(name, directory=directory or None)
    orders = (np.random.default_rng(split).permutation(len(side.labels)) for side in data)
    shuffled = [
        Examples(*(each[order] for each in side)) for side, order in zip(data, orders, strict=True)
    ]
    return Dataset(shuffled[0], Examples(*(each[:test] for each in shuffled[1])))


def image_task(data: Dataset, size: int, side: int | None = None) -> Task:
    """The first images of the training set, averaged down to a side, and their one-hot labels."""

    def vectors(pixels):
        n, height, width, channels = pixels.shape
        if side is not None:
            shape = (n, side, height // side, side, width // side, channels)
            pixels = pixels.reshape(shape).mean(axis=(2, 4))
        return pixels.reshape(n, -1).astype(np.float64)

    return _task(data, size, vectors)


def table_task(name: str, split: int, size: int) -> Task:
    """The first examples of a table, standardised."""
    data = offline.standardise(TABLES[name](jax.random.key(split)))
    return _task(data, size, lambda inputs: inputs.astype(np.float64))


def planted_task(dimensions: int, split: int, size: int, test: int) -> Task:
    """y = sin(2 t) of the first of so many normal inputs, t of variance 1; distances are alike."""
    rng = np.random.default_rng([split, dimensions])
    inputs = rng.normal(size=(size + test, dimensions))
    targets = np.sin(2 * inputs[:, :1])
    inputs *= SPREAD / np.sqrt(2 * dimensions)
    return Task(inputs[:size], targets[:size], inputs[size:], targets[size:])


def _task(data, size, vectors):
    classes = np.eye(1 + max(side.labels.max() for side in data))
    (inputs, labels), (test_inputs, test_labels) = data
    if size > len(labels):
        raise ValueError(f"sizes: got {size}; there are {len(labels)} training examples")
    return Task(
        vectors(inputs[:size]), classes[labels[:size]], vectors(test_inputs), classes[test_labels]
    )


def relative_length(task: Task) -> float:
    """A third of the root mean square distance of two training inputs: what 1 is to the digits."""
    return RELATIVE_LENGTH * float(np.sqrt(2 * task.inputs.var(axis=0).sum()))


class Space(NamedTuple):
    """A Gaussian hypothesis space on the test set of a task."""

    mean: Any
    covariance: Any
    targets: Any
    loss: gcs.GeneralisedChiSquared


def space(name: str, task: Task, *, length: float = 1.0, depth: int = 1, ridge=0.0) -> Space:
    """The posterior of a Gaussian process, or ("wide") the trained networks of infinite width.

    The kernels of the former are scaled to a mean variance of 1 over the training inputs, so that
    none is better for its scale. Eigenvalues up to the rounding of the prior are zero.
    """
    kernel_fn = _kernel_fn(name, length, depth)
    train = len(task.inputs)
    together = kernel_fn(np.concatenate([task.inputs, task.test_inputs]))  # one shape to compile
    variance = 1.0 if name == "wide" else float(np.mean(np.diag(together.nngp)[:train]))
    gram = [np.asarray(each) / variance for each in together]

    def block(rows, columns):
        return Kernel(*(jnp.asarray(each[rows, columns]) for each in gram))

    seen, unseen = slice(train), slice(train, None)
    test = block(unseen, unseen)
    regime = "ntk" if name == "wide" else "nngp"
    fitted = posterior.fit(block(seen, seen), task.targets, regime=regime, ridge=ridge)
    cross = block(unseen, seen)
    mean, covariance = posterior.mean(fitted, cross), posterior.covariance(fitted, cross, test)
    prior = float(np.sum(np.abs(test.nngp), axis=1).max())  # above its largest eigenvalue
    rounding = len(mean) * float(np.finfo(np.float64).eps) * prior
    loss = inductive_bias.loss_distribution(mean, covariance, task.test_targets, rounding=rounding)
    return Space(mean, covariance, task.test_targets, loss)


@functools.cache  # a new kernel function would be compiled anew
def _network(depth):
    return fully_connected.kernel_fn(dual.relu(), depth, w_std=2**0.5)


def _kernel_fn(name, length, depth):
    gram, network = rbf.kernel_fn(length), _network(depth)

    def kernel_fn(inputs):
        if name == "rbf":
            return Kernel(*(gram(inputs),) * 2)
        kernel = network(inputs)
        return kernel if name == "wide" else Kernel(*(getattr(kernel, name),) * 2)

    return kernel_fn


def moments(found: Space) -> dict:
    """The exact mean and deviation of the loss, its floor, and the loss of the mean hypothesis."""
    loss = found.loss
    return {
        "mean": gcs.cumulant(loss, 1),
        "deviation": gcs.cumulant(loss, 2) ** 0.5,
        "fourth": gcs.cumulant(loss, 4),
        "floor": gcs.floor(loss),
        "of_mean": float(np.mean((np.asarray(found.mean) - found.targets) ** 2)),
    }


def nats(found: Space, targets) -> dict:
    """Exact information, the bound, and two approximations from the exact cumulants."""
    loss = found.loss
    return {
        "exact": inductive_bias.exact(loss, targets).nats.tolist(),
        "bound": inductive_bias.lower_bound(loss, targets).nats.tolist(),
        "saddlepoint": (-gcs.saddlepoint(loss, targets)).tolist(),
        "matched": inductive_bias.parametric(scaled_chi_squared.match(loss), targets).nats.tolist(),
    }


def sampled(found: Space, key, targets, samples: int) -> dict:
    """What the paper does: draw hypotheses (in float32), fit the losses, extrapolate."""
    mean = jnp.asarray(found.mean, jnp.float32)
    losses = inductive_bias.sample_losses(key, mean, found.covariance, found.targets, samples)
    losses = np.asarray(losses, np.float64)
    fit = scaled_chi_squared.fit(losses)
    counts, edges = np.histogram(losses, 40)
    return {
        "samples": samples,
        "sampled_mean": float(losses.mean()),
        "sampled_deviation": float(losses.std(ddof=1)),
        "converged": fit.converged,
        "parameters": list(fit.parameters),
        "fitted": inductive_bias.parametric(fit.parameters, targets).nats.tolist(),
        "sankaran": scaled_chi_squared.sankaran(fit.parameters, targets).tolist(),
        "counts": counts.tolist(),
        "edges": edges.tolist(),
    }
