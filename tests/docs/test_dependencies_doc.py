"""docs/dependencies.md gives every dependency of setup.cfg a version and a use, and no other."""

import configparser
import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg", encoding="utf-8")
PINS = {
    name.lower().replace("_", "-"): version
    for name, separator, version in (
        line.partition("==")
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").split()
    )
    if separator
}


def requirements(text: str) -> set[str]:
    """Returns the names in a list of requirements."""
    lines = [line.strip() for line in text.splitlines()]
    return {Requirement(line).name for line in lines if line and not line.startswith(("#", "%"))}


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split(" | ")]


ROWS = [cells(line) for line in TEXT.splitlines() if re.match(r"\| [a-z`]", line)]
OF_PACKAGE = {row[0]: row[1:] for row in ROWS if len(row) == 4 and not row[0].startswith("`")}
OF_EXTRAS = {
    (row[0].strip("`"), name): (version, row[3])
    for row in ROWS
    if row[0].startswith("`")
    for name, version in zip(row[1].split(", "), row[2].split(", "), strict=True)
}
DECLARED = requirements(SETUP["options"]["install_requires"])
EXTRAS = {
    (extra, name)
    for extra, text in SETUP["options.extras_require"].items()
    for name in requirements(text)
}


def test_document_names_what_the_package_needs_and_nothing_else():
    assert set(OF_PACKAGE) - {"dependency", "extra"} == DECLARED


def test_document_names_what_the_extras_need_and_nothing_else():
    named = {name for _, name in OF_EXTRAS}
    assert {name for _, name in EXTRAS} == named
    # A dependency of two extras stands once, at the first that has it.
    assert set(OF_EXTRAS) <= EXTRAS


@pytest.mark.parametrize("name", sorted(DECLARED))
def test_document_says_what_a_dependency_is_for_and_why(name: str):
    version, use, reason = OF_PACKAGE[name]
    assert version == PINS[name]
    assert len(use) > 5
    assert len(reason) > 5


@pytest.mark.parametrize(("extra", "name"), sorted(OF_EXTRAS))
def test_document_says_what_a_tool_is_for(extra: str, name: str):
    version, use = OF_EXTRAS[extra, name]
    assert version == PINS.get(name, version)  # the extra `benchmarks` is not in the tested set
    assert len(use) > 3
