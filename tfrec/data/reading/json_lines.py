"""JSON lines: one object a line, read in blocks.

The whole file is looked at first, so that a column has one type from the first row to the last: a
column of numbers and texts becomes text, never null.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import polars as pl

from tfrec.config import TableFile
from tfrec.data.reading.text import BrokenText, encoding_hint, text_blocks
from tfrec.errors import DataError

Schema = dict[str, pl.DataType]

_PLAIN = "a plain value"


def read_json_lines(
    path: Path, table: TableFile, look_ahead: int | None = None
) -> Iterator[tuple[pl.DataFrame, np.ndarray]]:
    """Reads one file.

    Args:
        path: The file.
        table: Its encoding.
        look_ahead: How many blocks tell the types of the columns; None: all of the file.

    Yields:
        Rows and int64 [n], their numbers, from 1. Blank lines are counted and left out.

    Raises:
        DataError: A line is no JSON object, a column holds lists in some rows and plain values in
            others, or the file breaks off.
    """
    schema: Schema = {}
    kinds: dict[str, str] = {}
    num_lines = 0
    for block in islice(_blocks(path, table), look_ahead):
        found = _infer(path, block, num_lines, kinds)
        schema = {name: _merge(schema.get(name), found.get(name)) for name in {**schema, **found}}
        num_lines += _count_lines(block)
    if not schema:
        return
    num_lines = 0
    for block in _blocks(path, table):
        if block.strip():
            yield _read(path, block, schema, num_lines)
        num_lines += _count_lines(block)


def _blocks(path: Path, table: TableFile) -> Iterator[bytes]:
    num_lines = 0
    try:
        for block in text_blocks(path, table.encoding):
            yield block
            num_lines += _count_lines(block)
    except BrokenText as error:
        where = f"; row {num_lines} is the last whole one" if num_lines else ""
        raise DataError(f"{path}: {error}{where}.") from None


def _count_lines(block: bytes) -> int:
    return block.count(b"\n") + (not block.endswith(b"\n"))


def _infer(path: Path, block: bytes, num_before: int, kinds: dict[str, str]) -> Schema:
    """Returns the types of the columns of a block; `kinds` is compared and added to."""
    if not block.strip():
        return {}
    try:
        frame = pl.read_ndjson(block, infer_schema_length=None)
    except pl.exceptions.PolarsError:
        return _infer_slowly(path, block, num_before, kinds)
    found = {
        name: "a list" if dtype == pl.List else "an object" if dtype == pl.Struct else _PLAIN
        for name, dtype in frame.schema.items()
        if dtype != pl.Null
    }
    # The parser writes lists and objects among texts as JSON, which no one wants to train on.
    texts = pl.col(pl.String)
    maybe_json = frame.select((texts.str.starts_with("[") | texts.str.starts_with("{")).any())
    if any(kinds.get(name, kind) != kind for name, kind in found.items()) or any(
        column.any() for column in maybe_json
    ):
        _infer_slowly(path, block, num_before, kinds)
    for name, kind in found.items():
        kinds.setdefault(name, kind)
    return dict(frame.schema)


def _read(
    path: Path, block: bytes, schema: Schema, num_before: int
) -> tuple[pl.DataFrame, np.ndarray]:
    try:
        frame = pl.read_ndjson(block, schema=schema)
    except pl.exceptions.PolarsError:
        _infer_slowly(path, block, num_before, {})
        _fail(path, num_before + 1, "cannot be read as JSON from here on")
    lines = np.arange(_count_lines(block))
    if len(lines) != frame.height:
        lines = np.flatnonzero([bool(line.strip()) for line in block.split(b"\n")])
    if len(lines) != frame.height:
        _fail(path, num_before + 1, "cannot be read as JSON lines from here on")
    return frame, lines.astype(np.int64) + num_before + 1


def _merge(one: pl.DataType | None, other: pl.DataType | None) -> pl.DataType:
    """Returns the type that holds the values of both; text if nothing else does."""
    one, other = one or pl.Null(), other or pl.Null()
    if one == other or other == pl.Null:
        return one
    if one == pl.Null:
        return other
    if isinstance(one, pl.List) and isinstance(other, pl.List):
        return pl.List(_merge(_inner(one), _inner(other)))
    if isinstance(one, pl.Struct) and isinstance(other, pl.Struct):
        fields = [{field.name: field.dtype for field in kind.fields} for kind in (one, other)]
        merged = {
            name: _merge(*(_instance(kind.get(name)) for kind in fields))
            for name in {**fields[0], **fields[1]}
        }
        return pl.Struct(merged)
    if one.is_numeric() and other.is_numeric():
        if one.is_float() or other.is_float():
            return pl.Float64()
        return pl.Int128()
    return pl.String()


def _inner(kind: pl.List) -> pl.DataType:
    inner = _instance(kind.inner)
    assert inner is not None
    return inner


def _instance(kind: Any) -> pl.DataType | None:
    return kind() if isinstance(kind, type) else kind


def _infer_slowly(path: Path, block: bytes, num_before: int, kinds: dict[str, str]) -> Schema:
    """Returns the schema of a block that the parser refuses, all plain values as text.

    Args:
        path: The file.
        block: Whole lines.
        num_before: How many lines came before.
        kinds: What the columns hold as far as known; added to.

    Raises:
        DataError: For the first line that is no object or does not fit the lines before.
    """
    found: Schema = {}
    for number, line in enumerate(block.split(b"\n"), num_before + 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line.decode(), parse_constant=_refuse_constant)
        except UnicodeDecodeError as error:
            _fail(path, number, f"not valid UTF-8. {encoding_hint(line[error.start])}")
        except (ValueError, RecursionError) as error:
            problem = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            _fail(path, number, f"wanted one JSON object a line, but it is no JSON ({problem})")
        if not isinstance(row, dict):
            _fail(path, number, f"wanted one JSON object a line, got {_kind(row)}")
        for name, value in row.items():
            if value is None:
                found.setdefault(name, pl.Null())
                continue
            kind = _kind(value)
            before = kinds.setdefault(name, kind)
            if kind != before:
                raise DataError(
                    f"{path}: row {number}, column {name!r}: wanted {before} as in the rows "
                    f"before, got {kind}."
                )
            found[name] = pl.List(pl.String()) if kind == "a list" else pl.String()
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number; write null")


def _kind(value: Any) -> str:
    if isinstance(value, list):
        return "a list"
    return "an object" if isinstance(value, dict) else _PLAIN


def _fail(path: Path, row: int, problem: str) -> NoReturn:
    raise DataError(f"{path}: row {row}: {problem}.")
