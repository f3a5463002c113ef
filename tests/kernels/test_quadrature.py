import itertools

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from scipy.stats import norm

from ntkens.kernels import dual, fully_connected, quadrature

VARIANCES = np.array([1e-8, 1e-3, 0.1, 1.0, 5.0, 12.0])


def gelu(z):
    return jax.nn.gelu(z, approximate=False)


def hard_tanh(z):
    return jnp.clip(z, -1.0, 1.0)


def gelu_power(variance):
    """E[gelu^2] from E[z^2 Phi^2], by Stein's lemma twice."""
    quadrant = 0.25 + np.arcsin(variance / (1 + variance)) / (2 * np.pi)
    spread = np.sqrt(1 + 2 * variance)
    bend = (variance / (1 + variance)) ** 2 * (1 / spread + spread)
    return variance * quadrant + bend / (2 * np.pi)


def hard_power(variance):
    """E[clip(z, -1, 1)^2] = K (2 Phi(t) - 1 - 2 t pdf(t)) + 2 Phi(-t), t = 1 / sqrt(K)."""
    t = 1 / np.sqrt(variance)
    bulk = np.array([float(mpmath.gammainc(1.5, 0, x**2 / 2, regularized=True)) for x in t])
    return variance * bulk + 2 * norm.sf(t)


# one function of each kind: smooth, kinked or jumping at 0, at named points, growing fast
CLOSED = {
    "one": (jnp.ones_like, (), np.ones_like),
    "relu squared": (lambda z: jax.nn.relu(z) ** 2, (), lambda q: q / 2),
    "absolute": (jnp.abs, (), lambda q: np.sqrt(2 * q / np.pi)),
    "gelu squared": (lambda z: gelu(z) ** 2, (), gelu_power),
    "sine squared": (lambda z: jnp.sin(z) ** 2, (), lambda q: -np.expm1(-2 * q) / 2),
    "hard tanh squared": (lambda z: hard_tanh(z) ** 2, (-1, 1), hard_power),
    "step": (lambda z: jnp.where(z > 1, 1.0, 0.0), (1,), lambda q: norm.sf(1 / np.sqrt(q))),
    "exponential": (jnp.exp, (), lambda q: np.exp(q / 2)),
    "eighth power": (lambda z: z**8, (), lambda q: 105 * q**4),
}


@pytest.mark.parametrize("name", CLOSED)
def test_expectations_are_the_closed_forms(name):
    function, kinks, closed = CLOSED[name]
    actual = quadrature.expectation(function, VARIANCES, kinks=kinks)
    # a few hundred terms of rounding; beyond 16 sigma, 1e-57, nothing is seen
    np.testing.assert_allclose(actual, closed(VARIANCES), rtol=1e-14, atol=1e-57)


def test_expectations_of_tanh_are_those_of_mpmath():
    variances = np.array([0.01, 0.05, 0.5, 2.0, 50.0, 1e4])

    def exact(variance):
        scale = mpmath.sqrt(variance)
        ends = sorted([0, 4, 12, *[min(12, mpmath.mpf(t) / scale) for t in (1, 3, 9, 30)]])
        return 2 * mpmath.quad(lambda x: mpmath.tanh(scale * x) ** 2 * mpmath.npdf(x), ends)

    with mpmath.workdps(20):
        expected = [float(exact(variance)) for variance in variances]
    actual = quadrature.expectation(lambda z: jnp.tanh(z) ** 2, variances)
    np.testing.assert_allclose(actual, expected, rtol=1e-14)


def test_derivatives_in_the_variance_hold_at_kinks_jumps_and_zero():
    variances = np.array([0.0, 0.01, 0.1, 1.0, 10.0, 1000.0])

    def function(z):  # a jump, a kink and a smooth part; F'' / 2 = 1 around zero
        return jnp.where(z > 1, 1.0, 0.0) + jax.nn.relu(z + 2) + z**2

    @jax.jit
    def slopes(variances):
        def integral(variance):
            return quadrature.expectation(function, variance, kinks=(1, -2))

        return jax.vmap(jax.grad(integral))(variances)

    with np.errstate(divide="ignore"):
        root = np.sqrt(variances)
        jump = norm.pdf(1 / root) / (2 * np.where(root > 0, root, 1) ** 3)
        expected = jump + norm.pdf(2 / root) / (2 * np.where(root > 0, root, 1)) + 1
    # at zero the slope is taken at K = 2e-12, with rounding eps / sqrt(K)
    np.testing.assert_allclose(slopes(variances)[0], expected[0], rtol=1e-9)
    np.testing.assert_allclose(slopes(variances)[1:], expected[1:], rtol=1e-12)


def test_zero_variance_is_the_limit_from_both_sides():
    zero = 0 * VARIANCES
    assert jnp.all(quadrature.expectation(jnp.cos, zero) == 1)
    assert jnp.all(quadrature.expectation(lambda z: jnp.where(z > 0, 3.0, 1.0), zero) == 2)


def test_what_is_not_resolved_raises_or_is_nan_under_jit():
    cases = [
        ("kinks: got .* unresolved", lambda z: jnp.abs(z - 1), 1),
        ("kinks: got .* unresolved", jnp.sin, 1e6),
        ("function: .* infinite", lambda z: jnp.exp(z**2), 1),
    ]
    for message, function, scale in cases:
        with pytest.raises(ValueError, match=message):
            quadrature.expectation(function, scale * VARIANCES)
    under_jit = jax.jit(lambda variance: quadrature.expectation(lambda z: jnp.exp(z**2), variance))
    np.testing.assert_array_equal(jnp.isnan(under_jit(VARIANCES)), VARIANCES > 0.5)
    # the named kink, and variances at which the moment exists
    root = np.sqrt(VARIANCES)
    value = quadrature.expectation(lambda z: jnp.abs(z - 1), VARIANCES, kinks=(1,))
    exact = 2 * root * norm.pdf(1 / root) + 1 - 2 * norm.sf(1 / root)
    np.testing.assert_allclose(value, exact, rtol=1e-14)
    value = quadrature.expectation(lambda z: jnp.exp(z**2), VARIANCES / 60)
    np.testing.assert_allclose(value, 1 / np.sqrt(1 - VARIANCES / 30), rtol=1e-13)


@pytest.mark.parametrize(
    ("error", "message", "variance", "keywords"),
    [
        (ValueError, "variance: got -1", -1.0, {}),
        (ValueError, "variance: holds NaN", np.nan, {}),
        (ValueError, "variance: holds NaN", np.inf, {}),
        (ValueError, "kinks: got", 1.0, {"kinks": (np.nan,)}),
        (ValueError, "function: got values of shape", 1.0, {"function": jnp.sum}),
        (TypeError, "function: gave float32", 1.0, {"function": lambda z: z.astype(jnp.float32)}),
    ],
)
def test_bad_input_is_named(error, message, variance, keywords):
    with pytest.raises(error, match=message):
        quadrature.expectation(keywords.pop("function", jnp.tanh), variance, **keywords)


def test_the_dtype_is_that_of_the_variance():
    power = jax.jit(lambda variance: quadrature.expectation(lambda z: gelu(z) ** 2, variance))
    value = power(jnp.float32(2))
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, gelu_power(2.0), rtol=3e-6)


# dual


def arguments():
    """Pairs at many variances and cosines: opposed, orthogonal, near duplicates, and the same."""
    root1 = np.sqrt([0.3, 100.0])[:, None, None]
    root2 = np.sqrt([0.02, 9.0])[None, :, None]
    versine = np.array([1.0, 0.7, 0.3, 0.01, 1e-6, 1e-12, 0.0])
    sign = np.array([1, -1, 1, -1, 1, 1, 1])
    scale = np.broadcast_to(root1 * root2, (2, 2, 7))
    pairs = (root1**2 + 0 * scale, root2**2 + 0 * scale, sign * scale * (1 - versine))
    return tuple(map(jnp.asarray, (*pairs, scale * versine)))


@pytest.mark.slow
def test_dual_of_relu_is_the_closed_form_for_near_duplicates_too():
    names = ("covariance", "derivative", "gap")
    exact, moments = dual.relu(), quadrature.dual(jax.nn.relu)
    actual = jax.jit(lambda *pairs: [getattr(moments, name)(*pairs) for name in names])(
        *arguments()
    )
    variance1, variance2, *_ = arguments()
    scale = jnp.sqrt(variance1 * variance2) / 2
    for name, each, bound in zip(names, actual, (scale, 0.5, scale), strict=True):
        expected = getattr(exact, name)(*arguments())
        # 1e5 terms; of the bound of Cauchy and Schwarz, for E[phi phi] itself may vanish
        assert jnp.max(jnp.abs(each - expected) / bound) < 1e-14
    for index, tolerance in ((4, 1e-12), (5, 1e-9)):  # eps / sqrt(versine) of phi(u) - phi(v)
        np.testing.assert_allclose(
            actual[2][..., index], exact.gap(*arguments())[..., index], rtol=tolerance
        )


@pytest.mark.slow
def test_dual_with_kinks_away_from_zero():
    """By E[phi(u) E[phi(v) | u]] with the inner mean in closed form."""

    def inner(mean, deviation):  # E[clip(mean + deviation y, -1, 1)]
        low, high = (-1 - mean) / deviation, (1 - mean) / deviation
        ramp = mean * (norm.cdf(high) - norm.cdf(low)) - deviation * (
            norm.pdf(high) - norm.pdf(low)
        )
        return ramp + norm.sf(high) - norm.cdf(low)

    variance1, variance2, cosines = 2.0, 0.5, np.array([0.0, 0.6, -0.95])

    def exact(cosine):
        slope = cosine * np.sqrt(variance2)
        rest = np.sqrt(variance2 * (1 - cosine**2))

        def integrand(x):
            value = np.clip(np.sqrt(variance1) * x, -1, 1)
            return value * inner(slope * x, rest) * norm.pdf(x)

        kink = 1 / np.sqrt(variance1)
        ends = [-9, -5, -2.5, -kink, 0, kink, 2.5, 5, 9]
        nodes, weights = np.polynomial.legendre.leggauss(40)
        total = 0.0
        for left, right in itertools.pairwise(ends):
            half = (right - left) / 2
            total += half * weights @ integrand((left + right) / 2 + half * nodes)
        return total

    moments = quadrature.dual(hard_tanh, kinks=(-1, 1))
    actual = moments.covariance(
        jnp.full(3, variance1), jnp.full(3, variance2), jnp.asarray(cosines)
    )
    np.testing.assert_allclose(actual, [exact(cosine) for cosine in cosines], rtol=0, atol=1e-13)


@pytest.mark.slow
def test_a_network_of_any_activation_is_that_of_its_closed_form():
    x = jax.random.normal(jax.random.key(0), (2, 5))
    x = jnp.concatenate([x, x[:1] * (1 + 1e-7) + 1e-7, 0 * x[:1]])
    actual = fully_connected.kernel_fn(quadrature.dual(jnp.sin), 2, 1.4, 0.1)(x)
    expected = fully_connected.kernel_fn(dual.sin(), 2, 1.4, 0.1)(x)
    np.testing.assert_allclose(actual.nngp, expected.nngp, rtol=1e-13)
    np.testing.assert_allclose(actual.ntk, expected.ntk, rtol=1e-13)


def test_dual_of_a_kink_that_is_not_named_raises():
    with pytest.raises(ValueError, match="kinks: got"):
        quadrature.dual(lambda z: jnp.abs(z - 1))
