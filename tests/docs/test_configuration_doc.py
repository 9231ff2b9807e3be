"""docs/configuration.md names every key of the configuration with its default, and no other key."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from tfrec.config import Config

DOCUMENT = Path(__file__).parents[2] / "docs" / "configuration.md"
# | `key` | type | default | meaning |
ROW = re.compile(r"^\| `(?P<key>[a-z_.<>]+)` \| (?P<type>[^|]+) \| (?P<default>[^|]+) \| .+ \|$")


def find_section(annotation: Any) -> tuple[type[BaseModel] | None, bool]:
    """Finds the section class in an annotation, and whether it is the value of a mapping."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, False
    for argument in get_args(annotation):
        section, is_inside = find_section(argument)
        if section:
            return section, is_inside or getattr(annotation, "__origin__", None) is dict
    return None, False


def walk(section: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Yields the dotted key and the field of every value; entries of mappings are ``<name>``."""
    for name, field in section.model_fields.items():
        inner, is_mapping = find_section(field.annotation)
        key = f"{prefix}{name}"
        if inner is None or is_mapping:
            yield key, field
        if inner is not None:
            yield from walk(inner, f"{key}.<name>." if is_mapping else f"{key}.")


def describe_default(field: FieldInfo) -> str:
    """Returns the cell in which the document gives the default."""
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True)
    if default is None or default == {} or default == []:
        return "none"
    if isinstance(default, str):
        return f"`{default}`"
    return f"`{json.dumps(default)}`"


FIELDS = dict(walk(Config))
ROWS = {
    match["key"]: match["default"].strip()
    for line in DOCUMENT.read_text(encoding="utf-8").splitlines()
    if (match := ROW.match(line))
}


@pytest.mark.parametrize("key", FIELDS)
def test_document_gives_every_key_with_its_default(key: str):
    assert ROWS.get(key) == describe_default(FIELDS[key])


def test_document_gives_no_unknown_key():
    assert not set(ROWS) - set(FIELDS)


def test_walk_reaches_nested_and_mapped_sections():
    assert {
        "name",
        "data.split.test",
        "data.tables.events.path",
        "data.events.kinds.<name>.label",
        "data.items.features.<name>.type",
        "encoder.pretraining.steps",
    } <= set(FIELDS)
