"""Plants single faults in the code, and reports which of them the tests do not see.

    make mutate                                              # an hour, two processes, resumable
    python tests/mutants.py --files ntkens/kernels/dual.py --sample 1000

A mutant is one file of `ntkens/` with one fault: an operator, a comparison, a sign, a number, a
condition or a name of a reduction is changed. The tests of that file are run on it: those that are
called as it is, or, where there are none, those of the files of its room that import it. Fast tests
first, then slow ones, then those in float32 and on four devices; the first failure, or no end,
kills the mutant, if the same tests pass without it.

Mutants are drawn at random, files in turn, and results are appended to a file: a run that is
stopped continues, and a mutant is run again only if its file or its tests have changed. A survivor
that changes nothing anybody could see is explained in `tests/mutants.toml`, by the name the report
gives it, and is then counted apart.
"""

import ast
import dataclasses
import hashlib
import json
import os
import queue
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import tyro
from faults import Mutant, mutants, planted
from rich.console import Console

ROOT = Path(__file__).parents[1]
EXPLAINED = Path(__file__).with_name("mutants.toml")
ROOMS = ("kernels", "predictors", "measures", "ensembles", "sparsity", "training")
SPECIAL = {
    Path("tests/float32"): {"JAX_ENABLE_X64": "0"},
    Path("tests/multi_device"): {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"},
}


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Which faults, and how long to look for them."""

    files: tuple[Path, ...] = ()
    """Files of ntkens/; all of kernels, predictors, measures, ensembles, sparsity and training."""
    sample: int = 400
    """Mutants to run, drawn in turn from the files."""
    seed: int = 0
    """Of the draw."""
    minutes: float = 60.0
    """No mutant is begun after this time."""
    processes: int = 2
    """Run at once."""
    out: Path = Path("runs/mutants.jsonl")
    """Results so far, which are continued."""


def main(arguments: Arguments) -> int:
    """Runs the sample; 1 if more than 5% of it survives unexplained."""
    console = Console(markup=False, highlight=False, soft_wrap=True)
    paths = [path.resolve().relative_to(ROOT) for path in arguments.files] or files()
    tests = {path: tests_of(path) for path in paths}
    drawn = draw(paths, arguments.sample, arguments.seed)
    known = read(arguments.out)
    missing = [mutant for mutant in drawn if identity(mutant, tests[mutant.path]) not in known]
    console.print(
        f"{len(drawn)} mutants of {len(paths)} files; {len(drawn) - len(missing)} are known from "
        f"before. At most {arguments.minutes:g} min; Ctrl-C stops, the same command continues."
    )
    try:
        for mutant, record in run_all(missing, tests, arguments):
            known[record["identity"]] = record
            console.print(f"{record['seconds']:5.0f} s  {record['outcome']:9s} {mutant.name}")
    except KeyboardInterrupt:
        console.print("Stopped.")
    return report(drawn, tests, known, console)


def files() -> list[Path]:
    """Those of the rooms, without the docstrings that are an `__init__.py`."""
    every = (path for room in ROOMS for path in sorted((ROOT / "ntkens" / room).glob("*.py")))
    return [path.relative_to(ROOT) for path in every if path.stem != "__init__"]


def tests_of(path: Path) -> list[Path]:
    """The tests of a file: of its name, or of the files that import it where there are none."""
    room = Path("tests") / path.parts[1]
    folders = [ROOT / folder for folder in (room, *SPECIAL)]
    own = {f"test_{path.stem}.py"}
    for folder in folders:  # test_fit_x.py too, unless that is the test of a file fit_x.py
        own |= {
            other.name
            for other in folder.glob(f"test_{path.stem}_*.py")
            if not (ROOT / path).with_name(other.name.removeprefix("test_")).is_file()
        }
    found = sorted(name for name in own if any((folder / name).is_file() for folder in folders))
    if found:
        return [room / name for name in found]
    users = [
        other.relative_to(ROOT)
        for other in sorted((ROOT / path.parent).glob("*.py"))
        if other.stem != path.stem and path.stem in imported(other)
    ]
    direct = [
        test.relative_to(ROOT)
        for test in sorted((ROOT / room).glob("test_*.py"))
        if path.stem in imported(test)
    ]
    return sorted({*direct, *(test for user in users for test in tests_of(user))})


def imported(path: Path) -> set[str]:
    """The last words of what a file imports."""
    last = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import | ast.ImportFrom):
            last |= {name.name.rpartition(".")[2] for name in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            last.add(node.module.rpartition(".")[2])
    return last


def draw(paths: list[Path], count: int, seed: int) -> list[Mutant]:
    """Mutants at random: one of each file, then a second of each, as long as there are any."""
    generator = random.Random(seed)
    left = {path: list(mutants(ROOT, path)) for path in paths}
    for each in left.values():
        generator.shuffle(each)
    drawn = []
    while len(drawn) < count and any(left.values()):
        order = [path for path in paths if left[path]]
        generator.shuffle(order)
        drawn += [left[path].pop() for path in order]
    return drawn[:count]


def run_all(
    missing: list[Mutant], tests: dict[Path, list[Path]], arguments: Arguments
) -> Iterator[tuple[Mutant, dict]]:
    """Runs mutants in processes at once, each in a copy of the tree; records as they come."""
    end = time.monotonic() + 60 * arguments.minutes
    todo: queue.SimpleQueue[Mutant] = queue.SimpleQueue()
    passing: set[str] = set()
    for mutant in missing:
        todo.put(mutant)
    done: queue.SimpleQueue[tuple[Mutant, dict] | Exception | None] = queue.SimpleQueue()
    stop = threading.Event()

    def work(tree: Path):
        try:
            copy_of_tree(tree)
            while not stop.is_set() and time.monotonic() < end:
                try:
                    mutant = todo.get_nowait()
                except queue.Empty:
                    break
                done.put((mutant, run(mutant, tests[mutant.path], tree, passing)))
            done.put(None)
        except Exception as error:
            done.put(error)

    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, arguments.out.open("a") as file:
        workers = [
            threading.Thread(target=work, args=(Path(folder) / str(index),), daemon=True)
            for index in range(arguments.processes)
        ]
        for worker in workers:
            worker.start()
        try:
            running = len(workers)
            while running:
                result = done.get()
                if isinstance(result, Exception):
                    raise result
                if result is None:
                    running -= 1
                    continue
                file.write(json.dumps(result[1]) + "\n")
                file.flush()
                yield result
        finally:
            stop.set()
            for worker in workers:
                worker.join()


def copy_of_tree(tree: Path) -> None:
    """What tests need, so that a fault is planted in nobody's checkout."""
    for name in ("ntkens", "tests", "experiments", "benchmarks"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, tree / name, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tree)


def run(mutant: Mutant, tests: list[Path], tree: Path, passing: set[str]) -> dict:
    """Plants the fault, runs the tests and takes it out again.

    Args:
        mutant: the fault.
        tests: of its file.
        tree: a copy, in which it is planted.
        passing: stages that are known to pass without a fault, to which this adds.
    """
    start = time.monotonic()
    outcome, whole = "SURVIVED", tree / mutant.path
    for stage in stages(tests):
        try:
            whole.write_text(planted(ROOT, mutant))
            outcome = failure(*stage, tree) or outcome
        finally:
            shutil.copy(ROOT / mutant.path, whole)
        if outcome != "SURVIVED":
            if repr(stage) not in passing and failure(*stage, tree):
                raise RuntimeError(f"{stage} fails without a fault: mend it first")
            passing.add(repr(stage))
            break
    return {
        "identity": identity(mutant, tests),
        "mutant": mutant.name,
        "line": mutant.line,
        "outcome": outcome,
        "seconds": round(time.monotonic() - start, 1),
    }


def stages(tests: list[Path]) -> Iterator[tuple[list[str], dict[str, str]]]:
    """Arguments of pytest and environments, the quickest first."""
    names = [str(test) for test in tests if (ROOT / test).is_file()]
    if names:
        yield ["-m", "not slow", *names], {}
    if any("pytest.mark.slow" in (ROOT / name).read_text() for name in names):
        yield ["-m", "slow", *names], {}
    for folder, environment in SPECIAL.items():
        special = [folder / test.name for test in tests]
        special = [str(test) for test in special if (ROOT / test).is_file()]
        if special:
            yield special, environment


def failure(words: list[str], environment: dict[str, str], tree: Path, limit: float = 300) -> str:
    """How tests fail: "killed", or "endless" past the limit in seconds; empty where they pass."""
    cached = {
        "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".cache/jax"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        # the fault is found where it is planted, not where the package was installed from
        "PYTHONPATH": str(tree),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [sys.executable, "-m", "pytest", "-q", "-x", "--no-header", *words]
    try:
        process = subprocess.run(
            command,
            cwd=tree,
            env={**os.environ, **cached, **environment},
            capture_output=True,
            timeout=limit,
        )
    except subprocess.TimeoutExpired:
        return "endless"
    return "" if process.returncode in (0, 5) else "killed"  # 5: no test in this stage


def identity(mutant: Mutant, tests: list[Path]) -> str:
    """Changes with the file, with the tests and with the fault."""
    ran = [test for words, _ in stages(tests) for test in words if test.endswith(".py")]
    sources = [(ROOT / path).read_bytes() for path in (mutant.path, *ran)]
    return hashlib.sha256(b"\0".join([*sources, repr(mutant).encode()])).hexdigest()[:16]


def read(path: Path) -> dict[str, dict]:
    """Records of earlier runs; a last line that is cut off does not count."""
    if not path.is_file():
        return {}
    records = (json.loads(line) for line in path.read_text().splitlines() if line.endswith("}"))
    return {record["identity"]: record for record in records}


def report(drawn: list[Mutant], tests: dict, known: dict[str, dict], console: Console) -> int:
    """Prints the survivors, and how many of those that were run they are."""
    explained = tomllib.loads(EXPLAINED.read_text()) if EXPLAINED.is_file() else {}
    records = [known.get(identity(mutant, tests[mutant.path])) for mutant in drawn]
    ran = [record for record in records if record]
    survivors = [record for record in ran if record["outcome"] == "SURVIVED"]
    unexplained = [record for record in survivors if record["mutant"] not in explained]
    for record in survivors:
        reason = explained.get(record["mutant"], "unexplained")
        console.print(f"survived, line {record['line']}: {record['mutant']}\n    {reason}")
    console.print(
        f"{len(ran)} of {len(drawn)} run: {len(ran) - len(survivors)} killed, {len(survivors)} "
        f"survived, of which {len(survivors) - len(unexplained)} are explained."
    )
    return int(len(unexplained) > 0.05 * len(ran))


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Arguments, description=__doc__)))
