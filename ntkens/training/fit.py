"""Minibatch training of one network, or of several jointly, as a function from state to state.

    loss = lambda params, inputs, labels: losses.cross_entropy(model.apply(params, inputs), labels)
    state = fit.start(params, optax.adam(3e-3), key)
    state, info = fit.epochs(loss, optax.adam(3e-3), state, data.train, epochs=10, batch=128)

`epochs` is one scan on the device and continues where the state is: ten calls of one epoch are one
call of ten. It is pure and traceable. Hundreds of members go through `members.map`, each with its
own key, examples, rate, or any other number; `segments.run` does that with checkpoints between:

    def member(key, rate, indices, train):
        state = fit.start(model.init(key, train.inputs), optax.sgd(rate), key)
        return fit.epochs(loss, optax.sgd(rate), state, train, epochs=10, batch=32, indices=indices)

    states, info = members.map(lambda own, train: member(*own, train), (keys, rates, parts), train)

A joint loss over members needs nothing more: its params are stacked, and its loss sees all logits:

    joint = jax.vmap(model.apply, (0, None))           # [members batch classes]
    loss = lambda params, inputs, labels: joint_loss(joint(params, inputs), labels)  # [batch]
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key

from ntkens.checks import is_concrete
from ntkens.data import Examples

Loss = Callable[[Any, Array, Array], Float[Array, " batch"]]


class State(NamedTuple):
    """All that the next epoch needs.

    Attributes:
        params: of the network.
        optimiser: the state of the optimiser.
        key: of the run: epoch e draws its order and its augmentation from `fold_in(key, e)`.
        epoch: epochs done.
    """

    params: Any
    optimiser: Any
    key: Key[Array, ""]
    epoch: Int[Array, ""]


class Info(NamedTuple):
    """How the epochs went.

    Attributes:
        loss: of each epoch, the mean over its examples, each before the step that it entered.
    """

    loss: Float[Array, " epochs"]


def start(params: Any, optimiser: optax.GradientTransformation, key: Key[Array, ""]) -> State:
    """The state before the first epoch."""
    return State(params, optimiser.init(params), key, jnp.zeros((), jnp.int32))


def step(
    loss: Loss,
    optimiser: optax.GradientTransformation,
    params: Any,
    optimiser_state: Any,
    inputs: Array,
    labels: Array,
    weights: Float[Array, " batch"] | None = None,
) -> tuple[Any, Any, Float[Array, ""]]:
    """One step down the mean loss of a batch.

    Args:
        loss: `(params, inputs, labels) -> [batch]`, a loss for each example.
        optimiser: of optax.
        params: pytree of floating arrays.
        optimiser_state: as `optimiser.init` or the last step gave it.
        inputs: of the batch, examples first.
        labels: of the batch.
        weights: of the examples in the mean; None: all alike.

    Returns:
        The next params and optimiser state, and the mean loss before the step.
    """

    def mean(params):
        values = loss(params, inputs, labels)
        if values.shape != labels.shape[:1]:
            raise ValueError(
                f"loss: gave shape {values.shape} for {len(labels)} examples; it is one number an "
                "example, not their mean"
            )
        if weights is None:
            return jnp.mean(values)
        return jnp.sum(values * weights.astype(values.dtype)) / jnp.sum(weights, dtype=values.dtype)

    value, gradient = jax.value_and_grad(mean)(params)
    updates, optimiser_state = optimiser.update(gradient, optimiser_state, params)
    return optax.apply_updates(params, updates), optimiser_state, value


def epochs(
    loss: Loss,
    optimiser: optax.GradientTransformation,
    state: State,
    examples: Examples,
    *,
    epochs: int,
    batch: int,
    indices: Int[Array, " rows"] | None = None,
    augment: Callable[[Key[Array, ""], Array], Array] | None = None,
) -> tuple[State, Info]:
    """Some epochs from where the state is, each through all examples in an order of its own.

    The last batch of an epoch may be short: it is filled up with examples of its epoch that do
    not count (a network that normalises over its batch sees them). Without augmentation and with
    one batch this is full-batch descent.

    Args:
        loss: `(params, inputs, labels) -> [batch]`, a loss for each example.
        optimiser: of optax; numbers in it may be traced, and so one per member; schedules count
            steps, of which an epoch has `steps_per_epoch(rows, batch)`.
        state: from `start`, or from the last call.
        examples: inputs and labels, examples first; any further axes.
        epochs: how many.
        batch: examples a step, at least 1; more than there are is all of them.
        indices: the rows of `examples` to learn from, a row as often as it is named, and -1 where
            there is none: members with unequal parts have as many indices as the largest, and do
            nothing in steps for which they have no example left. The order depends on the length,
            padding included: fix it where members must know nothing of each other's data. None:
            all rows, once.
        augment: `(key, inputs) -> inputs` of a batch, pure; a new key for each step.

    Returns:
        The state after them, and the loss of each. Of a member without examples it is NaN.

    Raises:
        ValueError: epochs or batch out of range; no examples, or of different numbers; an index
            out of range where it is known.
        TypeError: indices that are not integers.
    """
    inputs, labels = (jnp.asarray(each) for each in examples)
    _check_sizes(inputs, labels, epochs, batch)
    rows = _checked_indices(indices, len(inputs))
    length = len(inputs) if rows is None else len(rows)
    batch = min(batch, length)
    steps = steps_per_epoch(length, batch)
    is_whole = rows is None and length % batch == 0

    def order(key):
        """Row and weight of each place in the epoch, [steps batch]."""
        places = jnp.arange(steps * batch)
        if rows is None:
            ordered = jax.random.permutation(key, length)
            present, count = ordered, length
        else:
            scores = jnp.where(rows < 0, jnp.inf, jax.random.uniform(key, rows.shape))
            present, count = rows[jnp.argsort(scores)], jnp.sum(rows >= 0)
        chosen = present[places % jnp.maximum(count, 1)]
        shape = (steps, batch)
        return jnp.maximum(chosen, 0).reshape(shape), (places < count).reshape(shape)

    def one_step(carry, place):
        params, optimiser_state, total = carry
        chosen, counts, key = place
        batch_inputs = inputs[chosen]
        if augment is not None:
            batch_inputs = augment(key, batch_inputs)
        if is_whole:
            params, optimiser_state, value = step(
                loss, optimiser, params, optimiser_state, batch_inputs, labels[chosen]
            )
            return (params, optimiser_state, total + batch * value), None
        count = jnp.sum(counts)
        weights = jnp.where(count > 0, counts, True)  # of no example: a step that is not taken
        *after, value = step(
            loss, optimiser, params, optimiser_state, batch_inputs, labels[chosen], weights
        )
        before = (params, optimiser_state, jnp.zeros_like(value))
        if rows is None:  # then every step has some
            taken = (*after, value)
        else:
            taken = jax.tree.map(
                lambda new, old: jnp.where(count > 0, new, old), (*after, value), before
            )
        params, optimiser_state, value = taken
        return (params, optimiser_state, total + count.astype(value.dtype) * value), None

    def one_epoch(state, _):
        keys = jax.random.split(jax.random.fold_in(state.key, state.epoch), steps + 1)
        chosen, counts = order(keys[0])
        value = jax.eval_shape(loss, state.params, inputs[:1], labels[:1])
        carry = (state.params, state.optimiser, jnp.zeros((), value.dtype))
        (params, optimiser_state, total), _ = jax.lax.scan(
            one_step, carry, (chosen, counts, keys[1:])
        )
        state = State(params, optimiser_state, state.key, state.epoch + 1)
        return state, total / jnp.sum(counts, dtype=value.dtype)

    state, means = jax.lax.scan(one_epoch, state, length=epochs)
    return state, Info(means)


def steps_per_epoch(rows: int, batch: int) -> int:
    """How many steps an epoch of so many rows takes: what a schedule counts in."""
    return -(-rows // min(batch, rows))


def _check_sizes(inputs, labels, epochs, batch):
    for name, number, least in (("epochs", epochs, 0), ("batch", batch, 1)):
        if not isinstance(number, int | np.integer) or number < least:
            raise ValueError(f"{name}: got {number}; it is a whole number, at least {least}")
    if not inputs.ndim or not labels.ndim or len(inputs) != len(labels) or not len(inputs):
        raise ValueError(
            f"examples: got inputs {inputs.shape} and labels {labels.shape}; they have as many "
            "rows as each other, at least 1"
        )


def _checked_indices(indices, rows):
    if indices is None:
        return None
    indices = jnp.asarray(indices)
    if not jnp.issubdtype(indices.dtype, jnp.integer):
        raise TypeError(f"indices: got dtype {indices.dtype}; rows are counted in integers")
    if indices.ndim != 1 or not len(indices):
        raise ValueError(
            f"indices: got shape {indices.shape}; they are [rows], and one such vector per member "
            "where members.map goes over it"
        )
    if is_concrete(indices):
        low, high = int(indices.min()), int(indices.max())
        if low < -1 or high >= rows:
            raise ValueError(
                f"indices: got {low} to {high}; rows are 0 to {rows - 1}, and -1 is none"
            )
    return indices
