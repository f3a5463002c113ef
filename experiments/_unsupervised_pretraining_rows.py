"""What the verdicts and the figure of `unsupervised_pretraining` ask of its rows."""

import math

import numpy as np
from scipy import stats

from experiments._contract import Outcome
from experiments._rows import mean_and_error, number, select

CONFIDENCE = 0.999  # of all comparisons of a claim together


def regressions(rows: list[dict], method: str, samples: int = 0) -> list[dict]:
    """The rows of a method in the factor model, by number of labels."""
    found = select(rows, kind="factors", part="regression", method=method, samples=samples)
    return sorted(found, key=lambda row: row["labels"])


def representations(rows: list[dict]) -> list[dict]:
    """What encoders lose with any number of labels, by number of unlabelled inputs."""
    found = select(rows, kind="factors", part="representation")
    return sorted(found, key=lambda row: row["samples"])


def mixtures(rows: list[dict], separation: float, method: str, samples: int = 0) -> list[dict]:
    """The rows of a method in a mixture, by number of labels."""
    found = select(rows, kind="mixture", separation=separation, method=method, samples=samples)
    return sorted(found, key=lambda row: row["labels"])


def agreement(pairs) -> tuple[Outcome, float, float]:
    """Of differences to exact values, [repeats] each, with the size they are relative to.

    The outcome, the largest difference in its standard errors, and the largest relative error.
    Repeats that do not differ are as far off as can be; a NaN says nothing.
    """
    scores, errors, repeats = [], [], 2
    for differences, size in pairs:
        mean, error = mean_and_error(differences)
        scores.append(math.inf if error == 0 else abs(mean) / error)
        errors.append(error / size)
        repeats = len(differences)
    limit = stats.t.ppf(1 - (1 - CONFIDENCE) / 2 / max(len(scores), 1), repeats - 1)
    worst, loosest = float(np.max(scores)), float(np.max(errors))
    if worst > limit:
        return "not reproduced", worst, loosest
    return ("reproduced" if worst <= limit and loosest < 0.25 else "inconclusive"), worst, loosest


def accuracies(rows: list[dict], source: str, method: str) -> dict[int, np.ndarray]:
    """By number of labels: the accuracy in each split."""
    found = select(rows, kind="images", source=source, method=method)
    counts = sorted({row["labels"] for row in found})
    return {
        count: np.array([row["accuracy"] for row in select(found, labels=count)])
        for count in counts
    }


def mean_of(values) -> str:
    """The mean over repeats with its standard error, in words."""
    return number(*mean_and_error(values))


def from_exact(found: list[dict]) -> list:
    """Of each row: its differences to the closed form, and the size of that."""
    return [
        (np.subtract(row["excess"], row["expected"]), np.mean(row["expected"])) for row in found
    ]
