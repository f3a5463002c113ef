"""Discovery: a contract test runs on every public function of its kind, from the day it is born.

A test module says what it looks for, under the name by which its tests ask for one:

    ROOMS = {"kernel": {
        "within": kernels,                        # a package, whose modules are walked, or a module
        "is_one": lambda name, function: ...,     # what is looked for there
        "arguments": {"depth": lambda: 2},        # by parameter, for every function that has it
        "variants": {"attention.kernel_fn": {"biased": {"biased": lambda: True}}},   # of one alone
        "others": {"deep.kernel_fn": "why the contracts are not for it"},
        "slow": {"attention.kernel_fn, biased"},  # cases that `make check` leaves out
    }}

A test that takes `kernel` runs on each as a `Case`. Arguments are made when first used. Parameters
with a default keep it, unless a variant says otherwise. What is found and cannot be called, and
entries that nothing uses, are `gaps`: each module has a test that there are none.
"""

import dataclasses
import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest


@dataclasses.dataclass(eq=False)
class Case:
    """A function that was found, and how it is called."""

    name: str
    function: Callable
    variant: str
    makers: dict[str, Callable[[], Any]]

    @functools.cached_property
    def arguments(self) -> dict[str, Any]:
        return {parameter: make() for parameter, make in self.makers.items()}

    @functools.cached_property
    def made(self) -> Any:
        """What the function returns: made once, for what a factory returns compiles itself."""
        return self.function(**self.arguments)


def modules(within: ModuleType) -> list[ModuleType]:
    """Those of a package, or the module itself."""
    if not hasattr(within, "__path__"):
        return [within]
    names = [info.name for info in pkgutil.iter_modules(within.__path__)]
    return [importlib.import_module(f"{within.__name__}.{name}") for name in names]


def public_functions(within: ModuleType) -> dict[str, Callable]:
    """The functions that modules define themselves, by "module.function"."""
    return {
        f"{module.__name__.rpartition('.')[2]}.{name}": value
        for module in modules(within)
        for name, value in vars(module).items()
        if callable(value) and not inspect.isclass(value) and not name.startswith("_")
        if getattr(value, "__module__", None) == module.__name__
    }


def required(function: Callable) -> list[str]:
    parameters = inspect.signature(function).parameters.values()
    collected = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD
    return [
        each.name
        for each in parameters
        if each.default is each.empty and each.kind not in collected
    ]


class Room:
    """What is looked for, and what was found: cases to test, and gaps to fill."""

    def __init__(self, within, is_one, arguments, variants=None, others=None, slow=()):
        variants, others = variants or {}, others or {}
        self.slow = slow
        self.cases: dict[str, Case] = {}
        self.gaps: list[str] = []
        used = set()
        for name, function in public_functions(within).items():
            if not is_one(name, function):
                continue
            excused = {name, name.partition(".")[0]} & set(others)
            if excused:
                used |= excused
                continue
            used.add(name)
            parameters = required(function)
            used |= set(parameters)
            for label, changed in variants.get(name, {"": {}}).items():
                missing = [each for each in parameters if each not in {**arguments, **changed}]
                if missing:
                    self.gaps.append(
                        f"{name} is new: say what its {', '.join(missing)} may be in `arguments`, "
                        "or in `variants` for it alone; or in `others` why this is not for it"
                    )
                    continue
                makers = {each: arguments[each] for each in parameters if each not in changed}
                case = Case(name, function, label, makers | changed)
                self.cases[f"{name}, {label}" if label else name] = case
        used |= set(self.cases)
        tables = {"arguments": arguments, "variants": variants, "others": others, "slow": slow}
        self.gaps += [
            f"{table}: nothing that was found has {entry}; take it out"
            for table, entries in tables.items()
            for entry in entries
            if entry not in used
        ]


@functools.cache
def rooms(module: ModuleType) -> dict[str, Room]:
    return {name: Room(**room) for name, room in getattr(module, "ROOMS", {}).items()}


def pytest_generate_tests(metafunc):
    for name, room in rooms(metafunc.module).items():
        if name in metafunc.fixturenames:
            cases = [
                pytest.param(case, id=label, marks=[pytest.mark.slow] * (label in room.slow))
                for label, case in room.cases.items()
            ]
            metafunc.parametrize(name, cases)


@pytest.fixture
def gaps(request) -> dict[str, list[str]]:
    """Of each room of the module, what was found and is not tested."""
    return {name: room.gaps for name, room in rooms(request.module).items()}


@pytest.fixture
def found(request) -> dict[str, set[str]]:
    """Of each room of the module, the names of what was found and is tested."""
    return {
        name: {case.name for case in room.cases.values()}
        for name, room in rooms(request.module).items()
    }


@pytest.fixture
def plant(request, monkeypatch) -> Callable[[str, ModuleType, Callable], list[str]]:
    """Adds a function to a module for one test; returns the gaps that its room has then."""

    def plant(name, module, function):
        function.__module__ = module.__name__
        monkeypatch.setattr(module, function.__name__, function, raising=False)
        return Room(**request.module.ROOMS[name]).gaps

    return plant


@pytest.fixture
def search() -> type[Room]:
    """To look in a room that no test module has."""
    return Room
