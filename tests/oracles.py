"""Independent slow answers: brute force, quadrature, high precision. Never imports ntkens."""

import itertools

import mpmath
import numpy as np
import scipy.linalg

mpmath.mp.dps = 40


def gaussian_moment(function, variance1, variance2, covariance):
    """E[f(u) f(v)], f smooth but for a kink or jump at 0, by nested Gauss-Legendre quadrature."""
    nodes, weights = np.polynomial.legendre.leggauss(60)

    def halves(kink, reach):  # composite nodes on [-reach, reach], split at the kink
        kink = np.clip(kink, -reach, reach)[..., None]
        pieces = [(-reach + 0 * kink, kink), (kink, reach + 0 * kink)]
        points, masses = [], []
        for low, high in pieces:
            edges = np.moveaxis(low + (high - low) * np.linspace(0, 1, 7), -1, 0)
            for left, right in itertools.pairwise(edges):
                half = (right - left)[..., None] / 2
                points.append(left[..., None] + half * (1 + nodes))
                masses.append(half * weights)
        points, masses = np.concatenate(points, -1), np.concatenate(masses, -1)
        return points, masses * np.exp(-(points**2) / 2) / np.sqrt(2 * np.pi)

    outer, outer_mass = halves(np.zeros(()), 12.0)
    slope = covariance / np.sqrt(variance1)
    rest = np.sqrt(variance2 - slope**2)
    inner, inner_mass = halves(-slope * outer / rest, 12.0)
    u = np.sqrt(variance1) * outer
    v = slope * outer[:, None] + rest * inner
    return np.sum(outer_mass * function(u) * np.sum(inner_mass * function(v), axis=-1))


def _relu_family(above, below):
    """Moments of a x for x > 0, b x for x < 0, written from the two half-line integrals."""

    def moments(q1, q2, c):
        mp = mpmath
        scale = mp.sqrt(q1 * q2)
        if scale == 0:
            return mp.mpf(0), (mp.mpf(above) + below) ** 2 / 4
        rho = max(min(c / scale, mp.mpf(1)), mp.mpf(-1))
        theta = mp.acos(rho)
        same = (mp.sin(theta) + (mp.pi - theta) * mp.cos(theta)) / (2 * mp.pi)
        across = (mp.sin(theta) - theta * mp.cos(theta)) / (2 * mp.pi)  # E[relu(u) relu(-v)]
        squares = mp.mpf(above) ** 2 + mp.mpf(below) ** 2
        cross = 2 * mp.mpf(above) * mp.mpf(below)
        value = scale * (squares * same - cross * across)
        slope = squares * (mp.pi - theta) / (2 * mp.pi) + cross * theta / (2 * mp.pi)
        return value, slope

    return moments


def _erf(q1, q2, c):
    norm = (1 + 2 * q1) * (1 + 2 * q2)
    value = 2 / mpmath.pi * mpmath.asin(2 * c / mpmath.sqrt(norm))
    return value, 4 / mpmath.pi / mpmath.sqrt(norm - 4 * c * c)


def _sin(q1, q2, c):
    decay = mpmath.exp(-(q1 + q2) / 2)
    return decay * mpmath.sinh(c), decay * mpmath.cosh(c)


def _linear(q1, q2, c):
    return c, mpmath.mpf(1)


def _gelu(q1, q2, c):
    """By Stein's lemma, in q1, q2 and c alone; quadrature confirms it in test_dual."""
    norm = (1 + q1) * (1 + q2)
    delta = norm - c * c
    both = mpmath.mpf(1) / 4 + mpmath.asin(c / mpmath.sqrt(norm)) / (2 * mpmath.pi)
    density = 1 / (2 * mpmath.pi * mpmath.sqrt(delta))
    value = c * both + density * (q1 * q2 + c * c * (1 - q1 * q2) / norm)
    return value, both + c * density * (1 / (1 + q1) + 1 / (1 + q2) + 1 / delta)


def _normalised_square(q1, q2, c):
    return (q1 * q2 + 2 * c**2) / 3, 4 * c / 3


def _normalised_cube(q1, q2, c):
    return (9 * q1 * q2 * c + 6 * c**3) / 15, 9 * (q1 * q2 + 2 * c**2) / 15


HIGH_PRECISION = {
    "relu": _relu_family(1, 0),
    "leaky_relu": _relu_family(1, "0.25"),
    "abs": _relu_family(1, -1),
    "erf": _erf,
    "sin": _sin,
    "linear": _linear,
    "gelu": _gelu,
    "normalised_2": _normalised_square,
    "normalised_3": _normalised_cube,
}


def fully_connected(name, x1, x2, depth, w_std, b_std):
    """NNGP and NTK of one pair of float64 inputs, in 40 digits: the recursion as it is printed."""
    x1, x2 = ([mpmath.mpf(float(t)) for t in x] for x in (x1, x2))
    weight, bias = mpmath.mpf(float(w_std)) ** 2, mpmath.mpf(float(b_std)) ** 2

    def inner(a, b):
        return mpmath.fdot(a, b) / len(a)

    def affine(moment):
        return weight * moment + bias

    q1, q2, c = affine(inner(x1, x1)), affine(inner(x2, x2)), affine(inner(x1, x2))
    ntk = c
    for _ in range(depth):
        value, slope = HIGH_PRECISION[name](q1, q2, c)
        power1, power2 = HIGH_PRECISION[name](q1, q1, q1)[0], HIGH_PRECISION[name](q2, q2, q2)[0]
        q1, q2, c = affine(power1), affine(power2), affine(value)
        ntk = c + weight * ntk * slope
    return c, ntk


def psi(kernel, time):
    """(1 - exp(-kernel t)) / kernel of any square matrix: a block of one matrix exponential."""
    size = len(kernel)
    block = np.zeros((2 * size, 2 * size))
    block[:size, :size], block[:size, size:] = -time * kernel, time * np.eye(size)
    return scipy.linalg.expm(block)[:size, size:]
