"""Gives a raw column the type of its role.

A cell that does not fit is reported to the `RowChecks` of its batch, which raises or repairs. A
whole column of a wrong kind is an error at once.
"""

from __future__ import annotations

import polars as pl

from tfrec.data.parsing.checks import RowChecks

# Whole numbers that a float holds exactly; beyond, several ids share one float.
_EXACT: dict[type[pl.DataType], int] = {pl.Float16: 2**11, pl.Float32: 2**24, pl.Float64: 2**53}
_CONTROL = r"[\x00-\x1f\x7f]"
# Weights outside would not survive as float32, times the weight of a kind.
_SMALLEST_WEIGHT, _LARGEST_WEIGHT = 1e-30, 1e30
_TRUE, _FALSE = ("1", "true"), ("0", "false")


def to_ids(checks: RowChecks, column: str) -> pl.Series:
    """Returns ids as text without surrounding space; rejects rows without an id.

    Whole numbers are written without a point, so that 7, 7.0 and "7" are one id.

    Returns:
        String [n]; null in rejected rows.
    """
    wanted = "ids (text or whole numbers)"
    cells = plain_cells(checks, column, wanted)
    if cells.dtype == pl.Boolean or cells.dtype.is_temporal():
        raise checks.fail(column, wanted, str(cells.dtype))
    ids = _as_text(cells).str.strip_chars()
    missing = ids.is_null() | (ids == "")
    checks.reject(missing, column, "an id")
    if cells.dtype.is_float() or cells.dtype.is_decimal():
        odd = ids.str.contains(r"[^0-9-]")
        checks.reject(odd, column, "an id (text or a whole number that is exact)")
    elif cells.dtype == pl.String:
        odd = ids.str.contains(_CONTROL)
        checks.reject(odd, column, "an id without control characters")
    else:
        return without(ids, missing)
    return without(ids, missing | odd)


def to_text(checks: RowChecks, column: str) -> pl.Series:
    """Returns text; nulls become the empty string and truth values "true" and "false".

    Returns:
        String [n]
    """
    return _as_text(plain_cells(checks, column, "text")).fill_null("")


def to_numbers(checks: RowChecks, column: str, reject: bool = False) -> pl.Series:
    """Returns numbers; empty cells and NaN are unknown.

    Args:
        checks: The batch.
        column: The column.
        reject: Whether a row needs a number; if not, what is none becomes unknown.

    Returns:
        Float64 [n], finite or null.
    """
    cells = plain_cells(checks, column, "numbers")
    if cells.dtype.is_temporal():
        raise checks.fail(column, "numbers", str(cells.dtype))
    if cells.dtype == pl.String:
        cells = _stripped(cells)
    numbers = cells.cast(pl.Float64, strict=False)
    if reject:
        checks.reject(numbers.is_null() | numbers.is_nan(), column, "a number")
        checks.reject(numbers.is_infinite(), column, "a finite number")
    else:
        checks.blank(numbers.is_null() & cells.is_not_null(), column, "a number")
        checks.blank(numbers.is_infinite(), column, "a finite number")
    return without(numbers, ~numbers.is_finite())


def to_whole_numbers(checks: RowChecks, column: str) -> pl.Series:
    """Returns whole numbers; rejects rows without one.

    Returns:
        Int64 [n]; null in rejected rows.
    """
    cells = plain_cells(checks, column, "whole numbers")
    if cells.dtype.is_temporal():
        raise checks.fail(column, "whole numbers", str(cells.dtype))
    if not cells.dtype.is_integer():
        cells = _without_zeros(_as_text(cells).str.strip_chars())
    numbers = cells.cast(pl.Int64, strict=False)
    checks.reject(numbers.is_null(), column, "a whole number")
    return numbers


def to_labels(checks: RowChecks, column: str) -> pl.Series:
    """Returns labels from 0, 1, true and false; rejects rows with anything else.

    Returns:
        Int8 [n]; null in rejected rows.
    """
    cells = _as_text(plain_cells(checks, column, "labels (0 or 1)"))
    cells = _without_zeros(cells.str.strip_chars().str.to_lowercase())
    label = pl.when(cells.is_in(_TRUE)).then(1).when(cells.is_in(_FALSE)).then(0)
    labels = pl.select(label.cast(pl.Int8)).to_series()
    checks.reject(labels.is_null(), column, "0 or 1")
    return labels


def to_weights(checks: RowChecks, column: str) -> pl.Series:
    """Returns weights; rejects rows whose weight is not a number above 0.

    Returns:
        Float64 [n]; null in rejected rows.
    """
    weights = to_numbers(checks, column, reject=True)
    bad = ~weights.is_between(_SMALLEST_WEIGHT, _LARGEST_WEIGHT)
    checks.reject(bad, column, "a weight above 0 (1e-30 to 1e30)")
    return without(weights, bad)


def to_lists(checks: RowChecks, column: str, separator: str = "|") -> pl.Series:
    """Returns lists of text from list cells, or from text with `separator` between the values.

    Returns:
        List(String) [n]; nulls become empty lists, and empty values are left out.
    """
    wanted = f"lists, or text with {separator!r} between the values"
    raw = checks.frame[column]
    if isinstance(raw.dtype, pl.Array):
        raw = raw.arr.to_list()
    if not isinstance(raw.dtype, pl.List):
        raw = plain_cells(checks, column, wanted)
        if raw.dtype != pl.String:
            raise checks.fail(column, wanted, str(raw.dtype))
        raw = raw.str.split(separator)
    inner = raw.dtype.inner  # type: ignore[attr-defined]
    if inner.is_nested() or inner == pl.Object:
        raise checks.fail(column, "lists of text", str(raw.dtype))
    value = _text_of(pl.element(), inner).str.strip_chars()
    try:
        lists = raw.list.eval(value.filter(value != ""))
    except pl.exceptions.ComputeError:
        raise checks.fail(column, "lists of text", "bytes that are no UTF-8") from None
    return lists.cast(pl.List(pl.String)).fill_null([])


def to_vectors(checks: RowChecks, column: str, size: int | None = None) -> pl.Series:
    """Returns vectors from lists of numbers or text such as ``[0.1, 0.2]``.

    Args:
        checks: The batch.
        column: The column.
        size: Wanted length; None: the most frequent one here, of several the longest.

    Returns:
        List(Float32) [n], all of one length and finite; others are reported and null.
    """
    raw = checks.frame[column]
    if isinstance(raw.dtype, pl.Array):
        raw = raw.arr.to_list()
    if not isinstance(raw.dtype, pl.List):
        text = plain_cells(checks, column, "vectors")
        if text.dtype != pl.String:
            raise checks.fail(column, "vectors", str(text.dtype))
        text = text.str.replace_all(r"[\[\]()]", "").str.replace_all(r"[\s,;|]+", " ")
        raw = _stripped(text).str.split(" ")
    inner = raw.dtype.inner  # type: ignore[attr-defined]
    if not (inner.is_numeric() or inner in (pl.String, pl.Null)):
        raise checks.fail(column, "vectors of numbers", str(raw.dtype))
    vectors = raw.cast(pl.List(pl.Float32), strict=False)
    is_odd = vectors.list.eval(~pl.element().is_finite().fill_null(False)).list.any()
    checks.blank(is_odd, column, "a vector of finite numbers")
    vectors = without(vectors, is_odd)
    lengths = vectors.list.len()
    if size is None:
        known = lengths.filter(lengths > 0)
        size = int(known.mode().sort()[-1]) if len(known) else 1
    has_other_size = lengths != size
    checks.blank(has_other_size, column, f"a vector of {size} numbers")
    return without(vectors, has_other_size)


def plain_cells(checks: RowChecks, column: str, wanted: str) -> pl.Series:
    """Returns a column whose cells are single values; texts of any storage as String.

    Raises:
        DataError: The cells are lists, structs, or bytes that are no text.
    """
    cells = checks.frame[column]
    if cells.dtype.is_nested() or cells.dtype == pl.Object:
        raise checks.fail(column, wanted, str(cells.dtype))
    if cells.dtype in (pl.Categorical, pl.Enum, pl.Binary, pl.Null):
        try:
            return cells.cast(pl.String)
        except pl.exceptions.ComputeError:
            raise checks.fail(column, wanted, "bytes that are no UTF-8") from None
    return cells


def without(values: pl.Series, bad: pl.Series) -> pl.Series:
    """Returns values with null where `bad` (bool [n], null counts as False)."""
    return pl.select(pl.when(~bad.fill_null(False)).then(values)).to_series()


def _as_text(cells: pl.Series) -> pl.Series:
    if cells.dtype == pl.String:
        return cells
    return pl.select(_text_of(pl.lit(cells), cells.dtype)).to_series()


def _text_of(value: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """Writes 7.0 as 7: a whole number that shares its column with nulls is often read as float."""
    if dtype.is_float():
        is_whole = (value == value.round()) & (value.abs() < _EXACT[type(dtype)])
        whole = value.cast(pl.Int64, strict=False).cast(pl.String)
        return pl.when(is_whole).then(whole).otherwise(value.fill_nan(None).cast(pl.String))
    if dtype.is_decimal():
        return value.cast(pl.String).str.replace(r"\.0+$", "")
    return value.cast(pl.String)


def _without_zeros(text: pl.Series) -> pl.Series:
    return text.str.replace(r"\.0+$", "")


def _stripped(text: pl.Series) -> pl.Series:
    """Returns text without surrounding space, null where nothing is left."""
    text = text.str.strip_chars()
    return without(text, text == "")
