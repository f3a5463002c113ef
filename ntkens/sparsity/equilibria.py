"""All Nash equilibria of a small game of pruning, and which of them attract."""

import itertools
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import linprog

from ntkens.checks import check_finite
from ntkens.sparsity.games import Game

MOST = 8  # players: 3^8 = 6561 cases, and three times as many with each player more
TOLERANCE = 1e-9  # of slopes and gates, in float64 and relative to the largest coefficient


class Equilibria(NamedTuple):
    """Every equilibrium, in the order of gates.

    Attributes:
        gates: of each player in each.
        is_stable: whether it is a strict maximum of the potential, to which projected ascent
            returns from all sides; others are saddles.
    """

    gates: Float[np.ndarray, "equilibria players"]
    is_stable: Bool[np.ndarray, " equilibria"]


def find(game: Game) -> Equilibria:
    """Every Nash equilibrium, by cases: each player is at 0, at 1, or where its slope is 0.

    The players within solve (2 diag(q) + c) s = b - (what those at 1 take from them); those at 0
    then have slopes of at most 0, those at 1 of at least 0. That is enough, for every utility is
    concave in its own gate. Stable are those where -Phi'' is positive definite on the players
    whose slope is 0. In float64 on the host.

    Args:
        game: of at most `MOST` players.

    Raises:
        ValueError: more players than that; coefficients that are no game's; equilibria that form a
            continuum, as those of two equal players with eta = 2 beta do.
    """
    linear, quadratic, coupling = _checked(game)
    players = len(linear)
    hessian = 2 * np.diag(quadratic) + coupling
    scale = max(1.0, float(np.abs(hessian).max()), float(np.abs(linear).max()))
    found, stable = [], []
    for case in itertools.product((0.0, np.nan, 1.0), repeat=players):
        gates = np.array(case)
        within = np.isnan(gates)
        gates[within] = 0
        block = hessian[np.ix_(within, within)]
        wanted = (linear - hessian @ gates)[within]
        if within.any():
            if np.abs(np.linalg.eigvalsh(block)).min() < TOLERANCE * scale:
                _refuse_a_continuum(linear, hessian, gates, within, scale)
                continue
            gates[within] = np.linalg.solve(block, wanted)
            if not ((gates > TOLERANCE) & (gates < 1 - TOLERANCE))[within].all():
                continue  # at the border: another case
        slopes = (linear - hessian @ gates) / scale
        falls, rises = slopes[_players_at(case, 0.0)], slopes[_players_at(case, 1.0)]
        if (falls > TOLERANCE).any() or (rises < -TOLERANCE).any():
            continue
        free = np.abs(slopes) <= TOLERANCE
        least = np.linalg.eigvalsh(hessian[np.ix_(free, free)]).min(initial=np.inf)
        found.append(gates)
        stable.append(least > TOLERANCE * scale)
    order = np.lexsort(np.array(found).T[::-1])
    return Equilibria(np.array(found)[order], np.array(stable)[order])


def _checked(game):
    """The coefficients in float64, if `Game` says what they are."""
    arrays = [np.asarray(part, np.float64) for part in game]
    for name, part in zip(game._fields, arrays, strict=True):
        check_finite(f"game.{name}", part)
    linear, quadratic, coupling = arrays
    players = linear.size
    if [part.shape for part in arrays] != [(players,), (players,), (players, players)]:
        raise ValueError(
            f"game: got shapes {[part.shape for part in arrays]}; want [players], [players] and "
            "[players players], of one game"
        )
    if not 1 <= players <= MOST:
        raise ValueError(
            f"game: has {players} players; the cases of 1 to {MOST} can be counted, for more see "
            "games.curvature and games.contraction, or ascend from several starts"
        )
    if (quadratic < 0).any():
        raise ValueError(f"game.quadratic: got {quadratic.min():.6g}; a utility is concave, want 0")
    uneven = np.abs(coupling - coupling.T).max()
    if uneven > 1e-6 * np.abs(coupling).max() or np.diagonal(coupling).any():  # of float32, too
        raise ValueError(
            "game.coupling: want c_ij = c_ji, and 0 for i = j; else the game has no potential"
        )
    return arrays


def _players_at(case, border):
    """The players that a case puts at this border."""
    return np.array([value == border for value in case])


def _refuse_a_continuum(linear, hessian, gates, within, scale):
    """A `ValueError` where a singular case has solutions inside (0, 1): then it has a line of them.

    By a linear program: the largest distance t of the players within from 0 and 1.
    """
    free, ones = np.flatnonzero(within), np.flatnonzero(gates == 1)
    zeros = np.setdiff1d(np.arange(len(gates)), np.concatenate([free, ones]))
    constant, matrix = (linear - hessian @ gates) / scale, hessian[:, free] / scale
    eye, column = np.eye(len(free)), np.ones((len(free), 1))
    inequalities = [
        (-matrix[zeros], -constant[zeros], 0),  # slopes of those at 0: constant - matrix s <= 0
        (matrix[ones], constant[ones], 0),  # of those at 1: >= 0
        (-eye, np.zeros(len(free)), column),  # t <= s
        (eye, np.ones(len(free)), column),  # s <= 1 - t
    ]
    left = [np.hstack([rows, np.zeros((len(rows), 1)) + slack]) for rows, _, slack in inequalities]
    result = linprog(
        np.append(np.zeros(len(free)), -1.0),
        np.vstack(left),
        np.concatenate([right for _, right, _ in inequalities]),
        np.hstack([matrix[free], np.zeros((len(free), 1))]),
        constant[free],
    )
    if result.success and -result.fun > TOLERANCE:
        raise ValueError(
            f"game: players {free.tolist()} have a continuum of equilibria, for their utilities "
            "leave a direction flat (as equal weights do at eta = 2 beta); change beta or eta"
        )
