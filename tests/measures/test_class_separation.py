"""Distances between classes: brute force, and laws of extremes that are known."""

import math

import jax
import numpy as np
import pytest
from scipy.spatial.distance import cdist

from ntkens.measures import class_separation


def apart(rng, n, gap):
    """Two segments on one line: distances are gap + x + y, below gap + t with chance t^2 / 2."""
    side = rng.integers(2, size=n)
    return (side * gap + (2 * side - 1) * rng.random(n))[:, None], side


def test_margins_against_all_pairs():
    rng = np.random.default_rng(0)
    points, labels = rng.normal(size=(83, 2, 2)), rng.integers(-1, 3, 83)
    rows = points.reshape(83, -1)
    pairs = np.where(labels[:, None] == labels, np.inf, cdist(rows, rows))
    np.testing.assert_allclose(
        class_separation.margins(points, labels), pairs.min(axis=1), rtol=1e-12
    )


def test_a_class_of_one_sees_all_others():
    labels = np.array([0, 0, 0, 0, 1])
    points = np.arange(5.0)[:, None]
    np.testing.assert_array_equal(class_separation.margins(points, labels), [4, 3, 2, 1, 1])


def test_a_sample_has_no_smaller_separation(key):
    points, labels = apart(np.random.default_rng(1), 200, 1.0)
    exact = float(class_separation.margins(points, labels).min())
    found = [class_separation.sampled(k, points, labels, 30) for k in jax.random.split(key, 10)]
    assert min(found) >= exact
    assert np.mean(found) > exact + 0.01
    assert class_separation.sampled(key, points, labels, 200) == pytest.approx(exact, rel=1e-15)
    alone = (np.arange(200) == 0).astype(int)  # drawn 30 times in 200
    found = [class_separation.sampled(k, points, alone, 30) for k in jax.random.split(key, 10)]
    assert 0 < np.isnan(found).sum() <= 10


def test_pairs_are_drawn_evenly():
    """Of three classes of 1, 2 and 3: 11 pairs, each as likely, in both orders."""
    counts = np.array([1, 2, 3])
    label = np.repeat(np.arange(3), counts)
    drawn = class_separation._drawn(np.random.default_rng(0), counts, 110_000)
    found = np.zeros((6, 6))
    np.add.at(found, tuple(drawn), 1)
    assert np.all(found[label[:, None] == label] == 0)
    between = found[label[:, None] != label]
    assert len(between) == 22
    assert np.sum((between - 5000) ** 2 / 5000) < 21 + 5 * math.sqrt(42)  # chi squared


@pytest.mark.slow
def test_extremes_of_classes_that_are_apart(key):
    """The quantile 1 / P of gap + x + y is gap + sqrt(2 / P), and gamma is -1 / 2."""
    rng, gap, n, samples = np.random.default_rng(2), 1.0, 2000, 20
    errors, indices, reported = [], [], []
    for one in jax.random.split(key, samples):
        points, labels = apart(rng, n, gap)
        pairs = int(np.sum(labels == 0)) * int(np.sum(labels))
        found = class_separation.extrapolated(one, points, labels, pairs=40_000, top=400)
        exact = gap + math.sqrt(2 / pairs)
        errors.append(math.log(found.separation / exact))
        indices.append(found.index)
        reported.append(found.log_error)
        assert 0 < found.separation <= found.smallest
    deviation = np.std(errors, ddof=1)
    assert abs(np.mean(errors)) < 5 * deviation / math.sqrt(samples)
    # Pairs share points, for which the spread is above what pairs alone would have.
    assert 0.5 < deviation / np.mean(reported) < 2
    # Biased at a finite top, k / N = 1%, where the law is not yet a power.
    assert np.mean(indices) == pytest.approx(-0.5, abs=0.15)


@pytest.mark.slow
def test_extremes_of_classes_that_overlap(key):
    """In m dimensions the inverse distances have a tail of index 1 / m; the delta shrinks on."""
    rng, m = np.random.default_rng(3), 2
    indices = []
    for one in jax.random.split(key, 10):
        points, labels = rng.random((3000, m)), rng.integers(2, size=3000)
        found = class_separation.extrapolated(one, points, labels, pairs=200_000, top=500)
        indices.append(found.index)
    # (1 + gamma^2) / k is the asymptotic variance of Dekkers, Einmahl and de Haan.
    error = math.sqrt((1 + 1 / m**2) / 500 / 10)
    assert abs(np.mean(indices) - 1 / m) < 5 * error


def test_classes_that_share_a_point_have_no_separation(key):
    points = np.concatenate([np.zeros((60, 1)), np.arange(60.0)[:, None]])
    labels = np.repeat([0, 1], 60)
    found = class_separation.extrapolated(key, points, labels, pairs=3000, top=10)
    assert (found.separation, found.smallest, found.log_error) == (0, 0, 0)
    assert float(class_separation.margins(points, labels).min()) == 0


def test_what_has_no_separation_is_refused(key):
    points, labels = apart(np.random.default_rng(4), 60, 1.0)
    extrapolated, margins = class_separation.extrapolated, class_separation.margins
    with pytest.raises(ValueError, match="labels: are all of one class"):
        margins(points, np.zeros(60, int))
    with pytest.raises(ValueError, match=r"labels: got shape \(59,\)"):
        margins(points, labels[1:])
    with pytest.raises(TypeError, match="labels: got dtype float"):
        margins(points, labels + 0.5)
    with pytest.raises(TypeError, match="labels: are traced"):
        jax.jit(lambda y: margins(points, y))(labels)
    with pytest.raises(ValueError, match="count: got 61"):
        class_separation.sampled(key, points, labels, 61)
    total = sum(one != other for i, one in enumerate(labels) for other in labels[:i])
    with pytest.raises(ValueError, match=f"pairs: got 4000000; there are {total}: take margins"):
        extrapolated(key, points, labels)
    with pytest.raises(ValueError, match="top: got 101; want 10 to a quarter of the 400"):
        extrapolated(key, points, labels, pairs=400, top=101)
    with pytest.raises(ValueError, match="top: the 20 smallest distances are all equal"):
        extrapolated(key, labels[:, None] * 1.0, labels, pairs=400, top=20)
