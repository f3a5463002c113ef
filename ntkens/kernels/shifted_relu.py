"""The covariance of two rectified normal variables whose means are not zero.

For (u, v) normal with means a, b, unit variances and correlation c, Price's theorem gives
d E[relu(u) relu(v)] / dc = P(u > 0, v > 0) and a second derivative that is their density at 0, so

    E[relu(u) relu(v)] = r(a) r(b) + c Phi(a) Phi(b) + (1 / 2 pi) int_0^{arcsin c} (c - sin t)
                         exp(-(a^2 - 2 a b sin t + b^2) / (2 cos^2 t)) dt,

with Phi and phi of the standard normal and r(a) = E[relu(u)] = a Phi(a) + phi(a).

The integral is the whole of the quadrature. Its integrand changes on the scale of cos t, which at
the end of the interval is as small as the correlation is high. In z = tan^2(pi/4 - t/2), and with
the sign of c moved to b, it is

    2 (z - z_c) / ((1 + z_c) (1 + z)^2 sqrt z) exp(-(1 + z) [(1 + z) (a - b)^2 / 8z + a b / 2]),

from z_c = (1 - |c|) / (1 + |c|) to 1. Where means are smooth functions of the vectors that c is the
cosine of, as in attention, (a - b)^2 is of the order of z_c and the exponential stays tame; in
w = z^(1/4) the small end is then stretched enough for Gauss and Legendre (`NODES`).
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr
from jaxtyping import Array, Float

from ntkens.kernels.dual import magnitude

# By bytes of the dtype. The absolute error of 16 is below 1e-10 and that of 8 below 2e-7 for
# |a|, |b| <= 2 and (a - b)^2 <= 32 (1 - c): all that attention makes of any tokens.
NODES = {2: 5, 4: 8, 8: 16}


def covariance(
    mean1: Float[Array, "..."], mean2: Float[Array, "..."], cosine: Float[Array, "..."]
) -> Float[Array, "..."]:
    """E[relu(u) relu(v)], u ~ N(mean1, 1), v ~ N(mean2, 1), of correlation `cosine`.

    See the module for the formula and the error. Arrays broadcast at equal rank. Elementwise and
    traceable; one derivative is right, also at a correlation of 1, and a second would not be: the
    end of the interval counts as fixed.
    """
    opposite = jnp.where(cosine < 0, -mean2, mean2)
    least = magnitude(cosine)
    least = (1 - jnp.where(least > 1, 1, least)) / (1 + least)  # above 1 is rounding
    difference, product = (mean1 - opposite) ** 2 / 8, mean1 * opposite / 2
    # The integrand is 0 at its moving end, which adds nothing to the derivative.
    end = jax.lax.stop_gradient(jnp.sqrt(jnp.sqrt(least)))
    total = jnp.zeros_like(difference * least)
    for node, weight in _gauss_legendre(NODES[total.dtype.itemsize]):
        w = 1 - (1 - end) * node
        z = w**4
        both = 1 + z
        exponent = both * (both * difference / z + product)
        total = total + weight * w * (z - least) / both**2 * jnp.exp(-exponent)
    integral = 4 / math.pi * (1 - end) / (1 + least) * total
    upper1, upper2 = _below(mean1), _below(mean2)
    rectified = (mean1 * upper1 + _density(mean1)) * (mean2 * upper2 + _density(mean2))
    return rectified + cosine * upper1 * upper2 + integral


def _below(x):
    """The standard normal distribution function, which JAX has in 32 bits and more."""
    return ndtr(x.astype(jnp.promote_types(x.dtype, jnp.float32))).astype(x.dtype)


def _density(x):
    return jnp.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)


def _gauss_legendre(count):
    """Nodes and weights on (0, 1), as Python numbers, which keep dtypes."""
    points, weights = np.polynomial.legendre.leggauss(count)
    return zip(((points + 1) / 2).tolist(), (weights / 2).tolist(), strict=True)
