"""What a finished run shows: its figure, its table of claims, its verdict."""

import collections
import io
from collections.abc import Callable
from pathlib import Path
from typing import get_args

from rich.console import Console
from rich.table import Table

from experiments._contract import Outcome
from experiments._environment import device_name
from experiments._progress import duration

STYLES = {
    "reproduced": "green",
    "not reproduced": "red",
    "departs": "yellow",
    "inconclusive": "dim",
}
LARGEST_FIGURE = 300_000
"""Bytes; figures are committed."""


def draw(plot: Callable, rows: list[dict], path: Path) -> None:
    """Draws the figure without a display, as sharp as the size limit allows."""
    from matplotlib.figure import Figure  # not at the top: `--help` must not wait for it

    figure = Figure(figsize=(9, 4), layout="constrained")
    plot(rows, figure)
    image = io.BytesIO()
    for dots_per_inch in (150, 100, 70, 50):
        image = io.BytesIO()
        # without its version and date, the same rows give the same bytes
        figure.savefig(image, format="png", dpi=dots_per_inch, metadata={"Software": None})
        if len(image.getvalue()) < LARGEST_FIGURE:
            break
    path.write_bytes(image.getvalue())


def show(console: Console, title: str, environments: list[dict], footer: dict) -> None:
    """Prints the claims as a table, the evidence below it, and where it was measured."""
    console.print(f"\n{title}", style="bold")
    table = Table()
    for column in ("claim", "theirs", "ours", "verdict"):
        table.add_column(column, no_wrap=column == "verdict")
    for claim in footer["verdict"]:
        table.add_row(
            claim["statement"], claim["theirs"], claim["ours"], claim["outcome"],
            style=STYLES[claim["outcome"]],
        )  # fmt: skip
    console.print(table)
    for claim in footer["verdict"]:
        console.print(f"{claim['statement']}: {claim['outcome']}.", style=STYLES[claim["outcome"]])
        console.print(f"  {claim['evidence']}")
    code = environments[-1]["commit"]
    code = "outside git" if code is None else f"commit {code[:10]}"
    changed = " with uncommitted changes" if environments[-1]["dirty"] else ""
    peaks = ", ".join(f"{size / 2**20:.0f} MiB {place}" for place, size in footer["peak"].items())
    console.print(
        f"{devices(environments)}, {duration(footer['seconds'])}, {peaks}, {code}{changed}"
    )


def tally(claims: list[dict]) -> str:
    """How many claims have which outcome, in words: `2 reproduced, 1 departs`."""
    counts = collections.Counter(claim["outcome"] for claim in claims)
    return ", ".join(f"{counts[name]} {name}" for name in get_args(Outcome) if counts[name])


def devices(environments: list[dict]) -> str:
    """Where a run was measured, in words; more than one place if it was resumed elsewhere."""
    return " + ".join(dict.fromkeys(device_name(place["device"]) for place in environments))
