"""The results file of a run: JSON lines, each on disk as soon as it is measured, safe to kill.

    {"header": {...}}                                   once: script, preset, config, environment
    {"cell": "k=5", "row": {...}, "at": 1.2}            a row, `at` seconds into its session
    {"done": "k=5", "rows": 3, "at": 1.3, "peak": {}}   the cell is complete, with so many rows
    {"resumed": {...}}                                  a later session begins: its environment
    {"footer": {...}}                                   seconds, peak, verdict; the last one counts

A cell counts when its `done` line agrees with the rows before it. Rows of a cell that a kill cut
short stay in the file, and are superseded when a later session measures the cell again.
JSON has no NaN and no infinity: these are written as `{"float": "nan"}`, `"inf"` and `"-inf"`.
"""

import contextlib
import dataclasses
import fcntl
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO


@dataclasses.dataclass
class Contents:
    """What the lines of a results file amount to."""

    header: dict | None = None
    """Script, preset, config and environment; None in a file that has nothing yet."""
    environments: list[dict] = dataclasses.field(default_factory=list)
    """One for each session that wrote to the file."""
    cells: dict[str, list[dict]] = dataclasses.field(default_factory=dict)
    """The rows of each complete cell."""
    seconds: float = 0.0
    """Time measured so far, over all sessions, repeated pieces included."""
    peak: dict[str, int] = dataclasses.field(default_factory=dict)
    """Largest memory use of any session, in bytes: of the host, and of each device."""
    footer: dict | None = None
    """Seconds, peak and verdict of a finished run."""
    damaged: list[int] = dataclasses.field(default_factory=list)
    """Numbers of the lines that are not JSON."""
    torn: int = 0
    """Bytes of a last line that was cut off."""


def plain(value: Any, where: str) -> Any:
    """Python's own types for numpy's and jax's, and for NaN and infinities what JSON can hold.

    Raises:
        TypeError: for anything else; `where` says what it belongs to.
    """
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [plain(item, where) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item, f"{where}[{key!r}]") for key, item in value.items()}
    raise TypeError(
        f"{where} is a {type(value).__name__}: a results file holds str, int, float, bool, None, "
        "and lists of these; convert it where the row is made."
    )


def _revive(value: dict) -> Any:
    """Undoes `plain` for floats that JSON lacks."""
    return float(value["float"]) if value.get("float") in ("nan", "inf", "-inf") else value


def merge_peaks(first: Mapping[str, int], second: Mapping[str, int]) -> dict[str, int]:
    """The larger of each."""
    return {
        name: max(first.get(name, 0), second.get(name, 0))
        for name in dict.fromkeys([*first, *second])
    }


def parse(data: bytes) -> Contents:
    """Reads what is whole, and says what is not."""
    contents = Contents()
    *lines, tail = data.split(b"\n")
    if tail:
        try:
            json.loads(tail)
            lines.append(tail)
        except ValueError:
            contents.torn = len(tail)
    pending: dict[str, list[dict]] = {}
    session = 0.0
    for number, text in enumerate(lines, start=1):
        try:
            line = json.loads(text, object_hook=_revive)
        except ValueError:
            contents.damaged.append(number)
            continue
        match line:
            case {"header": {"config": _, "environment": environment} as header}:
                contents.header = header
                contents.environments.append(environment)
            case {"resumed": environment}:
                contents.environments.append(environment)
                contents.seconds += session
                session = 0.0
                pending.clear()
            case {"cell": key, "row": row, "at": session}:
                pending.setdefault(key, []).append(row)
            case {"done": key, "rows": count, "at": session, "peak": peak}:
                rows = pending.pop(key, [])
                contents.peak = merge_peaks(contents.peak, peak)
                if len(rows) == count:  # else a damaged line took one of them
                    contents.cells[key] = rows
            case {"footer": footer}:
                contents.footer = footer
            case _:
                contents.damaged.append(number)
    contents.seconds += session
    return contents


def read(path: Path) -> Contents:
    """The contents of a results file; empty where there is no file.

    Raises:
        SystemExit: where there is one and it cannot be read.
    """
    try:
        return parse(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return Contents()
    except OSError as error:
        raise SystemExit(
            f"error: {path} cannot be read ({error.strerror}). Make it a file that you can read, "
            "or write elsewhere: --out FOLDER"
        ) from error


class ResultsFile:
    """A results file open for appending, locked against other processes."""

    def __init__(self, path: Path, handle: BinaryIO):
        self.path = path
        self._handle = handle
        data = handle.read()
        self.contents = parse(data)
        if self.contents.torn:
            handle.truncate(len(data) - self.contents.torn)
        handle.seek(0, os.SEEK_END)
        if data and not self.contents.torn and not data.endswith(b"\n"):
            handle.write(b"\n")  # the cut fell between a whole line and its end

    def append(self, line: dict) -> None:
        """Puts a line on disk: after this, no kill loses it."""
        text = json.dumps(line, allow_nan=False) + "\n"
        try:
            self._handle.write(text.encode())
            self._handle.flush()
            os.fsync(self._handle.fileno())
        except OSError as error:
            raise SystemExit(
                f"error: {self.path} could not be written ({error.strerror}). What was measured "
                "before is kept: make room, and the same command continues."
            ) from error


@contextlib.contextmanager
def opened(path: Path) -> Iterator[ResultsFile]:
    """Opens a results file, new or to be continued, and cuts off a torn last line.

    Raises:
        SystemExit: where the folder cannot be written to or another process writes the same file.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "r+b")
    except OSError as error:
        reason = "not a folder" if isinstance(error, FileExistsError) else error.strerror
        raise SystemExit(
            f"error: --out {path.parent}: {path.name} cannot be written there ({reason}: "
            f"{error.filename}). Give a folder that you can write to: --out FOLDER"
        ) from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SystemExit(
                f"error: {path} is being written by another process. Wait until it is finished, "
                "or write elsewhere: --out FOLDER"
            ) from error
        yield ResultsFile(path, handle)
