"""A configuration as text, with the reason of each line beside it."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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
        value: A scalar, a list or mapping of scalars, or a block below it. A list of blocks is a
            sequence of mappings.
        why: Why this value, and what to change if it is wrong.
    """

    key: str
    value: Any
    why: str = ""


Block = Sequence[Entry | str]
"""Keys, and comments on lines of their own between them."""


def write_page(block: Block) -> str:
    """Returns the YAML text of a block."""
    return "\n".join(_lines(block, "")) + "\n"


def _lines(block: Block, indent: str) -> Iterator[str]:
    for entry in block:
        if isinstance(entry, str):
            yield from _comment(entry, indent)
            continue
        line, value = f"{indent}{_scalar(entry.key)}:", entry.value
        below: list[str] = []
        if _is_block(value):
            below = [*_lines(value, indent + "  ")]
        elif isinstance(value, list) and value and _is_block(value[0]):
            below = [line for element in value for line in _element(element, indent + "  ")]
        elif value is not None:
            is_plain = isinstance(value, str) and _PLAIN_LINE.fullmatch(value)
            line += f" {value if is_plain and value.lower() not in _NOT_TEXT else _flow(value)}"
        beside = f"{line:<{_COLUMN}}  # {_printable(entry.why)}"
        if not entry.why or len(beside) <= _WIDTH:
            yield beside if entry.why else line
        else:
            yield from _comment(entry.why, indent)
            yield line
        yield from below


def _element(block: Block, indent: str) -> Iterator[str]:
    """Yields one mapping of a sequence; its first key follows the dash, below its comment."""
    lines = [*_lines(block, indent + "  ")]
    first = next(at for at, line in enumerate(lines) if not line.lstrip().startswith("#"))
    yield from (line[2:] for line in lines[:first])
    yield f"{indent}- {lines[first].lstrip()}"
    yield from lines[first + 1 :]


def _comment(text: str, indent: str) -> Iterator[str]:
    width = max(_WIDTH - len(indent) - 2, 40)
    lines = textwrap.wrap(_printable(text), width, break_long_words=False, break_on_hyphens=False)
    yield from (f"{indent}# {line}" for line in lines)


def _printable(text: str) -> str:
    """Keeps a comment on its line, whatever a file's names hold."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _is_block(value: object) -> bool:
    """Tells a block from a list of scalars: it has a key."""
    return isinstance(value, list) and any(isinstance(entry, Entry) for entry in value)


def _flow(value: object) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_scalar(k)}: {_flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_flow(element) for element in value) + "]"
    return _scalar(value)


def _scalar(value: object) -> str:
    if not isinstance(value, str):
        return json.dumps(value)
    if _PLAIN.fullmatch(value) and value.lower() not in _NOT_TEXT:
        return value
    quoted = json.dumps(value, ensure_ascii=False)
    return "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in quoted)
