"""Gives a raw column the type of its role.

A cell that does not fit is reported to the `RowChecks` of its batch, which raises or repairs. A
whole column of a wrong kind is an error at once.
"""

from __future__ import annotations

import polars as pl

from tfrec.data.parsing.checks import RowChecks
from tfrec.features.cells import as_text, plain_cells, to_numbers, without

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
    ids = as_text(cells).str.strip_chars()
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


def to_whole_numbers(checks: RowChecks, column: str) -> pl.Series:
    """Returns whole numbers; rejects rows without one.

    Returns:
        Int64 [n]; null in rejected rows.
    """
    cells = plain_cells(checks, column, "whole numbers")
    if cells.dtype.is_temporal():
        raise checks.fail(column, "whole numbers", str(cells.dtype))
    if not cells.dtype.is_integer():
        cells = _without_zeros(as_text(cells).str.strip_chars())
    numbers = cells.cast(pl.Int64, strict=False)
    checks.reject(numbers.is_null(), column, "a whole number")
    return numbers


def to_labels(checks: RowChecks, column: str) -> pl.Series:
    """Returns labels from 0, 1, true and false; rejects rows with anything else.

    Returns:
        Int8 [n]; null in rejected rows.
    """
    cells = as_text(plain_cells(checks, column, "labels (0 or 1)"))
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


def _without_zeros(text: pl.Series) -> pl.Series:
    return text.str.replace(r"\.0+$", "")
