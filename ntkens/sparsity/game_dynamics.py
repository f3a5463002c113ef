"""Pruning as a game while the network learns: weights descend, gates climb their utilities.

Algorithm 1 of arXiv:2512.22106. From s = 1, each iteration is

    theta <- theta - eta_theta grad_theta L(theta, s)
    s_i   <- min(1, max(0, s_i + eta_s dU_i/ds_i))

with dU_i/ds_i = ± alpha <g_i, theta_i> - 2 beta ||theta_i||^2 s_i - gamma sign(s_i)
- eta sum_{j != i} s_j <theta_i, theta_j>, Eqs. (13) and (18). One backward pass serves both: the
gates' step has the gradient, the norms and the batch from before the weights' step. The paper says
neither that nor how theta or s are optimised; both optimisers are arguments, of optax.

The game is itself an optimiser, of weights and gates together, and any training loop runs it:

    found = groups.neurons(params)
    optimiser = game_dynamics.optimiser(found, rules, optax.adam(1e-3), optax.sgd(1e-3))
    joint = game_dynamics.Joint(params, groups.ones(found, params))
    state = fit.start(joint, optimiser, key)
    state, _ = fit.epochs(game_dynamics.gated_loss(found, loss), optimiser, state, data.train, ...)
    kept = game_dynamics.survivors(state.params.gates)

As <g_i, theta_i> = s_i dL/ds_i, the benefit vanishes with its gate, and what is closed stays closed
unless others compete with a negative inner product.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

from ntkens.sparsity import groups as grouping
from ntkens.sparsity.groups import Gates, Groups
from ntkens.training.fit import Loss

THRESHOLD = 0.01  # of a gate that is open, at the end: the paper's epsilon


class Rules(NamedTuple):
    """The coefficients of the utilities; numbers, and so one for each vmapped run.

    Attributes:
        alpha: of the benefit.
        beta: of the squared norm.
        gamma: of the gate itself.
        eta: of the competition, within a layer.
        sign: of the benefit, from `games.SIGNS`.
    """

    alpha: float | Float[Array, ""]
    beta: float | Float[Array, ""]
    gamma: float | Float[Array, ""]
    eta: float | Float[Array, ""]
    sign: float | Float[Array, ""]


class Joint(NamedTuple):
    """What is trained.

    Attributes:
        params: theta, not gated.
        gates: s.
    """

    params: Any
    gates: Gates


class State(NamedTuple):
    """What the optimiser remembers.

    Attributes:
        optimiser: the state of the weights' optimiser.
        gate_optimiser: the state of the gates'.
    """

    optimiser: Any
    gate_optimiser: Any


def gated_loss(groups: Groups, loss: Loss) -> Loss:
    """A loss of `Joint`, from one of params: `(params, inputs, labels) -> [batch]`."""

    def of_joint(joint: Joint, inputs, labels):
        return loss(grouping.gated(groups, joint.params, joint.gates), inputs, labels)

    return of_joint


def slopes(rules: Rules, inner: Gates, norms: Gates, crowds: Gates, gates: Gates) -> Gates:
    """dU_i/ds_i of every group, Eqs. (13) and (18).

    Args:
        rules: the coefficients.
        inner: <g_i, theta_i>, which is s_i dL/ds_i.
        norms: ||theta_i||^2.
        crowds: sum_{j != i} s_j <theta_i, theta_j>.
        gates: s_i.
    """

    def slope(inner, norm, crowd, gate):
        benefit = rules.sign * rules.alpha * inner
        cost = 2 * rules.beta * norm * gate + rules.gamma * jnp.sign(gate) + rules.eta * crowd
        return benefit - cost

    return jax.tree.map(slope, inner, norms, crowds, gates)


def climbed(
    gate_optimiser: optax.GradientTransformation, state: Any, slopes: Gates, gates: Gates
) -> tuple[Gates, Any]:
    """What to add to the gates for a step up the slopes, projected onto [0, 1]; the next state."""
    moves, state = gate_optimiser.update(jax.tree.map(jnp.negative, slopes), state, gates)
    updates = jax.tree.map(lambda gate, move: jnp.clip(gate + move, 0, 1) - gate, gates, moves)
    return updates, state


def optimiser(
    groups: Groups,
    rules: Rules,
    optimiser: optax.GradientTransformation,
    gate_optimiser: optax.GradientTransformation,
) -> optax.GradientTransformation:
    """One step of the weights down the loss, and of the gates up their utilities, of a `Joint`.

    Args:
        groups: which weights share a gate.
        rules: the coefficients; may be traced.
        optimiser: of the weights.
        gate_optimiser: of the gates, before the projection: `optax.sgd(eta_s)` in the paper.

    Raises:
        ValueError: at `init`, for groups that overlap or do not fit the params.
    """

    def init(joint: Joint) -> State:
        grouping.check(groups, joint.params)
        return State(optimiser.init(joint.params), gate_optimiser.init(joint.gates))

    def update(gradient: Joint, state: State, joint: Joint | None = None):
        if joint is None:
            raise ValueError("params: got None; costs depend on the weights and the gates")
        params, gates = joint
        inner = jax.tree.map(jnp.multiply, gradient.gates, gates)
        norms = grouping.inner(groups, params, params)
        crowds = grouping.competition(groups, params, gates)
        climb = slopes(rules, inner, norms, crowds, gates)
        moves, gate_state = climbed(gate_optimiser, state.gate_optimiser, climb, gates)
        updates, state_of_weights = optimiser.update(gradient.params, state.optimiser, params)
        return Joint(updates, moves), State(state_of_weights, gate_state)

    # optax calls the params `params`; here they are a `Joint`
    return optax.GradientTransformation(init, update)  # pyright: ignore[reportArgumentType]


def survivors(gates: Gates, threshold: float | Array = THRESHOLD) -> dict[str, Bool[Array, "..."]]:
    """Which groups are kept at the end: s_i >= threshold."""
    return {layer: gate >= threshold for layer, gate in gates.items()}
