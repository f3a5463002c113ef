"""What a person sees: progress, figure, list, README table; and what a script may not hand in."""

import io
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from experiments import __main__ as listing
from experiments import (
    _contract,
    _environment,
    _progress,
    _report,
    _scripts,
    run,
    table,
)

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([], "no cells"),
        ([run.Cell("a", 1.0), run.Cell("a", 2.0)], "two cells 'a'"),
        ([run.Cell("a", 0.0)], "cost of 'a' is 0.0"),
        ([run.Cell("a", math.nan)], "cost of 'a' is nan"),
    ],
)
def test_a_plan_that_cannot_be_resumed_is_refused(cells, message):
    with pytest.raises(ValueError, match=message):
        _contract.check_plan(cells)


CLAIM = run.Claim("it holds", "reproduced", "1", "1 ± 0", "all of it")


@pytest.mark.parametrize(
    ("claims", "message"),
    [
        ((), "no claims"),
        ((CLAIM._replace(outcome="maybe"),), "'maybe'; it is one of reproduced, not reproduced"),
        ((CLAIM._replace(ours=0.5),), "ours of 'it holds' is 0.5; it is a string"),
    ],
)
def test_a_verdict_that_cannot_be_shown_is_refused(claims, message):
    with pytest.raises(ValueError, match=message):
        _contract.check_verdict(run.Verdict(claims))
    _contract.check_verdict(run.Verdict((CLAIM,)))


def test_a_large_figure_is_made_to_fit(tmp_path):
    def noise(rows, figure):
        pixels = np.random.default_rng(0).random((600, 1200, 3))
        figure.subplots().imshow(pixels, aspect="auto")

    _report.draw(noise, [], tmp_path / "noise.png")
    assert 0 < (tmp_path / "noise.png").stat().st_size < _report.LARGEST_FIGURE


def test_time_left_follows_the_pace_of_the_cells_done():
    assert _progress.seconds_left(0, 0, 4, 1, 6) == 9  # nothing done: the plan's own estimate
    assert _progress.seconds_left(2, 6, 4, 3, 1) == 12  # three times slower: 12 - 3 + 3
    assert _progress.seconds_left(2, 6, 4, 100, 1) == 3  # a late cell cannot make it negative


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.04, "0.0 s"), (9.96, "10 s"), (99.6, "1.7 min"), (5971, "1.7 h"), (90, "90 s")],
)
def test_durations_read_well(seconds, words):
    assert _progress.duration(seconds) == words


def test_a_terminal_gets_a_bar_with_the_cell_and_the_time_left():
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=120)
    cells = [run.Cell("k=5 [ntk]", 30.0), run.Cell("k=9 [ntk]", 90.0)]
    for cell in _progress.track(cells, 3, console):
        if cell.key.startswith("k=5"):
            assert "k=5 [ntk]" in screen.getvalue()
    text = screen.getvalue()
    assert "2.0 min left" in text
    assert "5/5 cells" in text


def test_the_list_shows_claim_cost_and_last_verdict(tmp_path, execute, no_figure, monkeypatch):
    folder = tmp_path / "experiments"
    folder.mkdir()
    for name in ("toy_experiment", "unmeasured"):
        (folder / f"{name}.py").write_text(
            (Path(__file__).parent / "toy_experiment.py").read_text()
        )
    for name in ("run", "table", "_helper", "__main__"):
        (folder / f"{name}.py").write_text("raise AssertionError")
    execute(tmp_path / "results")
    screen = io.StringIO()
    scripts = _scripts.discover(folder)
    listing.show(Console(file=screen, width=200), scripts, tmp_path / "results")
    text = screen.getvalue()
    assert [script.name for script in scripts] == ["toy_experiment", "unmeasured"]
    assert "The mean of one number is that number. arXiv:0000.00000, Figure 1." in text
    assert "quick   # 1 s, one core" in text
    assert "last verdict: 1 reproduced (quick, " in text
    assert text.count("last verdict: none recorded") == 1


def test_the_list_runs():
    command = [sys.executable, "-m", "experiments"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    for script in _scripts.discover(ROOT / "experiments"):
        assert script.title in done.stdout
    assert done.stdout


README = f"# Title\n\n{table.START}\nold\n{table.END}\n\nThe end.\n"


def test_the_table_says_what_results_says(tmp_path, execute, no_figure, capsys):
    readme, results = tmp_path / "README.md", tmp_path / "results"
    execute(results)
    (results / "other.again.jsonl").write_text("{unfinished")
    readme.write_text(README)
    with pytest.raises(SystemExit, match=r"run: python -m experiments.table"):
        table.main(readme, results, check=True)
    assert readme.read_text() == README
    table.main(readme, results)
    text = readme.read_text()
    assert text.startswith("# Title\n\n" + table.START)
    assert text.endswith(table.END + "\n\nThe end.\n")
    cores = len(os.sched_getaffinity(0))
    row = (
        "| `toy_experiment`, [arXiv:0000.00000](https://arxiv.org/abs/0000.00000) "
        "| a \\| bar [and] brackets | 1 | 12 ± 0 | reproduced "
        f"| {cores} CPU core{'s' if cores > 1 else ''} | "
    )
    paper = (
        "| `toy_experiment`, [arXiv:0000.00000](https://arxiv.org/abs/0000.00000) "
        "| The mean of one number is that number | 1 reproduced | "
    )
    assert text.count("`toy_experiment`") == 2
    assert paper in text.partition("<details>")[0]
    assert row in text.partition("<details>")[2]
    assert "old" not in text
    table.main(readme, results, check=True)
    table.main(readme, results)
    assert readme.read_text() == text


@pytest.mark.parametrize(
    "text", ["no markers", table.START, f"{table.END}\n{table.START}", README + table.START]
)
def test_a_readme_without_a_place_for_the_table_is_left_alone(tmp_path, text):
    readme = tmp_path / "README.md"
    readme.write_text(text)
    with pytest.raises(SystemExit, match=r"no place for the table. Put these two lines"):
        table.main(readme, tmp_path)
    assert readme.read_text() == text


def test_a_damaged_record_is_not_tabulated(tmp_path, execute, no_figure):
    path = execute(tmp_path / "results")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(SystemExit, match=r"is damaged.*experiments.toy_experiment laptop --out"):
        table.finished_runs(tmp_path / "results")


def test_an_accelerator_is_named_with_its_count():
    device = {"platform": "gpu", "kind": "NVIDIA H100", "count": 1, "cores": 16}
    assert _environment.device_name(device) == "NVIDIA H100"
    assert _environment.device_name(device | {"count": 4}) == "4 x NVIDIA H100"
    assert _environment.device_name(device | {"platform": "cpu", "cores": 1}) == "1 CPU core"
