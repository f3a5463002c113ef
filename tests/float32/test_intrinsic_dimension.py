"""Dimension, separation and difficulty with x64 off: as good as float32 data, or refused."""

import numpy as np
import pytest
from scipy.spatial import KDTree

from ntkens.measures import class_separation, generalisation, intrinsic_dimension


def test_neighbours_of_offset_points_in_float32():
    """Far from the origin, where |a|^2 + |b|^2 - 2 a.b alone would have no digit."""
    points = (np.random.default_rng(0).random((400, 3)) + 3000).astype(np.float32)
    exact = KDTree(points.astype(float)).query(points.astype(float), 6)[0][:, 1:]
    found = intrinsic_dimension.estimate(points)
    np.testing.assert_allclose(
        found.inverses, np.log(exact[:, -1:] / exact[:, :-1]).mean(axis=1), atol=1e-6
    )
    labels = (
        np.arange(400) * 2**32
    )  # every point is its own class, also where integers have 32 bits
    np.testing.assert_allclose(class_separation.margins(points, labels), exact[:, 0], rtol=1e-6)


def test_a_cluster_that_float32_cannot_resolve_is_refused():
    rng = np.random.default_rng(1)
    near = np.concatenate([1e-5 * rng.random((50, 3)), [[100.0, 0, 0]]]).astype(np.float32)
    with pytest.raises(ValueError, match=r"float32 hides which are nearest.*jax_enable_x64"):
        intrinsic_dimension.estimate(near)


def test_the_difficulty_is_in_float64():
    found = generalisation.control(6, 2, steps=1e6)
    assert found.bits.dtype == np.float64
    assert f"{found.bits:.9e}" == "2.914154433e+25"
