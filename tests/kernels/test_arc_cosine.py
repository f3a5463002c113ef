"""The polynomials of the angle against NumPy at every cosine of float32, and high precision."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

from ntkens.kernels import arc_cosine

pytestmark = pytest.mark.optimised


def exact(versine):
    """psi and sin psi - psi cos psi to 30 digits."""
    with mpmath.workdps(120):
        v = mpmath.mpf(float(versine))
        psi = mpmath.acos(1 - v)
        return psi, mpmath.sqrt(v * (2 - v)) - psi * (1 - v)


def test_every_cosine_of_float32():
    """1 - |c| of a float32 c in [-1, 1] is one of 2^24 + 1 multiples of 2^-24: all of them."""
    versine = np.arange(2**24 + 1) / 2**24
    psi = 2 * np.arcsin(np.sqrt(versine / 2))
    got = np.asarray(jax.jit(arc_cosine.angle)(jnp.asarray(versine, jnp.float32)), np.float64)
    assert np.max(np.abs(got - psi)[1:] / psi[1:]) < 2 * 2**-23  # 1.65: root, polynomial, product
    assert got[0] == 0


def test_versines_below_those_of_a_subtraction():
    versine = 2.0 ** -np.arange(24, 126, 0.25)
    psi = 2 * np.arcsin(np.sqrt(versine / 2))
    for dtype, rounding in ((jnp.float32, 2**-23), (jnp.float64, 2**-52)):
        rounded = np.asarray(versine, dtype).astype(np.float64)
        psi = 2 * np.arcsin(np.sqrt(rounded / 2))
        got = np.asarray(arc_cosine.angle(jnp.asarray(versine, dtype)), np.float64)
        np.testing.assert_allclose(got, psi, rtol=2 * rounding)


@pytest.mark.parametrize(("dtype", "rounding"), [(jnp.float32, 2**-23), (jnp.float64, 2**-52)])
def test_high_precision(dtype, rounding):
    versine = np.concatenate([np.linspace(0, 1, 101)[1:], 10.0 ** -np.arange(1, 20)]).astype(dtype)
    got = [f(jnp.asarray(versine)) for f in (arc_cosine.angle, arc_cosine.sine_less_arc)]
    for index, each in enumerate(versine):
        for value, truth in zip(got, exact(each), strict=True):
            assert abs(mpmath.mpf(float(value[index])) / truth - 1) < 2 * rounding


def test_truncation_is_below_rounding():
    """The polynomials themselves, evaluated without rounding."""
    for itemsize, degree in arc_cosine.DEGREES.items():
        epsilon = {2: 2**-7, 4: 2**-23, 8: 2**-52}[itemsize]
        for integrals in (0, 1):
            coefficients = arc_cosine.economised(integrals, degree)
            for v in np.linspace(0.01, 1, 50):
                with mpmath.workdps(40):
                    series = sum(
                        mpmath.mpf(c) * mpmath.mpf(v) ** k for k, c in enumerate(coefficients)
                    )
                    series *= mpmath.sqrt(2 * mpmath.mpf(v)) * mpmath.mpf(v) ** integrals
                    assert (
                        abs(series / exact(v)[integrals] - 1) < epsilon / 2 + 2**-53
                    )  # the coefficients are float64


def test_derivatives_are_the_slopes_and_zero_at_a_coincidence():
    for function in (arc_cosine.angle, arc_cosine.sine_less_arc):
        v = 0.3
        numeric = (function(jnp.asarray(v + 1e-6)) - function(jnp.asarray(v - 1e-6))) / 2e-6
        np.testing.assert_allclose(jax.grad(function)(v), numeric, rtol=1e-8)
        assert jax.grad(function)(0.0) == 0
