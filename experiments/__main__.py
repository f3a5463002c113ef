"""Lists every script: what it claims, what it costs, and what the committed result says."""

import sys
from pathlib import Path

from rich.console import Console

from experiments._progress import duration
from experiments._report import STYLES, devices, tally
from experiments._results import Contents, read
from experiments._scripts import Description, discover

ROOT = Path(__file__).parents[1]


def show(console: Console, scripts: list[Description], results: Path) -> None:
    """Prints the scripts of a folder, each with the last verdict of a results folder."""
    for script in scripts:
        console.print(script.name, style="bold")
        console.print(f"  {script.title}")
        for preset, cost in script.costs.items():
            console.print(f"    python -m experiments.{script.name} {preset:7s} # {cost}")
        outcome, style = last_verdict(read(results / f"{script.name}.jsonl"))
        console.print(f"  last verdict: {outcome}\n", style=style)
    if not scripts:
        console.print("There is no script yet.")


def last_verdict(run: Contents) -> tuple[str, str]:
    """A committed result in one line, and its style."""
    if run.header is None or run.footer is None:
        return "none recorded", "dim"
    measured = f"{run.header['preset']}, {devices(run.environments)}"
    outcomes = {claim["outcome"] for claim in run.footer["verdict"]}
    style = STYLES[outcomes.pop()] if len(outcomes) == 1 else ""
    return f"{tally(run.footer['verdict'])} ({measured}, {duration(run.footer['seconds'])})", style


def main() -> None:
    """Shows the list; takes no arguments."""
    if sys.argv[1:] and sys.argv[1:] not in (["-h"], ["--help"]):
        raise SystemExit(
            f"error: python -m experiments takes no arguments, and got {' '.join(sys.argv[1:])}. "
            "To run a script: python -m experiments.NAME quick"
        )
    console = Console(markup=False, highlight=False, emoji=False, soft_wrap=True)
    show(console, discover(ROOT / "experiments"), ROOT / "results")


if __name__ == "__main__":
    main()
