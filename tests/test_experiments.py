"""The runner, on a toy script in real processes; and every real script, at its smallest size."""

import ast
import contextlib
import dataclasses
import errno
import importlib.util
import inspect
import io
import json
import math
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from experiments import __main__ as listing
from experiments import (
    _contract,
    _environment,
    _progress,
    _report,
    _results,
    _scripts,
    run,
    table,
)

ROOT = Path(__file__).parents[1]
ENVIRONMENT = os.environ | {
    "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
    "COLUMNS": "200",
}
COMMAND = [sys.executable, "-m", "toy_experiment"]


def load(path: Path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where tyro looks for the fields' docstrings
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def toy(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    return load(ROOT / "tests/toy_experiment.py")


@pytest.fixture
def no_figure(monkeypatch):
    monkeypatch.setattr(_report, "draw", lambda *_: None)


def go(*words, **environment):
    """A run of the toy in a process of its own."""
    return subprocess.run(
        [*COMMAND, *map(str, words)],
        env=ENVIRONMENT | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@contextlib.contextmanager
def hanging(cell, *words):
    """A run of the toy that has written the first row of this cell, and waits for ever."""
    process = subprocess.Popen(
        [*COMMAND, *map(str, words)],
        env=ENVIRONMENT | {"TOY_HANG": cell},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        while "hanging" not in process.stdout.readline():
            assert process.poll() is None
        yield process
    finally:
        process.kill()
        process.communicate()


def rows_of(toy, config):
    """What a run must have measured, cell by cell, as it comes back from JSON."""
    return {
        cell.key: [
            json.loads(json.dumps(_results.plain(row, "")), object_hook=_results._revive)
            for row in toy.measure(config, cell)
        ]
        for cell in toy.plan(config)
    }


def same(first, second):
    """Equal, NaN to NaN."""
    return repr(first) == repr(second)


# ---- whole runs, in real processes


def test_a_whole_run_leaves_rows_figure_and_verdict(tmp_path, toy):
    done = go("quick", "--out", tmp_path / "deep/runs")
    assert done.returncode == 0, done.stderr
    path = tmp_path / "deep/runs/toy_experiment.quick.jsonl"
    contents = _results.read(path)
    assert same(contents.cells, rows_of(toy, toy.QUICK))
    header, footer = contents.header, contents.footer
    assert header["script"] == "toy_experiment"
    assert header["preset"] == "quick"
    assert header["config"] == {"cells": ["a", "b", "c", "d"], "seed": 0, "outcome": "reproduced"}
    environment = header["environment"]
    assert environment["versions"]["numpy"] == np.__version__
    assert environment["versions"].keys() == {"python", "jax", "jaxlib", "numpy", "ntkens"}
    assert environment["device"]["platform"] == "cpu"
    assert environment.keys() == {"commit", "dirty", "versions", "device", "started"}
    assert 0 <= footer["seconds"] < 60
    assert footer["peak"]["host"] > 2**20
    assert footer["verdict"][0]["evidence"].startswith("saw a97 a98 a99 b98")
    figure = path.with_suffix(".png").read_bytes()
    assert figure.startswith(b"\x89PNG")
    assert len(figure) < 300_000
    for words in ("a | bar [and] brackets", "12 ± 0", "[4/4] d", "about", str(path)):
        assert words in done.stdout


def test_a_finished_run_is_not_repeated_unless_asked(tmp_path):
    first = go("quick", "--out", tmp_path)
    path = tmp_path / "toy_experiment.quick.jsonl"
    before = path.read_bytes()
    second = go("quick", "--out", tmp_path)
    assert "measuring a" in first.stdout
    assert second.returncode == 0
    assert "measuring" not in second.stdout
    assert "not repeated; --again" in second.stdout
    assert "a | bar [and] brackets: reproduced" in second.stdout
    assert path.read_bytes() == before
    third = go("quick", "--out", tmp_path, "--again")
    assert third.stdout.count("measuring ") == 4
    assert path.read_bytes() != before
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "toy_experiment.quick.jsonl",
        "toy_experiment.quick.png",
    ]


def test_a_killed_run_loses_no_row_and_continues(tmp_path, toy):
    path = tmp_path / "toy_experiment.quick.jsonl"
    with hanging("c", "quick", "--out", tmp_path) as process:
        at_kill = path.read_bytes()
        assert at_kill.count(b'"row"') == 7  # a, b, and one row of c: on disk while it still runs
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert path.read_bytes() == at_kill
    second = go("quick", "--out", tmp_path)
    assert second.returncode == 0, second.stderr
    measured = [line for line in second.stdout.splitlines() if line.startswith("measuring")]
    assert measured == ["measuring c", "measuring d"]
    assert "2 are kept" in second.stdout
    assert path.read_bytes().startswith(at_kill)
    contents = _results.read(path)
    assert same(contents.cells, rows_of(toy, toy.QUICK))
    assert len(contents.environments) == 2
    # the verdict saw the partial cell's rows once, and in the order of the plan
    assert contents.footer["verdict"][0]["evidence"] == (
        "saw a97 a98 a99 b98 b99 b100 c99 c100 c101 d100 d101 d102"
    )


def test_a_second_process_is_kept_out_while_the_first_measures(tmp_path):
    with hanging("b", "quick", "--out", tmp_path):
        before = (tmp_path / "toy_experiment.quick.jsonl").read_bytes()
        second = go("quick", "--out", tmp_path)
        assert second.returncode == 1
        assert "is being written by another process" in second.stderr
        assert "--out FOLDER" in second.stderr
        assert "Traceback" not in second.stderr
        assert (tmp_path / "toy_experiment.quick.jsonl").read_bytes() == before


def test_ctrl_c_says_what_is_kept_and_how_to_continue(tmp_path):
    with hanging("c", "quick", "--out", tmp_path) as process:
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in output + errors
    assert "Stopped. 2 of 4 cells are kept in" in output
    command = shlex.split(output.strip().splitlines()[-1])
    assert command == ["python", "-m", "toy_experiment", "quick", "--out", str(tmp_path)]
    assert go(*command[3:]).stdout.count("measuring ") == 2


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["quikc"], "quick, laptop, paper"),
        (["quick", "--sed", "3"], "--seed INT"),
        (["quick", "--ou", "x"], "--out PATH"),
        (["quick", "--seed", "x"], "invalid literal"),
        ([], "quick"),
    ],
)
def test_a_typo_is_answered_with_what_was_meant(toy, words, told, capsys):
    with pytest.raises(SystemExit) as stop:
        run.main(toy, words)
    assert stop.value.code == 2
    output = capsys.readouterr()
    assert told in output.out + output.err


def test_help_shows_fields_options_and_costs(toy, capsys):
    with pytest.raises(SystemExit, match="0"):
        run.main(toy, ["--help"])
    assert "1 s, one core" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="0"):
        run.main(toy, ["laptop", "--help"])
    text = capsys.readouterr().out
    for words in ("--seed INT", "Added to every number. (default: 1)", "--out PATH", "--again"):
        assert words in text


def test_the_runner_starts_without_heavy_imports():
    heavy = {"tensorflow", "neural_tangents", "jax", "matplotlib", "ntkens"}
    code = f"import sys, experiments.run, experiments.__main__; print({heavy} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"


# ---- folders and files that will not do


def test_a_folder_that_cannot_be_written_to_is_named_before_measuring(tmp_path, toy, capsys):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit, match=r"--out .*file/runs.*Give a folder .*--out FOLDER"):
        run.main(toy, ["quick", "--out", str(tmp_path / "file/runs")])
    assert "measuring" not in capsys.readouterr().out


def test_a_folder_that_is_a_file_is_named(tmp_path, toy):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit, match=r"--out .*file: .*\(not a folder: .*--out FOLDER"):
        execute(toy, tmp_path / "file")


def test_results_that_cannot_be_read_are_named(tmp_path, toy):
    (tmp_path / "toy_experiment.quick.jsonl").mkdir()
    with pytest.raises(SystemExit, match=r"quick.jsonl cannot be read \(Is a directory\).*--out"):
        execute(toy, tmp_path)


def test_a_full_disk_stops_the_run_with_a_remedy(tmp_path, toy, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SystemExit, match=r"No space left.*kept: make room"):
        execute(toy, tmp_path)


def execute(toy, folder, config=None, again=False):
    """The toy in this process; returns its results file."""
    config = config or toy.QUICK
    arguments = run.Arguments("quick", config, folder, again)
    run.execute(toy, arguments)
    return folder / run._file_name(toy, arguments)


def test_wherever_a_file_is_cut_its_whole_cells_are_read(tmp_path, toy, no_figure):
    data = execute(toy, tmp_path).read_bytes()
    whole = _results.parse(data).cells
    lines = data.splitlines(keepends=True)
    ends = [len(b"".join(lines[: n + 1])) - 1 for n, line in enumerate(lines) if b"done" in line]
    assert len(ends) == 4
    for size in range(len(data)):
        cut = _results.parse(data[:size])
        assert cut.damaged == []
        assert len(cut.cells) == sum(end <= size for end in ends)  # lost only with its `done`
        assert all(same(rows, whole[key]) for key, rows in cut.cells.items())


def test_a_run_cut_anywhere_continues_from_the_last_whole_row(tmp_path, toy, no_figure, capsys):
    path = execute(toy, tmp_path)
    data, whole = path.read_bytes(), _results.read(path)
    header = data.index(b"\n")
    for size in range(0, len(data), len(data) // 30):
        path.write_bytes(data[:size])
        at_end = data[size : size + 1] == b"\n"  # a whole line that lacks its newline only
        torn = 0 if at_end else size - data.rfind(b"\n", 0, size) - 1
        capsys.readouterr()
        execute(toy, tmp_path)
        output = capsys.readouterr().out
        assert ("cut off in mid-line" in output) == (torn > 0)
        contents = _results.read(path)
        assert same(contents.cells, whole.cells)
        assert contents.footer["verdict"] == whole.footer["verdict"]
        assert (contents.damaged, contents.torn) == ([], 0)
        if size > header:
            assert path.read_bytes().startswith(data[: size - torn])


def test_a_lost_newline_is_not_a_lost_row(tmp_path, toy, no_figure, capsys):
    path = execute(toy, tmp_path)
    data = path.read_bytes()
    lines = data.splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:5])[:-1])  # header, three rows, done
    capsys.readouterr()
    execute(toy, tmp_path)
    output = capsys.readouterr().out
    assert "cut off" not in output
    assert "measuring a" not in output
    assert _results.read(path).damaged == []


def test_a_damaged_line_is_reported_and_its_cell_measured_again(tmp_path, toy, no_figure, capsys):
    path = execute(toy, tmp_path)
    whole = _results.read(path)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[6] = b'{"cell": "b", "ro\xff\n'
    path.write_bytes(b"".join(lines))
    capsys.readouterr()
    execute(toy, tmp_path)
    output = capsys.readouterr().out
    assert "line 7 cannot be read" in output
    assert [line for line in output.splitlines() if line.startswith("measuring")] == ["measuring b"]
    assert same(sorted(_results.read(path).cells.items()), sorted(whole.cells.items()))


def test_a_file_without_a_header_is_left_alone(tmp_path, toy):
    path = tmp_path / "toy_experiment.quick.jsonl"
    path.write_text("my notes\n")
    with pytest.raises(SystemExit, match=r"no header.*Move it away or delete it.*--out FOLDER"):
        execute(toy, tmp_path)
    assert path.read_text() == "my notes\n"


# ---- configs, repeats, code that changed


def test_another_config_is_another_run(tmp_path, toy, no_figure):
    first = execute(toy, tmp_path)
    second = execute(toy, tmp_path, dataclasses.replace(toy.QUICK, seed=5, cells=("x", "y")))
    third = execute(toy, tmp_path, dataclasses.replace(toy.QUICK, outcome="departs"))
    assert second.name == "toy_experiment.quick.cells=x-y,seed=5.jsonl"
    assert len({first, second, third}) == 3
    assert _results.read(second).cells["x"][0]["value"] == ord("x") + 5
    odd = run.Arguments("quick", dataclasses.replace(toy.QUICK, cells=("../a b",)), tmp_path)
    assert "/" not in run._file_name(toy, odd)


def test_a_record_of_another_config_is_replaced_only_when_asked(tmp_path, toy, no_figure, capsys):
    results = tmp_path / "results"
    path = execute(toy, results)
    assert path == results / "toy_experiment.jsonl"
    before = path.read_bytes()
    other = dataclasses.replace(toy.QUICK, seed=7)
    with pytest.raises(SystemExit, match=r"another config \(seed was 0, is 7\). --again replaces"):
        execute(toy, results, other)
    assert path.read_bytes() == before
    execute(toy, results, other, again=True)
    assert _results.read(path).header["config"]["seed"] == 7
    assert os.listdir(results) == ["toy_experiment.jsonl"]


def test_a_repeat_that_breaks_off_keeps_the_finished_run_and_continues(
    tmp_path, toy, no_figure, monkeypatch, capsys
):
    path = execute(toy, tmp_path)
    before = path.read_bytes()
    measure = toy.measure

    def breaks(config, cell):
        yield from measure(config, cell)
        if cell.key == "c":
            raise ZeroDivisionError("in the middle")

    monkeypatch.setattr(toy, "measure", breaks)
    with pytest.raises(ZeroDivisionError) as error:
        execute(toy, tmp_path, again=True)
    assert "2 of 4 cells are kept in" in error.value.__notes__[0]
    assert path.read_bytes() == before
    monkeypatch.setattr(toy, "measure", measure)
    capsys.readouterr()
    execute(toy, tmp_path, again=True)
    assert capsys.readouterr().out.count("measuring ") == 2
    assert path.read_bytes() != before
    assert os.listdir(tmp_path) == [path.name]


def test_a_changed_verdict_is_judged_anew_without_measuring(tmp_path, toy, monkeypatch, capsys):
    path = execute(toy, tmp_path)
    lines = path.read_bytes().count(b"\n")
    verdict = toy.verdict
    monkeypatch.setattr(
        toy,
        "verdict",
        lambda rows: run.Verdict((verdict(rows).claims[0]._replace(outcome="departs"),)),
    )
    capsys.readouterr()
    execute(toy, tmp_path)
    assert "measuring" not in capsys.readouterr().out
    assert _results.read(path).footer["verdict"][0]["outcome"] == "departs"
    assert path.read_bytes().count(b"\n") == lines + 1


def test_rows_of_an_older_commit_are_pointed_out(tmp_path, toy, no_figure, monkeypatch, capsys):
    path = execute(toy, tmp_path)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:5]))
    monkeypatch.setattr(_environment, "_git", lambda *_: "0123abc")
    capsys.readouterr()
    execute(toy, tmp_path)
    assert "the code is now at 0123abc" in capsys.readouterr().out
    assert _results.read(path).environments[-1]["commit"] == "0123abc"


def test_outside_git_the_commit_is_unknown_and_the_run_goes_on(tmp_path, toy, monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")
    header = _results.read(execute(toy, tmp_path)).header
    assert (header["environment"]["commit"], header["environment"]["dirty"]) == (None, None)
    assert "outside git" in capsys.readouterr().out


# ---- what is written


def test_every_line_is_strict_json(tmp_path, toy, no_figure):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    for line in execute(toy, tmp_path).read_text().splitlines():
        json.loads(line, parse_constant=refuse)


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (np.float32(0.1), float(np.float32(0.1))),
        (1e-320, 1e-320),
        (0.1 + 0.2, 0.1 + 0.2),
        (2**70, 2**70),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (jnp.float64(0.1), 0.1),
        (jnp.arange(4).reshape(2, 2), [[0, 1], [2, 3]]),
        ((1, [np.nan, -np.inf]), [1, [math.nan, -math.inf]]),
        (None, None),
        ("nan", "nan"),
        (Path("a/b"), "a/b"),
        ({"float": 0.5}, {"float": 0.5}),
    ],
)
def test_values_come_back_as_pythons_own(value, kept):
    text = json.dumps(_results.plain(value, "row"), allow_nan=False)
    assert same(json.loads(text, object_hook=_results._revive), kept)


def test_what_a_file_cannot_hold_is_named():
    with pytest.raises(TypeError, match=r"row\['spread'\] is a complex"):
        _results.plain({"spread": [1.0, 1j]}, "row")


def test_time_and_memory_are_counted_over_all_sessions():
    def lines(*entries):
        return "".join(json.dumps(entry) + "\n" for entry in entries).encode()

    first = [
        {"header": {"config": {}, "environment": {}}},
        {"cell": "a", "row": {}, "at": 2.0},
        {"done": "a", "rows": 1, "at": 3.0, "peak": {"host": 7}},
        {"cell": "b", "row": {}, "at": 10.0},  # killed here
    ]
    second = [
        {"resumed": {}},
        {"cell": "b", "row": {}, "at": 0.5},
        {"done": "b", "rows": 1, "at": 1.5, "peak": {"host": 5, "device": 2}},
    ]
    contents = _results.parse(lines(*first, *second))
    assert contents.seconds == 11.5
    assert contents.peak == {"host": 7, "device": 2}
    assert contents.cells == {"a": [{}], "b": [{}]}


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


# ---- progress


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


# ---- list and table


def test_the_list_shows_claim_cost_and_last_verdict(tmp_path, toy, no_figure, monkeypatch):
    folder = tmp_path / "experiments"
    folder.mkdir()
    for name in ("toy_experiment", "unmeasured"):
        (folder / f"{name}.py").write_text((ROOT / "tests/toy_experiment.py").read_text())
    for name in ("run", "table", "_helper", "__main__"):
        (folder / f"{name}.py").write_text("raise AssertionError")
    execute(toy, tmp_path / "results")
    screen = io.StringIO()
    scripts = _scripts.discover(folder)
    listing.show(Console(file=screen, width=200), scripts, tmp_path / "results")
    text = screen.getvalue()
    assert [script.name for script in scripts] == ["toy_experiment", "unmeasured"]
    assert "The mean of one number is that number. arXiv:0000.00000, Figure 1." in text
    assert "quick   # 1 s, one core" in text
    assert "last verdict: reproduced (quick, " in text
    assert text.count("last verdict: none recorded") == 1


def test_the_list_runs():
    done = subprocess.run(
        [sys.executable, "-m", "experiments"],
        env=ENVIRONMENT, cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for script in _scripts.discover(ROOT / "experiments"):
        assert script.title in done.stdout
    assert done.stdout


README = f"# Title\n\n{table.START}\nold\n{table.END}\n\nThe end.\n"


def test_the_table_says_what_results_says(tmp_path, toy, no_figure, capsys):
    readme, results = tmp_path / "README.md", tmp_path / "results"
    execute(toy, results)
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
    assert text.count("`toy_experiment`") == 1
    assert row in text
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


def test_a_damaged_record_is_not_tabulated(tmp_path, toy, no_figure):
    path = execute(toy, tmp_path / "results")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(SystemExit, match=r"is damaged.*experiments.toy_experiment laptop --out"):
        table.finished_runs(tmp_path / "results")


def test_an_accelerator_is_named_with_its_count():
    device = {"platform": "gpu", "kind": "NVIDIA H100", "count": 1, "cores": 16}
    assert _environment.device_name(device) == "NVIDIA H100"
    assert _environment.device_name(device | {"count": 4}) == "4 x NVIDIA H100"
    assert _environment.device_name(device | {"platform": "cpu", "cores": 1}) == "1 CPU core"


# ---- every script keeps the contract, and runs

PATHS = [
    ROOT / "tests/toy_experiment.py",
    *(ROOT / f"experiments/{script.name}.py" for script in _scripts.discover(ROOT / "experiments")),
]
every_script = pytest.mark.parametrize("path", PATHS, ids=[path.stem for path in PATHS])


@every_script
def test_a_script_has_the_shape(path):
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
    assert inspect.isgeneratorfunction(script.measure)
    body = ast.parse(path.read_text()).body
    assert "run.main" in ast.unparse(body[-1])
    fields = next(node for node in body if isinstance(node, ast.ClassDef) and node.name == "Config")
    statements = fields.body
    for field, text in zip(statements, [*statements[1:], None], strict=True):
        if isinstance(field, ast.AnnAssign):
            assert isinstance(text, ast.Expr), f"{ast.unparse(field.target)} has no docstring"


@every_script
def test_a_script_runs_end_to_end_at_its_smallest(path, tmp_path, capsys):
    script = load(path)
    arguments = run.Arguments("tiny", script.TINY, tmp_path)
    verdict = run.execute(script, arguments)
    file = tmp_path / f"{path.stem}.tiny.jsonl"
    contents = _results.read(file)
    assert contents.footer["verdict"] == [claim._asdict() for claim in verdict.claims]
    assert all(contents.cells.values())  # every cell has rows
    assert 1000 < file.with_suffix(".png").stat().st_size < 300_000
    assert contents.footer["seconds"] < 30  # 10 s is the promise; a busy machine may take thrice
    assert same(run.execute(script, arguments), verdict)  # from the file alone
    assert "not repeated" in capsys.readouterr().out
