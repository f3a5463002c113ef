"""Networks of a piecewise linear activation without biases: kernels of the angle alone.

With phi(x) = a x above 0 and b x below, and no biases, nothing sets a scale: after any number of
layers K(x, x') = |x| |x'| k(theta) / d, and the NTK likewise. Both functions of the angle theta
are analytic on [0, pi], also where psi -> 0 and where the recursion in cosines has a square root,
so that short polynomials in theta replace the layers: in float32, 14 coefficients for three layers
of ReLU and 18 for ten. They are fitted in NumPy and float64, whatever the setting of
jax_enable_x64, and a degree is taken only if it holds the accuracy that float32 can show.
"""

import functools

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

LARGEST_DEGREE = 20
TRUNCATION = 2e-8  # of the diagonal: a third of a unit of float32


@functools.cache
def series(slopes: tuple[float, float], depth: int) -> np.ndarray | None:
    """Coefficients [2 degree+1] of nngp and ntk in t = 2 theta / pi - 1, at unit norm and width.

    `None` where polynomials do not serve: a shallow network, whose layers cost no more; one so
    deep that they are too long; a nearly linear activation, whose kernel vanishes at a right
    angle, where an error in the angle is not a relative one.
    """
    above, below = slopes
    if depth < 2 or (above - below) ** 2 < (above**2 + below**2) / 2:
        return None
    grid = np.linspace(0, np.pi, 2001)
    exact = _kernels(slopes, depth, grid)
    for degree in range(8, LARGEST_DEGREE + 1):
        nodes = np.cos(np.pi * (np.arange(degree + 1) + 0.5) / (degree + 1))
        values = _kernels(slopes, depth, np.pi * (nodes + 1) / 2)
        fits = [np.polynomial.chebyshev.chebfit(nodes, value, degree) for value in values]
        error = [
            np.max(np.abs(np.polynomial.chebyshev.chebval(2 * grid / np.pi - 1, fit) - truth))
            for fit, truth in zip(fits, exact, strict=True)
        ]
        if (error <= TRUNCATION * exact[:, 0]).all():
            return np.stack([np.polynomial.chebyshev.cheb2poly(fit) for fit in fits])
    return None


def evaluate(
    coefficients: Float[np.ndarray, " degree+1"], angle: Float[Array, "..."]
) -> Float[Array, "..."]:
    """The polynomial at an angle in [0, pi]."""
    argument = angle * (2 / np.pi) - 1
    total = jnp.full_like(angle, float(coefficients[-1]))
    for coefficient in coefficients[-2::-1]:
        total = total * argument + float(coefficient)
    return total


def _kernels(slopes, depth, angle):
    """nngp and ntk of unit vectors at the angles: the recursion of Cho and Saul 2009 in angles.

    Of the acute angle psi between the lines and the sign of the cosine, as `dual` has it: neither
    psi nor 1 - cos psi is ever formed by subtraction where it is small.
    """
    above, below = slopes
    product, power = above * below, (above**2 + below**2) / 2
    kink = (above - below) ** 2 / (2 * np.pi)
    opposed = angle > np.pi / 2
    versine = 2 * np.sin(np.where(opposed, np.pi - angle, angle) / 2) ** 2
    scale, nngp = 1.0, np.where(opposed, versine - 1, 1 - versine)
    ntk = nngp
    for _ in range(depth):
        psi = 2 * np.arcsin(np.sqrt(versine / 2))
        bend = kink * (np.sin(psi) - psi * np.cos(psi))
        slope = np.where(opposed, product + kink * psi, power - kink * psi)
        moment = bend + np.where(opposed, -product, power) * (1 - versine)
        gap = np.where(  # power - |moment|
            moment < 0,
            power - product + product * versine + bend,
            np.where(opposed, power + product - product * versine, power * versine) - bend,
        )
        nngp = scale * moment
        ntk = nngp + ntk * slope
        opposed, versine, scale = moment < 0, gap / power, scale * power
    return np.stack([nngp, ntk])
