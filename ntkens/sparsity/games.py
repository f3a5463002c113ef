"""Pruning as a game at fixed parameters: each group of weights chooses how far it takes part.

Player i owns the weights theta_i and chooses the gate s_i in [0, 1]; the network computes with
s_i theta_i, and g_i is the gradient of its loss in theta_i, held fixed. Eqs. (8)-(10) of
arXiv:2512.22106:

    U_i(s) = alpha <g_i, theta_i> s_i - beta ||theta_i||^2 s_i^2 - gamma |s_i|
             - eta s_i sum_{j != i} s_j <theta_i, theta_j>

which on [0, 1] is U_i = b_i s_i - q_i s_i^2 - s_i sum_j c_ij s_j. Since c is symmetric it is a
potential game, and everything below is exact: one concave quadratic each, one quadratic of all.

The benefit has the sign of the paper, "printed": <g_i, theta_i> = s_i dL/ds_i, so that a gate opens
where that raises the loss. "descent" has the other sign.
"""

from typing import Literal, NamedTuple, get_args

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ntkens.checks import check_finite, is_concrete

Benefit = Literal["printed", "descent"]
SIGNS: dict[Benefit, float] = {"printed": 1.0, "descent": -1.0}


class Game(NamedTuple):
    """The coefficients of all utilities.

    Attributes:
        linear: b_i = ± alpha <g_i, theta_i> - gamma.
        quadratic: q_i = beta ||theta_i||^2, at least 0.
        coupling: c_ij = eta <theta_i, theta_j>, symmetric, and 0 for i = j.
    """

    linear: Float[Array, " players"]
    quadratic: Float[Array, " players"]
    coupling: Float[Array, "players players"]


def game(
    weights: Float[Array, "players size"],
    gradients: Float[Array, "players size"],
    *,
    alpha: float | Array = 1.0,
    beta: float | Array,
    gamma: float | Array = 0.0,
    eta: float | Array = 0.0,
    benefit: Benefit = "printed",
) -> Game:
    """The game of groups of one size, such as the neurons of a layer.

    Args:
        weights: theta_i.
        gradients: g_i, of the loss in theta_i at the gates of now.
        alpha: of the benefit.
        beta: of the squared norm, at least 0.
        gamma: of the gate itself.
        eta: of the competition between similar groups.
        benefit: its sign, "printed" or "descent".

    Raises:
        ValueError: shapes that differ, NaN or infinities, beta < 0, or an unknown benefit.
        TypeError: weights or gradients that are not floating.
    """
    weights, gradients = jnp.asarray(weights), jnp.asarray(gradients)
    for name, values in (("weights", weights), ("gradients", gradients)):
        if not jnp.issubdtype(values.dtype, jnp.floating):
            raise TypeError(f"{name}: got dtype {values.dtype}; they are floating point")
        if values.ndim != 2 or not values.size or values.shape != weights.shape:
            raise ValueError(
                f"{name}: got shape {values.shape}; weights and gradients are both [players, size]"
            )
        check_finite(name, values)
    for name, value in (("alpha", alpha), ("beta", beta), ("gamma", gamma), ("eta", eta)):
        check_finite(name, value)
    if benefit not in SIGNS:
        raise ValueError(f"benefit: got {benefit!r}; it is one of {get_args(Benefit)}")
    if is_concrete(beta) and not (np.asarray(beta) >= 0).all():
        raise ValueError(f"beta: got {beta}; a utility is concave, beta is at least 0")
    gram = jnp.einsum("ik,jk->ij", weights, weights, precision="highest")
    inner = jnp.einsum("ik,ik->i", gradients, weights, precision="highest")
    norms = jnp.diagonal(gram)
    return Game(
        SIGNS[benefit] * alpha * inner - gamma, beta * norms, eta * (gram - jnp.diag(norms))
    )


def utilities(game: Game, gates: Float[Array, " players"]) -> Float[Array, " players"]:
    """U_i(s) of every player: Eq. (8) with (9) and (10)."""
    crowd = _crowd(game, gates)
    return gates * (game.linear - crowd) - game.quadratic * gates**2


def slopes(game: Game, gates: Float[Array, " players"]) -> Float[Array, " players"]:
    """dU_i/ds_i = b_i - 2 q_i s_i - sum_j c_ij s_j, Eq. (13), for s_i > 0 and from the right at 0.

    It is also the gradient of `potential`.
    """
    return game.linear - 2 * game.quadratic * gates - _crowd(game, gates)


def potential(game: Game, gates: Float[Array, " players"]) -> Float[Array, ""]:
    """Phi(s) = sum_i (b_i s_i - q_i s_i^2) - sum_{i<j} c_ij s_i s_j, an exact potential.

    What a player gains by a move, Phi gains. Not in the paper: it follows from the symmetry of c.
    """
    return jnp.sum(gates * (game.linear - _crowd(game, gates) / 2) - game.quadratic * gates**2)


def best_responses(game: Game, gates: Float[Array, " players"]) -> Float[Array, " players"]:
    """Each player's best gate while the others stay: Eq. (14).

        s_i* = min(1, max(0, (b_i - sum_j c_ij s_j) / (2 q_i)))

    Pruned iff b_i <= sum_j c_ij s_j, Eq. (15) with its border. Where q_i = 0 it is all or nothing,
    and nothing where the player does not care.
    """
    gain = game.linear - _crowd(game, gates)
    is_strict = game.quadratic > 0
    inner = gain / jnp.where(is_strict, 2 * game.quadratic, 1)
    return jnp.clip(jnp.where(is_strict, inner, (gain > 0).astype(gain.dtype)), 0, 1)


def ascend(
    game: Game, gates: Float[Array, " players"], rate: float | Array
) -> Float[Array, " players"]:
    """One step of all players at once up their own utilities, projected onto [0, 1].

    Below a rate of 2 / `curvature(game)[1]` the potential never falls. With eta = 0 a gate of slope
    below 0 from b_i < 0 is exactly 0 after at most ceil(s_i / (rate |b_i|)) steps.
    """
    return jnp.clip(gates + rate * slopes(game, gates), 0, 1)


def curvature(game: Game) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Least and greatest eigenvalue of -Phi'' = 2 diag(q) + c.

    A least one above 0 makes Phi strictly concave, and then there is one Nash equilibrium, to which
    every ascent leads. Of weights none of which are 0 it is above 0 whenever eta < 2 beta, since
    then -Phi'' = (2 beta - eta) diag(||theta_i||^2) + eta Gram. The paper gives no constant.
    """
    values = jnp.linalg.eigvalsh(2 * jnp.diag(game.quadratic) + game.coupling)
    return values[0], values[-1]


def contraction(game: Game) -> Float[Array, ""]:
    """max_i sum_j |c_ij| / (2 q_i): below 1, best responses contract in the largest gate.

    Sufficient for a unique equilibrium that simultaneous best responses reach at this rate, the
    constant that claim 5.3 of the paper leaves out. Infinite where a player with q_i = 0 minds
    the others.
    """
    crowd = jnp.sum(jnp.abs(game.coupling), axis=1)
    ratio = crowd / jnp.where(game.quadratic > 0, 2 * game.quadratic, 1)
    hopeless = jnp.where(crowd > 0, jnp.inf, 0).astype(ratio.dtype)
    return jnp.max(jnp.where(game.quadratic > 0, ratio, hopeless))


def dominated(game: Game) -> Bool[Array, " players"]:
    """Whether s_i = 0 is better than any s_i > 0, whatever the others do: Eq. (12).

    The others help most when those with c_ij < 0 take part in full: true iff
    b_i + sum_j max(0, -c_ij) is below 0, or 0 where q_i > 0.
    """
    best = game.linear + jnp.sum(jnp.maximum(0, -game.coupling), axis=1)
    return (best < 0) | ((best == 0) & (game.quadratic > 0))


def _crowd(game, gates):
    """sum_j c_ij s_j of every player."""
    return jnp.einsum("ij,j->i", game.coupling, gates, precision="highest")
