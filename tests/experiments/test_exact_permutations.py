"""The verdict of `exact_permutations` turns over when the data are planted the other way."""

import math

import jax
import numpy as np
import pytest

from experiments import _rows
from experiments import exact_permutations as script
from experiments._exact_permutations_verdict import LIMIT, PUBLISHED, PUBLISHED_BOUND
from tests.experiments.corruptions import change, drop, swap


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
                {"kind": "growth", "regime": regime, "k": k, "hardest": size, "hardest_ones": 2,
                 "lower": size, "upper": 3 * k**1.5 * math.log(k), "upper_ones": 2}
            )  # fmt: skip
        for k in (10, 20, 30):
            rows.append({"kind": "exact", "regime": regime, "k": k,
                         "bound": PUBLISHED_BOUND[k] * factor / 4.8,
                         "members": [factor * 6 * k, factor * 13 * k], "inside": 0.6,
                         "outside": -0.2 / k, "variance": 0.06 / k})  # fmt: skip
            spread = np.linspace(0.8, 1.25, 99) * factor
            rows.append({"kind": "protocol", "regime": regime, "k": k,
                         "sizes_90": list(spread * PUBLISHED[0.9][k]),
                         "sizes_999": list(spread * PUBLISHED[0.999][k])})  # fmt: skip
    for k in (4, 6):
        rows.append({"kind": "joint", "k": k, "members": 50.0, "error": 1.0, "lower": 30,
                     "upper": 60})  # fmt: skip
    for name, factor in (("ntk", 4.8), ("standard", 1.0)):
        rows.append({"kind": "trained", "parametrisation": name, "k": 10, "width": 64,
                     "sizes_90": [factor * size for size in (60, 65, 70, 75)]})  # fmt: skip
        for width in (64, 256, 1024, 4096):
            row = {"kind": "moments", "parametrisation": name, "width": width,
                   "inside_from_ntk": 0.5, "inside_from_nngp": 0.5}  # fmt: skip
            for moment, exponent in (("inside", -0.5), ("outside", -0.5), ("variance", -1.0)):
                row |= {moment: 2 * width**exponent, f"{moment}_error": 1e-3}
            rows.append(row | {f"inside_from_{LIMIT[name]}": row["inside"]})
    return rows


def outcomes(rows):
    return dict(zip(CLAIMS, (claim.outcome for claim in script.verdict(rows).claims), strict=True))


CLAIMS = ("signs", "one input", "all inputs", "bound", "figure", "trained", "ntk", "standard")
EXPECTED = dict.fromkeys(CLAIMS, "reproduced") | {"figure": "departs", "trained": "not reproduced"}
LIMITS = ("ntk", "standard")


def protocol(function, **where):
    """First passages from those that there are."""
    return change(
        {
            "sizes_90": lambda row: function(row["sizes_90"]),
            "sizes_999": lambda row: function(row["sizes_999"]),
        },
        kind="protocol",
        **where,
    )


def trained(sizes):
    return change({"sizes_90": sizes}, kind="trained", parametrisation="ntk")


def swap_limits(rows):
    """The moments are as far from the wrong limit as they should be from the right one."""
    for row in rows:
        if row["kind"] == "moments":
            first, second = "inside_from_ntk", "inside_from_nngp"
            row[first], row[second] = row[second], row[first]


def test_planted_rows_give_the_planted_verdict():
    assert outcomes(planted()) == EXPECTED


@pytest.mark.parametrize(
    ("break_", "turned"),
    [
        (change({"highest_outside": 0.01}, kind="signs"), {"signs": "not reproduced"}),
        (change({"lowest_inside": -0.1, "highest_outside": 0.1}, kind="signs"),
         {"signs": "not reproduced"}),
        (change({"lowest_inside": math.nan}, kind="signs"), {"signs": "not reproduced"}),
        (change({"hardest": lambda row: row["k"] ** 1.5, "hardest_ones": 5}, kind="growth"),
         {"one input": "not reproduced"}),
        (change({"upper": lambda row: row["k"] ** 2.3}, kind="growth"),
         {"all inputs": "not reproduced"}),
        (change({"members": 90.0}, kind="joint"), {"all inputs": "not reproduced"}),
        (change({"members": 10.0}, kind="joint"), {"all inputs": "not reproduced"}),
        (change({"members": math.nan}, kind="joint", k=6), {"all inputs": "not reproduced"}),
        (change({"members": 90.0, "error": 20.0}, kind="joint"), {"all inputs": "inconclusive"}),
        (change({"bound": 100.0}, kind="exact"), {"bound": "not reproduced"}),
        (change({"bound": math.nan}, kind="exact", k=20), {"bound": "not reproduced"}),
        (swap("regime", "ntk", "nngp", kind="exact"), {"bound": "not reproduced"}),
        (swap("regime", "ntk", "nngp", kind="protocol"), {"figure": "reproduced"}),
        (protocol(lambda sizes: [3 * size for size in sizes]), {"figure": "not reproduced"}),
        # spread over everything, both laws hold every published point
        (protocol(lambda sizes: np.geomspace(1, 1e4, 99).tolist()), {"figure": "inconclusive"}),
        (protocol(lambda sizes: sizes[:20], regime="nngp"), {"figure": "inconclusive"}),
        (protocol(lambda sizes: [-1] * 99), {"figure": "not reproduced"}),
        (swap("parametrisation", "ntk", "standard", kind="trained"), {"trained": "reproduced"}),
        (trained([60, 65, 70, 300]), {"trained": "inconclusive"}),
        (trained([5, 60, 65, 70]), {"trained": "inconclusive"}),
        (trained([60]), {"trained": "inconclusive"}),
        (trained([60, 65, 70, -1]), {"trained": "inconclusive"}),
        (trained([-1] * 4), {"trained": "not reproduced"}),
        (trained([1, 2, 1, 2]), {"trained": "not reproduced"}),  # members that are all right
        (drop(kind="trained"), {"trained": "inconclusive"}),
        (change({"inside": 0.1}, kind="moments"), dict.fromkeys(LIMITS, "not reproduced")),
        (change({"outside": 0.1}, kind="moments"), dict.fromkeys(LIMITS, "not reproduced")),
        (change({"inside_from_ntk": 0.0, "inside_from_nngp": 0.0}, kind="moments", width=4096),
         dict.fromkeys(LIMITS, "not reproduced")),  # of two limits it is at both
        (swap_limits, dict.fromkeys(LIMITS, "not reproduced")),
        (swap("width", 64, 4096, kind="moments"), dict.fromkeys(LIMITS, "inconclusive")),
        (change({"inside_error": 1.0}, kind="moments"), dict.fromkeys(LIMITS, "inconclusive")),
        (change({"variance": -1.0, "variance_error": 0.0}, kind="moments"),  # members all the same
         dict.fromkeys(LIMITS, "inconclusive")),
        (change({"inside": math.nan}, kind="moments", width=256),
         dict.fromkeys(LIMITS, "inconclusive")),
        (drop(kind="moments", width=(256, 1024)), dict.fromkeys(LIMITS, "inconclusive")),
    ],
)  # fmt: skip
def test_the_verdict_turns_over(break_, turned):
    rows = planted()
    break_(rows)
    assert outcomes(rows) == EXPECTED | turned


def test_the_order_of_the_rows_is_of_no_account():
    """Of the widths, that is: those of a run that was stopped come last."""
    rows = planted()
    moments = [row for row in rows if row["kind"] == "moments"]
    others = [row for row in rows if row["kind"] != "moments"]
    assert script.verdict([*others, *moments[::-1]]) == script.verdict(rows)


@pytest.mark.slow
def test_networks_with_the_targets_of_other_inputs_are_never_right(monkeypatch):
    counts_and_bits = script._test_set

    def of_others(*arguments):
        counts, bits = counts_and_bits(*arguments)
        return counts, np.roll(bits, 1, axis=0)

    monkeypatch.setattr(script, "_test_set", of_others)
    row = script._protocol(jax.random.key(0), 5, "nngp", 4, 50)
    assert row == {"sizes_90": [-1] * 4, "sizes_999": [-1] * 4}


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
