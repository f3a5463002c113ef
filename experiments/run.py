"""Runs a script: command line, progress, results file, figure, verdict.

A script is a module of this shape; the first line says what it claims, and where:

    '''Wide networks are Gaussian. arXiv:1234.56789, Figure 1.

        python -m experiments.gaussian quick    # 20 s, 2 CPU cores
        python -m experiments.gaussian laptop   # 6 min, 2 CPU cores
        python -m experiments.gaussian paper    # 40 min, one H100

    Claim: ...        Departures: ...
    '''
    import sys
    from experiments import run

    @dataclasses.dataclass(frozen=True)
    class Config:
        width: int = 512
        '''Hidden units.'''                          # becomes the help text

    QUICK, LAPTOP, PAPER = Config(), Config(4096), Config(32768)
    TINY = Config(8)                                 # what its test runs: 10 s at most

    def plan(config) -> list[run.Cell]: ...          # what will be measured, an estimated cost each
    def measure(config, cell) -> Iterator[dict]: ... # pure of files and plots
    def verdict(rows) -> run.Verdict: ...            # every claim, judged with its uncertainty
    def plot(rows, figure) -> None: ...              # on a matplotlib Figure: figure.subplots(1, 2)

    if __name__ == "__main__":
        run.main(sys.modules[__name__])

`verdict` and `plot` see the rows of all cells in the order of the plan, as they come back from the
results file: str, int, float (NaN and infinities too), bool, None, and lists of these.
They are called again whenever a finished run is asked for, so changing them costs no measuring.
"""

import dataclasses
import hashlib
import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import tyro
from rich.console import Console

from experiments import _report, _results, _session
from experiments._contract import (
    Cell,
    Claim,
    Outcome,
    Verdict,
    check_plan,
    check_script,
    check_verdict,
)
from experiments._scripts import PRESETS, describe

__all__ = ["Arguments", "Cell", "Claim", "Outcome", "Verdict", "execute", "main"]

RECORD = "results"
"""A folder of this name holds one run of each paper, the one that is committed."""


@dataclasses.dataclass(frozen=True)
class Arguments:
    """What the command line says: the runner's options beside the script's config."""

    preset: Annotated[str, tyro.conf.Suppress]
    config: Annotated[Any, tyro.conf.OmitArgPrefixes]
    out: Path = Path("runs")
    """Folder for the rows and the figure; `results` records the run as the committed result."""
    again: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Measure a finished run anew; its rows are kept until the new ones are complete."""


def main(script: ModuleType, args: Sequence[str] | None = None) -> None:
    """The command line of a script: `quick|laptop|paper --field value`, `--help`.

    Args:
        script: a module of the shape above: `sys.modules[__name__]`.
        args: the words of the command line; `sys.argv[1:]` if None.
    """
    words = sys.argv[1:] if args is None else list(args)
    costs = describe(script.__name__, script.__doc__ or "").costs
    module = script.__spec__.name if script.__spec__ else _name(script)
    arguments = tyro.extras.overridable_config_cli(
        {
            preset: (costs.get(preset, ""), Arguments(preset, _unchecked(script, preset)))
            for preset in PRESETS
        },
        prog=f"python -m {module}",
        description=script.__doc__,
        args=words,
    )
    try:
        config = script.Config(**vars(arguments.config))
    except ValueError as error:
        print(f"{error}\nFor all options: python -m {module} --help", file=sys.stderr)
        raise SystemExit(2) from None
    arguments = dataclasses.replace(arguments, config=config)
    try:
        execute(script, arguments, command=shlex.join(["python", "-m", module, *words]))
    except SystemExit as stop:
        if stop.code == _session.STOPPED and args is None:
            # Not `raise`: XLA's threads still compute what was stopped, and an interpreter that
            # is taken down under them waits or crashes. The rows are on disk.
            sys.stdout.flush()
            os._exit(_session.STOPPED)
        raise


def _unchecked(script: ModuleType, preset: str) -> Any:
    """The config of a preset whose fields may be anything: tyro would not name what is refused."""
    config = getattr(script, preset.upper())
    names = {"__post_init__": lambda self: None, "__doc__": script.Config.__doc__}
    return type("Config", (script.Config,), names)(**vars(config))


def execute(script: ModuleType, arguments: Arguments, command: str = "the same call") -> Verdict:
    """Measures what is not measured yet, judges it, draws it and prints it.

    Args:
        script: a module of the shape above.
        arguments: preset, config, folder, and whether to repeat.
        command: what continues the run; shown to the person who stops it.

    Raises:
        SystemExit: with a message, where the results cannot be written or belong to another config;
            with code 130, when stopped by Ctrl-C.
    """
    console = Console(markup=False, highlight=False, emoji=False)
    check_script(script)
    config = _results.plain(dataclasses.asdict(arguments.config), "config")
    cells = script.plan(arguments.config)
    check_plan(cells)
    final = arguments.out / _file_name(script, arguments)
    before = _results.read(final)
    again = arguments.again and (
        _session.finished(before, cells) or _session.another_config(before, config) is not None
    )
    with (
        _results.opened(final.with_suffix(".again.jsonl") if again else final) as file,
        _session.continuable(file.path, cells, command, console),
    ):
        _session.check(file, config, console)
        header = {
            "script": _name(script),
            "title": (script.__doc__ or "").partition("\n")[0],
            "preset": arguments.preset,
            "config": config,
        }
        if _session.finished(file.contents, cells):
            text = f"{file.path} is finished and not repeated; --again measures it anew."
            console.print(text, soft_wrap=True)
        else:
            _session.begin(file, header, console)
            _session.measure(script, arguments.config, cells, file, console)
        contents = _results.read(file.path)
        rows = [row for cell in cells for row in contents.cells[cell.key]]
        verdict = script.verdict(rows)
        check_verdict(verdict)
        footer = {
            "seconds": round(contents.seconds, 3),
            "peak": contents.peak,
            "verdict": [claim._asdict() for claim in verdict.claims],
        }
        if footer != contents.footer:
            file.append({"footer": footer})
        file.path.replace(final)
        _report.draw(script.plot, rows, final.with_suffix(".png"))
        _report.show(console, header["title"], contents.environments, footer)
    console.print(f"rows {final}, figure {final.with_suffix('.png')}", soft_wrap=True)
    return verdict


def _name(script: ModuleType) -> str:
    """The paper's: of the file, since a module run by `python -m` is called `__main__`."""
    return Path(script.__file__ or script.__name__).stem


def _file_name(script: ModuleType, arguments: Arguments) -> str:
    """`<script>.<preset>[.<overrides>].jsonl`, so configs do not mix; a record has one name."""
    if arguments.out.name == RECORD:
        return f"{_name(script)}.jsonl"
    preset = getattr(script, arguments.preset.upper())
    before, now = (dataclasses.asdict(config) for config in (preset, arguments.config))
    # as repr, for NaN differs from itself
    overrides = {field: now[field] for field in now if repr(now[field]) != repr(before[field])}
    return ".".join([_name(script), arguments.preset, *_slug(overrides), "jsonl"])


def _slug(overrides: dict[str, Any]) -> list[str]:
    """What differs from the preset, readable where that is short: `seed=1,widths=8-16`."""
    if not overrides:
        return []
    text = ",".join(
        f"{field}={'-'.join(map(str, value)) if isinstance(value, list | tuple) else value}"
        for field, value in overrides.items()
    )
    if re.fullmatch(r"[\w.,=+-]{1,80}", text):
        return [text]
    return [hashlib.sha256(text.encode()).hexdigest()[:12]]
