"""The scripts of a folder, and what their docstrings say, without importing them."""

import ast
import re
from pathlib import Path
from typing import NamedTuple

NOT_SCRIPTS = ("run", "table")
PRESETS = ("quick", "laptop", "paper")

_COMMAND = re.compile(
    rf"^ *python -m \S+ (?P<preset>{'|'.join(PRESETS)})\b[^#\n]*#(?P<cost>.*)$", re.MULTILINE
)


class Description(NamedTuple):
    """What a script's docstring says.

    Attributes:
        name: of the file, without its suffix.
        title: the first line: what is claimed, and in which paper.
        costs: of each preset, in words: the comment beside its command.
    """

    name: str
    title: str
    costs: dict[str, str]


def describe(name: str, docstring: str) -> Description:
    """Reads title and costs from a script's docstring."""
    costs = {match["preset"]: match["cost"].strip() for match in _COMMAND.finditer(docstring)}
    return Description(name, docstring.partition("\n")[0], costs)


def discover(folder: Path) -> list[Description]:
    """Every script of a folder, by name."""
    return [
        describe(path.stem, ast.get_docstring(ast.parse(path.read_text())) or "")
        for path in sorted(folder.glob("*.py"))
        if not path.stem.startswith("_") and path.stem not in NOT_SCRIPTS
    ]
