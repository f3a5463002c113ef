"""The tour in the README runs as it is printed, and its table is what the results say."""

import contextlib
import doctest
import io
from pathlib import Path

import pytest

from experiments import table

README = Path(__file__).parents[1] / "README.md"


@pytest.mark.slow
def test_the_tour_runs_as_printed():
    results = doctest.testfile(str(README), module_relative=False)
    assert results.attempted >= 10
    assert results.failed == 0


def test_the_table_is_what_the_results_say():
    with contextlib.redirect_stdout(io.StringIO()):
        table.main(readme=README, check=True)
