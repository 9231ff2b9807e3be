"""Times in the forms that logs have: datetimes, dates, ISO 8601 text, numbers, own formats.

Every time becomes the same instant in UTC; one without a zone is taken as UTC.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import polars as pl

from tfrec.data.parsing.checks import RowChecks
from tfrec.data.parsing.convert import plain_cells, without

_ISO_TIME = (
    r"^(\d{4}-\d{1,2}-\d{1,2})"
    r"(?:[Tt ](\d{1,2}:\d{2})(:\d{2}(?:[.,]\d+)?)?\s*([Zz]|UTC|[+-]\d{2}(?::?\d{2})?)?)?$"
)
_EPOCH = datetime(1970, 1, 1)
_SECOND = 1_000_000
_DAY = 86_400 * _SECOND
# Years 1 to 9999. A number beyond is moved a day beyond, where it is sure to be out of bounds.
_FIRST, _LAST = -62_135_596_800 * _SECOND, 253_402_300_800 * _SECOND - 1
# Too narrow for a day of eight digits, with which numbers are compared.
_NARROW = (pl.Int8, pl.Int16, pl.UInt8, pl.UInt16)
_UNITS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}

Unit = Literal["s", "ms", "us", "ns"]


def to_times(
    checks: RowChecks,
    column: str,
    earliest: datetime,
    latest: datetime,
    time_format: str | None = None,
    unit: Unit = "s",
) -> pl.Series:
    """Returns times; rejects rows without one, or with one out of bounds.

    A whole number of eight digits, 20260131, is read as a day where half or more of such numbers in
    the batch are days of a calendar: as seconds since 1970, a whole year would be 19 minutes.

    Args:
        checks: The batch.
        column: The column.
        earliest: First moment that fits, in UTC without a zone.
        latest: Last moment that fits.
        time_format: Form of text, as ``strptime`` knows it; None: ISO 8601 or numbers.
        unit: Of numbers since 1970.

    Returns:
        Datetime("us") [n]; null in rejected rows.
    """
    times = _moments(checks, column, time_format, unit)
    wanted = f"a time (ISO 8601, as 2026-01-31T12:00:00, or {_UNITS[unit]} since 1970)"
    if time_format:
        wanted = f"a time of the form {time_format!r}"
    checks.reject(times.is_null(), column, wanted)
    is_outside = ~times.is_between(_microseconds(earliest), _microseconds(latest))
    bounds = " to ".join(bound.isoformat(" ", "seconds") for bound in (earliest, latest))
    checks.reject(is_outside, column, f"a time from {bounds} (numbers count {_UNITS[unit]})")
    return without(times, is_outside).cast(pl.Datetime("us"))


def to_days(checks: RowChecks, column: str) -> pl.Series:
    """Returns dates and times as days since 1970-01-01; empty cells are unknown.

    Returns:
        Float64 [n]; null where unknown.
    """
    times = _moments(checks, column, None, "s")
    cells = checks.frame[column]
    is_known = cells.is_not_null()
    if cells.dtype in (pl.String, pl.Categorical, pl.Enum, pl.Binary):
        text = plain_cells(checks, column, "dates").str.strip_chars()
        is_known = is_known & (text != "")
    elif cells.dtype.is_float():
        is_known = is_known & cells.is_not_nan()
    bad = is_known & (times.is_null() | ~times.is_between(_FIRST, _LAST))
    checks.blank(bad, column, "a date (ISO 8601, as 2026-01-31, or seconds since 1970)")
    return without(times, bad).cast(pl.Float64) / _DAY


def _microseconds(moment: datetime) -> int:
    """Returns microseconds since 1970 of a moment without a zone."""
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * _SECOND + since.microseconds


def _moments(checks: RowChecks, column: str, time_format: str | None, unit: Unit) -> pl.Series:
    """Returns microseconds since 1970, Int64 [n]; null for what is no time."""
    cells = plain_cells(checks, column, "times")
    if cells.dtype == pl.Date or isinstance(cells.dtype, pl.Datetime):
        return cells.cast(pl.Datetime("us")).to_physical()
    if cells.dtype.is_decimal():
        cells = cells.cast(pl.Float64)
    if time_format and cells.dtype.is_integer():
        cells = cells.cast(pl.String)
    if cells.dtype.is_numeric():
        return _from_numbers(cells, unit)
    if cells.dtype != pl.String:
        raise checks.fail(column, "times", str(cells.dtype))
    text = cells.str.strip_chars()
    if time_format:
        return _physical(text.str.to_datetime(time_format, time_unit="us", strict=False))
    times = _from_numbers(text.cast(pl.Int64, strict=False), unit)
    if times.null_count():
        times = times.fill_null(_from_numbers(text.cast(pl.Float64, strict=False), unit))
    if times.null_count():
        times = times.fill_null(_from_iso(text))
    return times


def _from_numbers(numbers: pl.Series, unit: Unit) -> pl.Series:
    if numbers.dtype.is_float():
        numbers = numbers.cast(pl.Float64)
        numbers = without(numbers, ~numbers.is_finite())
    elif numbers.dtype in _NARROW:
        numbers = numbers.cast(pl.Int64)
    times = _scaled(numbers, unit)
    is_long = numbers.is_between(10_000_000, 99_999_999)
    if numbers.dtype.is_float():
        is_long = is_long & (numbers == numbers.round())
    eight_digits = without(numbers, ~is_long).cast(pl.Int64).cast(pl.String)
    num_long = len(numbers) - eight_digits.null_count()
    if not num_long:
        return times
    days = eight_digits.str.to_datetime("%Y%m%d", time_unit="us", strict=False)
    if 2 * (len(days) - days.null_count()) < num_long:
        return times
    return pl.select(pl.when(is_long).then(_physical(days)).otherwise(times)).to_series()


def _scaled(numbers: pl.Series, unit: Unit) -> pl.Series:
    """Returns microseconds, Int64 [n], within `_FIRST` - 1 day and `_LAST` + 1 day."""
    low, high = _FIRST - _DAY, _LAST + _DAY
    if numbers.dtype in (pl.UInt64, pl.Int128, pl.UInt128):  # no Int64 holds them all
        numbers = numbers.cast(pl.Float64)
    if numbers.dtype.is_float():
        per_number = {"s": 1e6, "ms": 1e3, "us": 1.0, "ns": 1e-3}[unit]
        return (numbers * per_number).clip(low, high).round().cast(pl.Int64)
    numbers = numbers.cast(pl.Int64)
    if unit == "ns":
        return (numbers // 1000).clip(low, high)
    per_whole = {"s": _SECOND, "ms": 1000, "us": 1}[unit]
    return numbers.clip(low // per_whole, high // per_whole) * per_whole


def _from_iso(text: pl.Series) -> pl.Series:
    """Reads ISO 8601 text, zone and seconds optional; whatever else becomes null."""
    day, minute, second, zone = (pl.col(group) for group in ("1", "2", "3", "4"))
    full = pl.concat_str(
        day,
        pl.lit("T"),
        minute.fill_null("00:00"),
        # Six digits below the second: what the parser takes.
        second.str.replace(",", ".", literal=True).str.slice(0, 10).fill_null(":00"),
        pl.when(zone.str.contains(r"^[+-]\d\d$"))
        .then(zone + "00")
        .otherwise(zone.replace(["Z", "z", "UTC"], None))
        .fill_null("+0000"),
    )
    groups = pl.DataFrame({"text": text}).select(pl.col("text").str.extract_groups(_ISO_TIME))
    times = full.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%z", time_unit="us", strict=False)
    return _physical(groups.unnest("text").select(times).to_series())


def _physical(times: pl.Series) -> pl.Series:
    """Returns microseconds since 1970 of datetimes in UTC, with or without saying so."""
    return times.dt.replace_time_zone(None).to_physical()
