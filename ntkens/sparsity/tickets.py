"""Concrete ticket search: which weights to keep, by gradient descent on the logits of their gates.

    objective = objectives.reverse_kl(model.apply)
    logits, info = tickets.search(key, objective, params, data.train, kept, epochs=20, batch=128)
    mask = masks.top(logits, kept)                             # exactly `kept` weights

Each of d weights has a gate (see `gates`) with the logit a_j, at first log(kappa / (1 - kappa))
with kappa = kept / d. A step draws all gates once for its batch, and moves the logits by Adam on

    g_t + lambda g_s,   g_t = grad_a R,   g_s = grad_a err = (C / T) sigmoid(a) (1 - sigmoid(a)),
    err = C (sum_j sigmoid(a_j) / T - 1),   C = 100,   T = slack * kept,

where R is one of `objectives`. Params are frozen: as drawn, or as some training left them, which is
where the ticket is then to be trained from. The multiplier lambda is a `Control`: `grad_balance`,
the paper's own, without anything to tune, or `lagrange`. arXiv:2512.07142.

`search` is of one network, and traceable: keys, params and `kept` may be members' own, and so all
seeds and densities are one program:

    members.map(lambda own, train: search(own[0], objective, own[1], train, own[2], ...),
                (keys, params, kept), data.train)
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key

from ntkens.checks import is_concrete
from ntkens.data import Examples, batches
from ntkens.sparsity import gates, masks
from ntkens.sparsity.masks import Weights
from ntkens.sparsity.objectives import Objective, norm

SURPLUS_SCALE = 100  # C
LAST_SHARE, LAST_FACTOR = 0.88, 0.1  # the rate falls to a tenth at this share of the search


class State(NamedTuple):
    """All that the next step needs.

    Attributes:
        logits: a, of the gates.
        adam: its moments.
        multiplier: lambda, as the last step left it.
        done: steps.
    """

    logits: Weights
    adam: Any
    multiplier: Float[Array, ""]
    done: Int[Array, ""]


class Info(NamedTuple):
    """What a step saw, at the logits before it; of a search, [steps] each.

    Attributes:
        objective: R of the gates drawn.
        expected: sum_j sigmoid(a_j), the weights that are expected to be kept.
        surplus: err.
        task_norm: |g_t|.
        sparsity_norm: |g_s|.
        target: of the multiplier: lambda* of `grad_balance`, the next one of `lagrange`.
        multiplier: lambda, as it was used.
    """

    objective: Float[Array, "*steps"]
    expected: Float[Array, "*steps"]
    surplus: Float[Array, "*steps"]
    task_norm: Float[Array, "*steps"]
    sparsity_norm: Float[Array, "*steps"]
    target: Float[Array, "*steps"]
    multiplier: Float[Array, "*steps"]


class Control(NamedTuple):
    """How the multiplier follows the number of gates that are expected to be open.

    Attributes:
        slack: T / kept, what is aimed at.
        update: `(state, surplus, |g_t|, |g_s|, rate) -> (target, the one to use, the next one)`.
    """

    slack: float
    update: Callable[..., tuple[Array, Array, Array]]


def grad_balance(*, slack: float = 1.1, memory: float = 0.99) -> Control:
    """The two gradients are balanced while too many gates are open.

        lambda* = |g_t| / |g_s| if err > 0, else 0;   lambda <- memory lambda + (1 - memory) lambda*

    and lambda = lambda* at the first step. Logits so large that g_s is 0 leave nothing to balance.

    Args:
        slack: T / kept; the authors aim at a tenth more than they keep.
        memory: of the moving average, in [0, 1).

    Raises:
        ValueError: an argument out of range.
    """
    if not 0 < slack < np.inf:
        raise ValueError(f"slack: got {slack}; want what is aimed at over what is kept, above 0")
    if not 0 <= memory < 1:
        raise ValueError(f"memory: got {memory}; want a share in [0, 1)")

    def update(state, surplus, task_norm, sparsity_norm, rate):
        del rate
        is_over = (surplus > 0) & (sparsity_norm > 0)
        target = jnp.where(is_over, task_norm / jnp.where(is_over, sparsity_norm, 1), 0)
        average = memory * state.multiplier + (1 - memory) * target
        now = jnp.where(state.done == 0, target, average)
        return target, now, now

    return Control(slack, update)


def lagrange(*, slack: float = 1.0, share: float = 0.01) -> Control:
    """The multiplier of an equality: lambda <- lambda + share * rate * err after each step, from 0.

    Gradient ascent on lambda err. It may be negative, and then opens gates.

    Args:
        slack: T / kept; the authors add nothing here.
        share: of the rate of the logits, above 0; the authors' is 0.01, and for feature matching
            0.001.

    Raises:
        ValueError: an argument out of range.
    """
    for name, value in (("slack", slack), ("share", share)):
        if not 0 < value < np.inf:
            raise ValueError(f"{name}: got {value}; want a finite number above 0")

    def update(state, surplus, task_norm, sparsity_norm, rate):
        del task_norm, sparsity_norm
        following = state.multiplier + share * rate * surplus
        return following, state.multiplier, following

    return Control(slack, update)


BALANCED = grad_balance()


def start(weights: Weights, kept: int | Int[Array, ""]) -> State:
    """The state before the first step: every gate open with probability kept / d.

    Args:
        weights: of the network, `masks.weights(params)`.
        kept: weights of the ticket, from 1 to d - 1; may be traced.

    Raises:
        ValueError: a count out of range, for which there is nothing to look for.
        TypeError: a count that is not an integer.
    """
    most = masks.total(weights) - 1
    if not jnp.issubdtype(jnp.result_type(kept), jnp.integer) or jnp.ndim(kept):
        raise TypeError(f"kept: got {kept}; want a whole number of weights, not a density")
    if is_concrete(kept) and not 1 <= int(kept) <= most:
        raise ValueError(
            f"kept: got {kept}; want 1 to {most}: of none or all of the {most + 1} weights there "
            "is no ticket to look for"
        )
    dtype = jnp.result_type(*weights.values())
    logits = gates.logits(weights, jnp.asarray(kept, dtype) / (most + 1))
    zero = jnp.zeros((), dtype)
    return State(logits, optax.scale_by_adam().init(logits), zero, jnp.zeros((), jnp.int32))


def step(
    task: Callable[[Weights], Float[Array, ""]],
    state: State,
    kept: int | Int[Array, ""],
    *,
    rate: float | Float[Array, ""] = 0.1,
    control: Control = BALANCED,
) -> tuple[State, Info]:
    """One step of Adam on g_t + lambda g_s; the formulas are at the head of the module.

    Args:
        task: logits -> R, with a sample of gates and a batch in it.
        state: from `start`, or from the last step.
        kept: weights of the ticket; may be traced.
        rate: of Adam.
        control: of the multiplier.
    """
    logits = state.logits
    value, task_gradient = jax.value_and_grad(task)(logits)
    wanted = control.slack * jnp.asarray(kept, value.dtype)
    probabilities = jax.tree.map(jax.nn.sigmoid, logits)
    expected = gates.expected(logits)
    surplus = SURPLUS_SCALE * (expected / wanted - 1)
    sparsity_gradient = jax.tree.map(lambda p: SURPLUS_SCALE / wanted * p * (1 - p), probabilities)
    norms = norm(task_gradient), norm(sparsity_gradient)
    target, multiplier, following = control.update(state, surplus, *norms, rate)
    gradient = jax.tree.map(lambda t, s: t + multiplier * s, task_gradient, sparsity_gradient)
    updates, adam = optax.scale_by_adam().update(gradient, state.adam)
    logits = jax.tree.map(lambda logit, update: logit - rate * update, logits, updates)
    info = Info(value, expected, surplus, *norms, target, multiplier)
    return State(logits, adam, following, state.done + 1), info


def search(
    key: Key[Array, ""],
    objective: Objective,
    params: Any,
    examples: Examples,
    kept: int | Int[Array, ""],
    *,
    epochs: int,
    batch: int,
    rate: float = 0.1,
    control: Control = BALANCED,
    temperature: float = gates.TEMPERATURE,
    variant: gates.Variant = "standard",
    augment: Callable[[Key[Array, ""], Array], Array] | None = None,
) -> tuple[Weights, Info]:
    """The logits of a ticket: of `kept` weights the largest are it, `masks.top(logits, kept)`.

    Whether the search went well is for the caller to see: `info.objective` that is NaN, or
    `info.expected` far from `control.slack * kept` at the end.

    Args:
        key: of the order of examples, the gates and the augmentation.
        objective: one of `objectives`.
        params: frozen; those from which the ticket is to be trained.
        examples: inputs and labels, examples first.
        kept: weights of the ticket, from 1 to d - 1; may be traced.
        epochs: how many, at least 1; each in an order of its own.
        batch: examples a step; more than there are is all of them, and a last batch that would be
            short is left out.
        rate: of Adam; it falls to a tenth at 88% of the steps.
        control: of the multiplier.
        temperature: of the gates.
        variant: of the gates, "standard" or "authors".
        augment: `(key, inputs) -> inputs` of a batch, as of `training.fit.epochs`.

    Returns:
        The logits, and what each of the steps saw.

    Raises:
        ValueError: kept, epochs or batch out of range; no examples, or inputs and labels of
            different numbers; temperature or variant out of range.
        TypeError: kept is not an integer.
    """
    inputs, labels = (jnp.asarray(each) for each in examples)
    for name, number in (("epochs", epochs), ("batch", batch)):
        if not isinstance(number, int | np.integer) or number < 1:
            raise ValueError(f"{name}: got {number}; it is a whole number, at least 1")
    if not labels.ndim or inputs.shape[:1] != labels.shape[:1] or not len(labels):
        raise ValueError(
            f"examples: got inputs {inputs.shape} and labels {labels.shape}; they have as many "
            "rows as each other, at least 1"
        )
    batch = min(batch, len(labels))
    steps = len(labels) // batch
    last = int(np.ceil(LAST_SHARE * epochs * steps))
    order_key, step_key = jax.random.split(key)

    def one_step(state, place):
        rows, key = place
        gate_key, augment_key = jax.random.split(key)
        seen = inputs[rows] if augment is None else augment(augment_key, inputs[rows])

        def task(logits):
            chosen = gates.sample(gate_key, logits, temperature=temperature, variant=variant)
            return objective(chosen, params, seen, labels[rows])

        now = jnp.where(state.done < last, rate, LAST_FACTOR * rate).astype(state.multiplier.dtype)
        return step(task, state, kept, rate=now, control=control)

    def one_epoch(state, epoch):
        order = batches.permutation(order_key, epoch, len(labels))[: steps * batch]
        keys = jax.random.split(jax.random.fold_in(step_key, epoch), steps)
        return jax.lax.scan(one_step, state, (order.reshape(steps, batch), keys))

    first = start(masks.weights(params), kept)
    state, info = jax.lax.scan(one_epoch, first, jnp.arange(epochs))
    return state.logits, jax.tree.map(jnp.ravel, info)
