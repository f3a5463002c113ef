"""How much must be known beforehand to do as well: the information that a target loss requires.

    I(e) = -log P_h( test loss of h <= e ),

over hypotheses h drawn from a space of models that all fit the training set. arXiv:2406.15941. In
nats, and in bits, which are nats / log 2.

The outputs of a Gaussian process on T test inputs, each of k outputs with mean mu [T k] and one
covariance C [T T] = V diag(lambda) V^T, have the mean squared error

    Q = sum_j |lambda_j^(1/2) z_j + b_j|^2 / (T k),    b = V^T (mu - targets), z_j normal in R^k,

a generalised chi-squared variable, whose tails are known. Which value to trust where:

- `exact` everywhere: 1e-10 of a probability, at thousands of nats as near the mean.
- `lower_bound` everywhere, as a bound: below the exact value by some nats.
- `parametric` of `scaled_chi_squared.fit`, the paper's, for a few percent as far as samples reach
  and a little further, to 10 nats. Beyond it extrapolates: on the digits it is 11 to 17% below the
  bound at 300 nats, and the more the further. Of trained networks, of which only samples are known,
  it is all there is, and `empirical` says how far they reach.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Key
from scipy.stats import beta

from ntkens.checks import check_finite
from ntkens.measures import generalised_chi_squared, scaled_chi_squared
from ntkens.measures.checks import check_at_least_one, check_no_nan
from ntkens.measures.generalised_chi_squared import GeneralisedChiSquared
from ntkens.measures.scaled_chi_squared import ScaledChiSquared

WORST = 1e-6  # relative error of nats that pass for exact
CHUNK = 50  # samples at a time


class Information(NamedTuple):
    """The same quantity in two units.

    Attributes:
        nats: -log P, natural logarithm; +inf where no hypothesis is as good.
        bits: -log2 P.
    """

    nats: Float[np.ndarray, "*targets"]
    bits: Float[np.ndarray, "*targets"]


class Empirical(NamedTuple):
    """What counting says.

    Attributes:
        information: of the share of samples at the target or below; +inf where there are none.
        low: nats that the information exceeds with 97.5% confidence.
        high: nats that it stays below with 97.5% confidence; +inf where no sample is as good.
    """

    information: Information
    low: Float[np.ndarray, "*targets"]
    high: Float[np.ndarray, "*targets"]


def information(log_probability: Float[ArrayLike, "*targets"]) -> Information:
    """Of hypotheses that have this natural log-probability.

    Raises:
        ValueError: a logarithm above 0, or NaN.
    """
    values = np.asarray(log_probability, np.float64)
    if not (values <= 0).all():
        raise ValueError(f"log_probability: got {values.max():.6g}; want numbers up to 0")
    return Information(0.0 - values, 0.0 - values / math.log(2))


def loss_distribution(
    mean: Float[ArrayLike, "test *outputs"],
    covariance: Float[ArrayLike, "test test"],
    targets: Float[ArrayLike, "test *outputs"],
    *,
    rounding: float | None = None,
) -> GeneralisedChiSquared:
    """The mean squared error of a Gaussian vector; outputs are independent, of one covariance.

    A singular covariance is served: in the directions of its null space all hypotheses agree, and
    what they get wrong there is a floor below which no loss can be. Eigenvalues are zero up to
    `rounding`. A covariance that is a small difference of large kernels has errors that only its
    maker knows: then pass, say, 1e-15 times the largest eigenvalue of the prior.

    Args:
        mean: of the outputs at the test inputs, as `predictors.posterior.mean` gives it.
        covariance: among test inputs, as `predictors.posterior.covariance` gives it.
        targets: the true outputs.
        rounding: the size of eigenvalues that are zero, at least 0; by default 10 T eps of the
            largest, eps being that of the dtype of the covariance.

    Raises:
        ValueError: shapes that do not match; NaN or infinities; a covariance that is not symmetric,
            or has eigenvalues below -rounding.
    """
    eigenvalues, _, offsets = _principal(mean, covariance, targets, rounding)
    return generalised_chi_squared.distribution(
        eigenvalues / offsets.size, offsets.shape[1], np.sum(offsets**2, axis=1) / offsets.size
    )


def sample_losses(
    key: Key[Array, ""],
    mean: Float[Array, "test *outputs"],
    covariance: Float[Array, "test test"],
    targets: Float[Array, "test *outputs"],
    samples: int,
    *,
    rounding: float | None = None,
) -> Float[Array, " samples"]:
    """Mean squared errors of hypotheses drawn from the Gaussian: the paper's Algorithm 1.

    Each is mean + C^(1/2) z at all test inputs, and compared with the targets. Compiled; in the
    dtype of the mean. Arguments and errors as for `loss_distribution`.

    Raises:
        ValueError: samples < 1.
    """
    check_at_least_one("samples", samples)
    eigenvalues, vectors, offsets = _principal(mean, covariance, targets, rounding)
    root = vectors * np.sqrt(eigenvalues)
    dtype = jnp.result_type(mean, jnp.float32)
    shift = jnp.asarray(vectors @ offsets, dtype)
    return _sampled(key, jnp.asarray(root, dtype), shift, int(samples))


@functools.partial(jax.jit, static_argnames="samples")
def _sampled(key, root, offset, samples):
    def loss(key):
        noise = jax.random.normal(key, offset.shape, offset.dtype)
        return jnp.mean((offset + jnp.matmul(root, noise, precision="highest")) ** 2)

    return jax.lax.map(loss, jax.random.split(key, samples), batch_size=CHUNK)


def exact(loss: GeneralisedChiSquared, target_loss: Float[ArrayLike, "*targets"]) -> Information:
    """I(e) by the contour integral of `generalised_chi_squared.log_cdf`.

    Near 0 above the mean, with all digits of -log(1 - P); infinite below the floor, and so below 0.

    Raises:
        ValueError: a target that is NaN.
        ArithmeticError: the integral did not converge to a millionth of the result.
    """
    _check_target(target_loss)
    found = generalised_chi_squared.log_cdf(loss, target_loss)
    result = information(found.log_probability)
    if not (found.error <= WORST * result.nats).all():
        raise ArithmeticError(
            f"target_loss: nats {result.nats} are uncertain by {found.error}, as "
            "generalised_chi_squared.log_cdf estimates; wants a millionth of them at most"
        )
    return result


def lower_bound(
    loss: GeneralisedChiSquared, target_loss: Float[ArrayLike, "*targets"]
) -> Information:
    """Chernoff's: I(e) >= max over u <= 0 of u e - K(u), rigorous; 0 from the mean on.

    Raises:
        ValueError: a target that is NaN.
    """
    _check_target(target_loss)
    return information(generalised_chi_squared.chernoff(loss, target_loss))


def parametric(
    parameters: ScaledChiSquared, target_loss: Float[ArrayLike, "*targets"]
) -> Information:
    """I(e) of a scaled chi-squared distribution that stands for the losses.

    The paper's estimate, with `parameters = scaled_chi_squared.fit(losses).parameters`; with
    `scaled_chi_squared.match(loss)` that of the exact mean and variance.

    Departs from the authors' code, which takes `-scipy.stats.ncx2.logcdf` and, where that is
    infinite (745 nats), `scaled_chi_squared.sankaran`: this is the exact tail of the fit.

    Raises:
        ValueError, ArithmeticError: as `exact`; parameters out of range.
    """
    return exact(scaled_chi_squared.as_generalised(parameters), target_loss)


def empirical(
    losses: Float[ArrayLike, " samples"], target_loss: Float[ArrayLike, "*targets"]
) -> Empirical:
    """I(e) by counting sampled losses, with the 95% interval of Clopper and Pearson.

    Raises:
        ValueError: losses that are not [samples], at least one, or hold NaN; a target that is NaN.
    """
    losses = np.asarray(losses, np.float64)
    if losses.ndim != 1 or not len(losses) or np.isnan(losses).any():
        raise ValueError(f"losses: got shape {losses.shape}, or NaN; want [samples], at least one")
    targets = _check_target(target_loss)
    total = len(losses)
    count = np.searchsorted(np.sort(losses), targets, side="right")
    with np.errstate(divide="ignore"):
        found = information(np.log(count / total))
        most = np.where(count < total, beta.ppf(0.975, count + 1, np.maximum(total - count, 1)), 1)
        least = np.where(count > 0, beta.ppf(0.025, np.maximum(count, 1), total - count + 1), 0)
        return Empirical(found, -np.log(most), -np.log(least))


def _principal(mean, covariance, targets, rounding):
    """Eigenvalues of the covariance, its eigenvectors, and the mean errors along them, [T k]."""
    dtype = np.asarray(covariance).dtype
    mu, matrix, wanted = (
        _checked(name, array)
        for name, array in (("mean", mean), ("covariance", covariance), ("targets", targets))
    )
    if mu.ndim < 1 or not mu.size or wanted.shape != mu.shape:
        raise ValueError(f"targets: got shape {wanted.shape} for a mean {mu.shape}; want equal")
    test = len(mu)
    if matrix.shape != (test, test):
        raise ValueError(f"covariance: got shape {matrix.shape}, wants {(test, test)}")
    eps = float(np.finfo(dtype if dtype in (np.float32, np.float64) else np.float64).eps)
    if np.max(np.abs(matrix - matrix.T)) > 1000 * eps * np.max(np.abs(matrix)):
        raise ValueError("covariance: not symmetric, as that of a vector with itself is")
    eigenvalues, vectors = np.linalg.eigh(matrix)
    if rounding is None:
        rounding = 10 * test * eps * max(float(eigenvalues[-1]), 0.0)
    if not 0 <= rounding < math.inf:
        raise ValueError(f"rounding: got {rounding}; want a finite number of at least 0")
    if eigenvalues[0] < -rounding:
        raise ValueError(
            f"covariance: an eigenvalue is {eigenvalues[0]:.3g}, below 0 by more than the rounding "
            f"{rounding:.3g}: no vector has it. If the kernels that it is the difference of are "
            "much larger than it is, pass their rounding"
        )
    offsets = vectors.T @ (mu - wanted).reshape(test, -1)
    return np.where(eigenvalues > rounding, eigenvalues, 0), vectors, offsets


def _check_target(target_loss):
    check_no_nan("target_loss", target_loss)
    return np.asarray(target_loss, np.float64)


def _checked(name, array):
    check_finite(name, array)
    return np.asarray(array, np.float64)
