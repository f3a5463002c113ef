"""The Gaussian kernel against scipy's distances, near duplicates, and bad scales."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.distance import cdist

from ntkens.kernels import rbf


def test_it_is_the_exponential_of_squared_distances():
    rng = np.random.default_rng(0)
    x1, x2 = rng.normal(size=(5, 3)), rng.normal(size=(4, 3))
    expected = np.exp(-(cdist(x1, x2) ** 2) / (2 * 0.7**2))
    np.testing.assert_allclose(rbf.kernel_fn(0.7)(x1, x2), expected, rtol=1e-14)
    own = np.asarray(rbf.kernel_fn(0.7)(x1))
    np.testing.assert_array_equal(own, own.T)
    np.testing.assert_array_equal(np.diag(own), 1)


def test_near_duplicates_far_from_the_origin_keep_their_digits():
    """Squares as |x|^2 + |x'|^2 - 2 x.x' would lose all of 1 - k = 2^-41 here."""
    x = np.full((1, 2), 1024.0)
    near = x + np.array([[2.0**-20, 0]])
    assert 1 - rbf.kernel_fn(1.0)(x, near)[0, 0] == pytest.approx(2.0**-41, rel=1e-3)
    gradient = jax.grad(lambda x: rbf.kernel_fn(1.0)(x)[0, 1])(jnp.asarray(np.vstack([x, near])))
    np.testing.assert_allclose(gradient[:, 0], [2.0**-20, -(2.0**-20)], rtol=1e-9)


def test_a_scale_out_of_range_is_named():
    for scale in (0.0, -1.0, np.inf, np.nan):
        with pytest.raises(ValueError, match="scale: got"):
            rbf.kernel_fn(scale)
