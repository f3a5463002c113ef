"""Activations of `deep_learning_theory`, their critical points, and what infinite width says."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from ntkens.kernels import criticality, finite_width, quadrature

ACTIVATIONS = {
    "ReLU": criticality.nonlinearity(jax.nn.relu),
    "linear": criticality.nonlinearity(lambda z: z),
    "leaky ReLU": criticality.nonlinearity(lambda z: jnp.where(z > 0, z, 0.3 * z)),
    "tanh": criticality.nonlinearity(jnp.tanh),
    "sin": criticality.nonlinearity(jnp.sin),
    "erf": criticality.nonlinearity(jax.lax.erf),
    "GELU": criticality.nonlinearity(functools.partial(jax.nn.gelu, approximate=False)),
    "SWISH": criticality.nonlinearity(jax.nn.silu),
    "sigmoid": criticality.nonlinearity(jax.nn.sigmoid),
    "softplus": criticality.nonlinearity(jax.nn.softplus),
}
SLOPES = {"ReLU": (1.0, 0.0), "linear": (1.0, 1.0), "leaky ReLU": (1.0, 0.3)}
START = 1.0  # K^1 where every kernel is critical, or only 0 is


@functools.cache
def critical_point(activation):
    """That of `criticality`, once for all cells of a run."""
    return criticality.critical_point(ACTIVATIONS[activation])


def setting(activation):
    """K^1, C_b and C_W of a critical network."""
    point = critical_point(activation)
    kernel = point.kernel if point.universality == "half_stable" else START
    return float(kernel), float(point.bias_variance), float(point.weight_variance)


def critical(activation, points):
    """The point, what the susceptibilities are there, and the line of chi_perpendicular = 1."""
    found, nonlinearity = critical_point(activation), ACTIVATIONS[activation]
    kernel = found.kernel or 1e-8  # of K* = 0 the limit from above
    row = {
        "universality": found.universality,
        "bias_variance": float(found.bias_variance),
        "weight_variance": float(found.weight_variance),
        "critical_kernel": float(found.kernel),
        "reason": found.reason,
        "parallel": math.nan,
        "perpendicular": math.nan,
    }
    if found.universality != "none":
        at = _susceptibilities(nonlinearity)(kernel, found.weight_variance)
        row |= {"parallel": float(at.parallel), "perpendicular": float(at.perpendicular)}
    line = np.array(_line(nonlinearity, np.geomspace(1e-3, 60, points)))
    line = line[:, (line[0] >= -1e-12) & (line[1] < 4)]  # of the plane that is drawn
    return row | {"line_bias": line[0].tolist(), "line_weight": line[1].tolist()}


def _susceptibilities(nonlinearity):
    return jax.jit(functools.partial(criticality.susceptibilities, nonlinearity))


def _line(nonlinearity, kernels):
    """C_b and C_W with the fixed point K and chi_perpendicular = 1, for each K."""

    def square(function):
        return lambda z: function(z) ** 2

    @jax.jit
    def line(kernels):
        slope, power = (
            quadrature.expectation(square(each), kernels, kinks=nonlinearity.kinks)
            for each in (nonlinearity.derivative, nonlinearity.apply)
        )
        return kernels - power / slope, 1 / slope

    return line(jnp.asarray(kernels))


def universal(activation, depths):
    """l K^l and V^l / (l (K^l)^2) at infinite width, at each depth."""
    kernel, bias_variance, weight_variance = setting(activation)
    deepest = max(depths)
    found = jax.jit(
        lambda: finite_width.four_point_vertex(
            ACTIVATIONS[activation], kernel, bias_variance, weight_variance, [1] * deepest
        )
    )()
    kernels, vertices = np.asarray(found.kernel), np.asarray(found.four_point)
    coefficients = critical_point(activation).coefficients
    expected = math.nan if coefficients is None else float(coefficients.growth)
    for depth in depths:
        at = depth - 1
        yield {
            "depth": depth,
            "scaled_kernel": float(depth * kernels[at]),
            "growth": float(vertices[at] / kernels[at] ** 2 / depth),
            "expected": expected,
        }


def approach(activation, weight_variance, depth):
    """The rate at which K^l comes to its fixed point off criticality, and log chi_parallel there.

    In the layers whose distance from it is between 1e-3 and 1e-10 of it: nearer is rounding.
    """
    nonlinearity = ACTIVATIONS[activation]
    kernels = np.asarray(
        jax.jit(lambda: criticality.flow(nonlinearity, 1.0, 0.1, weight_variance, depth))()
    )
    fixed = kernels[-1]
    distance = np.abs(kernels - fixed) / fixed
    layers = np.flatnonzero((distance < 1e-3) & (distance > 1e-10))
    rate = math.nan
    if len(layers) > 1:
        rate = float(np.polyfit(layers, np.log(distance[layers]), 1)[0])
    chi = _susceptibilities(nonlinearity)(fixed, weight_variance)
    return {"rate": rate, "log_parallel": math.log(float(chi.parallel)), "fixed": float(fixed)}
