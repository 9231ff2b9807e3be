"""One spelling, the British one, in documents and docstrings."""

import ast
import re
from pathlib import Path

import codespell_lib
import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "deploy").rglob("*.md")]
MODULES = sorted((ROOT / "tfrec").rglob("*.py"))

ALIKE = {"program", "programs", "meter", "meters", "practice", "practices", "story", "stories"}
"""British words too, in other meanings."""
TITLES = re.compile(r"Source:.*?(\n\s*\n|\Z)", re.S)
CODE = re.compile(r"```.*?```|``.*?``|`[^`]*`|https?://\S+|^\s*(>>>|\.\.\.) .*$", re.S | re.M)


def american_words() -> dict[str, str]:
    """Returns American spellings with the British ones, from codespell's dictionary."""
    folder = Path(codespell_lib.__file__).parent / "data"
    text = (folder / "dictionary_en-GB_to_en-US.txt").read_text(encoding="utf-8")
    pairs = (line.split("->") for line in text.split())
    found = {american.rstrip(","): british for british, american in pairs}
    return {word: british for word, british in found.items() if word not in ALIKE}


AMERICAN = american_words()


def american_in(text: str) -> list[str]:
    """Returns the American words in a text, outside code and titles of papers."""
    words = re.findall(r"[A-Za-z]+", CODE.sub(" ", TITLES.sub(" ", text)))
    return sorted({f"{w} (British: {AMERICAN[w.lower()]})" for w in words if w.lower() in AMERICAN})


def docstrings(path: Path) -> str:
    """Returns all docstrings of a module, and the strings that describe names."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    values = (node.value for node in nodes if isinstance(node, ast.Expr))
    strings = (v.value for v in values if isinstance(v, ast.Constant))
    # A blank line between them, so that marks of one do not pair with those of the next.
    return "\n\n".join(text for text in strings if isinstance(text, str))


def test_american_words_are_told_from_british_and_from_code():
    text = "We normalize, and normalise; `color` and ``optimizer`` are names.\n>>> x.normalize()"
    text += "\n\nSource: Someone, Modeling Behavior (2019)."
    assert american_in(text) == ["normalize (British: normalise)"]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_document_is_british(path: Path):
    assert american_in(path.read_text(encoding="utf-8")) == []


def test_docstrings_are_british():
    found = {path.name: words for path in MODULES if (words := american_in(docstrings(path)))}
    assert found == {}
