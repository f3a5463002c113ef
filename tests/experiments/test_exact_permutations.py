"""The verdict of `exact_permutations` turns over when the data are planted the other way."""

import copy
import math

import numpy as np
import pytest

from experiments import _rows
from experiments import exact_permutations as script
from experiments._exact_permutations_verdict import PUBLISHED
from tests.experiments.corruptions import change, swap


def planted():
    """Rows in which everything the paper's theory says is true, and the figure is the NNGP's."""
    rows = [
        {"kind": "signs", "regime": "ntk", "largest_k": 9, "lowest_inside": 0.1,
         "highest_outside": -0.1},
    ]  # fmt: skip
    for regime, factor in (("ntk", 4.8), ("nngp", 1.0)):
        for k in (10, 100, 1000):
            size = factor * 6 * k * math.log(k)
            rows.append(
                {"kind": "growth", "regime": regime, "k": k, "one_input": size, "hardest_ones": 2,
                 "lower": size, "upper": 3 * k**1.5 * math.log(k), "upper_ones": 2}
            )  # fmt: skip
        for k in (10, 20, 30):
            rows.append({"kind": "exact", "regime": regime, "k": k, "bound": 9e4,
                         "members": [factor * 6 * k, factor * 13 * k], "inside": 0.6,
                         "outside": -0.2 / k, "variance": 0.06 / k})  # fmt: skip
            spread = np.linspace(0.8, 1.25, 99) * factor
            rows.append({"kind": "protocol", "regime": regime, "k": k,
                         "sizes_90": list(spread * PUBLISHED[0.9][k]),
                         "sizes_999": list(spread * PUBLISHED[0.999][k])})  # fmt: skip
    rows.append({"kind": "joint", "k": 4, "members": 50.0, "error": 1.0, "lower": 30, "upper": 60})
    for name, factor in (("ntk", 4.8), ("standard", 1.0)):
        rows.append({"kind": "trained", "parametrisation": name, "k": 10, "width": 64,
                     "sizes_90": [factor * 60, factor * 75]})  # fmt: skip
        for width in (64, 256, 1024, 4096):
            row = {"kind": "moments", "parametrisation": name, "width": width,
                   "inside_from_ntk": 0.1, "inside_from_nngp": 0.1}  # fmt: skip
            for moment, exponent in (("inside", -0.5), ("outside", -0.5), ("variance", -1.0)):
                row |= {moment: 2 * width**exponent, f"{moment}_error": 1e-3}
            rows.append(row)
    return rows


def outcomes(rows):
    return [claim.outcome for claim in script.verdict(rows).claims]


CLAIMS = ("signs", "one input", "all inputs", "bound", "figure", "trained", "ntk", "standard")
EXPECTED = dict(zip(CLAIMS, [
    "reproduced", "reproduced", "reproduced", "reproduced", "departs", "not reproduced",
    "reproduced", "reproduced",
], strict=True))  # fmt: skip


def shuffle_published(rows):
    for row in rows:
        if row["kind"] == "protocol":
            row["sizes_90"], row["sizes_999"] = ([size * 3 for size in row[name]]
                                                 for name in ("sizes_90", "sizes_999"))  # fmt: skip


def test_planted_rows_give_the_planted_verdict():
    assert dict(zip(CLAIMS, outcomes(planted()), strict=True)) == EXPECTED


@pytest.mark.parametrize(
    ("break_", "turned"),
    [
        (change({"highest_outside": 0.01}, kind="signs"), {"signs": "not reproduced"}),
        (change({"one_input": lambda row: row["k"] ** 1.5}, kind="growth"),
         {"one input": "not reproduced"}),
        (change({"upper": lambda row: row["k"] ** 2.3}, kind="growth"),
         {"all inputs": "not reproduced"}),
        (change({"members": 90.0}, kind="joint"), {"all inputs": "not reproduced"}),
        (change({"members": 10.0}, kind="joint"), {"all inputs": "not reproduced"}),
        (change({"bound": 100.0}, kind="exact"), {"bound": "not reproduced"}),
        (swap("regime", "ntk", "nngp", kind="protocol"), {"figure": "reproduced"}),
        (shuffle_published, {"figure": "not reproduced"}),
        (swap("parametrisation", "ntk", "standard", kind="trained"), {"trained": "reproduced"}),
        (change({"inside": 0.1}, kind="moments"),
         {"ntk": "not reproduced", "standard": "not reproduced"}),
        (change({"inside_error": 1.0}, kind="moments"),
         {"ntk": "inconclusive", "standard": "inconclusive"}),
    ],
)  # fmt: skip
def test_the_verdict_turns_over(break_, turned):
    rows = copy.deepcopy(planted())
    break_(rows)
    found = dict(zip(CLAIMS, outcomes(rows), strict=True))
    for claim, outcome in turned.items():
        assert found[claim] == outcome
    untouched = set(CLAIMS) - set(turned) - {"one input", "all inputs", "bound"}
    assert {claim: found[claim] for claim in untouched} == {
        claim: EXPECTED[claim] for claim in untouched
    }


def test_without_trained_networks_the_claim_is_inconclusive():
    rows = [row for row in planted() if row["kind"] != "trained"]
    assert outcomes(rows)[CLAIMS.index("trained")] == "inconclusive"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"protocol_ks": (3,)}, "protocol_ks: got"),
        ({"largest_k": 3}, "largest_k: got 3"),
        ({"joint_ks": (13,)}, "joint_ks: got"),
        ({"repeats": 1}, "repeats: got 1"),
        ({"widths": ()}, "widths: got"),
        ({"growth_k": 5}, "growth_k: got 5"),
    ],
)
def test_a_config_that_cannot_be_measured_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        script.Config(**change)


def test_power_law_finds_the_exponent_and_its_error():
    rng = np.random.default_rng(0)
    x, errors = np.array([16, 64, 256, 1024, 4096.0]), np.full(5, 2e-3)
    truth, misses = -0.5, []
    for _ in range(200):
        y = 0.8 * x**truth + errors * rng.normal(size=5)
        exponent, error = _rows.power_law(x, y, errors)
        misses.append((exponent - truth) / error)
    assert abs(np.mean(misses)) < 5 / math.sqrt(200)
    assert np.std(misses) < 1.1  # the errors are honest; above one only by chance


def test_power_law_of_too_little_says_so():
    assert _rows.power_law([1, 2], [1, 0.5], [0.1, 0.1]) == (
        pytest.approx(math.nan, nan_ok=True),
        math.inf,
    )


def test_growth_exponent_is_of_the_last_decade():
    x = [1, 10, 30, 100, 300]
    y = [5, 7, 30**1.5, 100**1.5, 300**1.5]
    assert _rows.growth_exponent(x, y) == pytest.approx(1.5)
