"""Networks of finite width for `wide_deep_optimality`: do they decide as the infinite one?"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from experiments import _wide_deep_optimality_classifiers as classifiers
from experiments import _wide_deep_optimality_data as tasks
from ntkens.kernels import fully_connected, hermite
from ntkens.models import mlp
from ntkens.predictors import gradient_flow
from ntkens.training import gradient_descent, members

ACTIVATIONS = {
    "sine": classifiers.matched_sine(2),
    "optimal, d = 2": classifiers.optimal(2),
    "optimal, d = 1": classifiers.optimal(1),
}


def trained(config, activation, depth, width):
    """Trained networks against gradient descent on the NTK: do they decide alike?

    One that diverged agrees nowhere, and its outputs deviate without bound. A deviation is the
    root mean square of the difference of outputs over that of the NTK's.
    """
    at = ACTIVATIONS[activation]
    rng = np.random.default_rng([config.seed, 2])  # the same data for all shapes
    train, test = tasks.sphere(rng, 2, 40), tasks.sphere(rng, 2, 400)
    inputs, queries = (math.sqrt(3) * jnp.asarray(data.inputs) for data in (train, test))
    kernel = _tangent_kernel(at.dual, depth)(jnp.concatenate([inputs, queries]))
    inner, cross = kernel.ntk[:40, :40], kernel.ntk[40:, :40]
    targets = jnp.asarray(train.labels, float)[:, None]
    flow = gradient_flow.fit(inner, targets)
    rate = 0.5 / float(flow.eigenvalues[-1])
    descent = gradient_flow.Descent(config.steps, rate)
    expected = np.asarray(gradient_flow.mean(flow, cross, descent))[:, 0]
    learnt = np.asarray(gradient_flow.mean(flow, inner, descent))
    model = mlp.mlp([width] * depth, 1, activation=at.apply)

    def member(key, inputs, queries):
        params = model.init(key, inputs)
        start = model.apply(params, inputs), model.apply(params, queries)
        after, info = gradient_descent.train(
            lambda params: model.apply(params, inputs) - start[0],
            params,
            targets.astype(jnp.float32),
            rate,
            steps=config.steps,
        )
        return model.apply(after, queries)[:, 0] - start[1][:, 0], info

    key = jax.random.fold_in(jax.random.key(config.seed), width)
    data = inputs.astype(jnp.float32), queries.astype(jnp.float32)
    # on a CPU products of this size gain nothing from batches, and to ask costs a compilation
    chunk = 1 if jax.default_backend() == "cpu" else None
    keys = members.keys(key, config.networks)
    outputs, info = members.map(member, keys, *data, chunk=chunk)
    diverged = np.asarray(info.diverged)
    outputs = np.where(diverged[:, None], math.nan, np.asarray(outputs, float))
    deviations = np.sqrt(np.mean((outputs - expected) ** 2, axis=1) / np.mean(expected**2))
    agreements = np.mean((outputs > 0) == (expected > 0), axis=1)
    return {
        "fourth_moment": _fourth_moment(at),
        "diverged": int(diverged.sum()),
        "deviations": np.where(diverged, math.inf, deviations).tolist(),
        "agreements": np.where(diverged, 0.0, agreements).tolist(),
        "losses": np.where(diverged, math.inf, np.asarray(info.loss, float)).tolist(),
        "kernel_loss": 0.5 * np.sum((learnt - np.asarray(targets)) ** 2),
    }


@functools.cache
def _tangent_kernel(moments, depth):
    return fully_connected.kernel_fn(moments, depth)


@functools.cache
def _fourth_moment(activation):
    """E[phi(Z)^4], on which the width depends that a network needs."""

    def fourth(inputs):
        return activation.apply(jnp.asarray(inputs)) ** 4

    return float(hermite.coefficients(fourth, 0, kinks=())[0])
