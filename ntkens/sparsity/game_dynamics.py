"""Pruning as a game while the network learns: weights descend, gates climb their utilities.

Algorithm 1 of arXiv:2512.22106. From s = 1, each iteration is

    theta <- theta - eta_theta grad_theta L(theta, s)
    s_i   <- min(1, max(0, s_i + eta_s dU_i/ds_i))

with dU_i/ds_i = ± alpha <g_i, theta_i> - 2 beta ||theta_i||^2 s_i - gamma sign(s_i)
- eta sum_{j != i} s_j <theta_i, theta_j>, Eqs. (13) and (18). Both move at once here: the gradient
g of one backward pass serves both, and norms are those before the step. The paper says neither that
nor how theta or s are optimised; both optimisers are arguments, of optax.

As <g_i, theta_i> = s_i dL/ds_i, the benefit vanishes with its gate, and what is closed stays closed
wherever no competition is negative.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

from ntkens.sparsity import groups as grouping
from ntkens.sparsity.groups import Gates, Groups

Loss = Callable[[Any, Array, Array], Float[Array, " batch"]]
THRESHOLD = 0.01  # of a gate that is open, at the end: the paper's epsilon


class Rules(NamedTuple):
    """The coefficients of the utilities; numbers, and so one for each vmapped run.

    Attributes:
        alpha: of the benefit.
        beta: of the squared norm.
        gamma: of the gate itself.
        eta: of the competition.
        sign: of the benefit, from `games.SIGNS`.
    """

    alpha: float | Float[Array, ""]
    beta: float | Float[Array, ""]
    gamma: float | Float[Array, ""]
    eta: float | Float[Array, ""]
    sign: float | Float[Array, ""]


class State(NamedTuple):
    """All that the next step needs.

    Attributes:
        params: theta, not gated.
        gates: s.
        optimiser: the state of the parameters' optimiser.
        gate_optimiser: the state of the gates'.
    """

    params: Any
    gates: Gates
    optimiser: Any
    gate_optimiser: Any


class Info(NamedTuple):
    """How a step went.

    Attributes:
        loss: mean over the batch, before the step.
        benefits: ± alpha <g_i, theta_i> of every group.
    """

    loss: Float[Array, ""]
    benefits: Gates


def start(
    groups: Groups,
    params: Any,
    optimiser: optax.GradientTransformation,
    gate_optimiser: optax.GradientTransformation,
    gates: Gates | None = None,
) -> State:
    """The state before the first step.

    Args:
        groups: which weights share a gate.
        params: of the network.
        optimiser: of the parameters.
        gate_optimiser: of the gates.
        gates: to begin with; None: all open.

    Raises:
        ValueError: groups that overlap or do not fit the params.
    """
    gates = grouping.ones(groups, params) if gates is None else gates
    return State(params, gates, optimiser.init(params), gate_optimiser.init(gates))


def slopes(
    groups: Groups, rules: Rules, params: Any, gates: Gates, gradient: Any
) -> tuple[Gates, Gates]:
    """dU_i/ds_i of every group, and the benefit that is part of it.

    Args:
        groups: which weights share a gate.
        rules: the coefficients.
        params: theta.
        gates: s.
        gradient: of the loss in theta, at theta and s, held fixed.
    """
    norms = grouping.inner(groups, params, params)
    crowds = grouping.competition(groups, params, gates)
    benefits = jax.tree.map(
        lambda inner: rules.sign * rules.alpha * inner, grouping.inner(groups, gradient, params)
    )

    def slope(benefit, norm, gate, crowd):
        cost = 2 * rules.beta * norm * gate + rules.gamma * jnp.sign(gate) + rules.eta * crowd
        return benefit - cost

    return jax.tree.map(slope, benefits, norms, gates, crowds), benefits


def step(
    loss: Loss,
    groups: Groups,
    rules: Rules,
    optimiser: optax.GradientTransformation,
    gate_optimiser: optax.GradientTransformation,
    state: State,
    inputs: Array,
    labels: Array,
) -> tuple[State, Info]:
    """One step of the weights down the loss, and of the gates up their utilities.

    Args:
        loss: `(params, inputs, labels) -> [batch]`, of the gated params.
        groups: which weights share a gate.
        rules: the coefficients.
        optimiser: of the parameters.
        gate_optimiser: of the gates, `optax.sgd(eta_s)` in the paper; projected afterwards.
        state: from `start`, or from the last step.
        inputs: of the batch, examples first.
        labels: of the batch.
    """

    def mean(params):
        return jnp.mean(loss(grouping.gated(groups, params, state.gates), inputs, labels))

    value, gradient = jax.value_and_grad(mean)(state.params)
    climbs, benefits = slopes(groups, rules, state.params, state.gates, gradient)
    updates, optimiser_state = optimiser.update(gradient, state.optimiser, state.params)
    params = optax.apply_updates(state.params, updates)
    moves, gate_state = gate_optimiser.update(
        jax.tree.map(jnp.negative, climbs), state.gate_optimiser, state.gates
    )
    moved: Any = optax.apply_updates(state.gates, moves)
    gates = jax.tree.map(lambda gate: jnp.clip(gate, 0, 1), moved)
    return State(params, gates, optimiser_state, gate_state), Info(value, benefits)


def survivors(gates: Gates, threshold: float | Array = THRESHOLD) -> dict[str, Bool[Array, "..."]]:
    """Which groups are kept at the end: s_i >= threshold."""
    return {layer: gate >= threshold for layer, gate in gates.items()}
