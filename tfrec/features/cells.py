"""Raw cells of single values: plain text and numbers of whatever storage."""

from __future__ import annotations

from typing import Protocol

import polars as pl

# Whole numbers that a float holds exactly; beyond, several ids share one float.
_EXACT: dict[type[pl.DataType], int] = {pl.Float16: 2**11, pl.Float32: 2**24, pl.Float64: 2**53}


class RawCells(Protocol):
    """Raw rows of a table, and where cells that do not fit are reported."""

    @property
    def frame(self) -> pl.DataFrame:
        """The raw rows."""

    def blank(self, bad: pl.Series, column: str, wanted: str) -> None:
        """Reports cells that become unknown; nulls in `bad` (bool [n]) count as False."""

    def reject(self, bad: pl.Series, column: str, wanted: str) -> None:
        """Reports rows that cannot stay; nulls in `bad` (bool [n]) count as False."""

    def fail(self, column: str, wanted: str, got: str) -> Exception:
        """Returns the error for a whole column of a wrong kind."""


def to_text(cells: RawCells, column: str) -> pl.Series:
    """Returns text; nulls become the empty string and truth values "true" and "false".

    Returns:
        String [n]
    """
    return as_text(plain_cells(cells, column, "text")).fill_null("")


def to_numbers(cells: RawCells, column: str, reject: bool = False) -> pl.Series:
    """Returns numbers; empty cells and NaN are unknown.

    Args:
        cells: The batch.
        column: The column.
        reject: Whether a row needs a number; if not, what is none becomes unknown.

    Returns:
        Float64 [n], finite or null.
    """
    raw = plain_cells(cells, column, "numbers")
    if raw.dtype.is_temporal():
        raise cells.fail(column, "numbers", str(raw.dtype))
    if raw.dtype == pl.String:
        raw = stripped(raw)
    numbers = raw.cast(pl.Float64, strict=False)
    if reject:
        cells.reject(numbers.is_null() | numbers.is_nan(), column, "a number")
        cells.reject(numbers.is_infinite(), column, "a finite number")
    else:
        cells.blank(numbers.is_null() & raw.is_not_null(), column, "a number")
        cells.blank(numbers.is_infinite(), column, "a finite number")
    return without(numbers, ~numbers.is_finite())


def plain_cells(cells: RawCells, column: str, wanted: str) -> pl.Series:
    """Returns a column whose cells are single values; texts of any storage as String.

    Raises:
        DataError: The cells are lists, structs, or bytes that are no text.
    """
    raw = cells.frame[column]
    if raw.dtype.is_nested() or raw.dtype == pl.Object:
        raise cells.fail(column, wanted, str(raw.dtype))
    if raw.dtype in (pl.Categorical, pl.Enum, pl.Binary, pl.Null):
        try:
            return raw.cast(pl.String)
        except pl.exceptions.ComputeError:
            raise cells.fail(column, wanted, "bytes that are no UTF-8") from None
    return raw


def without(values: pl.Series, bad: pl.Series) -> pl.Series:
    """Returns values with null where `bad` (bool [n], null counts as False)."""
    return pl.select(pl.when(~bad.fill_null(False)).then(values)).to_series()


def as_text(cells: pl.Series) -> pl.Series:
    """Writes single values as text; see `text_of`."""
    if cells.dtype == pl.String:
        return cells
    return pl.select(text_of(pl.lit(cells), cells.dtype)).to_series()


def text_of(value: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """Writes 7.0 as 7: a whole number that shares its column with nulls is often read as float."""
    if dtype.is_float():
        is_whole = (value == value.round()) & (value.abs() < _EXACT[type(dtype)])
        whole = value.cast(pl.Int64, strict=False).cast(pl.String)
        return pl.when(is_whole).then(whole).otherwise(value.fill_nan(None).cast(pl.String))
    if dtype.is_decimal():
        return value.cast(pl.String).str.replace(r"\.0+$", "")
    return value.cast(pl.String)


def stripped(text: pl.Series) -> pl.Series:
    """Returns text without surrounding space, null where nothing is left."""
    text = text.str.strip_chars()
    return without(text, text == "")
