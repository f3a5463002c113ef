"""The results file: cut off, damaged, locked away, full; and what it can hold."""

import errno
import json
import math
import os
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from experiments import (
    _results,
    run,
)


def same(first, second):
    """Equal, NaN to NaN."""
    return repr(first) == repr(second)


def test_a_folder_that_cannot_be_written_to_is_named_before_measuring(tmp_path, toy, capsys):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit, match=r"--out .*file/runs.*Give a folder .*--out FOLDER"):
        run.main(toy, ["quick", "--out", str(tmp_path / "file/runs")])
    assert "measuring" not in capsys.readouterr().out


def test_a_folder_that_is_a_file_is_named(tmp_path, execute):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit, match=r"--out .*file: .*\(not a folder: .*--out FOLDER"):
        execute(tmp_path / "file")


def test_results_that_cannot_be_read_are_named(tmp_path, execute):
    (tmp_path / "toy_experiment.quick.jsonl").mkdir()
    with pytest.raises(SystemExit, match=r"quick.jsonl cannot be read \(Is a directory\).*--out"):
        execute(tmp_path)


def test_a_full_disk_stops_the_run_with_a_remedy(tmp_path, execute, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SystemExit, match=r"No space left.*kept: make room"):
        execute(tmp_path)


def test_wherever_a_file_is_cut_its_whole_cells_are_read(tmp_path, execute, no_figure):
    data = execute(tmp_path).read_bytes()
    whole = _results.parse(data).cells
    lines = data.splitlines(keepends=True)
    ends = [len(b"".join(lines[: n + 1])) - 1 for n, line in enumerate(lines) if b"done" in line]
    assert len(ends) == 4
    for size in range(len(data)):
        cut = _results.parse(data[:size])
        assert cut.damaged == []
        assert len(cut.cells) == sum(end <= size for end in ends)  # lost only with its `done`
        assert all(same(rows, whole[key]) for key, rows in cut.cells.items())


def test_a_run_cut_anywhere_continues_from_the_last_whole_row(tmp_path, execute, no_figure, capsys):
    path = execute(tmp_path)
    data, whole = path.read_bytes(), _results.read(path)
    header = data.index(b"\n")
    for size in range(0, len(data), len(data) // 30):
        path.write_bytes(data[:size])
        at_end = data[size : size + 1] == b"\n"  # a whole line that lacks its newline only
        torn = 0 if at_end else size - data.rfind(b"\n", 0, size) - 1
        capsys.readouterr()
        execute(tmp_path)
        output = capsys.readouterr().out
        assert ("cut off in mid-line" in output) == (torn > 0)
        contents = _results.read(path)
        assert same(contents.cells, whole.cells)
        assert contents.footer["verdict"] == whole.footer["verdict"]
        assert (contents.damaged, contents.torn) == ([], 0)
        if size > header:
            assert path.read_bytes().startswith(data[: size - torn])


def test_a_lost_newline_is_not_a_lost_row(tmp_path, execute, no_figure, capsys):
    path = execute(tmp_path)
    data = path.read_bytes()
    lines = data.splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:5])[:-1])  # header, three rows, done
    capsys.readouterr()
    execute(tmp_path)
    output = capsys.readouterr().out
    assert "cut off" not in output
    assert "measuring a" not in output
    assert _results.read(path).damaged == []


def test_a_damaged_line_is_reported_and_its_cell_measured_again(
    tmp_path, execute, no_figure, capsys
):
    path = execute(tmp_path)
    whole = _results.read(path)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[6] = b'{"cell": "b", "ro\xff\n'
    path.write_bytes(b"".join(lines))
    capsys.readouterr()
    execute(tmp_path)
    output = capsys.readouterr().out
    assert "line 7 cannot be read" in output
    assert [line for line in output.splitlines() if line.startswith("measuring")] == ["measuring b"]
    assert same(sorted(_results.read(path).cells.items()), sorted(whole.cells.items()))


def test_a_file_without_a_header_is_left_alone(tmp_path, execute):
    path = tmp_path / "toy_experiment.quick.jsonl"
    path.write_text("my notes\n")
    with pytest.raises(SystemExit, match=r"no header.*Move it away or delete it.*--out FOLDER"):
        execute(tmp_path)
    assert path.read_text() == "my notes\n"


def test_every_line_is_strict_json(tmp_path, execute, no_figure):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    for line in execute(tmp_path).read_text().splitlines():
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
