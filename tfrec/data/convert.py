"""Gives a raw column the type of its role; a cell that does not fit is named by row and column."""

from __future__ import annotations

import polars as pl

from tfrec.errors import DataError


def to_ids(frame: pl.DataFrame, column: str, origin: str) -> pl.Series:
    """Returns ids as text. Nulls and empty ids raise `DataError`."""
    ids = frame[column]
    if ids.dtype.is_float():
        raise DataError(
            f"{origin}: column {column!r}: wanted ids (text or whole numbers), got decimals."
        )
    ids = ids.cast(pl.String)
    _raise_at(ids.is_null() | (ids == ""), frame[column], origin, column, "an id")
    return ids


def to_text(frame: pl.DataFrame, column: str) -> pl.Series:
    """Returns text; nulls become the empty string."""
    return frame[column].cast(pl.String).fill_null("")


def to_numbers(frame: pl.DataFrame, column: str, origin: str) -> pl.Series:
    """Returns float64; nulls, empty cells and NaN become null."""
    raw = frame[column]
    if raw.dtype == pl.String:
        raw = raw.str.strip_chars().replace("", None)
    try:
        numbers = raw.cast(pl.Float64, strict=False)
    except pl.exceptions.PolarsError:
        raise DataError(
            f"{origin}: column {column!r}: wanted numbers, got {frame[column].dtype}."
        ) from None
    _raise_at(numbers.is_null() & raw.is_not_null(), frame[column], origin, column, "a number")
    _raise_at(numbers.is_infinite(), frame[column], origin, column, "a finite number")
    return numbers.fill_nan(None)


def to_times(frame: pl.DataFrame, column: str, origin: str) -> pl.Series:
    """Returns Datetime (microseconds) from datetimes, dates, ISO 8601 text or unix seconds."""
    raw = frame[column]
    if raw.dtype == pl.Date or isinstance(raw.dtype, pl.Datetime):
        times = raw.cast(pl.Datetime("us"))
    elif raw.dtype.is_numeric():
        times = _from_seconds(raw)
    elif raw.dtype == pl.String:
        raw = raw.str.strip_chars()
        times = _from_seconds(raw.cast(pl.Float64, strict=False))
        if times.null_count():
            text = raw.str.to_datetime(time_unit="us", strict=False)
            day = raw.str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us"))
            times = times.fill_null(text).fill_null(day)
    else:
        raise DataError(f"{origin}: column {column!r}: wanted times, got {raw.dtype}.")
    wanted = "a time (ISO 8601, as 2026-01-31 or 2026-01-31T12:00:00, or unix seconds)"
    require_values(times, frame, column, origin, wanted)
    return times


def require_values(
    typed: pl.Series, frame: pl.DataFrame, column: str, origin: str, wanted: str
) -> None:
    """Raises `DataError` for the first row of `typed` without a value."""
    _raise_at(typed.is_null(), frame[column], origin, column, wanted)


def to_lists(frame: pl.DataFrame, column: str, origin: str) -> pl.Series:
    """Returns lists of text from list cells or ``|``-separated text; nulls become empty lists."""
    raw = frame[column]
    if raw.dtype == pl.String:
        raw = raw.str.split("|")
    if not isinstance(raw.dtype, pl.List):
        raise DataError(
            f"{origin}: column {column!r}: wanted lists or text separated by '|', got {raw.dtype}."
        )
    lists = raw.cast(pl.List(pl.String)).fill_null([])
    return lists.list.eval(pl.element().filter(pl.element() != ""))


def to_vectors(frame: pl.DataFrame, column: str, origin: str) -> pl.Series:
    """Returns float32 lists of one common length; nulls stay null."""
    raw = frame[column]
    if isinstance(raw.dtype, pl.Array):
        raw = raw.arr.to_list()
    if not isinstance(raw.dtype, pl.List):
        raise DataError(f"{origin}: column {column!r}: wanted vectors, got {raw.dtype}.")
    vectors = raw.cast(pl.List(pl.Float32))
    lengths = vectors.list.len()
    size = lengths.drop_nulls().mode().sort()[-1] if lengths.count() else 0
    _raise_at(
        (lengths != size).fill_null(False), frame[column], origin, column, f"a vector of {size}"
    )
    return vectors


def _from_seconds(seconds: pl.Series) -> pl.Series:
    microseconds = (seconds.cast(pl.Float64) * 1e6).round()
    in_range = microseconds.abs() < 2.0**62
    return microseconds.set(~in_range, None).cast(pl.Int64).cast(pl.Datetime("us"))


def _raise_at(bad: pl.Series, raw: pl.Series, origin: str, column: str, wanted: str) -> None:
    bad = bad.fill_null(False)
    if bad.any():
        row = bad.arg_max()
        assert row is not None
        more = int(bad.sum()) - 1
        came = "nothing" if raw[row] is None or raw[row] == "" else repr(raw[row])[:80]
        others = f" ({more} more row{'s' * (more > 1)} like it)" if more else ""
        raise DataError(
            f"{origin}: row {row + 1}, column {column!r}: wanted {wanted}, got {came}.{others}"
        )
