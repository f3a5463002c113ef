"""One session of a run: takes up the file an earlier one left, measures the cells it lacks."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from rich.console import Console

from experiments import _environment
from experiments._contract import Cell
from experiments._progress import duration, track
from experiments._results import Contents, ResultsFile, plain, read

STOPPED = 130
"""The exit code of a run stopped by Ctrl-C, as shells have it: 128 + SIGINT."""


def finished(contents: Contents, cells: Sequence[Cell]) -> bool:
    """Whether every planned cell is there, and was judged."""
    return contents.footer is not None and all(cell.key in contents.cells for cell in cells)


def another_config(contents: Contents, config: dict) -> str | None:
    """How the config of a file differs from this one, in words; None where it does not."""
    if contents.header is None:
        return None
    theirs = plain(contents.header["config"], "config")
    changes = [
        f"{field} was {theirs.get(field)!r}, is {config.get(field)!r}"
        for field in dict.fromkeys([*theirs, *config])
        if theirs.get(field) != config.get(field)
    ]
    return "; ".join(changes) or None


def check(file: ResultsFile, config: dict, console: Console) -> None:
    """Reports damage; refuses a file that holds something else.

    Raises:
        SystemExit: for a file of another config, or one that does not say which config it has.
    """
    contents = file.contents
    if contents.torn:
        console.print(
            f"note: {file.path} was cut off in mid-line: its last {contents.torn} bytes are "
            "removed, and the run goes on from the last whole row.",
            soft_wrap=True,
        )
    if contents.damaged:
        console.print(
            f"note: {file.path}: line {', '.join(map(str, contents.damaged))} cannot be read and "
            "is passed over; a cell that lacks a row for it is measured again.",
            soft_wrap=True,
        )
    if contents.header is None and (contents.damaged or contents.cells):
        raise SystemExit(
            f"error: {file.path} does not say which config its rows were measured with (no "
            "header). Move it away or delete it, or write elsewhere: --out FOLDER"
        )
    changes = another_config(contents, config)
    if changes is not None:
        again = file.path.name.endswith(".again.jsonl")
        raise SystemExit(
            f"error: {file.path} holds a run with another config ({changes}). "
            f"{'Delete it to begin anew' if again else '--again replaces it'}; "
            "--out FOLDER writes elsewhere."
        )


def begin(file: ResultsFile, header: dict, console: Console) -> None:
    """Writes the header of a new file, or where and with what code this session continues one."""
    environment = _environment.describe()
    if file.contents.header is None:
        file.append({"header": {**header, "environment": environment}})
        return
    file.append({"resumed": environment})
    before, now = file.contents.environments[-1]["commit"], environment["commit"]
    if before != now:
        console.print(
            f"note: the rows so far were measured at commit {before}, and the code is now at "
            f"{now}. To measure all of them with it, delete {file.path} first.",
            soft_wrap=True,
        )


def measure(
    script: ModuleType, config: Any, cells: Sequence[Cell], file: ResultsFile, console: Console
) -> None:
    """Measures the missing cells; every row is on disk before the next one is asked for."""
    missing = [cell for cell in cells if cell.key not in file.contents.cells]
    measured = len(cells) - len(missing)
    kept = f" {measured} are kept from before." if measured else ""
    console.print(
        f"{len(cells)} cells, about {duration(sum(cell.cost for cell in missing))}.{kept} "
        f"Rows go to {file.path} as they are measured; Ctrl-C stops, the same command continues.",
        soft_wrap=True,
    )
    start = time.monotonic()

    def at() -> float:
        return round(time.monotonic() - start, 3)

    with contextlib.closing(track(missing, measured, console)) as tracked:
        for cell in tracked:
            count = 0
            for row in script.measure(config, cell):
                row = plain(row, f"measure(config, {cell.key!r}): row")
                file.append({"cell": cell.key, "row": row, "at": at()})
                count += 1
            peak = _environment.peak_bytes()
            file.append({"done": cell.key, "rows": count, "at": at(), "peak": peak})


@contextlib.contextmanager
def continuable(
    path: Path, cells: Sequence[Cell], command: str, console: Console
) -> Iterator[None]:
    """Says, to whoever stops a run and beside whatever breaks it, what is kept."""

    def kept() -> str:
        cells_kept = read(path).cells
        count = sum(cell.key in cells_kept for cell in cells)
        return f"{count} of {len(cells)} cells are kept in {path}; to continue:\n    {command}"

    try:
        yield
    except KeyboardInterrupt:
        console.print(f"\nStopped. {kept()}", soft_wrap=True)
        raise SystemExit(STOPPED) from None
    except Exception as error:
        error.add_note(kept())
        raise
