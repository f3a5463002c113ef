"""The moment of rectified normals with means, by one-dimensional integrals of SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import integrate
from scipy.stats import multivariate_normal, norm

from ntkens.kernels import shifted_relu

covariance = jax.jit(shifted_relu.covariance)


def exact(mean1, mean2, cosine):
    """E[relu(u) E[relu(v) | u]], to 1e-13: the inner one in closed form, split where it bends."""
    spread = np.sqrt(1 - cosine**2)

    def integrand(x):
        mean = mean2 + cosine * x
        inner = max(mean, 0) if spread == 0 else spread * rectified(mean / spread)
        return (x + mean1) * norm._pdf(x) * inner

    def rectified(mean):
        return mean * norm._cdf(mean) + norm._pdf(mean)

    bends = [-mean2 / cosine + k * spread for k in (-5, -1, 0, 1, 5)] if cosine else []
    bends = [x for x in bends if -mean1 < x < 10]
    return integrate.quad(
        integrand, -mean1, 12, points=bends, epsabs=1e-14, epsrel=1e-13, limit=200
    )[0]


def reachable(rng, count, width):
    """Means and cosines that attention makes of tokens: of any norms, near, far and opposite."""

    def augmented(tokens):
        tokens = np.concatenate([tokens, np.ones((*tokens.shape[:-1], 1))], axis=-1)
        return tokens / np.linalg.norm(tokens, axis=-1, keepdims=True)

    size = 10.0 ** rng.uniform(-1, 1, (count, 1))
    step = 10.0 ** rng.uniform(-4, 1, (count, 1))
    query, key = size * rng.normal(size=(2, count, width))
    turn = rng.choice([-1, 1], (count, 1))
    other = (turn * (tokens + step * rng.normal(size=key.shape)) for tokens in (query, key))
    query, key, *other = map(augmented, (query, key, *other))
    mean1 = 2 * np.sum(query[:, :-1] * key[:, :-1], axis=1)
    mean2 = 2 * np.sum(other[0][:, :-1] * other[1][:, :-1], axis=1)
    return mean1, mean2, np.sum(query * other[0], axis=1) * np.sum(key * other[1], axis=1)


def points():
    rng = np.random.default_rng(0)
    return map(
        np.concatenate, zip(*(reachable(rng, 80, width) for width in (1, 2, 8)), strict=True)
    )


def test_the_stated_error(monkeypatch):
    mean1, mean2, cosine = points()
    truth = np.array([exact(*each) for each in zip(mean1, mean2, cosine, strict=True)])
    assert np.min(cosine) < -0.5
    assert 0 < 1 - np.max(cosine) < 1e-9
    got = covariance(mean1, mean2, cosine)
    np.testing.assert_allclose(got, truth, atol=1e-10, rtol=0)
    single = covariance(*(np.float32(each) for each in (mean1, mean2, cosine)))
    assert single.dtype == jnp.float32
    np.testing.assert_allclose(single, truth, atol=1e-6, rtol=0)  # 2e-7, and float32's rounding
    monkeypatch.setitem(shifted_relu.NODES, 8, 8)
    coarse = jax.jit(lambda *each: shifted_relu.covariance(*each))(mean1, mean2, cosine)
    assert 1e-10 < np.max(np.abs(coarse - truth)) < 2e-7


def test_equal_opposite_and_independent():
    """E[relu(u)^2], E[relu(u) relu(-u)] = 0 where means are opposite, and a product."""
    mean = np.linspace(-2, 2, 9)
    one = np.ones(9)
    got = covariance(
        np.stack([mean] * 3), np.stack([mean, -mean, mean[::-1]]), np.stack([one, -one, 0 * one])
    )
    square = (1 + mean**2) * norm.cdf(mean) + mean * norm.pdf(mean)
    first = mean * norm.cdf(mean) + norm.pdf(mean)
    expected = np.stack([square, 0 * one, first * first[::-1]])
    np.testing.assert_allclose(got, expected, atol=1e-12)


def test_the_derivative_is_the_probability_of_the_quadrant():
    """Price's theorem; at a correlation of 1 it is that of a half-line."""
    points = np.array([(0.3, -0.5, 0.4), (0.3, 0.4, -0.7), (1.0, 0.9, 0.95), (0.5, 0.5, 1.0)])
    slopes = jax.jit(
        jax.grad(lambda cosine, *means: jnp.sum(shifted_relu.covariance(*means, cosine)))
    )
    expected = [
        multivariate_normal([0, 0], np.array([[1, cosine], [cosine, 1]])).cdf(means)
        for *means, cosine in points[:3]
    ]
    found = slopes(points[:, 2], points[:, 0], points[:, 1])
    np.testing.assert_allclose(found, [*expected, norm.cdf(0.5)], atol=1e-7)
