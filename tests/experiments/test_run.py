"""Runs of the toy script: whole, killed, stopped, repeated, refused; some as real processes."""

import contextlib
import dataclasses
import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from experiments import (
    _environment,
    _results,
    run,
)

ROOT = Path(__file__).parents[2]
ENVIRONMENT = os.environ | {
    "PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(__file__).parent)]),
    "COLUMNS": "200",
}
COMMAND = [sys.executable, "-m", "toy_experiment"]


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
    # A job started in the background ignores Ctrl-C, and so would all that it starts.
    heard = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [*COMMAND, *map(str, words)],
        env=ENVIRONMENT | {"TOY_HANG": cell},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    signal.signal(signal.SIGINT, heard)
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


# ---- real processes


def test_a_whole_run_leaves_rows_figure_and_verdict(tmp_path, toy):
    done = go("quick", "--out", tmp_path / "deep/runs")
    assert done.returncode == 0, done.stderr
    path = tmp_path / "deep/runs/toy_experiment.quick.jsonl"
    contents = _results.read(path)
    assert same(contents.cells, rows_of(toy, toy.QUICK))
    header, footer = contents.header, contents.footer
    assert header["script"] == "toy_experiment"
    assert header["preset"] == "quick"
    config = dataclasses.asdict(toy.QUICK) | {"cells": ["a", "b", "c", "d"]}
    assert same(header["config"], config)
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


def test_a_finished_run_is_not_repeated_unless_asked(tmp_path, toy, capsys):
    path = tmp_path / "toy_experiment.quick.jsonl"
    words = ["quick", "--out", str(tmp_path)]
    run.main(toy, words)
    first, before = capsys.readouterr().out, path.read_bytes()
    run.main(toy, words)
    second, after = capsys.readouterr().out, path.read_bytes()
    run.main(toy, [*words, "--again"])
    third = capsys.readouterr().out
    assert [text.count("measuring ") for text in (first, second, third)] == [4, 0, 4]
    assert "not repeated; --again" in second
    assert "a | bar [and] brackets: reproduced" in second
    assert before == after != path.read_bytes()
    assert sorted(os.listdir(tmp_path)) == [path.name, "toy_experiment.quick.png"]


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
        (["quick", "--seed", "-1"], "seed: got -1; want at least 0\n"),
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


# ---- configs, repeats, code that changed


def test_another_config_is_another_run(tmp_path, execute, toy, no_figure):
    first = execute(tmp_path)
    second = execute(tmp_path, dataclasses.replace(toy.QUICK, seed=5, cells=("x", "y")))
    third = execute(tmp_path, dataclasses.replace(toy.QUICK, outcome="departs"))
    assert second.name == "toy_experiment.quick.cells=x-y,seed=5.jsonl"
    assert len({first, second, third}) == 3
    assert first.name == "toy_experiment.quick.jsonl"
    assert _results.read(second).cells["x"][0]["value"] == ord("x") + 5
    odd = run.Arguments("quick", dataclasses.replace(toy.QUICK, cells=("../a b",)), tmp_path)
    assert "/" not in run._file_name(toy, odd)


def test_a_record_of_another_config_is_replaced_only_when_asked(
    tmp_path, execute, toy, no_figure, capsys
):
    results = tmp_path / "results"
    path = execute(results)
    assert path == results / "toy_experiment.jsonl"
    before = path.read_bytes()
    other = dataclasses.replace(toy.QUICK, seed=7)
    with pytest.raises(SystemExit, match=r"another config \(seed was 0, is 7\). --again replaces"):
        execute(results, other)
    assert path.read_bytes() == before
    execute(results, other, again=True)
    assert _results.read(path).header["config"]["seed"] == 7
    assert os.listdir(results) == ["toy_experiment.jsonl"]


def test_a_repeat_that_breaks_off_keeps_the_finished_run_and_continues(
    tmp_path, execute, toy, no_figure, monkeypatch, capsys
):
    path = execute(tmp_path)
    before = path.read_bytes()
    measure = toy.measure

    def breaks(config, cell):
        yield from measure(config, cell)
        if cell.key == "c":
            raise ZeroDivisionError("in the middle")

    monkeypatch.setattr(toy, "measure", breaks)
    with pytest.raises(ZeroDivisionError) as error:
        execute(tmp_path, again=True)
    assert "2 of 4 cells are kept in" in error.value.__notes__[0]
    assert path.read_bytes() == before
    monkeypatch.setattr(toy, "measure", measure)
    capsys.readouterr()
    execute(tmp_path, again=True)
    assert capsys.readouterr().out.count("measuring ") == 2
    assert path.read_bytes() != before
    assert os.listdir(tmp_path) == [path.name]


def test_a_changed_verdict_is_judged_anew_without_measuring(
    tmp_path, execute, toy, monkeypatch, capsys
):
    path = execute(tmp_path)
    lines = path.read_bytes().count(b"\n")
    verdict = toy.verdict
    monkeypatch.setattr(
        toy,
        "verdict",
        lambda rows: run.Verdict((verdict(rows).claims[0]._replace(outcome="departs"),)),
    )
    capsys.readouterr()
    execute(tmp_path)
    assert "measuring" not in capsys.readouterr().out
    assert _results.read(path).footer["verdict"][0]["outcome"] == "departs"
    assert path.read_bytes().count(b"\n") == lines + 1


def test_rows_of_an_older_commit_are_pointed_out(tmp_path, execute, no_figure, monkeypatch, capsys):
    path = execute(tmp_path)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:5]))
    monkeypatch.setattr(_environment, "_git", lambda *_: "0123abc")
    capsys.readouterr()
    execute(tmp_path)
    assert "the code is now at 0123abc" in capsys.readouterr().out
    assert _results.read(path).environments[-1]["commit"] == "0123abc"


def test_outside_git_the_commit_is_unknown_and_the_run_goes_on(
    tmp_path, execute, monkeypatch, capsys
):
    monkeypatch.setenv("PATH", "")
    header = _results.read(execute(tmp_path)).header
    assert (header["environment"]["commit"], header["environment"]["dirty"]) == (None, None)
    assert "outside git" in capsys.readouterr().out
