"""Gives a raw column the type of its role; a cell that does not fit is named by row and column."""

from __future__ import annotations

import polars as pl

from tfrec.errors import DataError

_ISO_TIME = (
    r"^(\d{4}-\d{1,2}-\d{1,2})"
    r"(?:[T ](\d{1,2}:\d{2})(:\d{2}(?:\.\d+)?)?\s*(Z|[+-]\d{2}:?\d{2})?)?$"
)
_FIRST_SECOND, _LAST_SECOND = -62_135_596_800, 253_402_300_799  # years 1 to 9999


def to_ids(frame: pl.DataFrame, column: str, origin: str) -> pl.Series:
    """Returns ids as text. Nulls and empty ids raise `DataError`."""
    ids = _scalars(frame, column, origin, "ids (text or whole numbers)")
    if ids.dtype.is_float():
        raise DataError(
            f"{origin}: column {column!r}: wanted ids (text or whole numbers), got decimals."
        )
    ids = ids.cast(pl.String)
    _raise_at(ids.is_null() | (ids == ""), frame[column], origin, column, "an id")
    return ids


def to_text(frame: pl.DataFrame, column: str, origin: str) -> pl.Series:
    """Returns text; nulls become the empty string."""
    return _scalars(frame, column, origin, "text").cast(pl.String).fill_null("")


def to_numbers(frame: pl.DataFrame, column: str, origin: str) -> pl.Series:
    """Returns float64; nulls, empty cells and NaN become null."""
    raw = _scalars(frame, column, origin, "numbers")
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
    """Returns Datetime (microseconds) from datetimes, dates, ISO 8601 text or unix seconds.

    A time with a zone becomes the same instant in UTC.
    """
    raw = frame[column]
    if raw.dtype == pl.Date or isinstance(raw.dtype, pl.Datetime):
        times = raw.cast(pl.Datetime("us"))
    elif raw.dtype.is_numeric():
        times = _from_seconds(raw)
    elif raw.dtype == pl.String:
        raw = raw.str.strip_chars()
        times = _from_seconds(raw.cast(pl.Float64, strict=False))
        if times.null_count():
            times = times.fill_null(_from_iso(raw))
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
    if raw.dtype.inner.is_nested():
        raise DataError(f"{origin}: column {column!r}: wanted lists of text, got {raw.dtype}.")
    lists = raw.cast(pl.List(pl.String)).fill_null([])
    return lists.list.eval(pl.element().filter(pl.element() != ""))


def to_vectors(frame: pl.DataFrame, column: str, origin: str) -> pl.Series:
    """Returns float32 lists of one common length, free of infinities; nulls stay null."""
    raw = frame[column]
    if isinstance(raw.dtype, pl.Array):
        raw = raw.arr.to_list()
    if not isinstance(raw.dtype, pl.List):
        raise DataError(f"{origin}: column {column!r}: wanted vectors, got {raw.dtype}.")
    try:
        vectors = raw.cast(pl.List(pl.Float32))
    except pl.exceptions.PolarsError:
        raise DataError(
            f"{origin}: column {column!r}: wanted vectors of numbers, got {raw.dtype}."
        ) from None
    lengths = vectors.list.len()
    size = lengths.drop_nulls().mode().sort()[-1] if lengths.count() else 0
    _raise_at(lengths != size, raw, origin, column, f"a vector of {size} numbers")
    is_infinite = vectors.list.eval(pl.element().is_infinite()).list.any()
    _raise_at(is_infinite, raw, origin, column, "a vector of finite numbers")
    return vectors


def _from_seconds(seconds: pl.Series) -> pl.Series:
    seconds = seconds.cast(pl.Float64)
    in_range = seconds.is_between(_FIRST_SECOND, _LAST_SECOND)  # milliseconds are far outside
    microseconds = (seconds.set(~in_range, None) * 1e6).round()
    return microseconds.cast(pl.Int64).cast(pl.Datetime("us"))


def _from_iso(text: pl.Series) -> pl.Series:
    """Reads ISO 8601 text, zone and seconds optional; whatever else becomes null."""
    day, minute, second, zone = (pl.col(group) for group in ("1", "2", "3", "4"))
    full = pl.concat_str(
        day,
        pl.lit("T"),
        minute.fill_null("00:00"),
        second.fill_null(":00"),
        zone.replace("Z", None).fill_null("+0000"),
    )
    times = full.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%z", time_unit="us", strict=False)
    groups = pl.DataFrame({"text": text}).select(pl.col("text").str.extract_groups(_ISO_TIME))
    return groups.unnest("text").select(times.dt.replace_time_zone(None)).to_series()


def _scalars(frame: pl.DataFrame, column: str, origin: str, wanted: str) -> pl.Series:
    raw = frame[column]
    if raw.dtype.is_nested():
        raise DataError(f"{origin}: column {column!r}: wanted {wanted}, got {raw.dtype}.")
    return raw


def _raise_at(bad: pl.Series, raw: pl.Series, origin: str, column: str, wanted: str) -> None:
    bad = bad.fill_null(False)
    if bad.any():
        row = bad.arg_max()
        assert row is not None
        more = int(bad.sum()) - 1
        cell = raw[row].to_list() if isinstance(raw[row], pl.Series) else raw[row]
        came = "nothing" if cell is None or cell == "" else repr(cell)[:80]
        others = f" ({more} more row{'s' * (more > 1)} like it)" if more else ""
        raise DataError(
            f"{origin}: row {row + 1}, column {column!r}: wanted {wanted}, got {came}.{others}"
        )
