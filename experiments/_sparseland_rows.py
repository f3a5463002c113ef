"""How verdict and figure of `sparseland` read its rows: accuracies and paired differences."""

from collections.abc import Iterable

import numpy as np

from experiments._rows import mean_and_error, number, select, sign

SPARSE, MILD = 0.02, 0.1

Differences = dict[float, np.ndarray]
"""Of accuracies, by density: one for each seed."""


def densities(rows: list[dict], method: str) -> list[float]:
    """At which a method was trained, largest first."""
    return sorted({row["density"] for row in select(rows, kind="trained", method=method)})[::-1]


def accuracies(rows: list[dict], method: str, density: float) -> np.ndarray:
    """Of the seeds, in their order."""
    (row,) = select(rows, kind="trained", method=method, density=density)
    return np.array(row["accuracies"])


def gains(rows: list[dict], method: str, other: str) -> Differences:
    """Accuracy of a method less another's, paired over seeds, at the densities that both have."""
    shared = [at for at in densities(rows, method) if at in densities(rows, other)]
    return {at: accuracies(rows, method, at) - accuracies(rows, other, at) for at in shared}


def below_dense(rows: list[dict], method: str) -> Differences:
    """Accuracy of a method less that of the dense network, by the method's density."""
    if not densities(rows, "dense"):
        return {}
    dense = accuracies(rows, "dense", 1.0)
    return {at: accuracies(rows, method, at) - dense for at in densities(rows, method)}


def changes(rows: list[dict], method: str, check: str) -> Differences:
    """Accuracy under a sanity check less the method's own, paired over seeds."""
    found = select(rows, kind="check", method=method, check=check)
    return {row["density"]: np.array(row["differences"]) for row in found}


def sparse(found: Differences) -> Differences:
    """Those at 2% and below."""
    return {at: values for at, values in found.items() if at <= SPARSE}


def mild(found: Differences) -> Differences:
    """Those at 10% and above."""
    return {at: values for at, values in found.items() if at >= MILD}


def shifted(found: Differences, by: float) -> Differences:
    """More by so much."""
    return {at: values + by for at, values in found.items()}


def negative(found: Differences) -> Differences:
    """Of the other sign."""
    return {at: -values for at, values in found.items()}


def signs(found: Iterable[Differences]) -> list[int]:
    """Of every mean, beyond its error: 1, 0 or -1."""
    return [sign(values) for each in found for values in each.values()]


def points(values, signed: str = "+") -> str:
    """The mean of accuracies, or of differences of them, in percentage points with its error."""
    mean, error = mean_and_error(np.asarray(values))
    return number(100 * mean, 100 * error, signed)


def percent(density: float) -> str:
    """A density as it is read."""
    return f"{100 * density:.3g}%"


def listed(found: Differences) -> str:
    """By density, largest first."""
    if not found:
        return "not measured"
    return ", ".join(f"{points(found[at])} at {percent(at)}" for at in sorted(found)[::-1])


def lowest(found: Differences, name: str) -> str:
    """What was measured at the lowest density, for the table of the README."""
    if not found:
        return f"{name}: not measured"
    return f"{name} {points(found[min(found)])} at {percent(min(found))}"
