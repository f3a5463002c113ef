"""Rows of `generalisation_difficulty` against closed forms; each of its verdicts turns over."""

import copy
import math

import jax
import numpy as np
import pytest
from scipy import special

from experiments import _generalisation_difficulty_data as data
from experiments import _generalisation_difficulty_tasks as table
from experiments import _generalisation_difficulty_verdict as judge
from experiments import generalisation_difficulty as script
from ntkens.data import Dataset, Examples
from tests.experiments.corruptions import change, drop, swap

CLAIMS = (
    "table", "images", "few", "observations", "dimension", "resolution", "examples", "models",
    "spheres", "data", "published",
)  # fmt: skip
# What the formula says of its own trends is no choice of the rows.
EXPECTED = dict.fromkeys(CLAIMS, "reproduced") | {"dimension": "departs", "examples": "departs"}
FORMULA = tuple(script.measure(script.TINY, script.plan(script.TINY)[0]))


def planted():
    """The formula's own rows; estimates that are right, and data sets that say the same in half."""
    rows = [dict(row) for row in copy.deepcopy(FORMULA)]
    for dimension in (2, 10):
        rows.append({"kind": "sphere", "dimension": dimension, "points": 300, "samples": 30,
                     "inverse": 0.101, "inverse_error": 0.001, "exact": 0.1, "spread": 0.005,
                     "reported": 0.004})  # fmt: skip
    for name, (m, separation, radius) in judge.PUBLISHED.items():
        for share, decades in ((0.5, 9.9), (0.5, 10.1), (1.0, 10.05)):
            rows.append({"kind": "data", "dataset": name, "share": share, "failed": None,
                         "log10_bits": decades, "decades_error": 0.1, "one_higher": 10.5,
                         "dimension": m + 0.4, "dimension_error": 0.1, "separation": separation,
                         "radius": radius, "extreme_separation": separation,
                         "extreme_log_error": 0.05})  # fmt: skip
    return rows


def outcomes(rows):
    return dict(zip(CLAIMS, (claim.outcome for claim in script.verdict(rows).claims), strict=True))


def test_planted_rows_give_the_planted_verdict_in_any_order():
    assert outcomes(planted()) == EXPECTED
    assert outcomes(planted()[::-1]) == EXPECTED


@pytest.mark.parametrize(
    ("break_", "turned"),
    [
        (change({"bits": 1.486e16}, task="MNIST"), {"table": "not reproduced"}),
        (swap("task", "MNIST", "CIFAR10", kind="task"),
         {"table": "not reproduced", "images": "not reproduced"}),
        (change({"one_higher": 42.0}, task="CIFAR10"), {"images": "not reproduced"}),
        (change({"one_higher": math.nan}, task="CIFAR10"), {"images": "not reproduced"}),
        (swap("task", "Omniglot", "ImageNet, m = 80", kind="task"), {"few": "not reproduced"}),
        (swap("task", "cartpole, T = 2", "Pendulum", kind="task"), {"table": "not reproduced"}),
        (change({"log10_bits": lambda row: 10.0 + math.log(row["dimension"]), "doubled": 0.0},
                family="cartpole"),
         {"observations": "not reproduced"}),
        (swap("dimension", 2, 10, family="cartpole"),
         {"observations": "not reproduced", "resolution": "not reproduced"}),
        (change({"log10_bits": math.nan, "doubled": 0.0}, task="cartpole, T = 4"),
         {"observations": "not reproduced", "examples": "not reproduced"}),
        (change({"decades": lambda row: [0.3 * m for m in row["values"]]}, quantity="dimension"),
         {"dimension": "reproduced"}),
        (change({"decades": lambda row: [50.0 - m for m in row["values"]]}, quantity="dimension"),
         {"dimension": "not reproduced"}),
        (change({"decades": lambda row: [0.3 * m + (m == 72) for m in row["values"]]},
                quantity="dimension"), {"dimension": "departs"}),
        (change({"decades": lambda row: [-((m - 60) ** 2) for m in row["values"]]},
                quantity="dimension"), {"dimension": "not reproduced"}),
        (change({"frequency_exponent": 30.0}, task="MNIST"), {"resolution": "not reproduced"}),
        (change({"linear_share": 0.9}, task="MNIST"), {"examples": "reproduced"}),
        (change({"doubled": 17.0}, task="MNIST"), {"examples": "not reproduced"}),
        (change({"error": lambda row: 1 - row["error"]}, kind="model"),
         {"models": "not reproduced"}),
        (drop(kind="model", error=table.ERRORS[1:]), {"models": "not reproduced"}),
        (change({"exact": 0.09}, kind="sphere", dimension=10), {"spheres": "not reproduced"}),
        (change({"inverse": math.nan}, kind="sphere", dimension=10),
         {"spheres": "not reproduced"}),
        (change({"inverse_error": 0.02}, kind="sphere", dimension=10),
         {"spheres": "inconclusive"}),
        (change({"log10_bits": 10.9}, dataset="mnist", share=1.0), {"data": "departs"}),
        (change({"decades_error": 5.0}, dataset="mnist"), {"data": "inconclusive"}),
        (change({"log10_bits": math.nan}, dataset="mnist", share=0.5), {"data": "inconclusive"}),
        (drop(kind="data", share=0.5), {"data": "inconclusive"}),
        (change({"dimension": 12.9}, dataset="mnist", share=1.0), {"published": "not reproduced"}),
        (change({"separation": 1.0}, dataset="cifar10", share=1.0),
         {"published": "not reproduced"}),
        (change({"radius": 17.18}, dataset="mnist", share=1.0), {"published": "not reproduced"}),
        (change({"failed": "two classes share an input", "separation": 0.0}, dataset="mnist"),
         {"published": "not reproduced"}),
    ],
)  # fmt: skip
def test_the_verdict_turns_over(break_, turned):
    rows = planted()
    break_(rows)
    found = outcomes(rows)
    assert found == EXPECTED | turned


def test_estimates_of_the_papers_images_are_judged_only_where_they_are_measured():
    rows = [row for row in planted() if row["kind"] != "data"]
    assert len(script.verdict(rows).claims) == len(CLAIMS) - 1


def test_the_characters_are_those_of_omniglots_background_set():
    assert (len(table.CHARACTERS), sum(table.CHARACTERS)) == (30, 964)
    largest = math.comb(55, 20) * 20**20  # Tifinagh
    assert largest < table.few_shot_sets() < 2 * largest
    (row,) = (row for row in FORMULA if row.get("task") == "Omniglot")
    assert row["outputs"] == pytest.approx(7.938e20, rel=5e-4)
    assert row["log10_bits"] > 76
    assert abs(row["doubled"] - row["log10_bits"]) * math.log2(10) < 1e-3  # of a factor 10 in n


def test_the_slopes_of_a_task():
    """Of cartpole with one observation, whose few functions can be counted without logarithms."""
    (row,) = (row for row in FORMULA if row.get("task") == "cartpole, T = 1")

    def bits(n, frequency=2 * math.pi / 0.001):
        functions = 2 * frequency**2 * math.pi - n
        bracket = math.log2(4 * math.pi**2 / math.sqrt(3)) + math.log2(frequency / (2 * math.pi))
        return functions, bracket - math.log2(n) / 2 - math.log2(0.001)

    (before, cost), (after, later) = bits(1e4), bits(2e4)
    assert row["bits"] == pytest.approx(before * cost, rel=1e-12)
    drop = before * cost - after * later
    assert row["linear_share"] == pytest.approx((before - after) * later / drop, rel=1e-9)
    up, down = (math.prod(bits(1e4, 2000 * math.pi * factor)) for factor in (1.001, 1 / 1.001))
    slope = math.log(up / down) / (2 * math.log(1.001))
    assert row["frequency_exponent"] == pytest.approx(slope, rel=1e-5)


@pytest.mark.parametrize("points", [50, 3000])
def test_the_sphere_of_two_dimensions_has_no_bias(points):
    """A cap of S^2 has the area of a disc of its chord: E[1 / m] is 1 / 2 at any density."""
    assert data.sphere_inverse(points, 2) == pytest.approx(0.5, abs=1e-7)


def test_the_spheres_estimate_is_that_of_simulated_order_statistics():
    rng, points, half = np.random.default_rng(0), 40, 5.0
    shares = np.sort(rng.random((40_000, points - 1)), axis=1)[:, :5]
    chords = np.log(4 * special.betaincinv(half, half, shares)) / 2
    inverses = (chords[:, -1:] - chords[:, :-1]).mean(axis=1)
    error = inverses.std() / 200
    assert abs(data.sphere_inverse(points, 10) - inverses.mean()) < 5 * error


def images(count, shape, seed):
    rng = np.random.default_rng(seed)
    pixels = (rng.integers(0, 256, (count, *shape)) / 255).astype(np.float32)
    return Examples(pixels, np.arange(count, dtype=np.int32) % 10)


@pytest.mark.slow
def test_images_of_tensorflow_datasets(monkeypatch):
    """The path of `paper`, on a few images of CIFAR-10's shape; one of them twice."""
    train = images(60, (32, 32, 3), 0)
    train.inputs[10] = train.inputs[0]  # of one class
    small = Dataset(train, images(10, (32, 32, 3), 1))
    monkeypatch.setattr(data.tfds, "load", lambda name, directory: small)
    config = script.Config(datasets=("cifar10",), shares=(), resamples=5, pairs=500, top=20)
    *_, cell = script.plan(config)
    (row,) = script.measure(config, cell)
    rows = train.inputs.reshape(60, -1).astype(float)
    assert row["radius"] == pytest.approx(math.sqrt((rows**2).sum(axis=1).max()), rel=1e-12)
    assert row["duplicates"] == 1
    assert row["failed"] is None
    assert math.isfinite(row["decades_error"] + row["extreme_separation"])
    assert len(script.verdict([*planted(), row]).claims) == len(CLAIMS)


@pytest.mark.slow
def test_a_data_set_without_separation_says_so():
    shared = images(40, (3,), 2)
    shared.inputs[1] = shared.inputs[0]
    row = data.difficulty_row(np.random.default_rng(0), shared, 0.01, 5)
    assert row["separation"] == 0
    assert "two classes" in row["failed"]
    assert data.extremes_row(jax.random.key(0), shared, 10_000, 10)["extreme_smallest"] >= 0


def test_shuffled_labels_ask_for_more_and_the_order_for_nothing():
    """Of 150 digits, with the labels of other digits, or in another order."""
    digits = data.load(jax.random.key(0), "digits", "")
    digits = Examples(digits.inputs[:150], digits.labels[:150])
    order = np.random.default_rng(0).permutation(150)
    row, shuffled, moved = (
        data.difficulty_row(np.random.default_rng(0), each, 0.01, 2)
        for each in (
            digits,
            digits._replace(labels=digits.labels[order]),
            Examples(digits.inputs[order], digits.labels[order]),
        )
    )
    assert shuffled["separation"] < 0.9 * row["separation"]
    assert shuffled["log10_bits"] > row["log10_bits"] + 0.5
    assert moved["log10_bits"] == pytest.approx(row["log10_bits"], rel=1e-6)


def test_a_bootstrap_of_nothing_but_the_dimension():
    """Where margins and norms are all one, only m is open: its error is that of a mean."""
    rng = np.random.default_rng(3)
    found = data.Estimates(rng.gamma(4, 1 / 40, 500), np.ones(500), np.full(500, 2.0), 0)
    drawn = np.array([data._resampled(rng, found) for _ in range(2000)])
    exact = found.inverses.std() / math.sqrt(500) / found.inverses.mean() ** 2
    assert np.std(drawn[:, 0]) == pytest.approx(exact, rel=0.08)  # five errors of 2000 resamples
    np.testing.assert_array_equal(drawn[:, 1:], [[1, 2]] * 2000)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"datasets": ("imagenet",)}, "datasets: got 'imagenet'"),
        ({"error": 0.0}, "error: got 0.0"),
        ({"shares": (1.0,)}, "shares: got"),
        ({"subsets": 1}, "subsets: got 1"),
        ({"resamples": 1}, "resamples: got 1"),
        ({"spheres": (12,)}, "spheres: got"),
        ({"points": 5}, "points: got 5"),
        ({"top": 5}, "top: got 5"),
    ],
)
def test_a_config_that_cannot_be_measured_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        script.Config(**change)


def test_the_published_estimates_are_of_the_papers_data():
    assert set(judge.PUBLISHED) == set(data.IMAGES) <= set(script.PAPER.datasets)
    assert [table.IMAGES[name][2] for name in data.IMAGES.values()] == [14, 19, 27]
    assert len(script.plan(script.PAPER)) == 1 + 3 + 7 * 3
