"""Contrastive pretraining on pairs of inputs of the factor model: a linear encoder, by gradients.

    P(label = 1 | x, x') = sigmoid(f(x)^T f(x')),    f(x) = strength E[z | x]

The maximum of the likelihood is sought by Adam; what the encoder loses is known in closed form, as
for the factor model, for it is linear.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

from experiments import _unsupervised_pretraining_factors as factors
from ntkens.data import Examples
from ntkens.models import mlp
from ntkens.predictors import factor_model
from ntkens.training import contrastive, fit

BATCH = 500


@functools.cache
def _encoder(samples, width, rank, strength, steps):
    model = mlp.mlp([], rank, parametrisation="standard")
    epochs = -(-steps // fit.steps_per_epoch(samples, BATCH))
    optimiser = optax.adam(optax.cosine_decay_schedule(0.02, steps))

    def loss(params, pairs, labels):
        first, second = (model.apply(params, pairs[:, side]) for side in (0, 1))
        return contrastive.logistic(first, second, labels)

    def one(own, task):
        of_inputs, of_labels, of_params, of_order = jax.random.split(own[0], 4)
        inputs, _ = factors.draw(of_inputs, task, 2 * samples)
        pairs = inputs.reshape(samples, 2, width)
        features = strength * (pairs @ factor_model.encoder(task.model))
        chance = jax.nn.sigmoid(jnp.sum(features[:, 0] * features[:, 1], axis=-1))
        labels = jax.random.bernoulli(of_labels, chance).astype(jnp.int32)
        parts: Any = (pairs, labels)
        state = fit.start(model.init(of_params, inputs[:1]), optimiser, of_order)
        state, _ = fit.epochs(loss, optimiser, state, Examples(*parts), epochs=epochs, batch=BATCH)
        return state.params["readout"]["kernel"].T

    return one


def measured(config, samples: int):
    """What the encoder of so many pairs loses, and least squares on its features."""
    width, rank = config.contrastive_width, config.factors
    task = factors.paper_task(config, width)
    learner = _encoder(samples, width, rank, config.strength, config.contrastive_steps)
    learnt = factors.repeat(config, 7, learner, jnp.zeros(config.repeats), task)
    labels = config.contrastive_labels
    own, found = factors.excesses(config, task, learnt, labels)
    return {
        "labels": labels,
        "representation": own,
        "excess": found,
        "expected": factors.expected(task, own, rank, labels),
        "supervised": float(factors.expected(task, 0.0, width, labels)),
    }
