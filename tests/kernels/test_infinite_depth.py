"""Depth limits against hand-derived maps, measured decay and recursions in high precision."""

import math

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ntkens.kernels import dual, hermite, infinite_depth


def arcsine(coefficient=1.0):
    """phi = sign: f = (2/pi) arcsin t, with no weak derivative."""
    return dual.from_moments(
        lambda q1, q2, c, gap=None: coefficient * 2 / math.pi * jnp.arcsin(c / jnp.sqrt(q1 * q2)),
        lambda q1, q2, c, gap=None: coefficient * 2 / math.pi / jnp.sqrt(q1 * q2 - c * c),
    )


# f(0), f'(0), f'(1) at unit variance, by hand: from the closed forms of each dual
HAND = {
    "relu": (dual.relu(), "majority", 1 / math.pi, 0.5, 1),
    "leaky_relu": (
        dual.leaky_relu(0.5),
        "majority",
        0.25 / 2 / math.pi / 0.625,
        (0.75**2) / 0.625,
        1,
    ),
    "abs": (dual.abs(), "majority", 2 / math.pi, 0, 1),
    "linear": (dual.linear(), "linear", 0, 1, 1),
    "erf": (
        dual.erf(),
        "singular",
        0,
        (2 / 3) / math.asin(2 / 3),
        (2 / 3) / math.sqrt(1 - 4 / 9) / math.asin(2 / 3),
    ),
    "sin": (dual.sin(), "singular", 0, 1 / math.sinh(1), 1 / math.tanh(1)),
    # E[x Phi(x)] = E[density] = 1 / (2 sqrt pi) and E[gelu'] = 1/2 by symmetry
    "gelu": (dual.gelu(), "majority", 1 / (4 * math.pi), 0.25, None),
    "square": (dual.monomial(2), "majority", 1 / 3, 0, 4 / 3),
    "cube": (dual.monomial(3), "singular", 0, 9 / 15, 27 / 15),
    "h_2": (hermite.dual([0, 0, 3.0]), "nearest_neighbour", 0, 0, 2),
    "h_3": (hermite.dual([0, 0, 0, -0.1]), "nearest_neighbour", 0, 0, 3),
    "constant": (hermite.dual([2.0]), "constant", 1, 0, 0),
    "affine": (hermite.dual([3.0, 4.0]), "flat", 9 / 25, 16 / 25, 16 / 25),
    "ordered": (hermite.activation([0.6, 0.2, 0.2]).dual, "flat", 0.6, 0.2, 0.6),
    "marginal": (hermite.activation([0.25, 0.5, 0.25]).dual, "majority", 0.25, 0.5, 1),
    "sign": (arcsine(), "logarithmic", 0, 2 / math.pi, math.inf),
}


@pytest.mark.parametrize("name", HAND)
def test_every_kind_is_named_from_the_map_of_cosines(name):
    it, kind, value, low, high = HAND[name]
    limit = infinite_depth.limit(it)
    power = float(it.covariance(*[jnp.ones(())] * 3))
    value, low = (value / power, low / power) if name == "gelu" else (value, low)
    assert limit.kind == kind
    np.testing.assert_allclose(limit.power, power, rtol=1e-14)
    np.testing.assert_allclose(limit.value_at_zero, value, rtol=1e-13)
    np.testing.assert_allclose(limit.slope_at_zero, low, rtol=1e-13)
    if high is not None:
        np.testing.assert_allclose(limit.slope_at_one, high, rtol=1e-13)
    exponents = {"nearest_neighbour": math.inf, "logarithmic": 0}
    if kind == "singular":
        np.testing.assert_allclose(limit.exponent, -2 * math.log(low) / math.log(high), rtol=1e-12)
    else:
        assert limit.exponent == exponents.get(kind)


@pytest.mark.parametrize("name", sorted(set(HAND) - {"sign"}))
def test_normalising_changes_nothing_but_the_power(name):
    plain = infinite_depth.limit(HAND[name][0])
    scaled = infinite_depth.limit(dual.normalised(HAND[name][0]))
    assert scaled.kind == plain.kind
    np.testing.assert_allclose(scaled.power, 1, rtol=1e-14)
    for old, new in zip(plain[3:], scaled[3:], strict=True):
        np.testing.assert_allclose(new, old, rtol=1e-12)


@pytest.mark.parametrize("name", sorted(set(HAND) - {"linear"}))
def test_iterated_cosines_reach_the_fixed_point_at_the_rate(name):
    it, limit = HAND[name][0], infinite_depth.limit(HAND[name][0])
    cosine = jax.jit(it.cosine)
    for start in (0.6, -0.6):
        distances, t = [], jnp.asarray(start)
        for _ in range(60):
            distances.append(abs(float(t) - limit.fixed_point))
            t = cosine(t)
        if limit.rate < 1:
            assert distances[-1] < 0.2  # gelu's 0.93^60 is the slowest
            last = [d for d in distances if d > 1e-6][-2:]
            if limit.rate > 0 and len(last) == 2:
                np.testing.assert_allclose(last[1] / last[0], limit.rate, rtol=0.02)
        else:
            assert distances[-1] < distances[0] / 2  # as a power of the depth only


def test_published_exponents():
    erf = infinite_depth.limit(dual.erf())
    np.testing.assert_allclose([erf.slope_at_zero, erf.slope_at_one], [0.91358, 1.2257], atol=5e-6)
    np.testing.assert_allclose(erf.exponent, 0.888, atol=5e-4)
    for s, alpha in ((1, 1.1856), (2.676, 2.0), (6.13539, 4.0), (13.8258, 8.0)):
        # phi = sin(sqrt(s) x): the moments of sin at s times the variances
        it = dual.from_moments(
            lambda q1, q2, c, gap=None, s=s: dual.sin().covariance(s * q1, s * q2, s * c),
            lambda q1, q2, c, gap=None, s=s: s * dual.sin().derivative(s * q1, s * q2, s * c),
        )
        limit = infinite_depth.limit(it)
        assert limit.kind == "singular"
        np.testing.assert_allclose(limit.slope_at_zero, s / math.sinh(s), rtol=1e-12)
        np.testing.assert_allclose(limit.slope_at_one, s / math.tanh(s), rtol=1e-12)
        np.testing.assert_allclose(limit.exponent, alpha, atol=6e-5)


@settings(max_examples=8)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=6), st.floats(0.05, 0.7))
def test_the_exponent_is_the_measured_one_of_any_series(rest, low):
    """ln f^(oL) against ln r, between distances of ratio b^(-1/2), one period, in 40 digits."""
    rest = np.array(rest) + 0.05
    weights = np.concatenate([[0, low], (1 - low) * rest / rest.sum()])
    limit = infinite_depth.limit(hermite.activation(weights).dual)
    assert limit.kind == "singular"
    b = limit.slope_at_one
    with mpmath.workdps(40):
        logs, precise = [], [mpmath.mpf(w) for w in weights.tolist()]
        for versine in (1e-12, 1e-12 / b):
            t = 1 - mpmath.mpf(versine)
            for _ in range(400):
                t = mpmath.fsum(w * t**i for i, w in enumerate(precise)) / mpmath.fsum(precise)
            logs.append(mpmath.log(t))
    measured = float(logs[1] - logs[0]) / (np.log(b) / 2)
    np.testing.assert_allclose(measured, limit.exponent, rtol=1e-9)


def test_quadrature_noise_does_not_change_the_kind():
    """Means of 1e-17 from quadrature are no majority, and a mean of 1e-4 is."""
    series = hermite.coefficients(np.tanh, 30, kinks=())
    assert series[0] != 0
    assert infinite_depth.limit(hermite.dual(series)).kind == "singular"
    moved = series + 1e-4 * (np.arange(31) == 0)
    assert infinite_depth.limit(hermite.dual(moved)).kind == "majority"
    assert infinite_depth.limit(hermite.dual(moved), tolerance=1e-6).kind == "singular"


def test_to_rounding_of_the_identity_it_is_linear():
    for rest in (1e-12, 3e-14, 2.3e-14, 2.2e-14, 1e-14, 1e-16):
        limit = infinite_depth.limit(hermite.activation([0, 1 - rest, rest]).dual)
        assert limit.kind in ({"singular"} if rest > 3e-14 else {"singular", "linear"})
        assert limit.kind == "linear" or rest > 2e-14  # the tolerance is 2.2e-14
        if rest == 1e-12:  # -2 ln(1 - e) / ln(1 + e) tends to 2
            np.testing.assert_allclose(limit.exponent, 2, rtol=1e-3)


def test_the_inner_fixed_point_is_a_root():
    """Of (1 + 2 t^2)/3 = t it is 1/2; near a double root at 1 it is found, too."""
    np.testing.assert_allclose(infinite_depth.limit(dual.monomial(2)).fixed_point, 0.5, rtol=1e-14)
    # a + (1 - 2a) t + a (1 + e) t^2 over its sum: roots 1 and 1/(1 + e)
    for excess in (1e-1, 1e-4):
        weights = np.array([0.3, 0.4 - 0.3 * excess, 0.3 * (1 + excess)])
        limit = infinite_depth.limit(hermite.activation(weights).dual)
        assert limit.kind == "majority"
        np.testing.assert_allclose(limit.fixed_point, 1 / (1 + excess), rtol=1e-15 / excess)
        np.testing.assert_allclose(limit.rate, 1 - 0.3 * excess, rtol=1e-15 / excess)


def series(*coefficients):
    """The moments of phi and of phi' that f = sum_i a_i t^i would have at unit variance."""
    f = np.polynomial.Polynomial(coefficients)
    return (lambda q1, q2, c, gap=None: f(c), lambda q1, q2, c, gap=None: f.deriv()(c))


@pytest.mark.parametrize(
    ("moments", "message"),
    [
        ((lambda *_: jnp.inf, lambda *_: 1.0), r"E\[phi\(Z\)\^2\] is inf"),
        ((lambda *_: 0.0, lambda *_: 1.0), r"E\[phi\(Z\)\^2\] is 0"),
        # f = (t - t^2 + t^3): no kernel
        ((lambda q1, q2, c, gap=None: c - c**2 + c**3, lambda *_: -1.0), "no coefficient below"),
        ((lambda q1, q2, c, gap=None: c, lambda *_: jnp.nan), "no coefficient below"),
        # above 1 by f(0) + f'(0) alone, and a slope f'(1) below that of the chord
        (series(0.7, 0.6, -0.9, 0.6), r"f\(0\) = 0.7, f'\(0\) = 0.6"),
        (series(0.5, 0.4, 0.6, -0.5), r"f'\(1\) = 0.1"),
    ],
)
def test_what_is_no_dual_is_refused(moments, message):
    def wrapped(function):
        return lambda q1, q2, c, gap=None: jnp.asarray(function(q1, q2, c, gap), float)

    with pytest.raises(ValueError, match=message):
        infinite_depth.limit(dual.from_moments(*map(wrapped, moments)))


def test_limit_names_bad_arguments():
    for tolerance in (-1e-9, math.nan, 1.0):
        with pytest.raises(ValueError, match="tolerance: got"):
            infinite_depth.limit(dual.relu(), tolerance=tolerance)
    with pytest.raises(TypeError, match="dual: got 'relu'; want a `Dual`"):
        infinite_depth.limit("relu")
