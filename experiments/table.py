"""Regenerates the README's tables of papers and of claims from the committed results.

python -m experiments.table            # rewrites README.md in place
python -m experiments.table --check    # changes nothing; fails if README.md is not up to date
"""

import re
from collections.abc import Iterable
from pathlib import Path

import tyro

from experiments import _results
from experiments._progress import duration
from experiments._report import devices, tally

START, END = "<!-- table:start -->", "<!-- table:end -->"
PAPERS = ("paper", "what it says", "claims", "time")
COLUMNS = ("paper", "claim", "theirs", "ours", "verdict", "device", "time")
ROOT = Path(__file__).parents[1]


def finished_runs(folder: Path) -> list[_results.Contents]:
    """The finished runs of a results folder, by name.

    Raises:
        SystemExit: for a file that is damaged; an unfinished run is passed over.
    """
    paths = sorted(path for path in folder.glob("*.jsonl") if path.stem.count(".") == 0)
    runs = [_results.read(path) for path in paths]
    for path, run in zip(paths, runs, strict=True):
        if run.damaged or run.torn:
            raise SystemExit(
                f"error: {path} is damaged. Restore it from git, or measure it again: "
                f"python -m experiments.{path.stem} laptop --out {folder}"
            )
    return [run for run in runs if run.header is not None and run.footer is not None]


def tables(runs: list[_results.Contents]) -> str:
    """A row for each paper, and, folded, one for each claim."""
    claims = sum(len((run.footer or {})["verdict"]) for run in runs)
    summary = f"<details><summary>All {claims} claims, with their numbers</summary>"
    return "\n\n".join([papers(runs), summary, table(runs), "</details>"])


def papers(runs: list[_results.Contents]) -> str:
    """The papers as a Markdown table: how many claims have which outcome."""
    lines = [_line(PAPERS), _line(("---",) * len(PAPERS))]
    for run in runs:
        header, footer = run.header or {}, run.footer or {}
        says = header["title"].partition(" arXiv:")[0].rstrip(".")
        paper = _paper(header["script"], header["title"])
        lines.append(_line((paper, says, tally(footer["verdict"]), _time(run))))
    return "\n".join(lines)


def table(runs: list[_results.Contents]) -> str:
    """The claims of the runs as a Markdown table, a row each; what they share is in the first."""
    lines = [_line(COLUMNS), _line(("---",) * len(COLUMNS))]
    for run in runs:
        header, footer = run.header or {}, run.footer or {}
        paper, place = _paper(header["script"], header["title"]), devices(run.environments)
        time = _time(run)
        for claim in footer["verdict"]:
            judged = (claim[field] for field in ("statement", "theirs", "ours", "outcome"))
            lines.append(_line((paper, *judged, place, time)))
            paper = place = time = ""
    return "\n".join(lines)


def _time(run: _results.Contents) -> str:
    header, footer = run.header or {}, run.footer or {}
    return f"{duration(footer['seconds'])}, {header['preset']}"


def _line(cells: Iterable[str]) -> str:
    """A row of a Markdown table; a bar inside a cell would end it."""
    return "| " + " | ".join(re.sub(r"\s+", " ", cell).replace("|", "\\|") for cell in cells) + " |"


def _paper(script: str, title: str) -> str:
    """The script, and its paper with a link."""
    number = re.search(r"arXiv:(\d{4}\.\d{4,5})", title)
    link = f", [arXiv:{number[1]}](https://arxiv.org/abs/{number[1]})" if number else ""
    return f"`{script}`{link}"


def insert(text: str, rows: str, where: Path) -> str:
    """The README's text with the table between its two markers.

    Raises:
        SystemExit: where the markers are not there, each once and in order.
    """
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not (start and end) or START in rest or END in after + before:
        raise SystemExit(
            f"error: {where} has no place for the table. Put these two lines, once, where it is to "
            f"stand:\n{START}\n{END}"
        )
    return f"{before}{START}\n{rows}\n{END}{after}"


def main(
    readme: Path = ROOT / "README.md", results: Path = ROOT / "results", check: bool = False
) -> None:
    """Regenerates the README's tables of papers and of claims from the committed results.

    Args:
        readme: the file with the two markers.
        results: the folder with the committed runs.
        check: change nothing; fail if the table is not up to date.
    """
    if not readme.is_file():
        raise SystemExit(f"error: --readme {readme}: there is no such file.")
    text = readme.read_text()
    runs = finished_runs(results)
    new = insert(text, tables(runs), readme)
    if check and new != text:
        raise SystemExit(f"{readme} is not what {results} says; run: python -m experiments.table")
    if new != text:
        readme.write_text(new)
    print(
        f"{readme}: {len(runs)} recorded runs, {'already up to date' if new == text else 'written'}"
    )


if __name__ == "__main__":
    tyro.cli(main, prog="python -m experiments.table", config=(tyro.conf.FlagCreatePairsOff,))
