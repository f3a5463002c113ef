"""Conjugate gradients on several right-hand sides at once: the recursion alone.

Hestenes and Stiefel 1952, preconditioned; each column has step sizes of its own. Plain arrays and
sums over rows: rows may be on several devices.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


class State(NamedTuple):
    """Conjugate gradients between two steps: arrays, to be stored as they are.

    Attributes:
        iteration: steps made.
        solution: so far.
        residual: targets - matrix solution, by recursion; computed from the solution at a start.
        direction: of the next step.
        alignment: of each column, residual . M^-1 residual, M the preconditioner.
        scale: of each column, the norm of the targets.
        active: the columns that the next step moves.
        verified: of each column, the norm of the residual over the scale when it was last
            computed from the solution; infinite before.
        verified_at: the iteration when that was; -1 before.
    """

    iteration: Int[Array, ""]
    solution: Float[Array, "n k"]
    residual: Float[Array, "n k"]
    direction: Float[Array, "n k"]
    alignment: Float[Array, " k"]
    scale: Float[Array, " k"]
    active: Bool[Array, " k"]
    verified: Float[Array, " k"]
    verified_at: Int[Array, ""]


Apply = Callable[[Float[Array, "n k"]], Float[Array, "n k"]]


def begin(targets: Float[Array, "n k"], apply: Apply) -> State:
    """At solution 0; `apply` is M^-1."""
    scale = norms(targets)
    state = State(
        iteration=jnp.zeros((), jnp.int32),
        solution=jnp.zeros_like(targets),
        residual=targets,
        direction=targets,
        alignment=scale,
        scale=scale,
        active=scale > 0,
        verified=jnp.full_like(scale, jnp.inf),
        verified_at=-jnp.ones((), jnp.int32),
    )
    return _aim(state, apply)


def restart(
    state: State,
    targets: Float[Array, "n k"],
    product: Float[Array, "n k"],
    apply: Apply,
    tolerance: float,
) -> State:
    """With the residual computed anew; product = matrix solution.

    Columns whose residual is above tolerance times scale become active.
    """
    residual = targets - product
    verified = norms(residual) / nonzero(state.scale)
    state = state._replace(
        residual=residual,
        active=verified > tolerance,
        verified=verified,
        verified_at=state.iteration,
    )
    return _aim(state, apply)


def step(
    state: State,
    product: Float[Array, "n k"],
    apply: Apply,
    goal: Callable[[Float[Array, "n k"]], Float[Array, " k"]],
) -> State:
    """One step, with product = matrix direction; a column whose residual is at its goal rests.

    Beta in the flexible form (Polak and Ribiere), which allows for an M^-1 that rounding makes a
    little different at each step. A column whose curvature is not positive rests too: its matrix
    is not positive definite, or its direction is rounding.
    """
    curvature = dots(state.direction, product)
    moves = state.active & (curvature > 0)
    rate = jnp.where(moves, state.alignment / nonzero(curvature), 0)[None, :]
    solution = state.solution + rate * state.direction
    residual = state.residual - rate * product
    active = moves & (norms(residual) > goal(solution))
    downhill = jax.lax.cond(jnp.any(active), apply, jnp.zeros_like, residual)
    beta = dots(downhill, residual - state.residual) / nonzero(state.alignment)
    direction = downhill + beta[None, :] * state.direction
    return state._replace(
        iteration=state.iteration + 1,
        solution=solution,
        residual=residual,
        direction=jnp.where(active[None, :], direction, state.direction),
        alignment=jnp.where(active, dots(downhill, residual), state.alignment),
        active=active,
    )


def dots(first: Float[Array, "n k"], second: Float[Array, "n k"]) -> Float[Array, " k"]:
    """Inner products of columns."""
    return jnp.sum(first * second, axis=0)


def norms(columns: Float[Array, "n k"]) -> Float[Array, " k"]:
    """Euclidean norms of columns."""
    return jnp.sqrt(dots(columns, columns))


def nonzero(values: Float[Array, " k"]) -> Float[Array, " k"]:
    """The values, with 1 in the place of 0: to divide by."""
    return jnp.where(values == 0, 1, values)


def _aim(state, apply):
    """The direction of steepest descent."""
    direction = apply(state.residual)
    return state._replace(direction=direction, alignment=dots(state.residual, direction))
