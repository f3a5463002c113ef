"""Mixtures of spherical Gaussians by expectation maximisation, and predictions from components.

    p(x) = sum_k weight_k N(x; mean_k, variance I)

(arXiv:2303.01566, Sec. 5: unit variance, a target that depends on the component alone). Unlabelled
inputs give the components up to their order; labels then have one number a component to teach:

    mixture, info = gaussian_mixture.fit(key, unlabelled, 5)
    values = gaussian_mixture.component_means(gaussian_mixture.posterior(mixture, inputs), targets)
    gaussian_mixture.predict(mixture, values, test)     # sum_k p(k | x) values_k

All sums over densities stay in the log domain, weights too. A component that no input is near is
therefore never 0 / 0: its mean goes to the inputs least far from it, its weight may be exp(-10^5),
and the likelihood never falls. It is counted in `Info.dead`, and other restarts compete with it.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from jaxtyping import Array, ArrayLike, Bool, Float, Int, Key

from ntkens import tree
from ntkens.checks import check_finite, checked_points, is_concrete
from ntkens.predictors.checks import check_real, check_shape


class Mixture(NamedTuple):
    """A mixture, and the state of its own improvement.

    Attributes:
        log_weights: of the components, their exponentials sum to 1.
        means: of the components.
        variance: of every input in every component.
    """

    log_weights: Float[Array, " components"]
    means: Float[Array, "components d"]
    variance: Float[Array, ""]


class Info(NamedTuple):
    """How the improvement went.

    Attributes:
        log_likelihood: of the result, the mean over inputs, in nats.
        trace: the same at the start and after each step; NaN after the last.
        steps: how many were taken.
        converged: whether the last one raised the log likelihood by no more than the tolerance.
        dead: components that explain less than one input, in expectation.
    """

    log_likelihood: Float[Array, ""]
    trace: Float[Array, " most"]
    steps: Int[Array, ""]
    converged: Bool[Array, ""]
    dead: Int[Array, ""]


def fit(
    key: Key[Array, ""],
    inputs: Float[Array, "m d"],
    components: int,
    *,
    variance: Float[ArrayLike, ""] | None = 1.0,
    restarts: int = 10,
    steps: int = 300,
    tolerance: float = 1e-9,
) -> tuple[Mixture, Info]:
    """The mixture of largest likelihood that several starts lead to.

    The starts are drawn as by `start`, improved all at once as by `maximise`, and the best is kept.
    Compiled. Memory is that of `restarts` matrices [m components].

    Args:
        key: of the starts.
        inputs: without labels.
        components: how many, at least 1 and at most m.
        variance: the known variance; None: estimated, one for all.
        restarts: how many starts.
        steps: at most so many for each.
        tolerance: see `maximise`.

    Returns:
        The mixture, and the info of its own start.

    Raises:
        ValueError: numbers out of range; NaN; a variance within rounding of 0; no more distinct
            inputs than components where it is to be estimated, for then there is no maximum.
        TypeError: inputs that are not floating point.
    """
    inputs = _checked_fit(inputs, components, variance, restarts, steps, tolerance)
    centre = jnp.mean(inputs, axis=0, keepdims=True)
    known = None if variance is None else jnp.asarray(variance, inputs.dtype)
    inputs = inputs - centre
    found, info = _fit(key, inputs, known, jnp.asarray(tolerance), components, restarts, steps)
    _check_found(found, inputs)
    return found._replace(means=found.means + centre), info


def start(
    key: Key[Array, ""],
    inputs: Float[Array, "m d"],
    components: int,
    *,
    variance: Float[ArrayLike, ""] | None = 1.0,
) -> Mixture:
    """A start: means drawn from the inputs as by k-means++ (Arthur and Vassilvitskii 2007).

    The first uniformly, each further one with a probability as the squared distance to the nearest
    so far; uniformly where all distances are 0. Weights are equal. An unknown variance starts as
    the mean of these distances over d.

    Args:
        key: of the draw.
        inputs: without labels.
        components: how many, at least 1 and at most m.
        variance: the known variance; None: from the draw.

    Raises:
        ValueError, TypeError: as for `fit`.
    """
    inputs = _checked_fit(inputs, components, variance)
    known = None if variance is None else jnp.asarray(variance, inputs.dtype)
    return _start(key, inputs, known, components)


def maximise(
    mixture: Mixture,
    inputs: Float[Array, "m d"],
    *,
    estimate_variance: bool = False,
    steps: int = 300,
    tolerance: float = 1e-9,
) -> tuple[Mixture, Info]:
    """Expectation maximisation from a given start, until a step gains too little.

        weight_k = mean_j p(k | x_j),    mean_k = sum_j p(k | x_j) x_j / sum_j p(k | x_j).

    No step lowers the likelihood, but by rounding. Compiled.

    Args:
        mixture: where to start.
        inputs: without labels.
        estimate_variance: whether the variance is improved too, or stays as it is.
        steps: at most so many.
        tolerance: a gain in mean log likelihood, in nats, at least 0; a step with no more is the
            last and is not taken.

    Raises:
        ValueError, TypeError: as for `fit`; inputs of another width than the means.
    """
    inputs = _checked_fit(
        inputs,
        len(mixture.means),
        None if estimate_variance else mixture.variance,
        steps=steps,
        tolerance=tolerance,
    )
    mixture, inputs, centre = _centred(mixture, inputs)
    found, info = _maximise(mixture, inputs, jnp.asarray(tolerance), steps, estimate_variance)
    _check_found(found, inputs)
    return found._replace(means=found.means + centre), info


def posterior(mixture: Mixture, inputs: Float[Array, "n d"]) -> Float[Array, "n components"]:
    """The probability of each component given each input.

    Raises:
        ValueError, TypeError: inputs of another width, with NaN, or not floating point.
    """
    mixture, inputs, _ = _centred(mixture, inputs)
    return jax.nn.softmax(_log_ratios(mixture, inputs), axis=1)


def log_likelihood(mixture: Mixture, inputs: Float[Array, "n d"]) -> Float[Array, " n"]:
    """The log density of each input, in nats.

    Raises:
        ValueError, TypeError: inputs of another width, with NaN, or not floating point.
    """
    mixture, inputs, _ = _centred(mixture, inputs)
    return logsumexp(_log_ratios(mixture, inputs), axis=1) + _log_noise(mixture, inputs)


def component_means(
    responsibilities: Float[Array, "n components"], targets: Float[Array, "n *outputs"]
) -> Float[Array, "components *outputs"]:
    """The mean target of each component, inputs weighted by its responsibility for them.

        value_k = sum_j p(k | x_j) y_j / sum_j p(k | x_j)

    With one-hot targets its largest entry is the component's majority. A component without any
    responsibility has the mean of all targets.

    Args:
        responsibilities: `posterior(mixture, inputs)` of the labelled inputs.
        targets: one row for each of them.

    Raises:
        ValueError: shapes that do not match; NaN; responsibilities below 0.
    """
    check_real("targets", targets)
    check_finite("targets", targets)
    check_finite("responsibilities", responsibilities)
    if jnp.ndim(responsibilities) != 2 or not jnp.size(responsibilities):
        raise ValueError(
            f"responsibilities: got shape {jnp.shape(responsibilities)}, wants [n components]"
        )
    if not jnp.ndim(targets) or len(targets) != len(responsibilities):
        raise ValueError(
            f"targets: got shape {jnp.shape(targets)}, wants ({len(responsibilities)}, ...): one "
            "row for each row of responsibilities"
        )
    if is_concrete(responsibilities) and np.min(np.asarray(responsibilities)) < 0:
        raise ValueError("responsibilities: some are below 0; they are probabilities")
    targets = jnp.asarray(targets, responsibilities.dtype)
    columns = targets.reshape(len(targets), -1)
    total = jnp.sum(responsibilities, axis=0)[:, None]
    sums = jnp.matmul(responsibilities.T, columns, precision="highest")
    everywhere = jnp.mean(columns, axis=0, keepdims=True)
    means = jnp.where(total > 0, sums / jnp.where(total > 0, total, 1), everywhere)
    return means.reshape(responsibilities.shape[1], *targets.shape[1:])


def predict(
    mixture: Mixture, values: Float[Array, "components *outputs"], inputs: Float[Array, "n d"]
) -> Float[Array, "n *outputs"]:
    """The best prediction of a target that depends on the component: sum_k p(k | x) values_k.

    Raises:
        ValueError: values are not one row for each component; and as for `posterior`.
    """
    components = len(mixture.log_weights)
    if not jnp.ndim(values) or len(values) != components:
        raise ValueError(
            f"values: got shape {jnp.shape(values)}, wants ({components}, ...): one row for each "
            "component"
        )
    weights = posterior(mixture, inputs)
    values = jnp.asarray(values, weights.dtype)
    predictions = jnp.matmul(weights, values.reshape(components, -1), precision="highest")
    return predictions.reshape(len(weights), *values.shape[1:])


@functools.partial(jax.jit, static_argnums=(4, 5, 6))
def _fit(key, inputs, variance, tolerance, components, restarts, steps):
    def one(key):
        mixture = _start(key, inputs, variance, components)
        return _maximise(mixture, inputs, tolerance, steps, variance is None)

    results, infos = jax.vmap(one)(jax.random.split(key, restarts))
    return tree.index((results, infos), jnp.argmax(infos.log_likelihood))


def _start(key, inputs, variance, components):
    keys = jax.random.split(key, components)
    first = inputs[jax.random.randint(keys[0], (), 0, len(inputs))]

    def squares(mean):
        return jnp.sum((inputs - mean[None]) ** 2, axis=1)

    def draw(nearest, key):
        logits = jnp.where(jnp.max(nearest) > 0, jnp.log(nearest), 0.0)
        mean = inputs[jax.random.categorical(key, logits)]
        return jnp.minimum(nearest, squares(mean)), mean

    nearest, others = jax.lax.scan(draw, squares(first), keys[1:])
    weights = jnp.full(components, -np.log(components), inputs.dtype)
    if variance is None:
        variance = jnp.mean(nearest) / inputs.shape[1]
    return Mixture(weights, jnp.concatenate([first[None], others]), variance)


@functools.partial(jax.jit, static_argnums=(3, 4))
def _maximise(mixture, inputs, tolerance, steps, estimate_variance):
    square = jnp.mean(jnp.sum(inputs**2, axis=1))

    def improve(carry):
        mixture, trace, step, _, _ = carry
        ratios = _log_ratios(mixture, inputs)
        evidence = logsumexp(ratios, axis=1, keepdims=True)
        value = jnp.mean(evidence[:, 0] + _log_noise(mixture, inputs))
        logs = ratios - evidence
        totals = logsumexp(logs, axis=0)
        # Weights over the inputs, each column summing to 1 however small its total is.
        means = jnp.matmul(jnp.exp(logs - totals[None]).T, inputs, precision="highest")
        log_weights = totals - np.log(len(inputs))
        variance = mixture.variance
        if estimate_variance:
            explained = jnp.sum(jnp.exp(log_weights) * jnp.sum(means**2, axis=1))
            variance = (square - explained) / inputs.shape[1]
        gain = value - trace[jnp.maximum(step - 1, 0)]
        converged = (step > 0) & (gain <= tolerance.astype(gain.dtype))
        is_last = converged | (step == steps)
        after = Mixture(log_weights, means, variance)
        mixture = jax.tree.map(lambda old, new: jnp.where(is_last, old, new), mixture, after)
        dead = jnp.sum(totals < 0)
        return mixture, trace.at[step].set(value), step + 1, (converged, dead), is_last

    trace = jnp.full(steps + 1, jnp.nan, inputs.dtype)
    no, none = jnp.asarray(False), jnp.asarray(0)
    carry = (mixture, trace, none, (no, none), no)
    mixture, trace, count, (converged, dead), _ = jax.lax.while_loop(
        lambda carry: ~carry[-1], improve, carry
    )
    taken = count - 1  # the last found that there was nothing to gain, or no step left
    return mixture, Info(trace[taken], trace, taken, converged, dead)


def _log_ratios(mixture, inputs):
    """ln weight_k N(x; mean_k) less that of a Gaussian at 0: what |x|^2 is in cancels exactly."""
    cross = jnp.matmul(inputs, mixture.means.T, precision="highest")
    squares = jnp.sum(mixture.means**2, axis=1)
    return mixture.log_weights[None] + (cross - squares[None] / 2) / mixture.variance


def _log_noise(mixture, inputs):
    width, variance = inputs.shape[1], mixture.variance
    return -0.5 * (width * jnp.log(2 * np.pi * variance) + jnp.sum(inputs**2, axis=1) / variance)


def _centred(mixture, inputs):
    """Both about the mean of the means, in the dtype of the inputs; and that mean."""
    inputs, means = checked_points(("inputs", inputs), ("mixture.means", mixture.means))
    centre = jnp.mean(means, axis=0, keepdims=True)
    weights, variance = (
        jnp.asarray(each, inputs.dtype) for each in (mixture.log_weights, mixture.variance)
    )
    return Mixture(weights, means - centre, variance), inputs - centre, centre


def _checked_fit(inputs, components, variance, restarts=1, steps=1, tolerance=0.0):
    inputs, _ = checked_points(("inputs", inputs), ("inputs", inputs))
    if not isinstance(components, int | np.integer) or not 1 <= components <= len(inputs):
        raise ValueError(
            f"components: got {components}; want a whole number, 1 to the {len(inputs)} inputs"
        )
    for name, number in (("restarts", restarts), ("steps", steps)):
        if not isinstance(number, int | np.integer) or number < 1:
            raise ValueError(f"{name}: got {number}; want a whole number, at least 1")
    if is_concrete(tolerance) and not 0 <= float(tolerance) < np.inf:
        raise ValueError(f"tolerance: got {tolerance}; want a gain in nats, at least 0")
    if variance is None:
        if is_concrete(inputs) and len(np.unique(np.asarray(inputs), axis=0)) <= components:
            raise ValueError(
                f"inputs: no more distinct ones than the {components} components, which could "
                "shrink to points; give the variance, or take fewer components"
            )
    else:
        check_shape("variance", variance, ())
        if is_concrete(variance) and not 0 < float(variance) < np.inf:
            raise ValueError(f"variance: got {variance}; it is finite and above 0, or None")
    return inputs


def _check_found(mixture, inputs):
    """Densities come from differences of squares: a variance near their rounding has no digits."""
    if is_concrete(mixture, inputs):
        square = float(np.mean(np.sum(np.asarray(inputs) ** 2, axis=1)))
        least = 1000 * float(jnp.finfo(inputs.dtype).eps) * square
        if not float(mixture.variance) > least:
            raise ValueError(
                f"variance: {float(mixture.variance):.2g} is rounding beside the mean square "
                f"{square:.2g} of the inputs about their centre in {inputs.dtype}; do components "
                "shrink to points? Give a larger variance, take fewer components, or float64"
            )
