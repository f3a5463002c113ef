"""Cumulants against dense traces; tails against series and closed forms in high precision."""

import math

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq

from ntkens.measures import generalised_chi_squared as gcs


def chi_squared(degrees, x):
    """log P of the lower and of the upper tail of chi^2, by the incomplete gamma function."""
    with mpmath.workdps(50):
        half = mpmath.mpf(float(x)) / 2
        return tuple(
            float(mpmath.log(mpmath.gammainc(mpmath.mpf(degrees) / 2, *ends, regularized=True)))
            for ends in ((0, half), (half, mpmath.inf))
        )


def exponentials(weights, x, digits):
    """log P of both tails where all degrees are 2: P(Q > x) is a sum of exponentials."""
    with mpmath.workdps(digits):
        weights = [mpmath.mpf(float(weight)) for weight in weights]
        upper = sum(
            mpmath.exp(-mpmath.mpf(float(x)) / (2 * one))
            * mpmath.fprod(one / (one - other) for other in weights if other != one)
            for one in weights
        )
        return float(mpmath.log(1 - upper)), float(mpmath.log(upper))


def ruben(weights, degrees, squares, x, digits=60, terms=300):
    """log P(Q <= x) by the series of Ruben 1962, all of whose terms are positive."""
    with mpmath.workdps(digits):
        weights, degrees, squares = (
            [mpmath.mpf(float(each)) for each in array] for array in (weights, degrees, squares)
        )
        scale = min(weights)
        n, half = sum(degrees), mpmath.mpf(float(x)) / (2 * scale)
        each = [
            (degree, 1 - scale / weight, square / weight, scale / weight)
            for weight, degree, square in zip(weights, degrees, squares, strict=True)
        ]
        g = [0] + [
            sum(d * r**k + k * scaled * shift * r ** (k - 1) for d, r, shift, scaled in each) / 2
            for k in range(1, terms)
        ]
        first = mpmath.exp(-sum(shift for _, _, shift, _ in each) / 2)
        coefficients = [first * mpmath.fprod(scaled ** (d / 2) for d, _, _, scaled in each)]
        cdf = mpmath.gammainc(n / 2, 0, half, regularized=True)
        density = half ** (n / 2) * mpmath.exp(-half) / mpmath.gamma(n / 2 + 1)
        total = coefficients[0] * cdf
        for k in range(1, terms):
            coefficients.append(mpmath.fdot((g[k - r], coefficients[r]) for r in range(k)) / k)
            cdf -= density
            density *= half / (n / 2 + k)
            total += coefficients[k] * cdf
        assert coefficients[-1] * cdf < total * mpmath.mpf(10) ** -15  # it has converged
        return float(mpmath.log(total))


def assert_agree(found, expected):
    """To 1e-10 of a probability, or to the rounding of its logarithm; and the error says so."""
    expected = np.asarray(expected)
    tolerance = 1e-10 + 1e-14 * np.abs(expected)
    np.testing.assert_array_less(np.abs(found.log_probability - expected), tolerance)
    np.testing.assert_array_less(found.error, 1e-10)


@pytest.mark.parametrize("degrees", [1, 2, 7, 4000])
def test_one_weight_is_the_incomplete_gamma_function(degrees):
    """From 3000 nats below the mean to far above it, where the rest has the digits."""
    deep = (1e-300, 1e-3) if degrees < 8 else (0.082, 0.3)
    x = degrees * np.array([*deep, 0.9, 1, 1.01, 1.5, 4])
    expected = np.array([chi_squared(degrees, one) for one in x]).T
    q = gcs.distribution(np.array([2.5]), degrees)
    assert_agree(gcs.log_cdf(q, 2.5 * x), expected[0])
    assert_agree(gcs.log_survival(q, 2.5 * x), expected[1])
    assert expected[0, 0] < -300


def planted_weights(count):
    return np.geomspace(1, 1e-2, count) * (1 + 0.1 * np.sin(np.arange(count)))


@pytest.mark.parametrize(
    ("nats", "count", "digits"),
    [(math.log(1e4), 12, 80), (math.log(1e8), 12, 80), (math.log(1e40), 12, 160),
     (math.log(1e150), 12, 400), (300, 40, 800), (3000, 40, 3600)],
)  # fmt: skip
def test_a_lower_tail_of_many_nats_is_a_sum_of_exponentials(nats, count, digits):
    """Where the library puts a probability of 1e-4, 1e-8, 1e-40, ... there it is."""
    q = gcs.distribution(planted_weights(count), 2)

    def gap(log_x):
        return gcs.log_cdf(q, math.exp(log_x)).log_probability + nats

    x = math.exp(brentq(gap, -100, 5))
    lower, _ = exponentials(planted_weights(count), x, digits)
    assert lower == pytest.approx(-nats, rel=1e-8)
    assert_agree(gcs.log_cdf(q, x), lower)


def test_an_upper_tail_is_a_sum_of_exponentials():
    weights = planted_weights(12)
    q = gcs.distribution(weights, 2)
    x = np.array([0.4, 6.0, 9.0, 60.0, 6000.0])
    expected = np.array([exponentials(weights, one, 120) for one in x]).T
    assert_agree(gcs.log_survival(q, x), expected[1])
    assert_agree(gcs.log_cdf(q, x), expected[0])
    assert expected[1, -1] < -2000


def test_shifted_terms_of_odd_degrees_are_rubens_series():
    weights, degrees, squares = np.array([1.0, 0.5, 0.3, 0.2]), [1, 2, 1, 3], [0.3, 1.0, 0.0, 0.7]
    q = gcs.distribution(weights, degrees, squares)
    x = np.array([[6.0, 2.2], [0.3, 1e-8]])  # any shape
    expected = [[ruben(weights, degrees, squares, one) for one in row] for row in x]
    found = gcs.log_cdf(q, x)
    assert_agree(found, expected)
    upper = gcs.log_survival(q, x).log_probability
    np.testing.assert_allclose(np.exp(found.log_probability) + np.exp(upper), 1, rtol=1e-12)


def test_cumulants_are_traces_of_the_dense_matrix():
    """kappa_r = 2^(r-1) (r-1)! (tr A^r + r m' A^(r-1) m) for Q = |m + A^(1/2) z|^2."""
    rng = np.random.default_rng(0)
    weights, degrees = rng.exponential(size=5), np.array([1, 2, 3, 1, 2])
    spread = np.repeat(weights, degrees)
    basis, _ = np.linalg.qr(rng.normal(size=(len(spread),) * 2))
    dense, shift = basis @ np.diag(spread) @ basis.T, rng.normal(size=len(spread))
    squares = np.add.reduceat((basis.T @ shift) ** 2, np.cumsum(degrees) - degrees)
    q = gcs.distribution(weights, degrees, squares)
    for order in range(1, 9):
        power = np.linalg.matrix_power(dense, order - 1)
        expected = np.trace(power @ dense) + order * shift @ power @ shift
        expected *= 2 ** (order - 1) * math.factorial(order - 1)
        assert gcs.cumulant(q, order) == pytest.approx(expected, rel=1e-10)
    series = sum(
        gcs.cumulant(q, order) * 0.01**order / math.factorial(order) for order in range(1, 30)
    )
    assert gcs.cumulant_generating_function(q, 0.01) == pytest.approx(series, rel=1e-12)
    at_pole = gcs.cumulant_generating_function(q, np.array([0, 1, 2]) / (2 * weights.max()))
    np.testing.assert_array_equal(at_pole, [0, math.inf, math.inf])


@given(
    st.lists(st.floats(1e-3, 1), min_size=1, max_size=6),
    st.floats(0, 3),
    st.floats(0.02, 3),
)
def test_what_holds_for_every_distribution(weights, square, factor):
    """Chernoff above, Lugannani-Rice near, monotone, without units; a constant only shifts."""
    q = gcs.distribution(np.array(weights), 2, square)
    x = factor * gcs.cumulant(q, 1)
    found = gcs.log_cdf(q, np.array([x, 1.02 * x]))
    exact = found.log_probability[0]
    assert found.error.max() < 1e-9
    assert gcs.chernoff(q, x) >= exact
    # with two degrees in all, and near a density's kink, it is at its worst
    assert gcs.saddlepoint(q, x) == pytest.approx(exact, abs=0.15)
    assert found.log_probability[1] > exact
    scaled = gcs.distribution(8 * np.array(weights), 2, 8 * square)
    np.testing.assert_allclose(gcs.log_cdf(scaled, 8 * x).log_probability, exact, rtol=1e-9)
    split = [np.append(each, last) for each, last in zip(q, (0, 5, 0.5), strict=True)]
    shifted = gcs.log_cdf(gcs.distribution(*split), x + 0.5).log_probability
    np.testing.assert_allclose(shifted, exact, rtol=1e-6, atol=1e-12)


def test_chernoff_of_one_weight_is_closed_form():
    """d / 2 (1 - r + log r) at r times the mean, below it."""
    q, ratio = gcs.distribution(np.array([0.5]), 30), np.array([1e-9, 0.3, 0.999, 1, 7])
    expected = np.where(ratio < 1, 15 * (1 - ratio + np.log(ratio)), 0)
    np.testing.assert_allclose(gcs.chernoff(q, 15 * ratio), expected, atol=1e-12)


def test_the_saddlepoint_of_many_terms_is_nearly_exact():
    q = gcs.distribution(planted_weights(100), 10, planted_weights(100))
    x = gcs.cumulant(q, 1) * np.array([0.1, 0.5, 0.9, 1 - 1e-9, 1, 1 + 1e-9, 1.1])
    exact = gcs.log_cdf(q, x).log_probability
    np.testing.assert_allclose(gcs.saddlepoint(q, x), exact, atol=1e-3)


def test_a_floor_is_never_passed():
    """Zero weights are a constant; at and below it the probability is zero, above it is not."""
    q = gcs.distribution(np.array([0.0, 2.0, 0.0]), 1, np.array([0.25, 0.0, 0.5]))
    assert gcs.floor(q) == 0.75
    x = np.array([-math.inf, -1, 0.75, 0.75 + 1e-9, math.inf])
    expected = [-math.inf] * 3 + [chi_squared(1, x[3] / 2 - 0.375)[0], 0]
    for function in (gcs.chernoff, gcs.saddlepoint, lambda q, x: gcs.log_cdf(q, x).log_probability):
        found = function(q, x)
        np.testing.assert_array_equal(found[[0, 1, 2, 4]], np.array(expected)[[0, 1, 2, 4]])
        assert found[3] == pytest.approx(expected[3], abs=1.5)
    np.testing.assert_array_equal(
        gcs.log_survival(q, x).log_probability[[0, 2, 4]], [0, 0, -math.inf]
    )
    assert gcs.log_cdf(q, x[3]).log_probability == pytest.approx(expected[3], abs=1e-6)


def test_a_constant_is_at_its_value():
    q = gcs.distribution(np.zeros(2), 3, np.array([0.25, 0.5]))
    x = np.array([0.7, 0.75, 0.8])
    np.testing.assert_array_equal(gcs.log_cdf(q, x).log_probability, [-math.inf, 0, 0])
    np.testing.assert_array_equal(gcs.log_survival(q, x).log_probability, [0, -math.inf, -math.inf])
    assert gcs.cumulant(q, 1) == 0.75
    assert gcs.cumulant(q, 2) == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gcs.distribution(np.zeros((2, 2))), "weights: got shape"),
        (lambda: gcs.distribution(np.zeros(0)), "weights: got shape"),
        (lambda: gcs.distribution(np.array([-1e-20])), "weights: got -1e-20"),
        (lambda: gcs.distribution(np.ones(2), 0), "degrees: got 0"),
        (lambda: gcs.distribution(np.ones(2), np.ones(3)), "degrees: got shape"),
        (lambda: gcs.distribution(np.ones(2), 1, np.array([1, math.nan])), "squares: holds NaN"),
        (lambda: gcs.log_cdf(gcs.distribution(np.ones(2)), [1, math.nan]), "values: hold NaN"),
        (lambda: gcs.cumulant(gcs.distribution(np.ones(2)), 0), "order: got 0"),
        (
            lambda: gcs.cumulant_generating_function(gcs.distribution(np.ones(2)), math.nan),
            "u: holds",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
