"""Dual activations against quadrature, automatic differentiation and each other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.special import erf, ndtr

from ntkens.kernels import dual
from tests import oracles

pytestmark = pytest.mark.optimised

ACTIVATIONS = {
    "relu": (dual.relu(), lambda x: np.maximum(x, 0), lambda x: (x > 0) * 1.0),
    "leaky_relu": (
        dual.leaky_relu(0.25),
        lambda x: np.where(x > 0, x, 0.25 * x),
        lambda x: np.where(x > 0, 1, 0.25),
    ),
    "abs": (dual.abs(), np.abs, np.sign),
    "linear": (dual.linear(), lambda x: x, np.ones_like),
    "erf": (dual.erf(), erf, lambda x: 2 / np.sqrt(np.pi) * np.exp(-(x**2))),
    "sin": (dual.sin(), np.sin, np.cos),
    "gelu": (
        dual.gelu(),
        lambda x: x * ndtr(x),
        lambda x: ndtr(x) + x * np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi),
    ),
    "square": (dual.monomial(2), lambda x: x**2, lambda x: 2 * x),
    "cube": (dual.monomial(3), lambda x: x**3, lambda x: 3 * x**2),
    "quartic": (dual.monomial(4), lambda x: x**4, lambda x: 4 * x**3),
}
EVERY = pytest.mark.parametrize("name", ACTIVATIONS)


def test_every_factory_is_tested_here():
    factories = {
        name
        for name, thing in vars(dual).items()
        if callable(thing)
        and getattr(thing, "__module__", "") == dual.__name__
        and not name.startswith("_")
        and name not in ("Dual", "from_moments", "check_dual", "normalised", "magnitude", "root")
    }
    assert factories == (set(ACTIVATIONS) - {"square", "cube", "quartic"}) | {"monomial"}


@EVERY
@pytest.mark.parametrize(
    ("variance1", "variance2", "cosine"),
    [(1, 1, 0.3), (0.5, 2.0, -0.7), (1.7, 0.2, 0.9), (1, 1, 0.0), (0.8, 1.3, -0.97)],
)
def test_moments_equal_quadrature(name, variance1, variance2, cosine):
    it, function, slope = ACTIVATIONS[name]
    covariance = cosine * np.sqrt(variance1 * variance2)
    arguments = map(jnp.asarray, (float(variance1), float(variance2), covariance))
    arguments = tuple(arguments)
    scale = oracles.gaussian_moment(function, variance1, variance1, 0.999 * variance1)
    expected = oracles.gaussian_moment(function, variance1, variance2, covariance)
    np.testing.assert_allclose(it.covariance(*arguments), expected, rtol=1e-11, atol=1e-12 * scale)
    expected = oracles.gaussian_moment(slope, variance1, variance2, covariance)
    np.testing.assert_allclose(it.derivative(*arguments), expected, rtol=1e-11, atol=1e-12)


@pytest.mark.slow
@EVERY
@given(variances=st.tuples(st.floats(0.05, 8), st.floats(0.05, 8)), cosine=st.floats(-0.999, 0.999))
@example(variances=(1.0, 2.0), cosine=0.0)
def test_the_derivative_moment_is_the_slope_in_the_covariance(name, variances, cosine):
    """Price's theorem: d/dc E[phi(u) phi(v)] = E[phi'(u) phi'(v)]."""
    it = ACTIVATIONS[name][0]
    q1, q2 = map(jnp.asarray, variances)
    covariance = cosine * jnp.sqrt(q1 * q2)
    slope = jax.grad(lambda c: it.covariance(q1, q2, c))(covariance)
    np.testing.assert_allclose(slope, it.derivative(q1, q2, covariance), rtol=1e-10, atol=1e-12)


@EVERY
@given(variances=st.tuples(st.floats(0.05, 8), st.floats(0.05, 8)), cosine=st.floats(-1, 1))
def test_symmetry_cauchy_schwarz_and_gap(name, variances, cosine):
    it = ACTIVATIONS[name][0]
    q1, q2 = map(jnp.asarray, variances)
    c = cosine * jnp.sqrt(q1 * q2)
    value = it.covariance(q1, q2, c)
    np.testing.assert_allclose(value, it.covariance(q2, q1, c), rtol=1e-13, atol=1e-15)
    zero = jnp.zeros(())
    bound = jnp.sqrt(it.covariance(q1, q1, q1, zero) * it.covariance(q2, q2, q2, zero))
    assert jnp.abs(value) <= bound * (1 + 1e-12)
    gap = it.gap(q1, q2, c)
    np.testing.assert_allclose(gap, bound - jnp.abs(value), atol=1e-13 * (1 + float(bound)))


@EVERY
def test_cosine_map_and_normalised(name):
    it = dual.normalised(ACTIVATIONS[name][0])
    rho = jnp.linspace(-1, 1, 41)
    one = jnp.ones_like(rho)
    np.testing.assert_allclose(it.cosine(one), 1, rtol=1e-12)
    np.testing.assert_allclose(it.cosine(rho), it.covariance(one, one, rho), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(it.cosine(rho), ACTIVATIONS[name][0].cosine(rho), rtol=1e-15)
    plain = ACTIVATIONS[name][0]
    power = plain.covariance(*[jnp.ones(())] * 3)
    for scaled, moment in ((it.derivative, plain.derivative), (it.gap, plain.gap)):
        np.testing.assert_allclose(scaled(one, one, rho), moment(one, one, rho) / power, rtol=1e-12)


@EVERY
def test_a_covariance_past_its_bound_by_rounding_is_at_its_bound(name):
    one, past = jnp.ones(()), jnp.asarray(np.nextafter(1, 2))
    for covariance in (past, -past):
        assert ACTIVATIONS[name][0].gap(one, one, covariance) >= 0  # NaN is not
        assert jnp.isfinite(ACTIVATIONS[name][0].derivative(one, one, covariance))


def test_the_slope_of_a_leaky_relu_is_a_hundredth():
    """E[phi'(Z)^2] = (1 + slope^2) / 2, and 0.01 is the slope of `jax.nn.leaky_relu`."""
    one = jnp.ones(())
    np.testing.assert_allclose(dual.leaky_relu().derivative(one, one, one), 0.50005, rtol=1e-14)


@EVERY
def test_coincident_and_zero_inputs_have_finite_moments_and_gradients(name):
    it = ACTIVATIONS[name][0]
    for point in [(1.0, 1.0, 1.0), (1.0, 1.0, -1.0), (0.0, 0.0, 0.0), (0.0, 2.0, 0.0)]:
        point = tuple(map(jnp.asarray, point))
        for moment in (it.covariance, it.derivative, it.gap):
            assert jnp.isfinite(moment(*point))
            gradient = jax.grad(moment, argnums=(0, 1, 2))(*point)
            assert np.isfinite(gradient).all(), (moment, point, gradient)


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "abs", "erf"])
@pytest.mark.parametrize("side", [1, -1])
def test_gap_of_near_duplicates_is_relative(name, side):
    """A relative 1e-12 where subtraction would leave nothing: versines down to 1e-16."""
    import mpmath as mp

    it = {**ACTIVATIONS, "leaky_relu": (dual.leaky_relu(0.25),)}[name][0]
    for versine in (1e-1, 1e-4, 1e-8, 1e-12, 1e-16):
        q1, q2 = mp.mpf(2), mp.mpf(3)
        scale = mp.sqrt(q1 * q2)
        covariance, gap = side * scale * (1 - mp.mpf(versine)), scale * mp.mpf(versine)
        moments = oracles.HIGH_PRECISION[name]
        top = mp.sqrt(moments(q1, q1, q1)[0] * moments(q2, q2, q2)[0])
        value, slope = moments(q1, q2, covariance)
        arguments = [jnp.asarray(float(t)) for t in (q1, q2, covariance, gap)]
        np.testing.assert_allclose(it.covariance(*arguments), float(value), rtol=1e-12)
        np.testing.assert_allclose(it.derivative(*arguments), float(slope), rtol=1e-14, atol=1e-15)
        if name != "erf":  # erf is smooth: its gap is by subtraction
            expected = float(top - abs(value))
            np.testing.assert_allclose(it.gap(*arguments), expected, rtol=1e-12)


def test_sine_at_large_variances_does_not_overflow():
    q, c = jnp.asarray(2000.0), jnp.asarray(1999.0)
    np.testing.assert_allclose(dual.sin().covariance(q, q, c), np.exp(-1.0) / 2, rtol=1e-12)
    np.testing.assert_allclose(dual.sin().covariance(q, q, -c), -np.exp(-1.0) / 2, rtol=1e-12)


@pytest.mark.parametrize("name", ["relu", "erf", "gelu"])
@pytest.mark.parametrize("scale", [1e-180, 1e180])
def test_variances_whose_product_leaves_the_range(name, scale):
    """Homogeneous to leading order: as at a smaller scale where the product is in range."""
    it = ACTIVATIONS[name][0]
    near = scale**0.5
    power = 0 if (name, scale > 1) == ("erf", True) else 1
    far, closer = (it.covariance(*map(jnp.asarray, (2 * q, q, -q))) for q in (scale, near))
    np.testing.assert_allclose(far / scale**power, closer / near**power, rtol=1e-12)


def test_bad_input():
    for slope in (np.nan, np.inf):
        with pytest.raises(ValueError, match="negative_slope: got"):
            dual.leaky_relu(slope)
    with pytest.raises(TypeError, match=r"dual: got relu; want a `Dual`, as `dual.relu\(\)` makes"):
        dual.normalised(dual.relu)
    with pytest.raises(ValueError, match="degree: got 0"):
        dual.monomial(0)
    for degree in (2.0, np.nan):
        with pytest.raises(ValueError, match="degree: got"):
            dual.monomial(degree)
    with pytest.raises(ValueError, match=r"E\[phi\(Z\)\^2\] is 0"):
        dual.normalised(dual.from_moments(lambda q1, q2, c, g=None: 0 * c, lambda *_: 0.0))
