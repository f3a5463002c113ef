"""The toy script, loaded for use in this process, and a way to run it."""

import importlib
from pathlib import Path

import pytest

from experiments import _report, run


@pytest.fixture
def toy(monkeypatch):
    """The toy script, in a wide terminal."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.syspath_prepend(Path(__file__).parent)
    return importlib.import_module("toy_experiment")


@pytest.fixture
def no_figure(monkeypatch):
    """Leaves the figure out, which takes most of a run's time."""
    monkeypatch.setattr(_report, "draw", lambda *_: None)


@pytest.fixture
def execute(toy):
    """Runs the toy in this process; returns its results file."""

    def execute(folder, config=toy.QUICK, again=False):
        arguments = run.Arguments("quick", config, folder, again)
        run.execute(toy, arguments)
        return folder / run._file_name(toy, arguments)

    return execute
