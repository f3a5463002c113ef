"""What all benchmarks share: their command line, and the row that each run appends."""

import argparse
import json
from pathlib import Path


def parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """A command line with `--out`, under the text at the head of the benchmark."""
    found = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    found.add_argument("--out", type=Path, help=f"append a row to OUT/benchmarks/{name}.jsonl")
    return found


def append(out: Path | None, name: str, row: dict) -> None:
    """Appends a row to OUT/benchmarks/NAME.jsonl, where an OUT was named."""
    if out is not None:
        path = out / "benchmarks" / f"{name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(json.dumps(row) + "\n")
