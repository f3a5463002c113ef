"""The neural hypothesis space of `exact_inductive_bias`: trained networks, and their losses."""

import functools
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax

from experiments._exact_inductive_bias_spaces import Task
from ntkens.data import Examples
from ntkens.models import mlp
from ntkens.training import fit, losses, members


def trained(key, task: Task, *, count, widths, epochs, batch, rate) -> tuple[np.ndarray, ...]:
    """Mean squared errors of networks on the test and on the training set, [count] each.

    ReLU, Adam, squared error on one-hot labels; each has its own initialisation and order.
    """
    member = _member(tuple(widths), task.targets.shape[1], epochs, batch, rate)
    labels, test_labels = (
        jnp.asarray(each.argmax(axis=1)) for each in (task.targets, task.test_targets)
    )
    train = Examples(*map(_placed, (task.inputs, labels)))
    test = Examples(*map(_placed, (task.test_inputs, test_labels)))
    found = members.map(member, members.keys(key, count), train, test, mesh=members.all_devices())
    return tuple(np.asarray(each, np.float64) for each in found)


def _placed(array) -> Any:
    return jnp.asarray(array, jnp.float32 if array.dtype == np.float64 else None)


@functools.cache  # a new function would be compiled anew
def _member(widths, outputs, epochs, batch, rate):
    model = mlp.mlp(widths, outputs, parametrisation="standard", w_std=2**0.5, b_std=0.0)
    optimiser = optax.adam(rate)

    def loss(params, inputs, labels):
        return losses.squared_error(model.apply(params, inputs), labels)

    def member(key, train, test):
        state = fit.start(model.init(key, train.inputs[:1]), optimiser, key)
        state, _ = fit.epochs(loss, optimiser, state, train, epochs=epochs, batch=batch)

        def mean_squared_error(examples):
            return jnp.mean(loss(state.params, *examples)) * 2 / outputs

        return mean_squared_error(test), mean_squared_error(train)

    return member
