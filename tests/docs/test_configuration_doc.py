"""docs/configuration.md names every key of the configuration with its default, and no other key."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from tfrec.config import Config, ExtraStage, Feature, Step, TableFile, load_config
from tfrec.config.base import PartSection
from tfrec.config.models import Metric
from tfrec.config.ranking import OwnLayer
from tfrec.config.retrieval import OwnPart, Sampler
from tfrec.registry import FEATURE_TYPES

DOCUMENT = Path(__file__).parents[2] / "docs" / "configuration.md"
TEXT = DOCUMENT.read_text(encoding="utf-8")
# | `key` | type | default | meaning |, where a cell may hold an escaped bar.
CELL = r"(?:\\\||[^|])+"
ROW = re.compile(rf"^\| `(?P<key>[a-z_.<>]+)` \| (?P<type>{CELL}) \| (?P<default>{CELL}) \| .+ \|$")

# Sections that stand in several places are described once, under a name for all of them, and are
# told by this word in the column "type" of each place.
SHARED: dict[type[BaseModel], tuple[str, str]] = {
    TableFile: ("<part>", "part"),
    Step: ("<step>", "steps"),
    Feature: ("<feature>", "features"),
    ExtraStage: ("<stage>", "stages"),
    Metric: ("<metric>", "metrics"),
    OwnPart: ("<tower_part>", "tower parts"),
    Sampler: ("<sampler>", "samplers"),
    OwnLayer: ("<ranking_layer>", "ranking layers"),
}


def find_section(annotation: Any) -> tuple[type[BaseModel] | None, Any]:
    """Finds the section class in an annotation, and the list or mapping that it is in, if any."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, None
    origin = get_origin(annotation)
    for argument in get_args(annotation):
        section, container = find_section(argument)
        if section:
            is_plain = origin in (Annotated, Union, UnionType)
            return section, container if is_plain else origin
    return None, None


def walk(
    section: type[BaseModel], prefix: str = "", seen: tuple[type[BaseModel], ...] = ()
) -> Iterator[tuple[str, FieldInfo]]:
    """Yields the dotted key and the field of everything that the document has a row for.

    Those are values, mappings, lists, sections that may be left out, and shared sections; what is
    in a mapping is called ``<name>``.
    """
    assert section not in seen, f"{section.__name__} holds itself: name it in SHARED"
    for name, field in section.model_fields.items():
        inner, container = find_section(field.annotation)
        key = f"{prefix}{name}"
        is_shared = inner in SHARED
        if inner is None or container or is_shared or field.get_default() is None:
            yield key, field
        if inner is not None and not is_shared:
            entry = {dict: f"{key}.<name>.", None: f"{key}."}[container]
            yield from walk(inner, entry, (*seen, section))


def walk_all() -> Iterator[tuple[str, FieldInfo]]:
    yield from walk(Config)
    for section, (name, _) in SHARED.items():
        yield from walk(section, f"{name}.")


def describe_default(field: FieldInfo) -> str:
    """Returns the cell in which the document gives the default."""
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True)
    if default is None or default == {} or default == []:
        return "none"
    if default == "":
        return "empty"
    if isinstance(default, str):
        return f"`{default}`"
    return f"`{json.dumps(default, default=describe_section)}`"


def describe_section(section: BaseModel) -> dict[str, Any]:
    """Returns what a section has other than its own defaults."""
    return section.model_dump(exclude_defaults=True)


def literals(annotation: Any) -> list[str]:
    """Returns the words that a value may be one of; none where it may be more than words."""
    if get_origin(annotation) is Literal:
        return [word for word in get_args(annotation) if isinstance(word, str)]
    return [word for argument in get_args(annotation) for word in literals(argument)]


FIELDS = dict(walk_all())
MATCHES = [match for line in TEXT.splitlines() if (match := ROW.match(line))]
ROWS = {match["key"]: match["default"].strip().replace(r"\|", "|") for match in MATCHES}
TYPES = {match["key"]: match["type"] for match in MATCHES}


@pytest.mark.parametrize("key", FIELDS)
def test_document_gives_every_key_with_its_default(key: str):
    assert ROWS.get(key) == describe_default(FIELDS[key])


def test_document_gives_no_unknown_key():
    assert not set(ROWS) - set(FIELDS)


def test_document_gives_no_key_twice():
    keys = [match["key"] for match in MATCHES]
    assert sorted(keys) == sorted(set(keys))


@pytest.mark.parametrize("key", [key for key in FIELDS if literals(FIELDS[key].annotation)])
def test_document_gives_every_word_that_a_key_may_be(key: str):
    row = next(line for line in TEXT.splitlines() if line.startswith(f"| `{key}` |"))
    assert not [word for word in literals(FIELDS[key].annotation) if f"`{word}`" not in row]


def part_sections(section: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yields the key of each kind that a door decides, with every name that is ours."""
    for name, field in section.model_fields.items():
        inner, container = find_section(field.annotation)
        if inner is None or container:
            continue
        if issubclass(inner, PartSection):
            yield from ((f"{prefix}{name}.kind", ours) for ours in inner.door.ours)
        yield from part_sections(inner, f"{prefix}{name}.")


@pytest.mark.parametrize(("key", "name"), part_sections(Config))
def test_document_gives_every_part_of_ours(key: str, name: str):
    row = next(line for line in TEXT.splitlines() if line.startswith(f"| `{key}` |"))
    assert f"`{name}`" in row


def test_document_says_what_each_feature_type_reads():
    assert not [name for name in FEATURE_TYPES.ours if f"| `{name}` |" not in TEXT]


@pytest.mark.parametrize(("section", "name", "word"), [(s, *names) for s, names in SHARED.items()])
def test_document_says_where_a_shared_section_stands(
    section: type[BaseModel], name: str, word: str
):
    places = [key for key, field in FIELDS.items() if find_section(field.annotation)[0] is section]
    assert places
    assert f"`{name}` stands for" in TEXT
    for place in places:
        assert word in TYPES[place], place


def test_walk_reaches_nested_mapped_listed_and_optional_sections():
    assert {
        "name",
        "data.split.test",
        "data.tables",
        "data.tables.events",
        "data.tables.relations",
        "<part>.path",
        "<part>.steps",
        "<step>.join",
        "<step>.join.table",
        "data.events.kinds.<name>.label",
        "data.items.features",
        "<feature>.type",
        "<feature>.missing.method",
        "<feature>.clip",
        "<feature>.clip.method",
        "data.cleaning.k_core",
        "data.cleaning.k_core.users",
        "data.cleaning.sessions.gap_minutes",
        "data.privacy.never_write",
        "encoder.pretraining.steps",
    } <= set(FIELDS)


def test_examples_in_the_guides_are_valid_configurations(tmp_path: Path):
    found = 0
    for name in ("configuration.md", "data.md"):
        text = (DOCUMENT.parent / name).read_text(encoding="utf-8")
        for number, example in enumerate(re.findall(r"```yaml\n(name: .*?)```", text, re.DOTALL)):
            path = tmp_path / f"{name}-{number}.yaml"
            path.write_text(example, encoding="utf-8")
            load_config(path)
            found += 1
    assert found
