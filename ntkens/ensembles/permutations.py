"""Ensemble sizes for learning a permutation exactly: one input, and all of them at once.

What `complexity` says of the moments in `predictors.permutations`, where the task is described.
With two ones an input is hardest; over all 2^k at once, those with almost all ones may bind.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln, log_ndtr
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, Key

from ntkens.checks import is_concrete
from ntkens.ensembles import complexity
from ntkens.ensembles.checks import check_accuracy, check_number
from ntkens.kernels import dual, fully_connected
from ntkens.predictors import permutations, posterior
from ntkens.predictors.permutations import Regime


def accuracy(
    k: Int[ArrayLike, ""], ones: Int[ArrayLike, ""], members: Int[ArrayLike, ""], regime: Regime
) -> Float[Array, ""]:
    """Probability that an ensemble is right in all k bits of an input of `ones` ones. Exact.

    Raises:
        TypeError, ValueError: as `permutations.moments`; members < 1. Under jit these are NaN.
    """
    permutations.check_task(k, ones, regime)
    check_number("members", members)
    return _accuracy(k, ones, members, regime)


@functools.partial(jax.jit, static_argnames="regime")
def _accuracy(k, ones, members, regime):
    return complexity.accuracy(*_one_input(k, ones, regime, members))


def members_needed(
    k: Int[ArrayLike, ""], ones: Int[ArrayLike, ""], accuracy: Float[ArrayLike, ""], regime: Regime
) -> Int[Array, ""]:
    """Smallest ensemble that is right in all k bits of an input of `ones` ones, with probability
    `accuracy`. Exact.

    Raises:
        TypeError, ValueError: as `permutations.moments`; an accuracy outside (0, 1). Under jit
            these are -1.
    """
    permutations.check_task(k, ones, regime)
    check_accuracy(accuracy)
    return _members_needed(k, ones, accuracy, regime)


@functools.partial(jax.jit, static_argnames="regime")
def _members_needed(k, ones, accuracy, regime):
    return complexity.members_needed(*_one_input(k, ones, regime, accuracy))


def _one_input(k, ones, regime, asked):
    """Arguments of `complexity`: a bit inside stands for `ones`, one outside for the others."""
    inside, outside, variance = permutations.moments(k, ones, regime)
    mean, counts = jnp.stack([inside, outside]), jnp.stack([ones, jnp.subtract(k, ones)])
    return mean, variance, np.array([1, 0]), asked, counts


def paper_bound(
    k: Int[ArrayLike, ""], accuracy: Float[ArrayLike, ""], tests: int, regime: Regime
) -> Float[Array, ""]:
    """The bound drawn in Figure 1 of arXiv:2502.16763, for all of `tests` inputs of two ones.

    8 variance / outside^2 ln(2 k tests / (1 - accuracy)): concentration within half the mean, and
    a union over bits and tests. Inferred from the drawn curve, which it follows to 3%.

    Raises:
        TypeError, ValueError: as `permutations.moments`; an accuracy outside (0, 1); tests < 1.
    """
    check_accuracy(accuracy)
    check_number("tests", tests)
    _, outside, variance = permutations.moments(k, 2, regime)
    return 8 * variance / outside**2 * jnp.log(2 * k * tests / (1 - accuracy))


def all_inputs_bounds(
    k: Int[ArrayLike, ""], accuracy: Float[ArrayLike, ""], regime: Regime, size: int
) -> tuple[complexity.Bounds, complexity.Bounds]:
    """Bounds of the smallest ensemble that is right at all inputs of 2 to k ones at once.

    Of one output, C(k-1, n-1) inputs of n ones want a 1 and C(k-1, n) want a 0; the k outputs are
    independent. See `complexity.members_needed_bounds`.

    Args:
        k: length of the inputs.
        accuracy: wanted probability that all are right.
        regime: `"ntk"` or `"nngp"`.
        size: at least k; pads the arrays, so that many k share one compiled program.

    Returns:
        The bounds, and for each the number of ones that binds it: the input likeliest to be wrong
        in the lower one, the largest term of the union in the upper one.

    Raises:
        TypeError, ValueError: as `permutations.moments`; an accuracy outside (0, 1); size < k.
            Under jit these are bounds of -1, but for the size, which is not looked at.
    """
    permutations.check_task(k, 2, regime)
    check_accuracy(accuracy)
    if is_concrete(k) and size < np.max(np.asarray(k)):
        raise ValueError(f"size: got {size}; want at least k = {k}")
    return _all_inputs_bounds(k, accuracy, regime, size)


@functools.partial(jax.jit, static_argnames=("regime", "size"))
def _all_inputs_bounds(k, accuracy, regime, size):
    counted = jnp.arange(2, size + 1)
    ones = jnp.minimum(counted, k)
    inside, outside, variance = permutations.moments(k, ones, regime)
    last = ones == k  # no output is outside: the one inside stands in, without weight
    choose = gammaln(k) - gammaln(ones) - gammaln(k - ones + 1)
    ratio = jnp.log(jnp.where(last, 1, k - ones) / ones)
    mean = jnp.concatenate([inside, jnp.where(last, -inside, outside)])
    variance = jnp.concatenate([variance, variance])
    log_counts = jnp.concatenate(
        [jnp.where(counted <= k, choose, -jnp.inf), jnp.where(last, -jnp.inf, choose + ratio)]
    )
    bits = np.repeat([1, 0], size - 1)
    needed = complexity.members_needed_bounds(mean, variance, bits, accuracy, log_counts, k)
    margins = jnp.abs(mean) / jnp.sqrt(variance)
    terms = log_counts + log_ndtr(-jnp.sqrt(needed.upper) * margins)
    of_ones = jnp.concatenate([ones, ones])
    return needed, complexity.Bounds(of_ones[margins.argmin()], of_ones[terms.argmax()])


def all_inputs_sample(
    key: Key[Array, ""], k: int, accuracy: float, regime: Regime, draws: int
) -> tuple[float, float]:
    """The smallest ensemble that is right at all inputs of 2 to k ones at once, from joint draws.

    The outputs are independent, so one output must be right everywhere with probability
    accuracy^(1/k); its Gaussian process over all inputs is drawn, and `complexity.critical_members`
    says for each draw which ensembles would be right.

    Returns:
        The size, as a quantile of the draws, and its standard error.

    Raises:
        ValueError: k > 12, where the 2^k inputs no longer fit, fewer than 100 draws, or an
            accuracy outside (0, 1).
    """
    check_accuracy(accuracy)
    if not 2 <= k <= 12:
        raise ValueError(f"k: got {k}; want 2 to 12, all 2^k inputs are drawn at once")
    if draws < 100:
        raise ValueError(f"draws: got {draws}; a quantile wants at least 100")
    bits = (np.arange(1, 2**k)[:, None] >> np.arange(k)) & 1
    bits = bits[bits.sum(axis=1) > 1]
    inputs, train = bits / np.linalg.norm(bits, axis=1, keepdims=True), np.eye(k)
    kernel_fn = fully_connected.kernel_fn(dual.relu(), depth=1)
    process = posterior.fit(kernel_fn(train), jnp.asarray(train[:, 0]), regime=regime)
    cross = kernel_fn(inputs, train)
    factor = jnp.linalg.cholesky(posterior.covariance(process, cross, kernel_fn(inputs)))
    mean = posterior.mean(process, cross)
    batch = 50

    @jax.jit
    def critical(key, mean, factor):
        deviations = jax.random.normal(key, (batch, len(bits))) @ factor.T
        return complexity.critical_members(mean, deviations, bits[:, 0])

    keys = jax.random.split(key, -(-draws // batch))
    sizes = np.sort(np.concatenate([critical(key, mean, factor) for key in keys]))[:draws]
    share = accuracy ** (1 / k)
    error = math.sqrt(share * (1 - share) / draws)
    shares = np.clip([share, share - error, share + error], 0, 1)
    needed, low, high = np.quantile(sizes, shares)
    return float(needed), float(high - low) / 2
