"""What `attention_random_features` learns, by which kernels, and how a curve is measured.

Sequences of i.i.d. tokens on the sphere; targets that average over keys. A curve is kernel ridge
regression at several sizes, each the beginning of one training set.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ntkens.kernels import attention
from ntkens.predictors import ridge
from ntkens.training import members

Array = jax.Array | np.ndarray  # NumPy's once a program has run

KERNELS = ("RFA kernel", "BRFA kernel", "RFMLP kernel")
FINITE = ("RFA", "BRFA", "RFMLP")
METHODS = (*KERNELS, *FINITE)

# Relative to the mean of the kernel's diagonal. The first five are all that the reference has.
RIDGES = (1e-8, 1e-6, 1e-4, 1e-2, 1e-1, 1.0, 10.0)
REFERENCE_RIDGES = 5
FEW = 5  # inputs whose Gram matrix is looked at
VALIDATION = 4  # one of so many training examples is held out to choose the ridge


class Task(NamedTuple):
    """What is learned from how much; hashable, a program is compiled for each.

    Attributes:
        dimension: d, numbers in a token.
        keys: N, tokens beside the query.
        targets: kind and degree of each.
        sizes: n, of the training sets.
        test: examples on which errors are measured.
        heads: M, of the finite methods.
    """

    dimension: int
    keys: int
    targets: tuple[tuple[str, int], ...]
    sizes: tuple[int, ...]
    test: int
    heads: int


class Curves(NamedTuple):
    """Squared errors over the variance of the target, of one training set, [sizes targets].

    Attributes:
        held_out: with the ridge that held-out examples choose, trained on all n.
        oracle: with the reference's ridge of least error on the test set itself.
        ridge: the place of the held-out choice in `RIDGES`.
    """

    held_out: Array
    oracle: Array
    ridge: Array


def name(target: tuple[str, int]) -> str:
    """A target as rows have it."""
    return "{} p={}".format(*target)


def values(inputs, direction, targets):
    """(1/N) sum_i <b, x_i>^p ("average") or <x_0, x_i>^p <b, x_i> ("correlation"), in columns."""
    along = jnp.matmul(inputs[:, 1:], direction, precision="highest")
    alike = jnp.sum(inputs[:, 1:] * inputs[:, :1], axis=-1)
    columns = {
        "average": lambda degree: along**degree,
        "correlation": lambda degree: alike**degree * along,
    }
    return jnp.stack([jnp.mean(columns[kind](degree), axis=1) for kind, degree in targets], axis=1)


@functools.partial(jax.jit, static_argnums=0)
def drawn(task: Task, key):
    """Inputs [n keys+1 d] and their targets, the test set last; the same for every method."""
    of_inputs, of_direction = jax.random.split(key)
    shape = (max(task.sizes) + task.test, task.keys + 1, task.dimension)
    inputs = jax.random.normal(of_inputs, shape)
    inputs = inputs / jnp.linalg.norm(inputs, axis=-1, keepdims=True)
    direction = jax.random.normal(of_direction, (task.dimension,))
    return inputs, values(inputs, direction / jnp.linalg.norm(direction), task.targets)


@functools.partial(jax.jit, static_argnums=(0, 1))
def gram(method: str, heads: int, key, inputs):
    """A method's kernel of all inputs; the matched network has as many trained parameters."""
    if method == "RFMLP kernel":
        return attention.concatenated_kernel_fn()(inputs).nngp
    if method == "RFMLP":
        units = heads * (inputs.shape[2] + 1)
        features = attention.concatenated_features(key, inputs, units)
        return jnp.matmul(features, features.T, precision="highest")
    biased = method.startswith("BRFA")
    if method in KERNELS:
        return attention.kernel_fn(biased=biased)(inputs).nngp
    return attention.finite_kernel_fn(key, heads, biased=biased)(inputs).nngp


@functools.partial(jax.jit, static_argnums=0)
def curves(sizes: tuple[int, ...], kernel, targets) -> Curves:
    """Regression with the first examples of a kernel, of each size, tested on those after them."""
    first = max(sizes)
    found = [
        _errors(kernel[:n, :n], kernel[first:, :n], targets[:n], targets[first:]) for n in sizes
    ]
    return Curves(*(jnp.stack(each) for each in zip(*found, strict=True)))


def _errors(train, cross, targets, truth):
    train = (train + train.T) / 2  # a product of features with themselves is so but for rounding
    ridges = jnp.asarray(RIDGES) * jnp.mean(jnp.diag(train))
    choice = ridge.hold_out(train, targets, ridges, len(targets) // VALIDATION)
    path = ridge.path(train, cross, targets, ridges)
    errors = jnp.mean((path - truth[None]) ** 2, axis=1) / jnp.var(truth, axis=0)[None]
    held_out = jnp.take_along_axis(errors, choice.index[None], axis=0)[0]
    return Curves(held_out, jnp.nanmin(errors[:REFERENCE_RIDGES], axis=0), choice.index)


def permuted(key, inputs):
    """The same inputs, the keys of each in an order of their own."""
    scores = jax.random.uniform(key, (len(inputs), inputs.shape[1] - 1))
    order = 1 + jnp.argsort(scores, axis=1)
    moved = jnp.take_along_axis(inputs, order[..., None], axis=1)
    return jnp.concatenate([inputs[:, :1], moved], axis=1)


class Convergence(NamedTuple):
    """Of finitely many heads, each number of them the beginning of one draw, [members widths].

    Attributes:
        largest: error of a Gram matrix, the largest of its entries' relative ones.
        gram: the root mean square of its error over that of its entries.
        regressor: the same of predictions from the kernel regressor's, at one ridge.
        entries: the upper half of the Gram matrix with most heads, over the exact one.
    """

    largest: Array
    gram: Array
    regressor: Array
    entries: Array


def convergence(task: Task, method: str, widths: tuple[int, ...], key, draws: int) -> Convergence:
    """How finite methods, with heads of their own, reach the kernel on the same inputs.

    Gram matrices are those of the first few inputs. The regressor is that of all targets,
    with a ridge of a hundredth of the mean of the kernel's diagonal.
    """
    inputs, targets = drawn(task, key)
    exact = gram(f"{method} kernel", task.heads, key, inputs)
    one = _finite(max(task.sizes), method, widths)
    return Convergence(
        *map(
            np.asarray, members.map(one, members.keys(key, draws), inputs, targets, exact, chunk=1)
        )
    )


@functools.cache  # a new function would be compiled anew
def _finite(count, method, widths):
    def finite(key, inputs, targets, exact):
        features = attention.features(key, inputs, widths[-1], biased=method == "BRFA")
        features = features * math.sqrt(widths[-1])
        parts = [features[:, : width * (inputs.shape[2] + 1)] for width in widths]
        products = [jnp.matmul(part, part.T, precision="highest") for part in parts]
        found = jnp.stack(products) / jnp.asarray(widths)[:, None, None]
        penalty = jnp.asarray([0.01]) * jnp.mean(jnp.diag(exact))

        def predict(kernel):
            train = (kernel[:count, :count] + kernel[:count, :count].T) / 2
            return ridge.path(train, kernel[count:, :count], targets[:count], penalty)[0]

        predictions = jax.lax.map(predict, jnp.concatenate([exact[None], found]))
        limit = predictions[:1]
        few, truth = found[:, :FEW, :FEW], exact[None, :FEW, :FEW]
        ratios = few / truth
        return Convergence(
            jnp.max(jnp.abs(ratios - 1), axis=(1, 2)),
            _size(few - truth) / _size(truth),
            _size(predictions[1:] - limit) / _size(limit),
            ratios[-1][np.triu_indices(FEW)],
        )

    return finite


def _size(matrices):
    return jnp.sqrt(jnp.mean(matrices**2, axis=(1, 2)))
