"""Monte Carlo of `deep_learning_theory`: sampled random networks beside what they should be."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from experiments import _rows
from experiments._deep_learning_theory_activations import ACTIVATIONS, SLOPES, setting
from ntkens.kernels import finite_width, tangent_fluctuations, universality
from ntkens.models import preactivation_tangents, preactivations

WEIGHT_RATE = 1.0


def layers(key, activation, width, depth, networks):
    """Each layer of critical networks: outputs and tangent kernels, sampled and in theory."""
    kernel, bias_variance, weight_variance = setting(activation)
    nonlinearity, widths = ACTIVATIONS[activation], (width,) * depth
    found = preactivation_tangents.sample(
        key, nonlinearity.apply, jnp.float32(kernel), bias_variance, weight_variance, widths,
        networks, bias_rate=0.0, weight_rate=WEIGHT_RATE, derivative=nonlinearity.derivative,
    )  # fmt: skip
    estimates = _estimates(found, jnp.asarray(widths))
    theory = _theory(activation)(jnp.full(depth, float(width)))
    for layer in range(1, depth):  # nothing fluctuates in the first
        row = {"layer": layer + 1}
        for name, (value, error) in estimates.items():
            row |= {name: float(value[layer]), f"{name} error": float(error[layer])}
        yield row | {name: float(values[layer]) for name, values in theory.items()}


@jax.jit
def _estimates(found, widths):
    """In float64; the vertex by the variance of G, and by pairs of components."""
    found = jax.tree.map(lambda each: each.astype(float), found)
    variance, output, tangent = found.layers.variance, found.output, found.tangent
    mean, covariance = preactivations.mean, preactivations.covariance
    width = widths[0]
    return {
        "kernel": mean(variance),
        "vertex": preactivations.vertex(found.layers, widths),
        "pairs": preactivations.vertex_by_pairs(found.layers, widths),
        "tangent": mean(tangent),
        "tangent_variance": _scaled(width, covariance(tangent, tangent)),
        "mixed": _scaled(width, covariance(tangent, variance)),
        "mixed_output": _scaled(width, covariance(tangent, output**2)),
    }


def _scaled(factor, estimate):
    return preactivations.Estimate(*(factor * each for each in estimate))


@functools.cache  # compiled once for all widths
def _theory(activation):
    """To leading order; `exact` in the scale-invariant class, else one order further."""
    kernel, bias_variance, weight_variance = setting(activation)
    rates = {"bias_rate": 0.0, "weight_rate": WEIGHT_RATE}

    @jax.jit
    def exact(widths):
        found = tangent_fluctuations.scale_invariant_fluctuations(
            *SLOPES[activation], kernel, weight_variance, widths, **rates
        )
        return {
            "kernel theory": found.kernel,
            "tangent theory": found.tangent,
            **_named(found, "exact"),
        }

    @jax.jit
    def series(widths):
        arguments = ACTIVATIONS[activation], kernel, bias_variance, weight_variance, widths
        leading = tangent_fluctuations.tangent_fluctuations(*arguments, **rates)
        moments = finite_width.moments(*arguments)
        return {
            "kernel theory": moments.mean,
            "tangent theory": leading.tangent + leading.shift,
            "vertex further": widths * moments.variance,
            **_named(leading, "leading"),
        }

    return exact if activation in SLOPES else series


def _named(found, order):
    return {
        f"vertex {order}": found.four_point,
        f"tangent_variance {order}": found.diagonal + 2 * found.exchange,
        f"mixed {order}": found.mixed,
        f"mixed_output {order}": found.mixed + 2 * found.mixed_exchange,
    }


def skipped(key, activation, skip, width, depth, networks):
    """The vertex of critical residual networks, sampled; with T and, as in the book, without."""
    kernel, _, weight_variance = setting(activation)
    weight_variance *= 1 - skip**2
    widths = (width,) * depth
    found = preactivations.sample(
        key, ACTIVATIONS[activation].apply, jnp.float32(kernel), 0.0, weight_variance, widths,
        networks, skip=skip,
    )  # fmt: skip
    value, error = _by_pairs(found, jnp.asarray(widths))
    leading = finite_width.four_point_vertex(
        ACTIVATIONS[activation], kernel, 0.0, weight_variance, widths, skip=skip
    )
    growth = universality.vertex_growth(SLOPES[activation], 0.0)
    even = (1 - skip**2) ** 2 * growth + 4 * skip**2 * (1 - skip**2)
    return {
        "vertex": float(value[-1]),
        "vertex error": float(error[-1]),
        "vertex leading": float(leading.four_point[-1]),
        "vertex even": (depth - 1) * even * kernel**2,
        "vertex plain": float(finite_width.resummed_vertex(growth, kernel, widths)[-1]),
    }


@jax.jit
def _by_pairs(found, widths):
    found = jax.tree.map(lambda each: each.astype(float), found)
    return preactivations.vertex_by_pairs(found, widths)


def collapsed(key, activation, ratio, width, networks):
    """The relative variance of G at (L - 1) / n = ratio, and its limit at this ratio."""
    kernel, bias_variance, weight_variance = setting(activation)
    widths = (width,) * (1 + round(ratio * width))
    found = preactivations.sample(
        key, ACTIVATIONS[activation].apply, jnp.float32(kernel), bias_variance, weight_variance,
        widths, networks,
    )  # fmt: skip
    last = np.asarray(found.variance, float)[:, -1] / kernel
    value, error = _rows.mean_and_error((last - last.mean()) ** 2)
    growth = universality.vertex_growth(SLOPES[activation], 0.0)
    exact = finite_width.resummed_vertex(growth, 1.0, widths)[-1] / width
    return {
        "depth": len(widths),
        "relative": float(value),
        "relative error": float(error),
        "relative exact": float(exact),
        "relative limit": float(np.expm1(growth * ratio)),
    }


def off_critical(key, weight_variance, width, depth, networks):
    """Kernels of ReLU networks with C_b = 0, which are (C_W / 2)^(l-1)."""
    found = preactivations.sample(
        key, jax.nn.relu, jnp.float32(1), 0.0, weight_variance, (width,) * depth, networks
    )
    value, error = _rows.mean_and_error(found.variance)
    for layer in range(1, depth):
        yield {
            "layer": layer + 1,
            "kernel": float(value[layer]),
            "kernel error": float(error[layer]),
            "kernel exact": (weight_variance / 2) ** layer,
        }
