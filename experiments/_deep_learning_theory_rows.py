"""What the verdicts and the figure of `deep_learning_theory` ask of its rows."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from experiments._contract import Outcome
from experiments._rows import select

# V / (l K^2) of deep networks, and nu of scale-invariant ones: 3 <phi^4> / <phi^2>^2 - 1.
GROWTH = {"ReLU": 5.0, "linear": 2.0, "leaky ReLU": 6 * (1 + 0.3**4) / (1 + 0.3**2) ** 2 - 1,
          "tanh": 2 / 3, "sin": 2 / 3, "erf": 2 / 3}  # fmt: skip
BOUND = 5.0  # standard errors
LOOSE = 0.25  # a relative error with which agreement says little
SLACK = 0.2  # of an exponent, for the orders in 1 / n that a power law does not know


def residuals(rows: list[dict], activation: str, name: str) -> tuple[list, list, list]:
    """Widths, and at the last layer the sampled value over the leading one, less 1; its error."""
    found = select(rows, kind="layers", activation=activation)
    last = max((row["layer"] for row in found), default=0)
    found = sorted(select(found, layer=last), key=lambda row: row["width"])
    return (
        [row["width"] for row in found],
        [row[name] / row[f"{name} leading"] - 1 for row in found],
        [row[f"{name} error"] / abs(row[f"{name} leading"]) for row in found],
    )


def resummed(row: dict, steps: int) -> float:
    """Var(G) / K^2 = (1 + nu/n)^steps - 1; NaN for an activation without a known nu."""
    return (1 + GROWTH.get(row["activation"], math.nan) / row["width"]) ** steps - 1


def vertex(row: dict) -> float:
    """V = n [(1 + nu/n)^(l-1) - 1] K^2 of a layer of scale-invariant networks."""
    return row["width"] * resummed(row, row["layer"] - 1) * row["kernel theory"] ** 2


def deviation(row: dict, name: str, theory: str) -> float:
    """In standard errors; NaN where members do not differ."""
    return (row[name] - row[theory]) / (row[f"{name} error"] or math.nan)


def agreement(deviations: ArrayLike, errors: ArrayLike) -> Outcome:
    """With exact values: deviations in standard errors, and these errors over the values."""
    if not np.max(np.abs(deviations)) < BOUND:
        return "not reproduced"
    return "reproduced" if np.max(np.asarray(errors)) < LOOSE else "inconclusive"


def of_exponent(
    exponent: float, error: float, expected: float = -1.0, below: float = -0.5
) -> Outcome:
    """Of one that should be as expected; where its error reaches up to `below`, it is not known."""
    if not error < 0.5:
        return "inconclusive"
    if abs(exponent - expected) >= 3 * error + SLACK:
        return "not reproduced"
    return "reproduced" if exponent + 2 * error < below else "inconclusive"


def together(outcomes: Sequence[Outcome]) -> Outcome:
    """All of them; one that says nothing leaves it open, and of several kinds it departs."""
    kinds = set(outcomes)
    if not kinds or kinds == {"inconclusive"}:
        return "inconclusive"
    if "not reproduced" in kinds:
        return "departs" if "reproduced" in kinds else "not reproduced"
    return "inconclusive" if "inconclusive" in kinds else "reproduced"
