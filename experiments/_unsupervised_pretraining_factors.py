"""The factor model of `unsupervised_pretraining`: encoders from inputs, risks in closed form.

Repeats go through `repeat`, each with a key of its own. The labelled examples of a repeat are the
same for all methods, and differ from one number of labels to the next.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ntkens.predictors import factor_model
from ntkens.predictors.factor_model import FactorModel
from ntkens.training import members


class Task(NamedTuple):
    """Inputs from a factor model, and a target y = weights^T z + direct^T x + noise.

    Attributes:
        model: of the inputs, of mean zero and unit noise.
        weights: of the factors in the target.
        direct: of the inputs themselves; zero in the paper's model.
        label_noise: the variance of the target's noise.
    """

    model: FactorModel
    weights: Float[Array, " r"]
    direct: Float[Array, " d"]
    label_noise: Float[Array, ""]


def task(key, width: int, sizes, weights, label_noise: float) -> Task:
    """Orthogonal columns of B in random directions, of these norms; weights of norm one."""
    axes = np.linalg.qr(jax.random.normal(key, (width, len(sizes))))[0]
    weights = np.asarray(weights) / np.linalg.norm(weights)
    return _task(axes * np.asarray(sizes), weights, np.zeros(width), label_noise)


def _task(loadings, weights, direct, label_noise):
    model = FactorModel(*map(jnp.asarray, (np.zeros(len(loadings)), loadings, np.ones(()))))
    rest = (jnp.asarray(np.asarray(each, float)) for each in (weights, direct, label_noise**2))
    return Task(model, *rest)


def paper_task(config, width: int) -> Task:
    """That of the specification: all columns and all weights alike."""
    sizes, weights = [config.size] * config.factors, [1.0] * config.factors
    key = jax.random.fold_in(jax.random.key(config.seed), 0)
    return task(key, width, sizes, weights, config.label_noise)


def isotropic_task(config) -> Task:
    """The factors are r of d independent inputs: p(x) says nothing about which."""
    width, rank = config.width, config.factors
    direct = np.where(np.arange(width) < rank, rank**-0.5, 0.0)
    return _task(np.zeros((width, rank)), np.zeros(rank), direct, config.label_noise)


def repeat(config, stream: int, function, own, *shared):
    """`function((key, own), *shared)` of every repeat, stacked; a stream is one kind of draw."""
    base = jax.random.fold_in(jax.random.key(config.seed), stream)
    # One at a time on a CPU, for there small products gain nothing from each other.
    chunk = 1 if jax.default_backend() == "cpu" else None
    keys = members.keys(base, config.repeats)
    return members.map(function, (keys, own), *shared, chunk=chunk)


def draw(key, task: Task, count: int):
    """Inputs, and their targets."""
    of_factors, of_noise, of_labels = jax.random.split(key, 3)
    width, rank = task.model.loadings.shape
    z = jax.random.normal(of_factors, (count, rank))
    inputs = z @ task.model.loadings.T + jax.random.normal(of_noise, (count, width))
    noise = jnp.sqrt(task.label_noise) * jax.random.normal(of_labels, (count,))
    return inputs, z @ task.weights + inputs @ task.direct + noise


def best(task: Task):
    """The coefficients of the best prediction from x."""
    return factor_model.encoder(task.model) @ task.weights + task.direct


def residual(task: Task):
    """The risk of the best prediction from x."""
    return factor_model.irreducible_risk(task.model, task.weights, task.label_noise)


@functools.partial(jax.jit, static_argnums=2)
def expected(task: Task, representation, width: int, labels):
    """The excess risk of least squares on features that lose `representation`.

    Exact given the features: all is Gaussian, and what they miss is independent of them.
    """
    rest = residual(task) + representation
    return representation + factor_model.least_squares_excess(rest, width, labels)


@functools.cache
def _encoder(samples):
    def one(own, task):
        inputs, _ = draw(own[0], task, samples)
        return factor_model.encoder(factor_model.fit(inputs, len(task.weights)))

    return one


def encoders(config, task: Task, samples: int):
    """Learnt from so many unlabelled inputs, for each repeat [repeats d r]."""
    return repeat(config, 100 + samples, _encoder(samples), jnp.zeros(config.repeats), task)


@functools.cache
def _excesses(most):
    def one(own, task, labels):
        key, encoder = own
        inputs, targets = draw(jax.random.fold_in(key, labels), task, most)
        is_seen = jnp.arange(most) < labels  # rows of zeros change no least squares
        features = jnp.where(is_seen[:, None], inputs @ encoder, 0)
        learnt = encoder @ factor_model.regress(features, jnp.where(is_seen, targets, 0))
        goal = best(task)
        own_excess = factor_model.representation_excess(task.model, goal, encoder)
        return own_excess, factor_model.excess_risk(task.model, goal, learnt)

    return one


def excesses(config, task: Task, learnt, labels: int):
    """What encoders lose with any number of labels, and with this many; [repeats] each.

    By least squares on the features of each repeat's encoder. One program serves all numbers.
    """
    most = max(*config.labels, config.contrastive_labels)
    return map(np.asarray, repeat(config, 1, _excesses(most), learnt, task, jnp.asarray(labels)))


def everywhere(config, encoder):
    """The same encoder for each repeat: the identity is supervised, the truth's is the oracle."""
    return jnp.asarray(np.broadcast_to(encoder, (config.repeats, *encoder.shape)))


def regression(config, method: str, samples: int):
    """Excess risks at each number of labels, and what the closed forms expect of them."""
    at = paper_task(config, config.width)
    if method == "pretrained":
        learnt = encoders(config, at, samples)
    else:
        is_supervised = method == "supervised"
        matrix = np.eye(config.width) if is_supervised else jax.jit(factor_model.encoder)(at.model)
        learnt = everywhere(config, matrix)
    for place, labels in enumerate(config.labels):
        own, found = excesses(config, at, learnt, labels)
        if method == "pretrained" and place == 0:
            limit = jax.jit(factor_model.asymptotic_excess)(at.model, at.weights, samples)
            yield {"part": "representation", "excess": own, "limit": limit}
        exact = expected(at, own, learnt.shape[-1], labels)
        yield {"part": "regression", "labels": labels, "excess": found, "expected": exact}


def rotated(config):
    """The largest relative change of an excess when B becomes B Q, refitted on the same draw."""
    at = paper_task(config, config.width)
    of_turn, of_factors, of_noise = jax.random.split(jax.random.key(config.seed), 3)
    turn = jnp.linalg.qr(jax.random.normal(of_turn, (config.factors, config.factors)))[0]
    count = max(config.labels)
    z = jax.random.normal(of_factors, (count, config.factors))
    noise = jax.random.normal(of_noise, (count, config.width))

    @jax.jit
    def risk(by):
        model = at.model._replace(loadings=at.model.loadings @ by)
        inputs = z @ by @ model.loadings.T + noise
        encoder = factor_model.encoder(factor_model.fit(inputs, len(by)))
        learnt = encoder @ factor_model.regress(inputs @ encoder, z @ at.weights)
        goal = factor_model.encoder(model) @ (by.T @ at.weights)
        return factor_model.excess_risk(model, goal, learnt)

    return {"change": abs(float(risk(turn)) / float(risk(jnp.eye(config.factors))) - 1)}


def informative(config, which: str, size: float):
    """All columns of B of this size, or only the one that the target needs."""
    key = jax.random.fold_in(jax.random.key(config.seed), 3)
    others, needed = (size, 1.0) if which == "all" else (config.size, 0.0)
    rest = config.factors - 1
    sizes, weights = [others] * rest + [size], [needed] * rest + [1.0]
    at = task(key, config.width, sizes, weights, config.label_noise)
    ratio = config.width / config.informative_samples
    row = _both(config, at, config.informative_samples)
    return row | {"tilted": float(row["explained"]) * tilted(size**2, ratio), "threshold": ratio}


def isotropic(config, samples: int):
    """Where p(x) says nothing: eigenvectors are uniform, and lose 1 - r / d on average."""
    row = _both(config, isotropic_task(config), samples)
    return row | {"exact": 1 - config.factors / config.width}


def _both(config, at, samples):
    """Pretrained and supervised at the largest number of labels."""
    labels = max(config.labels)
    learnt = encoders(config, at, samples)
    own, pretrained = excesses(config, at, learnt, labels)
    _, supervised = excesses(config, at, everywhere(config, np.eye(config.width)), labels)
    irreducible, explained = _risks(at)
    return {
        "samples": samples,
        "labels": labels,
        "irreducible": irreducible,
        "explained": explained,
        "representation": own,
        "pretrained": pretrained,
        "supervised": supervised,
    }


@jax.jit
def _risks(task):
    """Of the best prediction, and what predicting 0 loses on it."""
    goal = best(task)
    return residual(task), factor_model.excess_risk(task.model, goal, jnp.zeros_like(goal))


def tilted(size: float, ratio: float) -> float:
    """The share of a factor's variance that its sample eigenvector loses, at d / m = ratio.

    In the limit of large d and m (Baik, Ben Arous and Peche 2005; Paul 2007) the eigenvector of a
    factor of squared norm l has cos^2 = (1 - ratio / l^2) / (1 + ratio / l), and 0 below
    l = ratio^1/2: there it knows nothing of the factor.
    """
    if size**2 <= ratio:
        return 1.0
    cosine = (1 - ratio / size**2) / (1 + ratio / size)
    return (1 - cosine) / ((1 + size) * cosine + 1 - cosine)
