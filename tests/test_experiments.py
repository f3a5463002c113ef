"""Every script keeps the contract of `experiments.run`, and runs at its smallest size."""

import ast
import dataclasses
import importlib
from pathlib import Path

import pytest

from experiments import _contract, _results, _scripts, run

ROOT = Path(__file__).parents[1]
TOY = ROOT / "tests/experiments/toy_experiment.py"
PATHS = [
    ROOT / f"experiments/{script.name}.py" for script in _scripts.discover(ROOT / "experiments")
]


@pytest.fixture
def load(monkeypatch):
    """Imports a script by its path."""
    monkeypatch.syspath_prepend(TOY.parent)

    def load(path):
        return importlib.import_module(
            path.stem if path == TOY else f"{path.parent.name}.{path.stem}"
        )

    return load


@pytest.mark.parametrize("path", [TOY, *PATHS], ids=lambda path: path.stem)
def test_a_script_has_the_shape(path, load):
    script = load(path)
    description = _scripts.describe(path.stem, script.__doc__)
    assert "arXiv:" in description.title
    assert list(description.costs) == ["quick", "laptop", "paper"]
    assert all(description.costs.values())
    assert "Claim:" in script.__doc__
    assert "Departures:" in script.__doc__
    assert dataclasses.is_dataclass(script.Config)
    assert script.Config.__dataclass_params__.frozen
    for preset in (script.TINY, script.QUICK, script.LAPTOP, script.PAPER):
        assert type(preset) is script.Config
        _contract.check_plan(script.plan(preset))
    body = ast.parse(path.read_text()).body
    assert "run.main" in ast.unparse(body[-1])
    fields = next(node for node in body if isinstance(node, ast.ClassDef) and node.name == "Config")
    statements = fields.body
    for field, text in zip(statements, [*statements[1:], None], strict=True):
        if isinstance(field, ast.AnnAssign):
            assert isinstance(text, ast.Expr), f"{ast.unparse(field.target)} has no docstring"


@pytest.mark.parametrize(
    "path",
    [TOY, *(pytest.param(path, marks=pytest.mark.slow) for path in PATHS)],
    ids=lambda path: path.stem,
)
def test_a_script_runs_end_to_end_at_its_smallest(path, load, tmp_path, capsys):
    script = load(path)
    arguments = run.Arguments("tiny", script.TINY, tmp_path)
    verdict = run.execute(script, arguments)
    file = tmp_path / f"{path.stem}.tiny.jsonl"
    contents = _results.read(file)
    assert contents.footer["verdict"] == [claim._asdict() for claim in verdict.claims]
    assert all(contents.cells.values())  # every cell has rows
    assert 1000 < file.with_suffix(".png").stat().st_size < 300_000
    assert run.execute(script, arguments) == verdict  # from the file alone
    assert "not repeated" in capsys.readouterr().out
