"""Trained networks and tangent kernels on images, for `deep_learning_theory`.

Networks of ReLU units in the "ntk" parametrisation at criticality: w_std^2 = C_W = lambda_W = 2, no
biases. Images are scaled to |x|^2 = their number of pixels.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from experiments import _rows
from ntkens.data import offline, tfds
from ntkens.kernels import empirical, fully_connected, tangent_fluctuations
from ntkens.kernels.dual import relu
from ntkens.models import mlp
from ntkens.predictors import gradient_flow
from ntkens.training import gradient_descent, members

DATASETS = ("digits", "mnist", "cifar10")


def load(dataset, directory, examples):
    """Images of the classes 0 and 1 by turns, flat and of one norm; their targets -1 and 1."""
    if dataset == "digits":
        data = offline.digits(jax.random.key(0)).train
    else:
        data = tfds.load(dataset, directory=directory or None).train
    half = examples // 2
    fewest = min(int(np.sum(data.labels == label)) for label in (0, 1))
    if fewest < half:
        raise ValueError(f"examples: got {examples}; {dataset} has {fewest} of a class, want fewer")
    chosen = np.stack([np.flatnonzero(data.labels == label)[:half] for label in (0, 1)], axis=1)
    flat = np.asarray(data.inputs[chosen.ravel()], np.float32).reshape(2 * half, -1)
    norms = np.linalg.norm(flat, axis=1, keepdims=True)
    targets = np.tile(np.array([[-1.0], [1.0]], np.float32), (half, 1))
    return jnp.asarray(flat / norms * np.sqrt(flat.shape[1])), jnp.asarray(targets)


def _network(width, depth):
    return mlp.mlp([width] * depth, 1, w_std=2**0.5)


@functools.cache
def _kernel(depth):
    return fully_connected.kernel_fn(relu(), depth, 2**0.5)


@jax.jit
def _exact(widths):
    return tangent_fluctuations.scale_invariant_fluctuations(
        1.0, 0.0, 2.0, 2.0, widths, bias_rate=0.0, weight_rate=2.0
    )


def pairs(config, width, depth):
    """Means and relative variances, over networks, of the tangent kernel of a few digits."""
    inputs, _ = load("digits", "", 4)
    model = _network(width, depth)

    def tangent(key, inputs):
        return empirical.ntk(model.apply, model.init(key, inputs), inputs)

    key = jax.random.fold_in(jax.random.key(config.seed), 1000 * depth + width)
    found = members.map(tangent, members.keys(key, config.digit_networks), inputs, chunk=1)
    found = np.asarray(found, float)[:, *np.triu_indices(len(inputs))]
    means, errors = _rows.mean_and_error(found)
    relative = (found / means - 1) ** 2  # means' own errors are of higher order
    spreads, spread_errors = _rows.mean_and_error(relative)
    infinite = np.asarray(_kernel(depth)(inputs.astype(float)).ntk)[np.triu_indices(len(inputs))]
    exact = _exact(jnp.asarray([width] * depth + [1], float))
    variance = (exact.diagonal[-1] + 2 * exact.exchange[-1]) / width
    is_diagonal = np.equal(*np.triu_indices(len(inputs)))
    row = {}
    for name, entries in (("diagonal", is_diagonal), ("pairs", ~is_diagonal)):
        averages = _rows.mean_and_error(relative[:, entries].mean(axis=1))
        row |= {name: float(averages[0]), f"{name} error": float(averages[1])}
    return row | {
        "means": means.tolist(),
        "mean errors": errors.tolist(),
        "infinite": infinite.tolist(),
        "is_diagonal": is_diagonal.tolist(),
        "relative": spreads.tolist(),
        "relative errors": spread_errors.tolist(),
        "relative exact": float(variance / exact.tangent[-1] ** 2),
    }


def movement(config, dataset, width, depth):
    """How far training moves the tangent kernel of its own training set, in relative norm.

    Gradient descent on the squared error, for as long as takes the infinitely wide network to 1%
    of its error in all but the slow directions; networks start from zero output.
    """
    inputs, targets = load(dataset, config.data_directory, config.examples)
    infinite = _kernel(depth)(inputs.astype(float)).ntk
    rate = 1.0 / float(gradient_flow.fit(infinite, targets.astype(float)).eigenvalues[-1])
    model = _network(width, depth)

    def member(key, inputs, targets):
        params = model.init(key, inputs)
        first = model.apply(params, inputs)
        trained, info = gradient_descent.train(
            lambda params: model.apply(params, inputs) - first,
            params,
            targets,
            rate,
            steps=config.steps,
        )
        before, after = (empirical.ntk(model.apply, each, inputs) for each in (params, trained))
        moved = jnp.linalg.norm(after - before) / jnp.linalg.norm(before)
        return moved, info.loss / info.initial_loss, info.diverged

    key = jax.random.fold_in(jax.random.key(config.seed + 1), 1000 * depth + width)
    chunk = 1 if jax.default_backend() == "cpu" else None
    found = members.map(
        member, members.keys(key, config.trained_networks), inputs, targets, chunk=chunk
    )
    moved, losses, diverged = (np.asarray(each, float) for each in found)
    moved = np.where(diverged > 0, np.nan, moved)
    value, error = _rows.mean_and_error(moved[np.isfinite(moved)])
    return {
        "moved": float(value),
        "moved error": float(error),
        "loss": float(np.mean(losses)),
        "diverged": int(diverged.sum()),
    }
