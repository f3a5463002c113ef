"""What verdicts ask of rows: selection, means and exponents with their errors."""

import math
from collections.abc import Sequence

import numpy as np
from scipy.optimize import curve_fit


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


def growth_exponent(x: Sequence[float], y: Sequence[float]) -> float:
    """d log y / d log x of exact values, between the last point and one a decade below it."""
    first = max((at for at in x if 10 * at <= x[-1]), default=x[0])
    return math.log(y[-1] / y[list(x).index(first)]) / math.log(x[-1] / first)


def power_law(
    x: Sequence[float], y: Sequence[float], errors: Sequence[float]
) -> tuple[float, float]:
    """The exponent e of y = c x^e by weighted least squares, and its standard error.

    Fitted to y and not to its logarithm, which noise may have made negative; the error is widened
    where the scatter exceeds what the errors allow. Fewer than three points, or only noise, say
    nothing: (nan, inf).
    """
    if len(x) < 3:
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
