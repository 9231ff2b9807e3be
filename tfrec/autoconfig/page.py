"""A configuration as text, with the reason of each line beside it."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

_WIDTH = 100
_COLUMN = 44
_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./-]*")
# In block form more may stand without quotes, as SQL.
_PLAIN_LINE = re.compile(r"[A-Za-z_/][A-Za-z0-9_./ ()<>=,'|*+-]*[A-Za-z0-9_./)'+-]")
# What YAML 1.1 or 1.2 reads as something other than text.
_NOT_TEXT = {"null", "true", "false", "yes", "no", "on", "off", "y", "n"}


@dataclass(frozen=True)
class Entry:
    """One key.

    Attributes:
        key: Its name.
        value: A scalar, a list or mapping of scalars, or entries below it. A list of lists of
            entries is a sequence of mappings.
        why: Why this value, and what to change if it is wrong.
    """

    key: str
    value: object
    why: str = ""


@dataclass(frozen=True)
class Remark:
    """A comment on lines of its own."""

    text: str


Block = Sequence[Entry | Remark]


def write_page(block: Block) -> str:
    """Returns the YAML text of a block."""
    return "\n".join(_lines(block, "")) + "\n"


def _lines(block: Block, indent: str) -> Iterator[str]:
    for entry in block:
        if isinstance(entry, Remark):
            yield from comment_lines(entry.text, indent)
            continue
        key, value = f"{_scalar(entry.key)}:", entry.value
        if _is_block(value):
            yield from _with_reason(indent + key, entry.why, indent)
            yield from _lines(value, indent + "  ")  # type: ignore[arg-type]
        elif _is_sequence(value):
            yield from _with_reason(indent + key, entry.why, indent)
            for element in value:  # type: ignore[attr-defined]
                yield from _element(element, indent + "  ")
        else:
            written = "" if value is None else f" {_line(value)}"
            yield from _with_reason(f"{indent}{key}{written}", entry.why, indent)


def _element(block: Block, indent: str) -> Iterator[str]:
    """Yields one mapping of a sequence; its first key follows the dash, below its comment."""
    is_first = True
    for line in _lines(block, indent + "  "):
        if is_first and line.lstrip().startswith("#"):
            yield line[2:]
        elif is_first:
            yield f"{indent}- {line.lstrip()}"
            is_first = False
        else:
            yield line


def _with_reason(line: str, why: str, indent: str) -> Iterator[str]:
    if not why:
        yield line
        return
    beside = f"{line:<{_COLUMN}}  # {_printable(why)}"
    if len(beside) <= _WIDTH:
        yield beside
    else:
        yield from comment_lines(why, indent)
        yield line


def comment_lines(text: str, indent: str = "") -> Iterator[str]:
    """Yields comment lines of bounded width."""
    width = max(_WIDTH - len(indent) - 2, 40)
    plain = _printable(text)
    for line in textwrap.wrap(plain, width, break_long_words=False, break_on_hyphens=False):
        yield f"{indent}# {line}"


def _printable(text: str) -> str:
    """Keeps a comment on its line, whatever a file's names hold."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _is_block(value: object) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], Entry | Remark)


def _is_sequence(value: object) -> bool:
    return isinstance(value, list) and bool(value) and _is_block(value[0])


def _flow(value: object) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_scalar(k)}: {_flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_flow(element) for element in value) + "]"
    return _scalar(value)


def _line(value: object) -> str:
    is_plain = isinstance(value, str) and _PLAIN_LINE.fullmatch(value)
    return str(value) if is_plain and str(value).lower() not in _NOT_TEXT else _flow(value)


def _scalar(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    text = str(value)
    if _PLAIN.fullmatch(text) and text.lower() not in _NOT_TEXT:
        return text
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(c if c.isprintable() else _escape(c) for c in quoted)


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def sql_name(name: str) -> str:
    """Writes a column's name for SQL, in quotes where it needs them."""
    if re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)+|shown|clicked|history|item|line", name):
        return name
    escaped = name.replace('"', '""')
    return f'"{escaped}"'


def sql_text(text: str) -> str:
    """Writes text for SQL."""
    escaped = text.replace("'", "''")
    return f"'{escaped}'"
