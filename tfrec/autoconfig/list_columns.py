"""Columns whose cells are lists, in whatever storage."""

from __future__ import annotations

import re
from dataclasses import dataclass

import polars as pl

from tfrec.autoconfig import words
from tfrec.autoconfig.columns import Column, as_float
from tfrec.autoconfig.page import sql_name, sql_text

MAX_ROWS = 2000
ALIKE = 0.98
_SEPARATORS = (" ", ",", "|", ";")
_ID = r"[A-Za-z_]{0,6}\d[\w-]*"


@dataclass(frozen=True)
class ListColumn:
    """A column of lists, with the expression that makes the list where cells are text."""

    name: str
    lists: pl.Series
    expression: str | None
    separator: str

    @property
    def inner(self) -> pl.DataType:
        """The type of the values."""
        return self.lists.dtype.inner  # type: ignore[attr-defined]

    @property
    def words(self) -> list[str]:
        """The words of its name."""
        return words.words_of(self.name)


def as_lists(column: Column) -> ListColumn | None:
    """Returns the lists of a column; None where its cells are none."""
    cells = column.raw.head(MAX_ROWS)
    if isinstance(cells.dtype, pl.List):
        inner = cells.dtype.inner
        plain = inner == pl.String or inner.is_numeric() or inner.is_temporal()
        return ListColumn(column.name, cells, None, "") if plain else None
    if column.form != "text":
        return None
    known = cells.drop_nulls()
    name = sql_name(column.name)
    if known.str.contains(r"^\[.*\]$").mean() == 1:
        plain_text = known.str.replace_all(r"[\[\]' ]", "")
        if _are_ids(plain_text, ","):
            bare = f"REPLACE(REPLACE(REPLACE({name}, '[', ''), ']', ''), ' ', '')"
            expression = f"string_to_array(REPLACE({bare}, '''', ''), ',')"
            lists = cells.str.replace_all(r"[\[\]' ]", "").str.split(",")
            return ListColumn(column.name, lists, expression, ",")
        return None
    for separator in _SEPARATORS:
        if _are_ids(known, separator):
            expression = f"string_to_array({name}, {sql_text(separator)})"
            return ListColumn(column.name, cells.str.split(separator), expression, separator)
    return None


def _are_ids(texts: pl.Series, separator: str) -> bool:
    """Tells whether texts are ids with a separator between, two or more in most of them."""
    between = re.escape(separator)
    pattern = rf"^{_ID}({between}{_ID})*$"
    counts = texts.str.count_matches(between) + 1
    is_id = as_float(texts.str.contains(pattern).mean())
    return is_id > ALIKE and as_float(counts.mean()) >= 1.5


def share_matching(column: ListColumn, pattern: str) -> float:
    """Returns the share of a text column's values that fit a pattern."""
    tokens = column.lists.explode().drop_nulls()
    return as_float(tokens.str.contains(pattern).mean())


def holds_items(column: ListColumn) -> bool:
    """Tells whether the values could be ids."""
    if column.inner.is_integer():
        return True
    return column.inner == pl.String and share_matching(column, rf"^{_ID}$") > ALIKE
