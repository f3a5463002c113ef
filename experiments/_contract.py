"""What a script hands to the runner: the cells it plans, the claims it judges."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType, ModuleType
from typing import Any, Literal, NamedTuple, get_args

Outcome = Literal["reproduced", "not reproduced", "departs", "inconclusive"]


class Cell(NamedTuple):
    """One piece of a run: measured in one go, and kept or repeated as a whole.

    Attributes:
        key: names the cell, uniquely within the plan: `"k=5 ntk"`.
        cost: estimated seconds on the preset's machine; only the ratios matter once a cell is done.
        parameters: what `measure` needs to know beside the config.
    """

    key: str
    cost: float
    parameters: Mapping[str, Any] = MappingProxyType({})


class Claim(NamedTuple):
    """One statement of the paper, judged.

    Attributes:
        statement: what the paper says, in a few words.
        outcome: reproduced, not reproduced, departs (and why is in `evidence`) or inconclusive.
        theirs: the paper's number, as the README is to show it.
        ours: the same quantity as measured, with its standard error.
        evidence: what the outcome rests on, with numbers.
    """

    statement: str
    outcome: Outcome
    theirs: str
    ours: str
    evidence: str


class Verdict(NamedTuple):
    """Every claim of a script, judged on one run.

    Attributes:
        claims: in the order in which the README lists them.
    """

    claims: tuple[Claim, ...]


def check_script(script: ModuleType) -> None:
    """Refuses a script that could be measured and then not be judged.

    Raises:
        TypeError: for a missing function, before anything is measured.
    """
    for name in ("plan", "measure", "verdict", "plot"):
        if not callable(getattr(script, name, None)):
            raise TypeError(f"{script.__name__}: has no function {name!r}; a script defines it.")


def check_plan(cells: Sequence[Cell]) -> None:
    """Refuses a plan that could not be resumed or estimated.

    Raises:
        ValueError: for an empty plan, two cells of one key, or a cost that is not positive.
    """
    if not cells:
        raise ValueError("plan(config) gave no cells: there is nothing to measure.")
    seen = set()
    for cell in cells:
        if cell.key in seen:
            raise ValueError(f"plan(config) gave two cells {cell.key!r}; a key names one cell.")
        if not cell.cost > 0:
            raise ValueError(
                f"plan(config): the cost of {cell.key!r} is {cell.cost}; it is the estimated "
                "seconds of the cell, above 0."
            )
        seen.add(cell.key)


def check_verdict(verdict: Verdict) -> None:
    """Refuses a verdict that the README could not show.

    Raises:
        ValueError: for no claims, an outcome that is none of `Outcome`, or fields not in words.
    """
    if not verdict.claims:
        raise ValueError("verdict(rows) gave no claims; it judges every claim of the script.")
    for claim in verdict.claims:
        if claim.outcome not in get_args(Outcome):
            raise ValueError(
                f"verdict(rows): the outcome of {claim.statement!r} is {claim.outcome!r}; it is "
                f"one of {', '.join(get_args(Outcome))}."
            )
        for field, value in claim._asdict().items():
            if not isinstance(value, str):
                raise ValueError(
                    f"verdict(rows): {field} of {claim.statement!r} is {value!r}; it is a string, "
                    "with the digits the README is to show."
                )
