"""How far a run is, and how long it will take: a bar in a terminal, plain lines elsewhere."""

import time
from collections.abc import Generator, Sequence

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from experiments._contract import Cell


def duration(seconds: float) -> str:
    """Seconds in words: `0.4 s`, `12 s`, `3.5 min`, `1.2 h`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5970 else f"{seconds / 3600:.1f} h"


def seconds_left(
    cost_done: float, seconds_done: float, cost_now: float, seconds_now: float, cost_later: float
) -> float:
    """What remains, if the rest keeps to the pace of the cells done so far.

    pace = seconds_done / cost_done, 1 before the first cell is done;
    left = max(pace cost_now - seconds_now, 0) + pace cost_later.
    """
    pace = seconds_done / cost_done if cost_done else 1.0
    return max(pace * cost_now - seconds_now, 0.0) + pace * cost_later


class _TimeLeft(ProgressColumn):
    """Counts down also while a long cell runs, when no task is updated."""

    def render(self, task: Task) -> Text:
        estimate = task.fields["estimate"]()
        return Text(f"about {duration(estimate)} left" if not task.finished else "", style="cyan")


def track(cells: Sequence[Cell], measured: int, console: Console) -> Generator[Cell]:
    """Yields the cells in turn, and shows where the run stands; `measured` are done already."""
    total = measured + len(cells)
    costs = [cell.cost for cell in cells]
    start = begun = time.monotonic()
    done = 0

    def estimate() -> float:
        return seconds_left(
            sum(costs[:done]),
            begun - start,
            sum(costs[done : done + 1]),
            time.monotonic() - begun,
            sum(costs[done + 1 :]),
        )

    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[place]} cells"),
        TimeElapsedColumn(),
        _TimeLeft(),
        console=console,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task("", total=sum(costs), estimate=estimate, place="")
        for cell in cells:
            bar.update(task, description=cell.key, place=f"{measured + done}/{total}", refresh=True)
            yield cell
            now = time.monotonic()
            done, seconds, begun = done + 1, now - begun, now
            place = f"{measured + done}/{total}"
            bar.update(task, advance=cell.cost, place=place)
            if not console.is_terminal:
                left = f", about {duration(estimate())} left" if done < len(cells) else ""
                console.print(f"[{place}] {cell.key}: {duration(seconds)}{left}")
