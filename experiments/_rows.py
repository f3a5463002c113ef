"""What verdicts ask of rows: selection, means with their errors and signs, exponents."""

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats
from scipy.optimize import curve_fit

from experiments._contract import Outcome


def select(rows: Sequence[dict], **values) -> list[dict]:
    """The rows that hold all these values."""
    return [row for row in rows if all(row.get(name) == values[name] for name in values)]


def mean_and_error(values) -> tuple:
    """The mean over the first axis and its standard error: NaN of fewer than two, or of a NaN."""
    values = np.asarray(values, float)
    if len(values) < 2:
        mean = values.mean(axis=0) if len(values) else np.full(values.shape[1:], math.nan)
        return mean, np.full(values.shape[1:], math.nan)
    return values.mean(axis=0), values.std(axis=0, ddof=1) / math.sqrt(len(values))


def number(mean: float, error: float, sign: str = "") -> str:
    """A mean with its standard error, to two digits of that: `0.0123 ± 0.0045`.

    Args:
        mean: shown alone where the error is 0, infinite or NaN.
        error: its standard error.
        sign: "+" shows that of a positive mean, too.
    """
    if not (math.isfinite(mean) and 0 < error < math.inf):
        return f"{mean:{sign}.3g}"
    digits = 1 - math.floor(math.log10(error))
    style = ".1e" if digits > 6 else f".{max(0, digits)}f"
    return f"{mean:{sign}{style}} ± {error:{style}}"


def sign(differences, comparisons: int = 1) -> int:
    """Of the mean of independent differences: 1 or -1 where Student's t is beyond 95%, else 0.

    Args:
        differences: independent ones; fewer than two, or a NaN, say nothing.
        comparisons: of which this is the best, or any; Bonferroni's level is for all of them.
    """
    mean, error = mean_and_error(differences)
    if len(differences) < 2:
        return 0
    if not abs(mean) > stats.t.ppf(1 - 0.025 / comparisons, len(differences) - 1) * error:
        return 0
    return int(np.sign(mean))


def judged(signs: Sequence[int]) -> Outcome:
    """All above 0, all below, some of either (the evidence says which), or neither."""
    if not signs:
        return "inconclusive"
    if min(signs) < 0:
        return "departs" if max(signs) > 0 else "not reproduced"
    return "reproduced" if min(signs) > 0 else "inconclusive"


def unanimous(signs: Sequence[int]) -> Outcome:
    """All above 0, one below, or neither: of a claim that each of them has to bear out."""
    outcome = judged(signs)
    return "not reproduced" if outcome == "departs" else outcome


def growth_exponent(x: Sequence[float], y: Sequence[float]) -> float:
    """d log y / d log x of exact values, between the last point and one a decade below it."""
    first = max((at for at in x if 10 * at <= x[-1]), default=x[0])
    return math.log(y[-1] / y[list(x).index(first)]) / math.log(x[-1] / first)


def power_law(
    x: Sequence[float], y: Sequence[float], errors: Sequence[float]
) -> tuple[float, float]:
    """The exponent e of y = c x^e by weighted least squares, and its standard error.

    Fitted to y and not to its logarithm, which noise may have made negative; the error is widened
    where the scatter exceeds what the errors allow. Fewer than three points, a NaN, an error of 0,
    or only noise, say nothing: (nan, inf).
    """
    if len(x) < 3 or not np.isfinite(y).all() or not np.min(errors) > 0:
        return math.nan, math.inf

    def law(x, size, exponent):
        return size * np.power(np.asarray(x) / x_0, exponent)

    x_0 = x[0]
    try:
        best, covariance = curve_fit(law, x, y, (y[0], -0.7), errors, absolute_sigma=True)
    except RuntimeError:  # it did not converge
        return math.nan, math.inf
    scatter = np.sum(((law(x, *best) - np.asarray(y)) / np.asarray(errors)) ** 2) / (len(x) - 2)
    return float(best[1]), math.sqrt(covariance[1, 1] * max(1.0, scatter))
