"""Vertices and moments against closed forms, exact chains of three layers, and integrals."""

import collections
import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from ntkens.kernels import finite_width, universality
from ntkens.kernels.criticality import nonlinearity

WIDTHS = (8, 16, 4, 4, 32)


def leaky(below):
    """A slope that may be traced: one compilation for all of them."""
    return nonlinearity(lambda z: jnp.where(z > 0, z, below * z), kinks=(0.0,))


@pytest.mark.slow
def test_vertices_of_scale_invariant_networks():
    """nu a layer: 5, 2 of a linear one; with a skip 2 (1 - gamma^4), and of ReLU what T adds."""

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(0, 0, None))
    def all_of(below, skip, widths):
        weight = 2 * (1 - skip**2) / (1 + below**2)
        return finite_width.four_point_vertex(leaky(below), 2.0, 0.0, weight, widths, skip=skip)

    skip = 0.6
    slopes, skips = jnp.array([0.0, 0.5, 1.0, 0.0, 1.0]), jnp.array([0.0, 0.0, 0.0, skip, skip])
    found = all_of(slopes, skips, jnp.full(4, 9))
    np.testing.assert_allclose(found.kernel, 2.0, rtol=1e-11)
    for row, below in enumerate((0.0, 0.5, 1.0)):
        growth = universality.vertex_growth((1.0, below), 0.0)
        np.testing.assert_allclose(found.four_point[row], 4 * growth * np.arange(4), rtol=1e-11)
    np.testing.assert_allclose(found.four_point[4], 8 * (1 - skip**4) * np.arange(4), rtol=1e-11)
    assert np.all(np.abs(found.three_point[:3]) == 0)
    np.testing.assert_allclose(found.three_point[4], 0, atol=1e-13)
    weight = 2 * (1 - skip**2)
    cubic = skip * weight * math.sqrt(2 / math.pi) * 2**1.5  # gamma C_W <z sigma^2>
    three = np.array([0, cubic, cubic * (1 + skip), cubic * (1 + skip + skip**2)])
    np.testing.assert_allclose(found.three_point[3], three, rtol=1e-11)
    mixed = 4 * weight * math.sqrt(2 / (2 * math.pi)) * three  # 4 C_W <sigma sigma'> T
    steps = 4 * (1 - skip**2) * (5 - skip**2) + mixed[:-1]
    np.testing.assert_allclose(found.four_point[3], [0, *np.cumsum(steps)], rtol=1e-11)


@pytest.fixture(scope="module")
def moments_of():
    """Moments of leaky units, or of sines, with everything traced: compiled once."""

    @jax.jit
    @jax.vmap
    def moments_of(is_sine, below, kernel, bias, weight, widths):
        def apply(z):
            return jnp.where(is_sine, jnp.sin(z), jnp.where(z > 0, z, below * z))

        return finite_width.moments(nonlinearity(apply), kernel, bias, weight, widths)

    return moments_of


@pytest.mark.slow
def test_moments_resum_scale_invariant_networks(moments_of):
    """The variance is exact at widths of 4; the mean, and the first third cumulant, as well."""
    slopes = np.array([0.0, 0.5, 1.0])
    three = np.full(3, 3.0)
    found = moments_of(
        np.zeros(3, bool), slopes, three, np.zeros(3), 2 / (1 + slopes**2), np.tile(WIDTHS, (3, 1))
    )
    below = np.array([WIDTHS[0], *WIDTHS[:-1]])
    for row, slope in enumerate(slopes):
        growth = universality.vertex_growth((1.0, slope), 0.0)
        exact = finite_width.resummed_vertex(growth, 3.0, WIDTHS)
        np.testing.assert_allclose(below * found.variance[row], exact, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(found.mean, 3.0, rtol=1e-10)
    # third cumulant of 2 relu(z)^2 at K = 3 from E[z^6] = 405, and over n^2
    third = 8 * (405 / 2 - 3 * 27 / 2 * 1.5 + 2 * 1.5**3)
    np.testing.assert_allclose(found.third[0, 1], third / 8**2, rtol=1e-10)


def test_one_width_is_the_formula_of_the_specification():
    relu, linear = (finite_width.resummed_vertex(growth, 1.0, (64,) * 8) for growth in (5, 2))
    np.testing.assert_allclose(relu, [0, 5, 10.39, 16.20, 22.47, 29.22, 36.51, 44.36], atol=5e-3)
    np.testing.assert_allclose(linear, [0, 2, 4.06, 6.19, 8.38, 10.64, 12.98, 15.38], atol=6e-3)


def exact_third_layer(width):
    """Mean, variance and third cumulant of G^3 for sin, C_b = 0.3, C_W = 1.2 and K^1 = 0.8.

    E[exp(-a G^2)] = exp(-a C_b) E[exp(-a C_W sin(z)^2 / n)]^n by quadrature, and all moments are
    sums of these: of polynomials in E[sin^2], E[sin^4] and E[sin^6] at a variance of G^2.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    weights = weights / weights.sum()
    power = np.sin(math.sqrt(0.8) * nodes) ** 2

    def laplace(a):
        return math.exp(-0.3 * a) * (weights @ np.exp(-a * 1.2 / width * power)) ** width

    def expected(*factors):  # each a sum of exponentials, coefficient by exponent
        terms = {0: 1.0}
        for factor in factors:
            products = collections.Counter()
            for (a, x), (b, y) in itertools.product(terms.items(), factor.items()):
                products[a + b] += x * y
            terms = products
        return sum(x * laplace(a) for a, x in terms.items())

    second, fourth = {0: 1 / 2, 2: -1 / 2}, {0: 3 / 8, 2: -1 / 2, 8: 1 / 8}
    sixth = {0: 10 / 32, 2: -15 / 32, 8: 6 / 32, 18: -1 / 32}
    n, one, two = width, expected(second), expected(second, second)
    three, mixed = expected(second, second, second), expected(second, fourth)
    square = two + (expected(fourth) - two) / n
    cube = three + 3 * (mixed - three) / n + (expected(sixth) - 3 * mixed + 2 * three) / n**2
    third = cube - 3 * one * square + 2 * one**3
    return 0.3 + 1.2 * one, 1.2**2 * (square - one**2), 1.2**3 * third


@pytest.mark.slow
def test_moments_are_of_the_order_they_promise(moments_of):
    """Errors fall as n^-2 of the mean, n^-3 of both cumulants, and of the kernel not so fast."""
    sizes = np.array([50, 100, 200])
    each = (np.full(3, value) for value in (True, 0.0, 0.8, 0.3, 1.2))
    moments = moments_of(*each, np.tile(sizes[:, None], 5))
    exact = np.array([exact_third_layer(size) for size in sizes]).T
    mean = np.abs(np.asarray(moments.mean)[:, 2] - exact[0])
    variance = np.abs(np.asarray(moments.variance)[:, 2] - exact[1])
    third = np.abs(np.asarray(moments.third)[:, 2] - exact[2])
    rates = [np.log2(error[:-1] / error[1:]) for error in (mean, variance, third)]
    np.testing.assert_allclose(rates[0], 2, atol=0.1)  # the next order, at n = 50
    np.testing.assert_allclose(rates[1:], np.full((2, 2), 3.0), atol=0.1)
    assert np.all(np.abs(np.asarray(moments.kernel)[:, 2] - exact[0]) > 20 * mean)


@pytest.mark.slow
def test_tanh_has_the_universal_vertex():
    """V / (K^2 l) -> 2/3: the specification's numbers, found with another quadrature."""
    depth = 20_000
    vertices = jax.jit(
        lambda: finite_width.four_point_vertex(nonlinearity(jnp.tanh), 1.0, 0.0, 1.0, [1] * depth)
    )()
    layers = np.arange(1, depth + 1)
    ratio = np.asarray(vertices.four_point / vertices.kernel**2) / layers
    found = ratio[np.array([10, 100, 1000, 20_000]) - 1]
    np.testing.assert_allclose(found, [0.5524, 0.6480, 0.6641, 0.6665], atol=6e-5)


def test_derivatives_of_means():
    """Of z^6, 15 K^3; and of a jump at 1, erfc(1 / sqrt(2K)) / 2."""

    @jax.jit
    def derivatives(kernel):
        mean = finite_width.derivative_of_mean
        orders = [mean(lambda z: z**6, kernel, order, ()) for order in range(4)]
        return orders, mean(lambda z: 1.0 * (z > 1), kernel, 1, (1.0,))

    orders, jump = derivatives(0.7)
    np.testing.assert_allclose(orders, [15 * 0.343, 45 * 0.49, 90 * 0.7, 90], rtol=1e-11)
    density = math.exp(-1 / 1.4) / math.sqrt(2 * math.pi * 0.7)
    np.testing.assert_allclose(jump, density / (2 * 0.7), rtol=1e-11)


def information(ratio, first, second):
    """Of two groups of outputs that share a log-normal G of variance `ratio`, by integration."""
    log_variance = math.log1p(ratio)
    nodes, weights = np.polynomial.hermite_e.hermegauss(100)
    scales = np.exp(math.sqrt(log_variance) * nodes - log_variance / 2)[None]
    log_weights = np.log(weights / weights.sum())[None]
    logs = np.linspace(-80, 12, 8001)  # of |z|^2
    square = np.exp(logs)[:, None]

    def divergence(size):  # of |z|^2 from a chi-squared
        terms = log_weights - size / 2 * np.log(scales) - square / (2 * scales)
        density = special.logsumexp(terms, axis=1)
        radial = size / 2 * (logs - math.log(2)) - special.gammaln(size / 2)
        return np.trapezoid(np.exp(density + radial) * (density + square[:, 0] / 2), logs)

    return divergence(first + second) - divergence(first) - divergence(second)


def test_the_information_that_gives_the_optimal_aspect_ratio():
    """Its series agrees to the third order, peaks at r*; the information itself goes on growing."""
    ratio = 0.01
    series, exact = (each(ratio, 1, 2) for each in (finite_width.mutual_information, information))
    assert abs(series - exact) < 0.1 * 2 * 29 / 48 * ratio**3  # a tenth of the cubic term
    best = finite_width.aspect_ratios(5.0, 3).optimal * 5
    at_best = finite_width.mutual_information(best, 1, 2)
    for other in (0.9 * best, 1.1 * best):
        assert finite_width.mutual_information(other, 1, 2) < at_best
    exact = [information(ratio, 1, 2) for ratio in (best, 2 * best, 10 * best)]
    assert exact == sorted(exact)


def test_the_cutoff_is_where_fluctuations_reach_the_mean():
    depth = finite_width.cutoff_depth(5.0, 100)
    below, above = (
        finite_width.resummed_vertex(5.0, 1.0, (100,) * layers)[-1] / 100
        for layers in (math.floor(depth), math.ceil(depth))
    )
    assert below < 1 < above
    ratios = finite_width.aspect_ratios(2 / 3, 10)
    assert ratios.cutoff == pytest.approx(1.5)
    assert ratios.optimal == pytest.approx(1.5 * 4 / 50)
    assert finite_width.cutoff_depth(5.0, 10**9) / 10**9 == pytest.approx(math.log(2) / 5)


def test_bad_arguments_are_refused():
    sine = nonlinearity(jnp.sin)
    with pytest.raises(ValueError, match=r"kernel: got 0\.0; want one variance above 0"):
        finite_width.moments(sine, 0.0, 0.0, 1.0, (4, 4))
    with pytest.raises(ValueError, match=r"widths: got \(\); want"):
        finite_width.four_point_vertex(sine, 1.0, 0.0, 1.0, ())
    with pytest.raises(ValueError, match=r"widths: got .*skipped to"):
        finite_width.four_point_vertex(sine, 1.0, 0.0, 1.0, (4, 5), skip=0.5)
    with pytest.raises(ValueError, match="growth: got 0"):
        finite_width.aspect_ratios(0.0, 1)
    with pytest.raises(ValueError, match="outputs: got 0"):
        finite_width.aspect_ratios(1.0, 0)
    with pytest.raises(ValueError, match="kinks: got"):
        finite_width.four_point_vertex(
            nonlinearity(lambda z: jax.nn.relu(z - 0.7)), 1.0, 0.0, 1.0, (4, 4)
        )
