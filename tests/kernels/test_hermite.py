import math

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.polynomial import hermite_e
from scipy.optimize import linprog

from ntkens.kernels import dual, hermite

FACTORIALS = np.array([float(math.factorial(i)) for i in range(101)])


def relu_coefficients(degree):
    """1/sqrt(2 pi), 1/2, then (-1)^(i/2 - 1) (i - 3)!! / sqrt(2 pi i!) for even i."""
    closed = [1 / math.sqrt(2 * math.pi), 0.5]
    for i in range(2, degree + 1):
        size = mpmath.fac2(i - 3) / mpmath.sqrt(2 * mpmath.pi * mpmath.factorial(i))
        closed.append(0.0 if i % 2 else float((-1) ** (i // 2 - 1) * size))
    return np.array(closed[: degree + 1])


def by_mpmath(activation, order, kinks=()):
    def integrand(z):
        polynomial = mpmath.hermite(order, z / mpmath.sqrt(2)) / 2 ** mpmath.mpf(order / 2)
        return activation(z) * polynomial * mpmath.npdf(z)

    integral = mpmath.quad(integrand, [-12, *kinks, 12], maxdegree=8)
    return float(integral / mpmath.sqrt(mpmath.factorial(order)))


def by_quadrature(series, variance1, variance2, covariance, derivative=False):
    """E[phi(u) phi(v)] of a polynomial, by a product Gauss-Hermite rule that is exact for it."""
    series = np.asarray(series) / np.sqrt(FACTORIALS[: len(series)])
    if derivative:
        series = hermite_e.hermeder(series)
    nodes, weights = hermite_e.hermegauss(len(series) + 1)
    weights = weights / weights.sum()
    u = math.sqrt(variance1) * nodes[:, None]
    slope = covariance / math.sqrt(variance1)
    v = slope * nodes[:, None] + math.sqrt(max(variance2 - slope**2, 0)) * nodes[None, :]
    values = hermite_e.hermeval(u, series) * hermite_e.hermeval(v, series)
    return weights @ values @ weights


# coefficients


@pytest.mark.parametrize("degree", [0, 1, 10, 100, 300])
def test_relu_coefficients_are_the_closed_form(degree):
    actual = hermite.coefficients(jax.nn.relu, degree)
    assert actual.shape == (degree + 1,)
    np.testing.assert_allclose(actual, relu_coefficients(degree), rtol=0, atol=1e-14)


def test_abs_and_step_coefficients_follow_from_relu():
    relu = relu_coefficients(60)
    even = np.arange(61) % 2 == 0
    absolute = hermite.coefficients(np.abs, 60)  # |z| = 2 relu(z) - z
    np.testing.assert_allclose(absolute, 2 * relu * even, atol=1e-14)
    # b_i[phi'] = sqrt(i + 1) b_(i+1)[phi]
    step = hermite.coefficients(lambda z: (z > 0) * 1.0, 59)
    np.testing.assert_allclose(step, np.sqrt(np.arange(1, 61)) * relu[1:], atol=1e-14)


@pytest.mark.parametrize("kinks", [(), (0.0,)])
def test_sine_and_exponential_coefficients_are_the_closed_form(kinks):
    order = np.arange(61)
    size = np.exp(-0.5) / np.sqrt(FACTORIALS[:61])
    sine = np.where(order % 2 == 1, (-1.0) ** (order // 2), 0) * size
    np.testing.assert_allclose(hermite.coefficients(jnp.sin, 60, kinks=kinks), sine, atol=1e-15)
    exponential = hermite.coefficients(jnp.exp, 60, kinks=kinks)
    np.testing.assert_allclose(exponential, np.exp(1) * size, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    ("activation", "precise", "kinks"),
    [
        (jax.scipy.special.erf, mpmath.erf, ()),
        (lambda z: jax.nn.gelu(z, approximate=False), lambda z: z * mpmath.ncdf(z), ()),
        (lambda z: jnp.maximum(z - 0.3, -1), lambda z: max(z - 0.3, -1), (-0.7,)),
    ],
)
def test_coefficients_against_mpmath(activation, precise, kinks):
    series = hermite.coefficients(activation, 9, kinks=kinks)
    for order in (0, 1, 2, 5, 9):
        assert abs(series[order] - by_mpmath(precise, order, kinks)) < 1e-13


def test_squares_of_erf_coefficients_are_the_arcsine_series():
    series = hermite.coefficients(jax.scipy.special.erf, 81, kinks=())
    # (2/pi) arcsin(x) = (2/pi) sum C(2k, k) x^(2k+1) / (4^k (2k+1)), x = 2 rho / 3
    k = np.arange(41)
    central = np.array([math.comb(2 * i, i) / 4**i for i in range(41)])
    expected = 2 / np.pi * central * (2 / 3) ** (2 * k + 1) / (2 * k + 1)
    np.testing.assert_allclose(series[1::2] ** 2, expected, rtol=1e-9, atol=1e-16)
    np.testing.assert_allclose(series[::2], 0, atol=1e-15)


def test_parseval():
    for activation, power in ((jnp.sin, (1 - math.exp(-2)) / 2), (lambda z: z**5, 945.0)):
        series = hermite.coefficients(activation, 40, kinks=())
        np.testing.assert_allclose(np.sum(series**2), power, rtol=1e-14)
    # the tail of ReLU's squares falls as degree^(-3/2)
    tails = [0.5 - np.sum(hermite.coefficients(jax.nn.relu, n) ** 2) for n in (100, 400)]
    np.testing.assert_allclose(tails[0] / tails[1], 8, rtol=0.03)


def test_coefficients_are_constants_under_jit():
    compiled = jax.jit(lambda x: x * hermite.coefficients(jnp.sin, 1)[1])
    np.testing.assert_allclose(compiled(2.0), 2 * math.exp(-0.5), rtol=1e-14)


# the dual of a series


@pytest.mark.parametrize("variances", [(1.0, 1.0), (0.3, 0.3), (0.5, 2.0), (3.0, 1e-3)])
@pytest.mark.parametrize("rho", [-1.0, -0.4, 0.0, 0.9, 1.0])
def test_dual_is_the_gaussian_moment_of_the_polynomial(variances, rho):
    series = np.random.default_rng(0).normal(size=10)
    variance1, variance2 = variances
    covariance = rho * math.sqrt(variance1 * variance2)
    of_series = hermite.dual(series)
    for moment, derivative in ((of_series.covariance, False), (of_series.derivative, True)):
        actual = moment(jnp.asarray(variance1), jnp.asarray(variance2), jnp.asarray(covariance))
        powers = [by_quadrature(series, q, q, q, derivative) for q in variances]
        expected = by_quadrature(series, variance1, variance2, covariance, derivative)
        assert abs(actual - expected) < 1e-13 * math.sqrt(powers[0] * powers[1])


@pytest.mark.parametrize("degree", [30, 100])
def test_high_degrees_lose_nothing_to_rounding(degree):
    # The formula itself in 60 digits: what is measured is rounding, relative to the power.
    series = hermite.coefficients(jax.nn.relu, degree)

    def beta(j, q):
        terms = (
            mpmath.mpf(series[j + 2 * k])
            * mpmath.sqrt(mpmath.factorial(j + 2 * k) / mpmath.factorial(j))
            / (mpmath.factorial(k) * mpmath.mpf(2) ** k)
            * (mpmath.mpf(q) - 1) ** k
            for k in range((degree - j) // 2 + 1)
        )
        return mpmath.fsum(terms)

    with mpmath.workdps(60):
        for variance in (0.25, 1.5, 3.0):
            squares = [beta(j, variance) ** 2 for j in range(degree + 1)]
            power = mpmath.fsum(b * mpmath.mpf(variance) ** j for j, b in enumerate(squares))
            for rho in (-1.0, 0.5, 1.0):
                exact = mpmath.fsum(
                    b * mpmath.mpf(rho * variance) ** j for j, b in enumerate(squares)
                )
                q, c = jnp.asarray(variance), jnp.asarray(rho * variance)
                actual = float(hermite.dual(series).covariance(q, q, c))
                assert abs(mpmath.mpf(actual) - exact) < 1e-14 * power


@pytest.mark.slow
def test_dual_of_sine_series_is_the_closed_form_at_other_variances():
    of_series = hermite.dual(hermite.coefficients(jnp.sin, 40, kinks=()))
    q1, q2 = jnp.array([[0.0], [0.3], [2.0]]), jnp.array([[0.5, 1.0, 2.0]])
    covariance = 0.8 * jnp.sqrt(q1 * q2)
    for name in ("covariance", "derivative", "gap"):
        expected = getattr(dual.sin(), name)(q1, q2, covariance)
        actual = getattr(of_series, name)(q1, q2, covariance)
        assert actual.shape == (3, 3)
        np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-13)


def test_dual_of_relu_series_tends_to_the_arc_cosine_kernel():
    rho = jnp.linspace(-0.9, 0.9, 7)
    one = jnp.ones_like(rho)
    of_series = hermite.dual(hermite.coefficients(jax.nn.relu, 120))
    for name in ("covariance", "derivative"):
        expected = getattr(dual.relu(), name)(one, one, rho)
        np.testing.assert_allclose(getattr(of_series, name)(one, one, rho), expected, atol=1e-6)


def test_gradients_are_finite_where_cosines_and_variances_end():
    of_series = hermite.dual([0.3, 1.0, -0.5, 0.2])
    for moment in (of_series.covariance, of_series.derivative):
        for q, c in ((1.0, 1.0), (1.0, -1.0), (1.0, 0.0), (0.0, 0.0), (1e-300, 0.0)):
            assert np.isfinite(jax.grad(moment, (0, 1, 2))(q, q, c)).all()


@pytest.mark.slow
@given(st.lists(st.floats(0, 1), min_size=2, max_size=8).filter(lambda a: sum(a) > 0.1))
def test_wanted_maps_of_cosines_are_kernels_and_their_derivatives_agree(wanted):
    made = hermite.activation(wanted).dual
    points = np.random.default_rng(0).normal(size=(12, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    rho = jnp.asarray(np.clip(points @ points.T, -1, 1))
    one = jnp.ones_like(rho)
    gram = made.covariance(one, one, rho)
    np.testing.assert_allclose(gram, np.polyval(wanted[::-1], rho), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(made.cosine(rho), gram / sum(wanted), rtol=1e-12, atol=1e-14)
    assert np.linalg.eigvalsh(gram)[0] > -1e-13
    slope = jax.grad(lambda rho: made.covariance(one, one, rho).sum())(rho)
    np.testing.assert_allclose(made.derivative(one, one, rho), slope, rtol=1e-12, atol=1e-13)


# an activation from a wanted dual


@pytest.mark.parametrize("degree", [0, 1, 3, 60])
def test_apply_is_numpys_hermite_series(degree):
    wanted = np.random.default_rng(1).uniform(size=degree + 1)
    inputs = np.linspace(-4, 4, 33).reshape(3, 11)
    expected = hermite_e.hermeval(inputs, np.sqrt(wanted / FACTORIALS[: degree + 1]))
    made = hermite.activation(wanted)
    for apply in (made.apply, jax.jit(made.apply)):
        # |h_i| <= exp(z^2 / 4): Cramer's inequality bounds the sum that is being rounded
        bound = np.exp(inputs**2 / 4) * np.sqrt(wanted).sum()
        assert (np.abs(apply(jnp.asarray(inputs)) - expected) < 1e-13 * bound).all()


def test_apply_follows_the_dtype_and_has_gradients():
    made = hermite.activation([0, 0.5, 0, 0, 0, 0, 0, 0.5])
    assert made.apply(jnp.ones(3, jnp.float32)).dtype == jnp.float32
    assert made.apply(jnp.ones(3, jnp.bfloat16)).dtype == jnp.bfloat16
    at, step = 0.7, 1e-5
    difference = (made.apply(at + step) - made.apply(at - step)) / (2 * step)
    np.testing.assert_allclose(jax.vmap(jax.grad(made.apply))(jnp.array([at])), difference, 1e-8)


def test_round_trip_from_cosines_to_activation_to_coefficients():
    wanted = np.array([0.2, 0.5, 0.0, 0.3, 0.0, 0.7])
    made = hermite.activation(wanted)
    np.testing.assert_allclose(hermite.coefficients(made.apply, 5) ** 2, wanted, atol=1e-14)


def test_activation_has_its_dual_by_monte_carlo(key):
    made = hermite.activation([0.1, 0.4, 0.3, 0.2])
    rho, variance, samples = 0.6, 1.4, 200_000
    u, noise = variance**0.5 * jax.random.normal(key, (2, samples))
    v = rho * u + math.sqrt(1 - rho**2) * noise
    arguments = (jnp.asarray(variance), jnp.asarray(variance), jnp.asarray(rho * variance))
    slope = jax.vmap(jax.grad(made.apply))
    for function, moment in ((made.apply, made.dual.covariance), (slope, made.dual.derivative)):
        products = function(u) * function(v)
        error = products.mean() - moment(*arguments)
        assert abs(error) < 5 * products.std() / samples**0.5


# optimal activations and their inverse


@pytest.mark.slow
@pytest.mark.parametrize("dimension", [1, 2, 3, 4, 8])
def test_optimal_activations_are_the_published_ones(dimension):
    wanted = np.zeros(8)
    if dimension == 1:
        wanted[[1, 7]] = 1 / 2
    else:
        wanted[[1, 3]] = 2 ** (-dimension / 2)
        wanted[2] = 1 - 2 ** (1 - dimension / 2)
    made = hermite.optimal_activation(dimension)
    inputs = np.linspace(-3, 3, 13)
    expected = hermite_e.hermeval(inputs, np.sqrt(wanted / FACTORIALS[:8]))
    np.testing.assert_allclose(made.apply(jnp.asarray(inputs)), expected, rtol=1e-12, atol=1e-13)
    rho = jnp.linspace(-1, 1, 21)
    np.testing.assert_allclose(made.dual.cosine(rho), np.polyval(wanted[::-1], rho), atol=1e-14)
    # E phi = 0, E phi' = sqrt(a), E phi'^2 = b, E phi^2 = 1, by quadrature of phi itself
    slope = jax.vmap(jax.grad(made.apply))
    low = 0.5 if dimension == 1 else 2 ** (-dimension / 2)
    mean, first = hermite.coefficients(made.apply, 1, kinks=())
    assert abs(mean) < 1e-14
    np.testing.assert_allclose(first**2, low, rtol=1e-12)
    squares = hermite.coefficients(lambda z: slope(z) ** 2, 0, kinks=())[0]
    np.testing.assert_allclose(squares, 4 if dimension == 1 else 2, rtol=1e-12)
    np.testing.assert_allclose(-2 * math.log(low) / math.log(squares), dimension, rtol=1e-12)


def test_fourth_moments_that_a_finite_width_has_to_exceed():
    def fourth(made):
        return hermite.coefficients(lambda z: made.apply(z) ** 4, 0, kinks=())[0]

    # (h_1 + h_3) / sqrt 2 = (z^3 + (sqrt 6 - 3) z) / sqrt 12, and E Z^(2k) = (2k - 1)!!
    c = math.sqrt(6) - 3
    exact = (10395 + 4 * c * 945 + 6 * c**2 * 105 + 4 * c**3 * 15 + 3 * c**4) / 144
    np.testing.assert_allclose(fourth(hermite.optimal_activation(2)), exact, rtol=1e-12)
    assert round(exact) == 59
    nodes, weights = hermite_e.hermegauss(20)  # exact to degree 39
    of_degree_seven = nodes + hermite_e.hermeval(nodes, np.eye(8)[7]) / math.sqrt(5040)
    exact = weights @ (of_degree_seven / math.sqrt(2)) ** 4 / math.sqrt(2 * math.pi)
    np.testing.assert_allclose(fourth(hermite.optimal_activation(1)), exact, rtol=1e-12)
    assert round(exact) == 69_474
    assert round(fourth(hermite.activation_for_exponent(1))) == 364
    assert round(fourth(hermite.activation_for_exponent(1, slope_at_one=1.5))) == 45


@settings(max_examples=8)
@given(st.floats(0.2, 200), st.floats(1.05, 4))
def test_activations_for_any_exponent(exponent, slope):
    low = slope ** (-exponent / 2)
    if slope < 2 - low:
        with pytest.raises(ValueError, match=f"slope_at_one: got {slope}, too small"):
            hermite.activation_for_exponent(exponent, slope_at_one=slope)
        slope = 2.0
    made = hermite.activation_for_exponent(exponent, slope_at_one=slope).dual
    one, zero = jnp.ones(()), jnp.zeros(())
    np.testing.assert_allclose(made.covariance(one, one, one), 1, rtol=1e-13)
    assert made.covariance(one, one, zero) == 0
    a, b = made.derivative(one, one, zero), made.derivative(one, one, one)
    np.testing.assert_allclose(b, slope, rtol=1e-12)
    np.testing.assert_allclose(-2 * math.log(a) / math.log(b), exponent, rtol=1e-11)


def test_no_other_choice_of_the_same_slope_has_a_lower_degree():
    """By linear programming: with one degree less there are no weights >= 0 of this f'(1)."""
    for exponent in (0.3, 1.0, 1.7, 2.0, 3.5):
        made = hermite.activation_for_exponent(exponent)
        degree = np.flatnonzero(hermite.coefficients(made.apply, 40, kinks=()) ** 2 > 1e-9)[-1]
        low = 2 ** (-exponent / 2)
        for top, status in ((degree, 0), (degree - 1, 2)):  # 0: found, 2: infeasible
            orders = np.arange(2, top + 1)
            equations = np.stack([np.ones(len(orders)), orders])
            result = linprog(orders, A_eq=equations, b_eq=[1 - low, 2 - low])
            assert result.status == status


def test_exponents_and_dimensions_out_of_range_are_named():
    for exponent in (0, -1, math.nan, math.inf):
        with pytest.raises(ValueError, match="exponent: got"):
            hermite.activation_for_exponent(exponent)
    with pytest.raises(ValueError, match=r"exponent: got 4000.*nearest neighbour"):
        hermite.activation_for_exponent(4000)
    for slope in (1, 0.5, math.nan, math.inf):
        with pytest.raises(ValueError, match="slope_at_one: got"):
            hermite.activation_for_exponent(2, slope_at_one=slope)
    for dimension in (0, -1, 1.5, math.nan):
        with pytest.raises(ValueError, match="dimension: got"):
            hermite.optimal_activation(dimension)


# bad input


@pytest.mark.parametrize("rate", [1 / 3, 1 / 4])
def test_an_activation_of_infinite_second_moment_has_no_coefficients(rate):
    with pytest.raises(ValueError, match=r"E\[phi\(Z\)\^2\] is infinite"):
        hermite.coefficients(lambda z: np.exp(rate * z**2), 2, kinks=())
    # exp(z^2 / 6) has the second moment sqrt(3), and E[exp(z^2 / 6)] = sqrt(3/2)
    finite = hermite.coefficients(lambda z: np.exp(z**2 / 6), 200, kinks=())
    np.testing.assert_allclose(finite[0], math.sqrt(1.5), rtol=1e-14)
    np.testing.assert_allclose(np.sum(finite**2), math.sqrt(3), rtol=1e-12)


def test_a_constant_has_a_dual_with_a_slope():
    made = hermite.dual([2.0])
    assert made.covariance(*jnp.ones(3)) == 4
    assert made.derivative(*jnp.ones(3)) == 0


@pytest.mark.parametrize(
    ("activation", "degree", "kinks", "message"),
    [
        (jnp.sin, -1, (), "degree: got -1"),
        (jnp.sin, 1.5, (), "degree: got 1.5"),
        (jnp.sin, np.nan, (), "degree: got nan"),
        (lambda z: 1j * z, 2, (), "activation: wants finite real"),
        (jnp.sin, 2, (np.nan,), "kinks: got"),
        (lambda z: np.maximum(z - 0.3, 0), 2, (0.0,), "kinks: got .*name every point"),
        (lambda z: np.where(z > 1, np.inf, z), 2, (), r"activation: .* infinite"),
        (np.sum, 2, (), r"activation: wants .*got shape \(\)"),
    ],
)
def test_coefficients_name_what_is_wrong(activation, degree, kinks, message):
    with pytest.raises(ValueError, match=message):
        hermite.coefficients(activation, degree, kinks=kinks)


@pytest.mark.parametrize(
    ("make", "series", "message"),
    [
        (hermite.dual, [[1.0]], r"coefficients: got shape \(1, 1\)"),
        (hermite.dual, [0.0, 0.0], "coefficients: .*not all zero"),
        (hermite.dual, [np.nan], "coefficients"),
        (hermite.activation, [0.5, 0.2, -0.1], "cosine_coefficients: number 2 is -0.1"),
        (hermite.activation, [], "cosine_coefficients: got shape"),
    ],
)
def test_series_name_what_is_wrong(make, series, message):
    with pytest.raises(ValueError, match=message):
        make(series)
