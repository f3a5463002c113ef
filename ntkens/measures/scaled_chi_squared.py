"""A scaled non-central chi-squared distribution, fitted to losses: c |z + m|^2, |m|^2 = lambda.

With z standard normal in k dimensions the mean is c (k + lambda), the variance
2 c^2 (k + 2 lambda). arXiv:2406.15941 fits c, k and lambda to sampled losses by maximum likelihood.

k and lambda are all but degenerate: at a given mean and variance, skewness times mean over
deviation goes from 2 at lambda = 0 to 3/2 at k = 0, and that is all that tells them apart. Here the
likelihood is maximised over mean, variance and the share r = lambda / (k + lambda), which are
nearly orthogonal, and r in [0, 1) has an end where losses are more skewed than the family can be.

In NumPy and float64 on the host.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import ArrayLike, Float
from scipy.optimize import minimize
from scipy.special import gammaln, ive, xlogy

from ntkens.measures import generalised_chi_squared
from ntkens.measures.generalised_chi_squared import GeneralisedChiSquared

LARGEST_SHARE = 1 - 1e-6  # beyond, k is 0 and there is no density
HIGH_ORDER = 30  # of a Bessel function: from here on Debye's series is good to 1e-8


class ScaledChiSquared(NamedTuple):
    """The parameters, as scipy's `ncx2` has them.

    Attributes:
        degrees: k, above 0; not whole in general.
        noncentrality: lambda, at least 0.
        scale: c, in the units of the losses.
    """

    degrees: float
    noncentrality: float
    scale: float


class Fit(NamedTuple):
    """The most likely parameters, and whether the search for them came to an end.

    Attributes:
        parameters: of the largest likelihood found.
        log_likelihood: of all losses, in nats.
        converged: False where the search stopped at its limit of evaluations.
    """

    parameters: ScaledChiSquared
    log_likelihood: float
    converged: bool


def fit(losses: Float[ArrayLike, " samples"]) -> Fit:
    """Maximum likelihood, as `scipy.stats.ncx2.fit(losses, floc=0)` means it.

    That call starts far off and often stops on the ridge; its density underflows from some
    thousand degrees on. This one starts at the moments.

    Raises:
        ValueError: losses that are not [samples], fewer than 3, not all above 0 and finite, or all
            equal.
    """
    losses = checked_losses(losses)
    mean, cv2 = float(losses.mean()), float(losses.var() / losses.mean() ** 2)
    relative, count = losses / mean, len(losses)
    start = np.array([0.0, math.log(cv2), 0.3])
    unit = np.array([math.sqrt(cv2 / count), math.sqrt(2 / count), 0.2])

    def parameters(free):
        log_mean, log_cv2, share = (start + unit * free).tolist()
        total = 2 * (1 + share) / math.exp(log_cv2)
        degrees, noncentrality = total * (1 - share), total * share
        return ScaledChiSquared(degrees, noncentrality, math.exp(log_mean) / total)

    def cost(free):
        return -float(np.sum(log_density(parameters(free), relative)))

    share = (np.array([0, LARGEST_SHARE]) - start[2]) / unit[2]
    found = minimize(
        cost,
        np.zeros(3),
        method="Nelder-Mead",
        bounds=[(None, None), (None, None), tuple(share)],
        options={
            "initial_simplex": np.vstack([np.zeros(3), 2 * np.eye(3)]),
            "xatol": 1e-3,
            "fatol": 1e-3,  # nats, of all samples together
            "maxfev": 1000,
        },
    )
    best = parameters(found.x)
    likelihood = -float(found.fun) - count * math.log(mean)
    return Fit(best._replace(scale=best.scale * mean), likelihood, bool(found.success))


def match(q: GeneralisedChiSquared) -> ScaledChiSquared:
    """The central one (lambda = 0) with the exact mean and variance of Q.

    Satterthwaite's k = 2 mean^2 / variance and c = variance / (2 mean).

    Raises:
        ValueError: Q is a constant.
    """
    mean, variance = (generalised_chi_squared.cumulant(q, order) for order in (1, 2))
    if not variance > 0:
        raise ValueError("q: all weights are 0; a constant has no chi-squared distribution")
    return ScaledChiSquared(2 * mean**2 / variance, 0.0, variance / (2 * mean))


def as_generalised(parameters: ScaledChiSquared) -> GeneralisedChiSquared:
    """The same distribution as one term of a generalised one, whose tails know no underflow.

    Raises:
        ValueError: as `generalised_chi_squared.distribution`.
    """
    degrees, noncentrality, scale = parameters
    return generalised_chi_squared.distribution(np.array([scale]), degrees, scale * noncentrality)


def sankaran(
    parameters: ScaledChiSquared, values: Float[ArrayLike, "*values"]
) -> Float[np.ndarray, "*values"]:
    """What arXiv:2406.15941 takes for -log P(Q <= x), in nats, where P underflows: z^2 / 2.

    With x in units of the scale, Sankaran 1963 makes the distribution nearly normal by a power:

        h = 1 - 2/3 (k + l)(k + 3 l) / (k + 2 l)^2,    p = (k + 2 l) / (k + l)^2,
        m = (h - 1)(1 - 3 h),
        z = [(x / (k + l))^h - (1 + h p (h - 1 - (2 - h) m p / 2))] / [h (2 p)^(1/2) (1 + m p / 2)]

    and of the normal tail the exponent alone is kept.

    Raises:
        ValueError: values are not from 0.
    """
    x = np.asarray(values, np.float64)
    if not (x >= 0).all():
        raise ValueError("values: hold NaN or numbers below 0; losses are from 0")
    k, l, scale = parameters
    h = 1 - 2 / 3 * (k + l) * (k + 3 * l) / (k + 2 * l) ** 2
    p = (k + 2 * l) / (k + l) ** 2
    m = (h - 1) * (1 - 3 * h)
    centre = 1 + h * p * (h - 1 - (2 - h) * m * p / 2)
    z = ((x / scale / (k + l)) ** h - centre) / (h * math.sqrt(2 * p) * (1 + m * p / 2))
    return z**2 / 2


def log_density(
    parameters: ScaledChiSquared, values: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """log of the density, at values above 0.

    The central density times exp(-lambda / 2) 0F1(k / 2, lambda y / 4), at y = x / c.
    """
    k, l, scale = parameters
    y = values / scale
    central = xlogy(k / 2 - 1, y) - y / 2 - k / 2 * math.log(2) - gammaln(k / 2)
    return central - l / 2 + _log_0f1(k / 2, l * y / 4) - math.log(scale)


def checked_losses(losses) -> Float[np.ndarray, " samples"]:
    """Sampled losses that a distribution can be fitted to, in float64, or the error."""
    losses = np.asarray(losses, np.float64)
    if losses.ndim != 1 or len(losses) < 3:
        raise ValueError(
            f"losses: got shape {losses.shape}; want [samples], at least 3, as there are 3 "
            "parameters, and thousands for a tail"
        )
    if not (np.isfinite(losses).all() and losses.min() > 0):
        raise ValueError(
            f"losses: got {losses.min():.6g} to {losses.max():.6g}; want finite numbers above 0; "
            "look for NaN and infinities where the losses were computed"
        )
    if losses.std() <= 1e-12 * losses.mean():
        raise ValueError(
            f"losses: all are {losses[0]:.6g}; a distribution without width cannot be fitted. Are "
            "the hypotheses all the same?"
        )
    return losses


def _log_0f1(b, x):
    """log 0F1(b, x) = log [Gamma(b) z'^(1 - b) I_(b-1)(2 z')], z' = x^(1/2)."""
    order, half = b - 1, np.sqrt(np.maximum(x, 1e-8 * b))
    if order < HIGH_ORDER:
        bessel = np.log(ive(order, 2 * half)) + 2 * half
    else:
        bessel = _log_bessel(order, 2 * half)
    return np.where(x > 1e-8 * b, gammaln(b) - order * np.log(half) + bessel, x / b)


def _log_bessel(order, z):
    """log I of a high order, by Debye's series (DLMF 10.41.3), which holds for all z at once."""
    t = z / order
    root = np.sqrt(1 + t * t)
    p, square = 1 / root, 1 / (1 + t * t)
    first = p * (3 - 5 * square) / 24
    second = square * (81 - square * (462 - square * 385)) / 1152
    third = p * square * (30375 - square * (369603 - square * (765765 - square * 425425))) / 414720
    series = 1 + first / order + second / order**2 + third / order**3
    exponent = order * (root + np.log(t / (1 + root)))
    return exponent + np.log(p / (2 * math.pi * order)) / 2 + np.log(series)
