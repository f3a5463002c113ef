"""Maximum-likelihood dimension: exact expectations on spheres, isometries, trees."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, special
from scipy.spatial import KDTree

from ntkens.measures import intrinsic_dimension, nearest


def sphere(rng, n, m):
    points = rng.normal(size=(n, m + 1))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def expected_inverse(n, m, neighbours):
    """Of n uniform points on S^m: the others' distances are independent draws of one law.

    The fraction of S^m within a chord t is F(t) = I_(t^2 / 4)(m / 2, m / 2), and F(T_j) is the j-th
    of n - 1 uniform variables, a Beta(j, n - j).
    """

    def mean_log(j):
        def weighted(log_u):  # over ln u, as u is near 0
            u = math.exp(log_u)
            log_density = (j - 1) * log_u + (n - 1 - j) * math.log1p(-u) - special.betaln(j, n - j)
            log_chord = math.log(4 * special.betaincinv(m / 2, m / 2, u)) / 2
            return math.exp(log_density + log_u) * log_chord

        return integrate.quad(weighted, math.log(1e-12 / n), -1e-12, limit=400, epsabs=1e-10)[0]

    means = [mean_log(j) for j in range(1, neighbours + 1)]
    return means[-1] - sum(means[:-1]) / (neighbours - 1)


@pytest.mark.slow
@pytest.mark.parametrize("m", [2, 5, 10])
def test_the_inverse_has_its_exact_mean_on_a_sphere(m):
    """Curvature and the finite number of points included; over samples, which are independent."""
    rng, samples, n = np.random.default_rng(m), 30, 300
    inverses, errors = np.empty(samples), np.empty(samples)
    for sample in range(samples):
        points = np.pad(sphere(rng, n, m), ((0, 0), (0, 10 - m)))  # to compile once
        found = intrinsic_dimension.estimate(points)
        inverses[sample] = 1 / found.dimension
        errors[sample] = found.standard_error / found.dimension**2
    exact = expected_inverse(n, m, 5)
    spread = inverses.std(ddof=1)
    assert abs(inverses.mean() - exact) < 5 * spread / math.sqrt(samples)
    # The error it reports neglects that neighbours share distances; 30 samples know it to 13%.
    assert 0.7 < spread / errors.mean() < 1.9
    if m == 2:
        assert exact == pytest.approx(1 / m, rel=0.01)  # hardly curved at this density


def test_a_linear_subspace_has_the_dimension_of_its_points():
    rng = np.random.default_rng(0)
    points = rng.random((300, 3))
    rotation = np.linalg.qr(rng.normal(size=(11, 11)))[0][:3]
    alone = intrinsic_dimension.estimate(points)
    embedded = intrinsic_dimension.estimate(7 + 3 * points @ rotation)
    np.testing.assert_allclose(embedded.inverses, alone.inverses, rtol=1e-9)
    assert abs(alone.dimension - 3) < 0.5


@pytest.mark.slow
def test_a_cube_is_underestimated_for_its_edges():
    """Not where opposite faces are one: a torus, embedded by sines and cosines, has no edge."""
    rng = np.random.default_rng(1)
    cube = intrinsic_dimension.estimate(rng.random((2000, 4)))
    assert cube.dimension + 5 * cube.standard_error < 4
    angles = 2 * np.pi * rng.random((2000, 2))
    torus = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    found = intrinsic_dimension.estimate(torus)
    assert abs(found.dimension - 2) < 5 * 1.4 * found.standard_error  # of points as dependent


def crowded(rng):
    """A cluster 1e-6 times as wide as it is far from the rest."""
    return np.concatenate([rng.normal(size=(150, 3)) * 1e-4 + 100, rng.normal(size=(57, 3))])


def test_against_a_tree(monkeypatch):
    """In blocks, whose last is not full; and the formula written in a loop."""
    points = crowded(np.random.default_rng(2))
    exact = KDTree(points).query(points, 9)[0][:, 1:]
    monkeypatch.setattr(nearest, "CPU_BLOCK", 8 * 207 * 50)
    blocked = nearest.distances(jnp.asarray(points), np.arange(207), 8)
    np.testing.assert_allclose(blocked, exact, rtol=1e-9)  # of numbers near 100
    for neighbours in (2, 8):
        found = intrinsic_dimension.estimate(points, neighbours=neighbours)
        near = exact[:, :neighbours]
        logs = [math.log(row[-1] / one) for row in near for one in row[:-1]]
        assert found.dimension == pytest.approx(len(logs) / sum(logs), rel=1e-9)


def test_neighbours_that_rounding_hides_are_refused():
    points = crowded(np.random.default_rng(2))
    points[:150] = 100 + (points[:150] - 100) * 1e-3
    with pytest.raises(ValueError, match="hides which are nearest"):
        intrinsic_dimension.estimate(points)


def test_duplicates_are_left_out_and_counted():
    rng = np.random.default_rng(3)
    points = rng.random((300, 1, 3))
    again = np.concatenate([points, points[:25], points[:5]])
    found = intrinsic_dimension.estimate(again)
    assert found.duplicates == 30
    assert found.dimension == intrinsic_dimension.estimate(points).dimension
    signed = np.concatenate([points, points])
    signed[300:, 0, 0], signed[:300, 0, 0] = 0.0, -0.0
    assert intrinsic_dimension.estimate(signed).duplicates == 300


def test_neighbours_at_one_distance_have_no_finite_dimension():
    found = intrinsic_dimension.estimate(np.eye(7), neighbours=3)
    assert found.dimension == found.standard_error == np.inf


def test_what_has_no_dimension_is_refused():
    points = np.random.default_rng(0).normal(size=(20, 3))
    estimate = intrinsic_dimension.estimate
    with pytest.raises(ValueError, match="points: 5 of 10 are different; want more than the 5"):
        estimate(np.concatenate([points[:5]] * 2))
    with pytest.raises(ValueError, match="neighbours: got 1; want at least 2"):
        estimate(points, neighbours=1)
    with pytest.raises(ValueError, match="neighbours: got True"):
        estimate(points, neighbours=True)
    with pytest.raises(ValueError, match="points: holds NaN"):
        estimate(np.where(points > 1, np.nan, points))
    with pytest.raises(ValueError, match=r"points: got shape \(0, 3\)"):
        estimate(points[:0])
    with pytest.raises(ValueError, match="points: two are so near"):
        estimate(np.concatenate([points, np.full((1, 3), 1e-200), np.zeros((1, 3))]))
    with pytest.raises(TypeError, match="points: got dtype int"):
        estimate(np.arange(12).reshape(6, 2))
    with pytest.raises(TypeError, match="points: are traced"):
        jax.jit(lambda x: estimate(x).dimension)(points)
