"""docs/extending.md lists every door with the class that is really its contract."""

import importlib
import re
from pathlib import Path

import pytest

from tfrec import registry
from tfrec.registry import Door

DOCUMENT = Path(__file__).parents[2] / "docs" / "extending.md"
ROW = re.compile(
    r"^\| .+ \| .+ \| `(?P<place>[\w.]+)` \| `tfrec\.(?P<group>\w+)` \|$", re.MULTILINE
)
ROWS = {row["group"]: row["place"] for row in ROW.finditer(DOCUMENT.read_text(encoding="utf-8"))}
DOORS = {door.group: door for door in vars(registry).values() if isinstance(door, Door)}


def load(place: str) -> object:
    module, _, name = place.replace(":", ".").rpartition(".")
    return getattr(importlib.import_module(module), name)


def test_document_lists_every_door_and_no_other():
    assert {f"tfrec.{group}" for group in ROWS} == set(DOORS)


@pytest.mark.parametrize("group", sorted(ROWS))
def test_class_in_the_document_is_the_contract_of_the_door(group: str):
    assert load(ROWS[group]) is load(DOORS[f"tfrec.{group}"].contract)
