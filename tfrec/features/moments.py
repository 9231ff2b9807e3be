"""Moments in the forms that tables have: datetimes, dates, ISO 8601 text, numbers, own formats.

Every moment becomes the same instant in UTC; one without a zone is taken as UTC.
"""

from __future__ import annotations

from typing import Literal

import polars as pl

from tfrec.features.cells import RawCells, plain_cells, without

_ISO_TIME = (
    r"^(\d{4}-\d{1,2}-\d{1,2})"
    r"(?:[Tt ](\d{1,2}:\d{2})(:\d{2}(?:[.,]\d+)?)?\s*([Zz]|UTC|[+-]\d{2}(?::?\d{2})?)?)?$"
)
SECOND = 1_000_000
DAY = 86_400 * SECOND
# Years 1 to 9999. A number beyond is moved a day beyond, where it is sure to be out of bounds.
FIRST, LAST = -62_135_596_800 * SECOND, 253_402_300_800 * SECOND - 1
# Too narrow for a day of eight digits, with which numbers are compared.
_NARROW = (pl.Int8, pl.Int16, pl.UInt8, pl.UInt16)

Unit = Literal["s", "ms", "us", "ns"]


def to_moments(cells: RawCells, column: str, time_format: str | None, unit: Unit) -> pl.Series:
    """Returns microseconds since 1970, Int64 [n]; null for what is no time."""
    raw = plain_cells(cells, column, "times")
    if raw.dtype == pl.Date or isinstance(raw.dtype, pl.Datetime):
        return raw.cast(pl.Datetime("us")).to_physical()
    if raw.dtype.is_decimal():
        raw = raw.cast(pl.Float64)
    if time_format and raw.dtype.is_integer():
        raw = raw.cast(pl.String)
    if raw.dtype.is_numeric():
        return _from_numbers(raw, unit)
    if raw.dtype != pl.String:
        raise cells.fail(column, "times", str(raw.dtype))
    text = raw.str.strip_chars()
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
    """Returns microseconds, Int64 [n], within `FIRST` - 1 day and `LAST` + 1 day."""
    low, high = FIRST - DAY, LAST + DAY
    if numbers.dtype in (pl.UInt64, pl.Int128, pl.UInt128):  # no Int64 holds them all
        numbers = numbers.cast(pl.Float64)
    if numbers.dtype.is_float():
        per_number = {"s": 1e6, "ms": 1e3, "us": 1.0, "ns": 1e-3}[unit]
        return (numbers * per_number).clip(low, high).round().cast(pl.Int64)
    numbers = numbers.cast(pl.Int64)
    if unit == "ns":
        return (numbers // 1000).clip(low, high)
    per_whole = {"s": SECOND, "ms": 1000, "us": 1}[unit]
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
