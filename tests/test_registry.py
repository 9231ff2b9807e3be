"""Doors: names, places, contracts, options; each misuse is one line that says what was wanted."""

import sys
from abc import ABC, abstractmethod
from importlib import metadata
from pathlib import Path

import pytest

from tfrec.errors import ConfigError
from tfrec.registry import Door, foreign_stamps


class Greeter(ABC):
    """A contract."""

    def __init__(self, dim: int, word: str = "hello", *, times: int = 1):
        if times < 1:
            raise ValueError(f"`times` must be >= 1. Received: {times}.")
        self.dim, self.word, self.times = dim, word, times

    @abstractmethod
    def greet(self) -> str: ...


class Loud(Greeter):
    """Keeps it."""

    def greet(self) -> str:
        return self.word.upper() * self.times


class Mute(Greeter):
    """Lacks a method."""


class Needy(Loud):
    """Cannot do without an option."""

    def __init__(self, dim: int, name: str):
        super().__init__(dim, name)


NOT_A_CLASS = 3
HERE = __name__
DOOR = Door("greeter", f"{HERE}:Greeter", {"loud": f"{HERE}:Loud"})


def fail(kind: str, **options) -> str:
    with pytest.raises(ConfigError) as caught:
        DOOR.make(kind, "a.kind", options, dim=4)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", ["loud", f"{HERE}:Loud"])
def test_part_is_made_from_what_is_given_and_what_is_said(kind: str):
    part = DOOR.make(kind, "a.kind", {"word": "hi", "times": 2}, dim=4)
    assert (part.greet(), part.dim) == ("HIHI", 4)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("lout", "a.kind: wanted one of loud, or package.module:Class of your own, got 'lout'. "
                 "Did you mean 'loud'?"),
        ("no.such:", "a.kind: wanted one of loud, or package.module:Class of your own, got "
                     "'no.such:'."),
        ("no_such_package.x:Y", "a.kind: no_such_package.x:Y: cannot be imported: "
                                "No module named 'no_such_package'"),
        (f"{HERE}:Missing", f"a.kind: {HERE}:Missing: cannot be imported: "
                            f"module '{HERE}' has no attribute 'Missing'"),
        (f"{HERE}:NOT_A_CLASS", f"a.kind: {HERE}:NOT_A_CLASS: wanted a greeter, a class that "
                                f"extends {HERE}:Greeter, got 3."),
        ("pathlib:Path", f"a.kind: pathlib:Path: wanted a greeter, a class that extends "
                         f"{HERE}:Greeter, got a class that does not."),
        (f"{HERE}:Mute", f"a.kind: {HERE}:Mute: the greeter lacks greet."),
        (f"{HERE}:Needy", f"a.kind: {HERE}:Needy: the option 'name' is missing."),
    ],
    ids=["misspelt", "no place", "no package", "no name", "no class", "other contract",
         "lacks a method", "lacks an option"],
)  # fmt: skip
def test_part_that_cannot_be_had_is_refused_in_one_line(kind: str, expected: str):
    assert fail(kind) == expected


def test_option_that_is_unknown_or_refused_names_part_and_option():
    assert fail("loud", wort="x") == (
        "a.kind: loud: unknown option 'wort'. Did you mean 'word'? Known here: word, times."
    )
    assert fail("loud", dim=3) == "a.kind: loud: unknown option 'dim'. Known here: word, times."
    assert fail("loud", times=0) == "a.kind: loud: `times` must be >= 1. Received: 0."


def test_module_that_fails_to_import_is_named_with_its_reason(tmp_path: Path, monkeypatch):
    (tmp_path / "broken_part.py").write_text("raise RuntimeError('no\\nlicence')\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert fail("broken_part:X") == "a.kind: broken_part:X: cannot be imported: no"


def test_part_of_a_package_is_found_by_the_name_it_announces(monkeypatch):
    def announce(group: str) -> metadata.EntryPoints:
        found = {"tfrec.greeter": [metadata.EntryPoint("their", f"{HERE}:Loud", group)]}
        return metadata.EntryPoints(found.get(group, []))

    monkeypatch.setattr("tfrec.registry.metadata.entry_points", announce)
    door = Door("greeter", f"{HERE}:Greeter", {"loud": f"{HERE}:Loud"})
    assert door.names() == ["loud", "their"]
    assert door.load("their", "a.kind") is Loud


def test_stamp_follows_the_file_of_a_part_of_somebody_else(tmp_path: Path, monkeypatch):
    path = tmp_path / "stamped_part.py"
    path.write_text("class X: ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    before = DOOR.stamp("stamped_part:X")
    assert before == DOOR.stamp("stamped_part:X")
    path.write_text("class X:\n    pass\n")
    assert DOOR.stamp("stamped_part:X") != before
    assert "stamped_part" not in sys.modules  # looking is not importing
    assert DOOR.stamp("loud") is None


def test_every_part_of_somebody_else_in_settings_is_stamped_wherever_it_stands(
    tmp_path: Path, monkeypatch
):
    path = tmp_path / "stamped_parts.py"
    path.write_text("class X: ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(
        "tfrec.registry.metadata.entry_points",
        lambda group: metadata.EntryPoints(
            [metadata.EntryPoint("their_stage", "stamped_parts:X", group)]
            if group == "tfrec.stage"
            else []
        ),
    )
    monkeypatch.setattr("tfrec.registry.STAGES", Door("stage", f"{HERE}:Greeter"))
    settings = {
        "kind": "stamped_parts:A",
        "parts": [{"type": "stamped_parts:B"}, "their_stage"],
        "weights": {"stamped_parts:C": 1.0},
        "path": "C:/data",
        "time": "12:30",
        "ours": "softmax",
        "gone": "no_such_module:X",
        "number": 3,
    }
    stamps = foreign_stamps(settings)
    assert list(stamps) == ["stamped_parts:A", "stamped_parts:B", "stamped_parts:C", "their_stage"]
    path.write_text("class X: ...  # edited\n")
    after = foreign_stamps(settings)
    assert all(after[name] != stamp for name, stamp in stamps.items())
