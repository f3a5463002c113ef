"""The classifiers that `wide_deep_optimality` compares: predictions for labels +1 and -1.

On the sphere a deep kernel is a function of the distance, and after normalisation to unit diagonal
one of a single number. It is computed once on a fine grid by `kernels.deep`, and read off for the
10^8 pairs of 10,000 points.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from scipy.optimize import brentq

from ntkens.kernels import deep, fully_connected, hermite, infinite_depth, singular
from ntkens.kernels.dual import Dual, erf, from_moments, relu, sin
from ntkens.kernels.hermite import Activation
from ntkens.predictors import local, solve

LOW, HIGH, POINTS = -90.0, 40.0, 2**17  # the grid in ln(versine / cosine)
BLOCK = 1000  # queries at a time
ERF, RELU = erf(), relu()  # one object each: JAX compiles for an object
SQUARE = hermite.activation(np.array([0.0, 0.0, 1.0]))  # h_2


class Decision(NamedTuple):
    """Predicted labels, or why there are none.

    Attributes:
        labels: +1 and -1, of the queries; None if it failed.
        failed: the reason in words; None if it did not.
        coupling: the largest kernel of two training points over its diagonal, where it applies.
    """

    labels: np.ndarray | None
    failed: str | None = None
    coupling: float | None = None


def sine(frequency: float) -> Activation:
    """sin(sqrt(s) x), scaled to unit power: f(t) = sinh(s t) / sinh(s)."""
    base, power = sin(), (1 - math.exp(-2 * frequency)) / 2

    def scaled(moment, factor):
        def at(variance1, variance2, covariance, gap=None):
            gap = None if gap is None else frequency * gap
            moments = (frequency * variance1, frequency * variance2, frequency * covariance, gap)
            return factor / power * moment(*moments)

        return at

    moments = from_moments(scaled(base.covariance, 1.0), scaled(base.derivative, frequency))
    root, scale = math.sqrt(frequency), 1 / math.sqrt(power)
    return Activation(lambda inputs: scale * jnp.sin(root * inputs), moments)


def frequency(exponent: float) -> float:
    """The s > 0 of the sine of an exponent above 1, -2 ln(s / sinh s) / ln(s coth s)."""

    def excess(s):
        return -2 * math.log(s / math.sinh(s)) / math.log(s / math.tanh(s)) - exponent

    root: float = brentq(excess, 0.1, 100, xtol=1e-12)  # pyright: ignore[reportAssignmentType]
    # reason: by default one number is returned
    return root


@functools.cache
def optimal(dimension: int) -> Activation:
    """`hermite.optimal_activation`, one object for each d: JAX compiles for an object."""
    return hermite.optimal_activation(dimension)


@functools.cache
def matched_sine(dimension: int) -> Activation:
    """The sine whose exponent is d; for d = 1, where there is none, the paper's s = 1."""
    return sine(frequency(dimension) if dimension > 1 else 1.0)


def hilbert(train, queries, exponent: float) -> Decision:
    """The sign of sum_i y_i / |x - x_i|^exponent."""
    return _signs(singular.estimate(*_arrays(train, queries), exponent))


def nearest_neighbour(train, queries) -> Decision:
    """The label of the nearest training point."""
    return _signs(local.nearest_neighbour(*_arrays(train, queries)))


def majority(train, queries) -> Decision:
    """The label that most training points have; a tie is decided for -1, the likelier class."""
    return Decision(np.full(len(queries), 1 if train.labels.sum() > 0 else -1))


def deep_kernel(train, queries, dual: Dual, depth: int) -> Decision:
    """The sign of y' K(X, X)^-1 K(X, x), K the NNGP of a deep network, inputs in an orthant."""
    table, slope = _table(dual, depth)
    gram = _read(table, train.inputs, train.inputs)
    gram = np.exp(gram + depth * math.log(slope))
    np.fill_diagonal(gram, 0)
    coupling = float(gram.max())
    np.fill_diagonal(gram, 1)
    weights, failed = _solved(gram, train.labels.astype(float))
    if failed:
        return Decision(None, failed, coupling)
    cross = _read(table, queries, train.inputs)
    cross = np.exp(cross - cross.max(axis=1, keepdims=True))
    return _signs(cross @ weights)._replace(coupling=coupling)


def relu_network(train, queries, depth: int) -> Decision:
    """The sign of the prediction of the NTK of a ReLU network."""
    kernel_fn = _relu_kernel(depth)
    inputs = jnp.asarray(train.inputs)
    weights, failed = _solved(np.asarray(kernel_fn(inputs).ntk), train.labels.astype(float))
    if failed:
        return Decision(None, failed)
    blocks = [
        np.asarray(kernel_fn(jnp.asarray(queries[start : start + BLOCK]), inputs).ntk) @ weights
        for start in range(0, len(queries), BLOCK)
    ]
    return _signs(np.concatenate(blocks))


@functools.cache
def _relu_kernel(depth):
    return fully_connected.kernel_fn(RELU, depth, w_std=math.sqrt(2))


def _arrays(train, queries):
    return jnp.asarray(queries), jnp.asarray(train.inputs), jnp.asarray(train.labels, float)


def _signs(predictions) -> Decision:
    return Decision(np.where(np.asarray(predictions) > 0, 1, -1))


@functools.lru_cache(maxsize=32)
def _table(dual: Dual, depth: int):
    """ln(f^(oL)(t) / f'(0)^L) on the grid, and f'(0).

    It is smooth in ln(versine / cosine), nearly linear at both ends.
    """
    logits = jnp.linspace(LOW, HIGH, POINTS)
    cosine, versine = jax.nn.sigmoid(-logits), jax.nn.sigmoid(logits)
    coordinate = deep.iterate(dual, depth, cosine, versine).coordinate
    slope = infinite_depth.limit(dual).slope_at_zero
    return coordinate.at[0].set(-depth * math.log(slope)), slope  # the first is for coincidence


def _read(table, queries, inputs) -> np.ndarray:
    """The table at all pairs, a block of queries at a time."""
    inputs = jnp.asarray(inputs)
    blocks = [
        np.asarray(_interpolated(table, log_kernel(queries[start : start + BLOCK], inputs)))
        for start in range(0, len(queries), BLOCK)
    ]
    return np.concatenate(blocks)


log_kernel = singular.log_kernel(1.0)  # minus the logarithm of the distance


@jax.jit
def _interpolated(table, log_inverse_distance):
    """Linear: the error of ln K is below h^2 / 8 times its curvature, 1e-6 on this grid."""
    log_versine = jnp.minimum(-2 * log_inverse_distance - math.log(2), -1e-15)
    logit = log_versine - jnp.log(-jnp.expm1(log_versine))
    place = jnp.clip((logit - LOW) * ((POINTS - 1) / (HIGH - LOW)), 0, POINTS - 1.001)
    index = place.astype(jnp.int32)
    rest = place - index
    return table[index] * (1 - rest) + table[index + 1] * rest


def _solved(gram, targets):
    """The interpolating weights; or None, and why not.

    In float32 refined to float64; where its reach ends, at condition numbers of 1e7, in float64.
    """
    solution, info = solve.cholesky(jnp.asarray(gram), jnp.asarray(targets))
    if bool(info.converged):
        return np.asarray(solution), None
    try:
        factor = scipy.linalg.cho_factor(gram, lower=True)
    except np.linalg.LinAlgError:
        return None, "the kernel of the training set is singular to rounding"
    weights = scipy.linalg.cho_solve(factor, targets)
    error = np.abs(gram @ weights - targets).max()
    if not error < 1e-6:
        return None, f"the solution interpolates the targets to {error:.1e} only"
    return weights, None
