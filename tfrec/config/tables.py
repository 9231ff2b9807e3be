"""Which files hold a table, and how their rows become the rows that the declaration speaks of."""

from __future__ import annotations

import codecs
from encodings.aliases import aliases
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from tfrec.config.base import Column, Section


def _check_encoding(value: str) -> str:
    try:
        # Codecs of Python that are no text encodings (base64, zip) make bytes of bytes.
        text: object = codecs.lookup(value).incrementaldecoder().decode(b"", final=True)
    except Exception:  # each codec has its own errors
        text = None
    if not isinstance(text, str):
        known = sorted({*aliases, *aliases.values()})
        raise PydanticCustomError(
            "encoding",
            "wanted a text encoding that Python knows, as utf8 or latin-1",
            {"known": [name.replace("_", "-") for name in known]},
        )
    return value


def _check_distinct(names: list[str] | None) -> list[str] | None:
    for name in names or []:
        if names and names.count(name) > 1:
            raise ValueError(f"wanted each column once, got {name!r} twice")
    return names


def _expand_path(value: object) -> object:
    return {"path": value} if isinstance(value, str) else value


class Join(Section):
    """A small table whose columns are added to each row."""

    table: Annotated[TableFile, BeforeValidator(_expand_path)]
    """A bare path is a short form."""
    on: Annotated[list[Column], Field(min_length=1)]
    """Columns that both sides have. Rows without a partner get nothing (null)."""


_ACTIONS = ("explode", "compute", "where", "join")


class Step(Section):
    """One change of a table's rows; exactly one of explode, compute, where and join is given."""

    explode: Annotated[list[Column], Field(min_length=1)] | None = None
    """List columns: one row for each element. Several are taken apart side by side."""
    number: Column | None = None
    """With `explode`: a new column with the element's place in its list, from 0."""
    compute: Annotated[dict[Column, Column], Field(min_length=1)] | None = None
    """New columns by SQL expressions over the row (the dialect of polars), in order."""
    where: Annotated[str, Field(min_length=1)] | None = None
    """SQL condition of the rows to keep; the others are counted."""
    join: Join | None = None

    @model_validator(mode="after")
    def _check_one(self) -> Step:
        given = [name for name in _ACTIONS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"wanted one of {', '.join(_ACTIONS)} a step, got {', '.join(given) or 0}"
            )
        if self.number is not None and self.explode is None:
            raise ValueError("`number` goes with `explode`")
        return self


_Path = Annotated[str, Field(min_length=1)]


class TableFile(Section):
    """The rows of one table: files of one form, or a TensorFlow Datasets name."""

    path: _Path | Annotated[list[_Path], Field(min_length=1)] | None = None
    """A file, a folder of shards, a pattern (``events/*.parquet``) or a list of those. CSV and TSV
    (``.gz`` too), Parquet and JSON lines, told by the name's ending."""
    tfds: str | None = None
    """In place of `path`: a TensorFlow Datasets name, ``movielens/100k-ratings``."""
    tfds_split: str = "train"
    format: Literal["csv", "parquet", "jsonl"] | None = None
    """For names whose ending does not tell."""
    delimiter: str = ","
    """CSV: what stands between cells, one character or more; empty: a line is one cell."""
    quote: str = Field(default='"', max_length=1)
    """CSV: what surrounds cells that hold a delimiter; empty for none."""
    encoding: Annotated[str, AfterValidator(_check_encoding)] = "utf8"
    """Any that Python knows."""
    columns: (
        Annotated[list[Column], Field(min_length=1), AfterValidator(_check_distinct)] | None
    ) = None
    """CSV: names for a file without a header line."""
    steps: list[Step] = []
    """Changes of the rows, in order."""

    @model_validator(mode="after")
    def _check_place(self) -> TableFile:
        if (self.path is None) == (self.tfds is None):
            raise ValueError("wanted one of `path` and `tfds`")
        if self.tfds is not None and (self.format or self.columns):
            raise ValueError("`format` and `columns` are for `path`, not for `tfds`")
        return self

    @model_validator(mode="after")
    def _check_csv(self) -> TableFile:
        if self.columns and self.format not in (None, "csv"):
            raise ValueError(f"`columns` is for csv, {self.format} brings its own")
        if self.quote and self.quote == self.delimiter:
            raise ValueError("wanted `quote` and `delimiter` to differ")
        if self.columns and not self.delimiter and len(self.columns) > 1:
            raise ValueError("an empty `delimiter` makes one cell a line, give `columns` one name")
        return self


def _expand_table(value: object) -> object:
    parts = [value] if isinstance(value, str | dict) else value
    return [_expand_path(part) for part in parts] if isinstance(parts, list) else parts


Table = Annotated[list[TableFile], BeforeValidator(_expand_table), Field(min_length=1)]
"""One or more parts, read one after the other; a bare path and a single part are short forms."""


class TableFiles(Section):
    """The files of the source `files`."""

    events: Table
    items: Table | None = None
    """Without it the catalogue is the items that events name."""
    users: Table | None = None
    relations: Table | None = None
    """Triples (head, relation, tail) about items."""
