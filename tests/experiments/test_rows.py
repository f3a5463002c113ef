"""What verdicts ask of rows: digits, signs and outcomes. (Exponents: `test_exact_permutations`.)"""

import numpy as np
import pytest

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
