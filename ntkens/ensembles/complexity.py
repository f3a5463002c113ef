"""How many networks an ensemble needs before thresholding its mean is right.

Outputs are independent Gaussians, as those of an infinitely wide network are over initialisations.
The mean of N networks has variance s^2 / N, and bit 1 is predicted where it is > 0; with m_j the
mean of bit j, signed so that right is positive,

    P(bit j right) = Phi(sqrt(N) m_j / s),        P(input right) = prod_j P(bit j right).

Tails are kept in logarithms: accuracies close to 1 and 10^6 bits lose nothing. The paper,
arXiv:2502.16763, bounds N by concentration and a union over bits; these are the numbers themselves.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import erfc, log_ndtr
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from ntkens.checks import check_finite, check_float64, is_concrete
from ntkens.ensembles.checks import check_accuracy, check_number

MOST = 2**53  # the largest ensemble looked for: doubles count integers up to here


class Bounds(NamedTuple):
    """A lower and an upper bound, both rigorous."""

    lower: Array
    upper: Array


class _Inputs(NamedTuple):
    """Signed means over standard deviations, multiplicities, and probabilities of the inputs."""

    margins: Float[Array, "inputs bits"]
    counts: Float[Array, "inputs bits"]
    weights: Float[Array, " inputs"]


def accuracy(
    mean: Float[ArrayLike, "*inputs bits"],
    variance: Float[ArrayLike, "*inputs"],
    bits: Int[ArrayLike, "*inputs bits"],
    members: Int[ArrayLike, ""],
    counts: Float[ArrayLike, "*inputs bits"] | None = None,
    weights: Float[ArrayLike, " inputs"] | None = None,
) -> Float[Array, ""]:
    """Probability that the mean of `members` networks, thresholded at 0, is right in every bit.

    Args:
        mean: mean output of one network at each bit.
        variance: of each output of one network; at 0 the outputs are their mean.
        bits: what is right, 0 or 1; 1 is predicted iff the mean is > 0.
        members: number of networks, at least 1.
        counts: how many bits each entry stands for; `None` is one.
        weights: probabilities of the inputs, which then are the leading axis of all others: the
            answer is the accuracy expected over that distribution. `None` is one input.

    Raises:
        TypeError: float64 is off.
        ValueError: shapes that do not fit, NaN, members < 1, bits other than 0 and 1, a negative
            variance, count or weight, or weights that do not sum to 1.
    """
    check_float64("complexity.accuracy")
    check_number("members", members)
    right = 1 - _failure(_inputs(mean, variance, bits, counts, weights), members)
    return jnp.where(jnp.asarray(members) >= 1, right, jnp.nan)


def members_needed(
    mean: Float[ArrayLike, "*inputs bits"],
    variance: Float[ArrayLike, "*inputs"],
    bits: Int[ArrayLike, "*inputs bits"],
    accuracy: Float[ArrayLike, ""],
    counts: Float[ArrayLike, "*inputs bits"] | None = None,
    weights: Float[ArrayLike, " inputs"] | None = None,
) -> Int[Array, ""]:
    """Smallest number of networks that are right in every bit with probability `accuracy`.

    By bisection on the exact formula of the function `accuracy`, whose other arguments these are.

    Returns:
        An integer. Where errors cannot be raised, under jit and vmap, -1 says there is none.

    Raises:
        TypeError: float64 is off.
        ValueError: as for `accuracy`; an accuracy outside (0, 1); a mean on the wrong side of 0, or
            at 0 with a variance, where no number of networks helps; more than 2^53 networks.
    """
    check_float64("complexity.members_needed")
    check_accuracy(accuracy)
    inputs = _inputs(mean, variance, bits, counts, weights)
    if is_concrete(inputs):
        margins = np.asarray(inputs.margins)
        wrong = (margins <= 0) & (np.asarray(inputs.counts) > 0)
        wrong &= np.asarray(inputs.weights)[:, None] > 0
        if wrong.any():
            where = ", ".join(str(i if weights is not None else i[1:]) for i in _first(wrong))
            raise ValueError(
                f"mean: on the wrong side of 0, or at 0, at {where}; more networks make that no "
                "better, so no number of them is enough"
            )
    return _in_reach(_needed(inputs, 1 - jnp.asarray(accuracy, float)))


def accuracy_bounds(
    mean: Float[ArrayLike, " entries"],
    variance: Float[ArrayLike, " entries"],
    bits: Int[ArrayLike, " entries"],
    members: Int[ArrayLike, ""],
    log_counts: Float[ArrayLike, " entries"],
    outputs: Int[ArrayLike, ""] = 1,
) -> Bounds:
    """Bounds of the probability that the same networks are right in every bit of *all* inputs.

    At one output, entry i stands for exp(log_counts_i) inputs at which that output is wrong with
    probability Q_i. Outputs are independent of each other; inputs are not, but from the marginals

        max(0, 1 - sum_i count_i Q_i)^outputs <= P <= (1 - max_i Q_i)^outputs.

    Args:
        mean: mean output of one network at each entry.
        variance: of that output, a number or one for each entry.
        bits: what is right, 0 or 1.
        members: number of networks, at least 1.
        log_counts: logarithm of the number of inputs of each entry (there may be 2^k of them).
        outputs: number of outputs, all with these marginals.

    Raises:
        TypeError: float64 is off.
        ValueError: as for `accuracy`.
    """
    check_float64("complexity.accuracy_bounds")
    check_number("members", members)
    check_number("outputs", outputs)
    marginals = _marginals(mean, variance, bits, log_counts)
    lower, upper = (failure(marginals, outputs, members) for failure in (_union, _hardest))
    is_asked = (jnp.asarray(members) >= 1) & (jnp.asarray(outputs) >= 1)
    return Bounds(*(jnp.where(is_asked, 1 - failure, jnp.nan) for failure in (lower, upper)))


def members_needed_bounds(
    mean: Float[ArrayLike, " entries"],
    variance: Float[ArrayLike, " entries"],
    bits: Int[ArrayLike, " entries"],
    accuracy: Float[ArrayLike, ""],
    log_counts: Float[ArrayLike, " entries"],
    outputs: Int[ArrayLike, ""] = 1,
) -> Bounds:
    """Bounds of the smallest ensemble that is right in every bit of *all* inputs at once.

    The smallest sizes at which the two bounds of `accuracy_bounds`, whose other arguments these
    are, reach `accuracy`. Returns and raises as `members_needed` does.
    """
    check_float64("complexity.members_needed_bounds")
    check_accuracy(accuracy)
    check_number("outputs", outputs)
    marginals = _marginals(mean, variance, bits, log_counts)
    if is_concrete(marginals) and (wrong := np.asarray(marginals[0]) <= 0).any():
        raise ValueError(
            f"mean: on the wrong side of 0, or at 0, at {_first(wrong)[0]}; no number of networks "
            "is enough"
        )
    bounds = _needed_bounds(marginals, outputs, 1 - jnp.asarray(accuracy, float))
    return Bounds(*map(_in_reach, bounds))


def critical_members(
    mean: Float[ArrayLike, " inputs"],
    deviations: Float[ArrayLike, "*samples inputs"],
    bits: Int[ArrayLike, " inputs"],
) -> Float[Array, "*samples"]:
    """The ensemble size N above which all inputs are right, for given deviations of a joint sample.

    The mean of N networks is m + Z / sqrt(N) with Z a draw of one network's deviations, correlated
    over inputs as they may be; all are right iff N > max_x (s_x Z_x / m_x)^2 over the x where the
    deviation s Z goes the wrong way. The share of draws below N estimates the probability that N
    networks are right everywhere.

    Args:
        mean: mean output of one network at each input, on the right side of 0.
        deviations: draws of a centred Gaussian with the covariance of one network's outputs.
        bits: what is right, 0 or 1.

    Raises:
        ValueError: shapes that do not fit, NaN, bits other than 0 and 1, or a mean on the wrong
            side of 0, or at 0.
    """
    mean, deviations = jnp.asarray(mean), jnp.asarray(deviations)
    if mean.ndim != 1 or jnp.shape(bits) != mean.shape or deviations.shape[-1:] != mean.shape:
        raise ValueError(
            f"mean: got shape {mean.shape}, bits {jnp.shape(bits)}, deviations "
            f"{deviations.shape}; want [inputs], [inputs] and [..., inputs]"
        )
    check_finite("mean", mean)
    check_finite("deviations", deviations)
    _check_bits(bits)
    sign = jnp.where(jnp.asarray(bits) > 0, 1.0, -1.0)
    signed = sign * mean
    if is_concrete(signed) and (wrong := np.asarray(signed) <= 0).any():
        raise ValueError(f"mean: on the wrong side of 0, or at 0, at {_first(wrong)[0]}")
    ratio = jnp.expand_dims(sign / signed, tuple(range(deviations.ndim - 1)))
    return jnp.max(jnp.maximum(-deviations * ratio, 0), axis=-1) ** 2


def _failure(inputs: _Inputs, members) -> Array:
    """1 - accuracy, without cancellation: sum_i w_i (1 - exp(sum_j count_ij log Phi_ij))."""
    logs = _log_right(jnp.sqrt(jnp.asarray(members, float)) * inputs.margins)
    logs = jnp.sum(jnp.where(inputs.counts > 0, inputs.counts * logs, 0), axis=1)
    return -jnp.sum(inputs.weights * jnp.expm1(logs))


def _union(marginals, outputs, members) -> Array:
    """1 - (1 - sum_i count_i Q_i)^outputs, or 1."""
    margins, log_counts = marginals
    logs = log_counts + log_ndtr(-jnp.sqrt(jnp.asarray(members, float)) * margins)
    wrong = jnp.minimum(jnp.sum(jnp.exp(logs)), 1)
    return -jnp.expm1(outputs * jnp.log1p(-wrong))


def _hardest(marginals, outputs, members) -> Array:
    """1 - (1 - max_i Q_i)^outputs."""
    margins, _ = marginals
    root = jnp.sqrt(jnp.asarray(members, float))
    return -jnp.expm1(outputs * _log_right(root * jnp.min(margins)))


def _log_right(x):
    """log Phi(x), relative in both tails (`log_ndtr` is absolute for 0 < x < 8)."""
    return jnp.where(x > 0, jnp.log1p(-erfc(jnp.maximum(x, 0) / np.sqrt(2)) / 2), log_ndtr(x))


@jax.jit
def _needed(inputs, allowed):
    return _search(lambda members: _failure(inputs, members), allowed, 1)


@jax.jit
def _needed_bounds(marginals, outputs, allowed):
    lower = _search(lambda members: _hardest(marginals, outputs, members), allowed, 1)
    start = jnp.maximum(lower, 1)
    return lower, _search(lambda members: _union(marginals, outputs, members), allowed, start)


def _search(failure, allowed, start):
    """Smallest integer whose failure, which falls, is at most `allowed`; -1 past `MOST`."""

    def too_small(bracket):
        _, high = bracket
        return (failure(high) > allowed) & (high < MOST)

    def bisect(bracket):
        low, high = bracket
        middle = low + (high - low) // 2
        enough = failure(middle) <= allowed
        return jnp.where(enough, low, middle), jnp.where(enough, middle, high)

    start = jnp.asarray(start, int)
    bracket = jax.lax.while_loop(too_small, lambda b: (b[1], 2 * b[1]), (start - 1, start))
    _, needed = jax.lax.while_loop(lambda b: b[1] - b[0] > 1, bisect, bracket)
    is_asked = (allowed > 0) & (allowed < 1)
    return jnp.where(is_asked & (failure(needed) <= allowed), needed, -1)


def _margins(mean, variance, bits):
    """Signed mean over standard deviation; without variance, infinite on the side that is said."""
    for name, value in (("mean", mean), ("variance", variance), ("bits", bits)):
        check_finite(name, value)
    _check_bits(bits)
    if is_concrete(variance) and np.any(np.asarray(variance) < 0):
        raise ValueError(f"variance: got {np.min(variance)}; it is at least 0")
    ones = jnp.asarray(bits) > 0
    signed = jnp.where(ones, mean, -mean)
    said = jnp.where((mean > 0) == ones, jnp.inf, -jnp.inf)
    random = ~(variance <= 0)  # a NaN has no side
    return jnp.where(random, signed / jnp.sqrt(jnp.where(random, variance, 1)), said)


def _inputs(mean, variance, bits, counts, weights) -> _Inputs:
    mean, variance = jnp.asarray(mean, float), jnp.asarray(variance, float)
    counts = jnp.ones(mean.shape) if counts is None else jnp.asarray(counts, float)
    check_finite("counts", counts)
    for name, value in (("bits", bits), ("counts", counts)):
        if jnp.shape(value) != mean.shape:
            raise ValueError(
                f"{name}: got shape {jnp.shape(value)}, wants that of mean {mean.shape}"
            )
    if is_concrete(counts) and np.any(np.asarray(counts) < 0):
        raise ValueError(f"counts: got {counts}; a multiplicity is at least 0")
    axes = 1 if weights is None else 2
    if mean.ndim != axes:
        wanted = "[bits]" if weights is None else "[inputs, bits], since weights are given"
        raise ValueError(f"mean: got shape {mean.shape}, wants {wanted}")
    if variance.shape not in ((), mean.shape[:-1]):
        raise ValueError(f"variance: got shape {variance.shape}, wants one number for each input")
    if weights is None:
        mean, bits, counts = mean[None], jnp.asarray(bits)[None], counts[None]
        variance, weights = variance[None], jnp.ones(1)
    weights = jnp.asarray(weights, float)
    if weights.shape != mean.shape[:1]:
        raise ValueError(f"weights: got shape {weights.shape}, wants {mean.shape[:1]}")
    if is_concrete(weights):
        values = np.asarray(weights)
        if not ((values >= 0).all() and np.isclose(values.sum(), 1, rtol=0, atol=1e-9)):
            raise ValueError(f"weights: sum to {values.sum()}; they are probabilities, sum 1")
    variance = jnp.broadcast_to(variance, mean.shape[:1])[:, None]
    return _Inputs(_margins(mean, variance, bits), counts, weights)


def _marginals(mean, variance, bits, log_counts):
    mean, log_counts = jnp.asarray(mean, float), jnp.asarray(log_counts, float)
    variance = jnp.broadcast_to(jnp.asarray(variance, float), mean.shape)
    check_finite("log_counts", log_counts)
    if mean.ndim != 1 or not mean.size:
        raise ValueError(f"mean: got shape {mean.shape}, wants [entries], at least one")
    for name, value in (("bits", bits), ("log_counts", log_counts)):
        if jnp.shape(value) != mean.shape:
            raise ValueError(
                f"{name}: got shape {jnp.shape(value)}, wants that of mean {mean.shape}"
            )
    return _margins(mean, variance, bits), log_counts


def _check_bits(bits):
    if is_concrete(bits) and not np.isin(np.asarray(bits), (0, 1)).all():
        raise ValueError(f"bits: got {bits}; every bit is 0 or 1")


def _in_reach(needed):
    if is_concrete(needed) and needed < 0:
        raise ValueError(
            f"mean: so close to 0 that {MOST} networks are not enough for this accuracy"
        )
    return needed


def _first(wrong):
    return [tuple(map(int, index)) for index in np.argwhere(wrong)[:3]]
