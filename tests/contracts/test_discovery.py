"""A function that is planted in a room is found the day it is born, or asks for what it lacks."""

import importlib
import sys

import pytest

PLANTED = """
from math import sqrt
from planted_room import Thing

def known(size) -> Thing:
    return Thing([size])

def flavoured(size, flavour="plain") -> Thing:
    return Thing((size, flavour))

def unknown(size, colour, *rest, weight, **others) -> Thing: ...

def another(size): ...

def _private(colour) -> Thing: ...
"""


@pytest.fixture
def room(tmp_path, monkeypatch):
    """A package of one module, in this process for one test."""
    (tmp_path / "planted_room").mkdir()
    (tmp_path / "planted_room" / "__init__.py").write_text("Thing = tuple\n")
    (tmp_path / "planted_room" / "born_today.py").write_text(PLANTED)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("planted_room")
    for name in [name for name in sys.modules if name.startswith("planted_room")]:
        del sys.modules[name]


def returns_thing(name, function):
    return function.__annotations__.get("return") is tuple


def test_what_is_planted_is_found_and_called(search, room):
    variants = {"born_today.flavoured": {"plain": {}, "sweet": {"flavour": lambda: "sweet"}}}
    others = {"born_today.unknown": "planted in vain"}
    found = search(room, returns_thing, {"size": lambda: 3}, variants, others)
    assert found.gaps == []
    made = {name: case.made for name, case in found.cases.items()}
    assert made == {
        "born_today.known": (3,),
        "born_today.flavoured, plain": (3, "plain"),
        "born_today.flavoured, sweet": (3, "sweet"),
    }


def test_a_function_that_no_argument_is_known_for_is_named(search, room):
    found = search(room, returns_thing, {"size": lambda: 3})
    assert set(found.cases) == {"born_today.known", "born_today.flavoured"}
    (gap,) = found.gaps
    assert gap.startswith("born_today.unknown is new: say what its colour, weight may be")
    excused = search(room, lambda *_: True, {}, others={"born_today": "a module that is no kind"})
    assert (excused.cases, excused.gaps) == ({}, [])


def test_entries_that_nothing_uses_are_named(search, room):
    found = search(
        room,
        returns_thing,
        {"size": lambda: 3, "shape": lambda: 4},
        {"born_today.known": {"": {}}, "gone.function": {"": {}}},
        {"born_today.unknown": "planted in vain", "born_today.forgotten": "is no more"},
        slow=["born_today.flavoured, sweet"],
    )
    assert found.gaps == [
        "arguments: nothing that was found has shape; take it out",
        "variants: nothing that was found has gone.function; take it out",
        "others: nothing that was found has born_today.forgotten; take it out",
        "slow: nothing that was found has born_today.flavoured, sweet; take it out",
    ]
