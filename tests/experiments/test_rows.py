"""What verdicts ask of rows: digits, signs and outcomes. (Exponents: `test_exact_permutations`.)"""

import numpy as np
import pytest
from scipy import stats

from experiments import _rows


@pytest.mark.parametrize(
    ("mean", "error", "text"),
    [
        (0.25031, 0.0142, "0.250 ± 0.014"),
        (0.6, 0.03, "0.600 ± 0.030"),
        (1234.5, 56.0, "1234 ± 56"),
        (1.54e-6, 8.2e-7, "1.5e-06 ± 8.2e-07"),
        (0.5, np.nan, "0.5"),
        (0.5, 0.0, "0.5"),
        (np.inf, 1.0, "inf"),
    ],
)
def test_a_number_has_two_digits_of_its_error(mean, error, text):
    assert _rows.number(mean, error) == text


def test_a_positive_number_may_show_its_sign():
    assert _rows.number(0.25031, 0.0142, "+") == "+0.250 ± 0.014"


def test_a_sign_is_that_of_students_test():
    """Five numbers of mean 1: t is 2.776 at 95%, and so is the mean over its error at the edge."""
    spread = np.array([-1, -1, 0, 1, 1]) * 5**0.5  # of deviation 5^(1/2), an error of 1
    for scale, expected in ((2.7, 0), (2.9, 1), (-2.9, -1)):
        assert _rows.sign(scale + spread) == expected
    assert _rows.sign([3.0]) == 0
    assert _rows.sign([2.0, 2.0]) == 1
    assert _rows.sign([2.0, np.nan]) == 0


def test_the_best_of_several_has_to_be_better():
    """Five numbers, and Student's t of 1 - 0.025 / 4 with four degrees of freedom."""
    spread = np.array([-1, -1, 0, 1, 1]) * 5**0.5
    edge = stats.t.isf(0.025 / 4, 4)
    assert [_rows.sign(edge * factor + spread, 4) for factor in (0.99, 1.01)] == [0, 1]


@pytest.mark.parametrize(
    ("signs", "outcome"),
    [
        ([1, 1], "reproduced"),
        ([1, 0], "inconclusive"),
        ([0, -1], "not reproduced"),
        ([1, -1], "departs"),
        ([], "inconclusive"),
    ],
)
def test_signs_are_judged_together(signs, outcome):
    assert _rows.judged(signs) == outcome


@pytest.mark.parametrize(
    ("signs", "outcome"),
    [
        ([1, 1], "reproduced"),
        ([1, 0], "inconclusive"),
        ([1, -1, 0], "not reproduced"),
        ([], "inconclusive"),
    ],
)
def test_signs_that_all_have_to_be_above(signs, outcome):
    assert _rows.unanimous(signs) == outcome


@pytest.mark.parametrize(
    ("y", "errors"),
    [([1.0, np.nan, 0.25], [0.01] * 3), ([1.0, 0.5, 0.25], [0.01, 0.0, 0.01]),
     ([1.0, 0.5, 0.25], [0.01, np.nan, 0.01]), ([1.0, 0.5], [0.01] * 2)],
)  # fmt: skip
def test_a_power_law_of_points_that_say_nothing(y, errors):
    exponent, error = _rows.power_law([1, 2, 4][: len(y)], y, errors)
    assert np.isnan(exponent)
    assert error == np.inf
