"""Temperature scaling: one number that makes softmax(logits / T) as likely as it can be.

In beta = 1/T the negative log-likelihood of the labels is convex, with derivatives

    g(beta) = mean_i (E_p z_i - z_{i, y_i}),   h(beta) = mean_i Var_p z_i,   p = softmax(beta z_i).

The root of g is found by Newton's method within a bracket. It lies between 0 and infinity unless
the logits are so good that more confidence is always better, T -> 0 (every label has the largest
logit), or of no use, T -> infinity (labels have no more than the mean logit). The answer then is
`LOWEST` or `HIGHEST`, and `at_bound` is true of it. Where no temperature changes anything it is 1.

Members: `jax.vmap(fit, (0, None))(member_logits, labels)`. An ensemble that averages probabilities
has the logits `ensembles.aggregate.log_mean(logits)`, and a temperature of its own after averaging.
arXiv:1706.04599 scales single networks.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from ntkens.checks import check_finite, is_concrete
from ntkens.measures.checks import at_least_float32, checked_labels

LOWEST, HIGHEST = 1e-3, 1e3
STEPS = 100  # halvings of the bracket of the logarithm: more than either dtype can tell apart


def fit(logits: Float[ArrayLike, "n classes"], labels: Int[ArrayLike, " n"]) -> Float[Array, ""]:
    """The temperature T in [LOWEST, HIGHEST] with the smallest negative log-likelihood.

    Args:
        logits: of one network, or of an ensemble, on examples that it was not trained on.
        labels: the classes of these examples.

    Raises:
        TypeError: logits that are not floats, labels that are not integers.
        ValueError: not [n classes] and [n], no example, NaN or infinite logits, labels out of
            range.
    """
    logits = _checked_logits(logits, 2)
    labels = checked_labels(labels, *logits.shape)
    # Relative to the label's own, the sign of each term is exact, and that of g where it matters.
    margins = logits - jnp.take_along_axis(logits, labels[:, None], axis=1)

    def derivatives(log_beta):
        p = jax.nn.softmax(jnp.exp(log_beta) * margins, axis=1)
        mean = jnp.sum(p * margins, axis=1)
        variance = jnp.sum(p * (margins - mean[:, None]) ** 2, axis=1)
        return mean.mean(), variance.mean()

    low, high = (-jnp.log(jnp.asarray(bound, logits.dtype)) for bound in (HIGHEST, LOWEST))
    at_low, at_high = derivatives(low)[0], derivatives(high)[0]
    resolution = 4 * jnp.finfo(logits.dtype).eps

    def step(state):
        low, high, log_beta, _, count = state
        slope, curvature = derivatives(log_beta)
        low, high = jnp.where(slope < 0, log_beta, low), jnp.where(slope < 0, high, log_beta)
        # Newton's step for beta, as a factor; every third one halves the bracket, lest it creep.
        factor = 1 - slope / (curvature * jnp.exp(log_beta))
        newton = log_beta + jnp.log(factor)
        is_inside = (low < newton) & (newton < high) & (count % 3 < 2)
        proposal = jnp.where(is_inside, newton, (low + high) / 2)
        return low, high, proposal, jnp.abs(proposal - log_beta), count + 1

    def unsettled(state):
        low, high, _, moved, count = state
        return (moved > resolution) & (high - low > resolution) & (count < STEPS)

    start = jnp.zeros((), logits.dtype)
    state = (low, high, start, jnp.asarray(jnp.inf, logits.dtype), 0)
    temperature = jnp.exp(-jax.lax.while_loop(unsettled, step, state)[2])
    temperature = jnp.where(at_high <= 0, LOWEST, jnp.where(at_low >= 0, HIGHEST, temperature))
    return jnp.where((at_high <= 0) & (at_low >= 0), 1.0, temperature).astype(logits.dtype)


def at_bound(temperature: Float[ArrayLike, "..."]) -> Bool[Array, "..."]:
    """Whether no temperature is best: it would be 0 or infinite, and `fit` stopped at a bound."""
    temperature = jnp.asarray(temperature)
    return (temperature <= jnp.asarray(LOWEST, temperature.dtype)) | (temperature >= HIGHEST)


def scale(
    logits: Float[ArrayLike, "*axes classes"], temperature: Float[ArrayLike, "*axes"]
) -> Float[Array, "*axes classes"]:
    """The probabilities softmax(logits / T), of one temperature or one for each leading index.

    `temperature` has the leading axes of the logits, or the first few of them: [members] scales
    [members n classes].

    Raises:
        TypeError: logits that are not floats.
        ValueError: NaN or infinite logits; temperatures that are not above 0, or of other axes.
    """
    logits = _checked_logits(logits)
    temperature = jnp.asarray(temperature, logits.dtype)
    if temperature.shape != logits.shape[: temperature.ndim] or temperature.ndim >= logits.ndim:
        raise ValueError(
            f"temperature: got shape {temperature.shape}, wants leading axes of {logits.shape}"
        )
    if is_concrete(temperature) and not bool((temperature > 0).all()):
        raise ValueError(f"temperature: got {temperature}, wants numbers above 0")
    axes = range(temperature.ndim, logits.ndim)
    return jax.nn.softmax(logits / jnp.expand_dims(temperature, tuple(axes)), axis=-1)


def _checked_logits(logits, axes=None):
    values = jnp.asarray(logits)
    if not jnp.issubdtype(values.dtype, jnp.floating):
        raise TypeError(f"logits: got dtype {values.dtype}, wants floating point")
    if (axes is not None and values.ndim != axes) or not values.ndim or 0 in values.shape:
        wanted = "[n classes]" if axes == 2 else "classes last"
        raise ValueError(f"logits: got shape {values.shape}, wants {wanted}, none of them 0")
    check_finite("logits", values)
    return values.astype(at_least_float32(values.dtype))
