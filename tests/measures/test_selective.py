"""Risk and coverage against the sums written out, over all orders of tied examples."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntkens.measures import ranked, selective

EXAMPLES = 7
SCALARS = [
    selective.aurc,
    selective.excess_aurc,
    lambda scores, costs, counts=None: selective.risk_at_coverage(scores, costs, 0.6, counts),
    lambda scores, costs, counts=None: selective.coverage_at_risk(scores, costs, 0.3, 2, counts),
]


def every(scores, costs):
    return selective.risk_coverage(scores, costs), *(measure(scores, costs) for measure in SCALARS)


@functools.cache
def compiled(measure, *settings):
    """Once for all tests that ask the same of arrays of one shape."""
    return jax.jit(lambda *arrays: measure(*arrays, *settings))


def curve(costs_in_order):
    """Of the specification: a point at (0, 0), then sums of costs over their number."""
    n = len(costs_in_order)
    risk = np.cumsum(costs_in_order) / np.arange(1, n + 1)
    return np.linspace(0, 1, n + 1), np.concatenate([[0], risk])


def curve_over_orders(scores, costs):
    """The mean of the curve over every order that sorts the scores."""
    orders = [
        order
        for order in itertools.permutations(range(len(scores)))
        if (np.diff(scores[list(order)]) <= 0).all()
    ]
    curves = [curve(costs[list(order)])[1] for order in orders]
    return np.linspace(0, 1, len(scores) + 1), np.mean(curves, axis=0)


def random_case(seed, levels, examples=EXAMPLES):
    random = np.random.default_rng(seed)
    return random.integers(0, levels, examples) / 3, random.choice([0, 0, 1, 0.5], examples)


def brute_force(scores, costs):
    """The four scalars, from the mean curve."""
    coverage, risk = curve_over_orders(scores, costs)
    _, best = curve(np.sort(costs))
    area = np.trapezoid(risk, coverage)
    at = np.argmin(np.round(np.abs(coverage - 0.6), 12))
    distance = np.round(np.abs(risk - 0.3)[2:], 12)
    nearest = np.flatnonzero(distance == distance.min()).max() + 2
    return area, area - np.trapezoid(best, coverage), risk[at], coverage[nearest]


@pytest.mark.parametrize("levels", [2, 3, 10**6])
def test_equal_to_the_mean_over_all_orders_of_ties(levels):
    for seed in range(3):
        scores, costs = random_case(seed, levels)
        expected = curve_over_orders(scores, costs)
        curve, *scalars = compiled(every)(scores, costs)
        np.testing.assert_allclose(curve, expected, rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(scalars, brute_force(scores, costs), rtol=1e-12, atol=1e-14)


@pytest.mark.slow
@pytest.mark.parametrize("measure", SCALARS)
def test_counts_are_repetitions_and_order_is_nothing(measure):
    scores, costs = random_case(4, 3)
    counts = np.array([0, 3, 1, 0, 2, 0, 1])
    repeated = compiled(measure)(np.repeat(scores, counts), np.repeat(costs, counts))
    found = jax.jit(measure)(ranked.rank(scores), costs, counts)
    np.testing.assert_allclose(found, repeated, rtol=1e-12)
    plain = measure(scores, costs)
    order = np.random.default_rng(0).permutation(EXAMPLES)
    np.testing.assert_allclose(compiled(measure)(scores[order], costs[order]), plain, rtol=1e-12)


@pytest.mark.slow
def test_perfect_ranking_has_the_area_of_its_error():
    """AURC = e + (1 - e) ln(1 - e) as N grows; the trapezoid rule comes to it as 1/N^2."""
    e = 0.1
    limit = e + (1 - e) * np.log(1 - e)
    gaps = []
    for n in (200, 400):
        costs = (np.arange(n) >= (1 - e) * n).astype(float)
        gaps.append(abs(compiled(selective.aurc)(-np.arange(n), costs) - limit))
        assert abs(compiled(selective.excess_aurc)(-np.arange(n), costs)) < 1e-15
    assert gaps[0] < 1e-5
    np.testing.assert_allclose(gaps[0] / gaps[1], 4, rtol=0.01)


def test_uninformative_scores_cost_the_mean_at_every_coverage():
    _, costs = random_case(1, 3)
    (_, risk), *_ = compiled(every)(np.zeros(EXAMPLES), costs)
    np.testing.assert_allclose(risk[1:], costs.mean(), rtol=1e-12)


def test_all_right_has_no_risk_and_full_coverage():
    (_, risk), *scalars = compiled(every)(np.arange(EXAMPLES) / 1, np.zeros(EXAMPLES))
    assert not risk.any()
    assert scalars == [0, 0, 0, 1]


@pytest.mark.slow
def test_first_hides_the_first_few():
    scores, costs = -np.arange(200.0), np.zeros(200)
    costs[1] = 1  # the risk is 0.5 after two examples, and never again
    for first, found in ((1, 2), (None, 2), (3, 3)):  # by default 1 %, two examples
        nearest = compiled(selective.coverage_at_risk, 0.5, first)(scores, costs)
        assert nearest == found / 200


@given(costs=st.lists(st.floats(0, 2), min_size=EXAMPLES, max_size=EXAMPLES))
def test_no_order_is_better_than_the_cheapest_first(costs):
    costs = np.array(costs)
    _, _, excess, *_ = compiled(every)(np.arange(EXAMPLES) % 3 / 1, costs)
    assert excess >= -1e-12


@pytest.mark.slow
def test_vmap_over_coverages_and_risks():
    scores, costs = random_case(0, 3)
    levels = jnp.array([0.0, 0.3, 1.0])
    for measure in (selective.risk_at_coverage, selective.coverage_at_risk):
        loop = [compiled(measure)(scores, costs, level) for level in levels]
        mapped = jax.vmap(measure, (None, None, 0))(scores, costs, levels)
        np.testing.assert_allclose(mapped, loop, rtol=1e-12)


def test_bad_input_is_named():
    scores, costs = np.arange(4.0), np.zeros(4)
    with pytest.raises(ValueError, match=r"costs: got shape \(3,\), wants \(4,\)"):
        selective.aurc(scores, costs[:3])
    with pytest.raises(ValueError, match="costs: holds NaN or infinities"):
        selective.aurc(scores, np.array([0, 1, np.inf, 0]))
    with pytest.raises(ValueError, match="scores: holds NaN"):
        selective.risk_coverage(np.array([0, np.nan, 1, 2]), costs)
    with pytest.raises(ValueError, match=r"scores: got shape \(0,\)"):
        selective.aurc(np.zeros(0), np.zeros(0))
    with pytest.raises(ValueError, match=r"coverage: got -0\.1"):
        selective.risk_at_coverage(scores, costs, -0.1)
    with pytest.raises(ValueError, match="risk: holds NaN"):
        selective.coverage_at_risk(scores, costs, np.nan)
    with pytest.raises(ValueError, match=r"risk: got shape \(2,\)"):
        selective.coverage_at_risk(scores, costs, np.zeros(2))
    with pytest.raises(ValueError, match="first: got 0"):
        selective.coverage_at_risk(scores, costs, 0.1, first=0)
    with pytest.raises(ValueError, match="first: got 5"):
        selective.coverage_at_risk(scores, costs, 0.1, first=5)
