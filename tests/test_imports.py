"""The floors of the house: a file of ntkens imports only from floors below, never sideways."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = {
    "checks": 0,
    "tree": 0,
    "kernels": 1,
    "models": 1,
    "data": 1,
    "predictors": 2,
    "training": 2,
    "measures": 3,
    "ensembles": 4,
    "sparsity": 4,
}
LONGEST = 400


def imported(tree: ast.AST, package: list[str]):
    """Dotted names, with their lines, of everything imported anywhere in a file of `package`."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, name.name) for name in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                above = package[: len(package) - level + 1] if level else []
                source = ".".join([*above, *([module] if module else [])])
                yield from ((node.lineno, f"{source}.{name.name}") for name in names)
            case ast.Call(func=ast.Attribute(attr=name) | ast.Name(id=name)) if name in (
                "import_module",
                "__import__",
            ):
                match node.args:
                    case [ast.Constant(value=str(target)), *_] if not target.startswith("."):
                        yield node.lineno, target
                    case _:
                        yield node.lineno, "a name known only at run time"


def is_allowed(area: str, target: str, root: Path) -> bool:
    """Whether a file of an area of ntkens may import this dotted name."""
    first, *rest = target.split(".")
    if first in ("experiments", "benchmarks", "tests"):
        return False
    if first != "ntkens":
        return target != "a name known only at run time"
    other = rest[0] if rest else ""
    if area not in FLOORS or other not in FLOORS:
        return False  # the whole package, or a room without a floor
    if other == area:
        return True
    if (area, other) == ("training", "models"):
        return False
    if (area, other) == ("predictors", "kernels"):  # only the types and the duals
        name = rest[1] if len(rest) > 1 else "*"
        is_module = (root / "ntkens/kernels" / name).with_suffix(".py").is_file()
        return name == "dual" or (name != "*" and not is_module)
    return FLOORS[other] < FLOORS[area]


def violations(root: Path) -> list[str]:
    """Every import in ntkens/ that goes up or sideways, and every room without a floor."""
    found = []
    for path in sorted((root / "ntkens").rglob("*.py")):
        place = path.relative_to(root).with_suffix("").parts
        area = place[1]
        if area not in FLOORS and area != "__init__":
            found.append(f"{path.relative_to(root)}: {area} has no floor")
        package = list(place[:-1])
        for line, target in imported(ast.parse(path.read_text()), package):
            if not is_allowed(area, target, root):
                found.append(f"{path.relative_to(root)}:{line}: {area} imports {target}")
    return found


def x64_switches(root: Path) -> list[str]:
    """Every place in ntkens/ that sets jax_enable_x64; reading it is allowed."""
    found = []
    for path in sorted((root / "ntkens").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(
                    func=ast.Attribute(attr="update"),
                    args=[ast.Constant(value="jax_enable_x64"), *_],
                ):
                    pass
                case ast.Call(func=ast.Attribute(attr=name) | ast.Name(id=name)) if name in (
                    "enable_x64",
                    "disable_x64",
                ):
                    pass
                case ast.Attribute(attr="jax_enable_x64", ctx=ast.Store()):
                    pass
                case ast.Constant(value="JAX_ENABLE_X64"):
                    pass
                case _:
                    continue
            found.append(f"{path.relative_to(root)}:{node.lineno}")
    return found


def test_ntkens_imports_only_from_floors_below():
    assert violations(ROOT) == []


def test_ntkens_never_sets_x64():
    assert x64_switches(ROOT) == []


def test_every_file_of_ntkens_is_short():
    lengths = {path: len(path.read_text().splitlines()) for path in (ROOT / "ntkens").rglob("*.py")}
    assert lengths  # else the walk went to the wrong place
    assert {path: length for path, length in lengths.items() if length > LONGEST} == {}


def plant(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("kernels/a.py", "import ntkens.predictors.solve"),  # upward
        ("kernels/a.py", "from ntkens import models"),  # sideways
        ("kernels/a.py", "from ntkens.models import mlp"),
        ("kernels/a.py", "def f():\n    from ntkens.ensembles.search import greedy"),
        ("kernels/a.py", "from .. import training"),
        ("kernels/a.py", "from ..data import batches"),
        ("kernels/deep/a.py", "from ...data import batches"),
        ("kernels/a.py", "import numpy, ntkens.sparsity as s"),
        ("kernels/a.py", "import importlib\nimportlib.import_module('ntkens.measures')"),
        ("kernels/a.py", "name = 'ntkens.measures'\n__import__(name)"),
        ("kernels/__init__.py", "from ntkens.models import Model"),
        ("kernels/a.py", "import ntkens"),
        ("kernels/a.py", "from ntkens import *"),
        ("kernels/a.py", "from ntkens import attic"),
        ("kernels/a.py", "from experiments import run"),
        ("tree.py", "from ntkens import kernels"),
        ("__init__.py", "from ntkens import tree"),
        ("attic/a.py", "x = 1"),  # a room without a floor
        ("training/a.py", "from ntkens import models"),  # below, and yet not allowed
        ("sparsity/a.py", "from ntkens.ensembles import aggregate"),
        ("predictors/a.py", "from ntkens.kernels import stax"),
        ("predictors/a.py", "from ntkens.kernels.stax import serial"),
        ("predictors/a.py", "from ntkens import kernels"),
        ("predictors/a.py", "from ntkens.kernels import *"),
    ],
)
def test_a_planted_import_is_found(tmp_path, path, text):
    plant(tmp_path, "ntkens/kernels/stax.py", "")
    assert violations(tmp_path) == []
    plant(tmp_path, f"ntkens/{path}", text)
    assert len(violations(tmp_path)) == 1


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("kernels/a.py", "import jax.numpy as jnp\nfrom ntkens import tree"),
        (
            "kernels/a.py",
            "from ntkens.kernels import dual\nfrom . import dual\nfrom .dual import relu",
        ),
        ("predictors/a.py", "from ntkens.kernels import Kernel, KernelFn, dual"),
        ("predictors/a.py", "from ntkens.kernels.dual import relu"),
        ("training/a.py", "from ntkens.kernels import stax"),
        ("sparsity/a.py", "from ntkens.training import fit\nfrom ..measures import fairness"),
    ],
)
def test_an_allowed_import_passes(tmp_path, path, text):
    plant(tmp_path, "ntkens/kernels/stax.py", "")
    plant(tmp_path, f"ntkens/{path}", text)
    assert violations(tmp_path) == []


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("import jax\njax.config.update('jax_enable_x64', True)", 1),
        ("from jax import config\nconfig.jax_enable_x64 = True", 1),
        ("import jax\nwith jax.enable_x64(True):\n    pass", 1),
        ("import os\nos.environ['JAX_ENABLE_X64'] = '1'", 1),
        ("import jax\njax.config.jax_enable_x64\njax.config.read('jax_enable_x64')", 0),
        ("raise ValueError(\"jax.config.update('jax_enable_x64', True)\")", 0),
    ],
)
def test_a_planted_x64_switch_is_found(tmp_path, text, count):
    plant(tmp_path, "ntkens/kernels/a.py", text)
    assert len(x64_switches(tmp_path)) == count
