"""The times of events, in the forms of `tfrec.features.moments`, within bounds."""

from __future__ import annotations

from datetime import datetime

import polars as pl

from tfrec.data.parsing.checks import RowChecks
from tfrec.features.cells import without
from tfrec.features.moments import SECOND, Unit, to_moments

_EPOCH = datetime(1970, 1, 1)
_UNITS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}


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
    times = to_moments(checks, column, time_format, unit)
    wanted = f"a time (ISO 8601, as 2026-01-31T12:00:00, or {_UNITS[unit]} since 1970)"
    if time_format:
        wanted = f"a time of the form {time_format!r}"
    checks.reject(times.is_null(), column, wanted)
    is_outside = ~times.is_between(_microseconds(earliest), _microseconds(latest))
    bounds = " to ".join(bound.isoformat(" ", "seconds") for bound in (earliest, latest))
    checks.reject(is_outside, column, f"a time from {bounds} (numbers count {_UNITS[unit]})")
    return without(times, is_outside).cast(pl.Datetime("us"))


def _microseconds(moment: datetime) -> int:
    """Returns microseconds since 1970 of a moment without a zone."""
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * SECOND + since.microseconds
