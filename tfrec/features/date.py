"""Dates and times: numbers of days."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from tfrec.features.cells import RawCells, plain_cells, without
from tfrec.features.feature_type import FeatureInput
from tfrec.features.moments import DAY, FIRST, LAST, to_moments
from tfrec.features.number import Number


@dataclass(frozen=True)
class Date(Number):
    """A date or time; a number of days since 1970-01-01 in all but its raw cells.

    >>> since = Date("since").fit(pl.Series([20000.0, 20002.0]))
    >>> since.encode_column(pl.Series([20001.5, None])).tolist()
    [[0.5, 0.0], [0.0, 1.0]]
    """

    uses: ClassVar[frozenset[str]] = frozenset({"context"})

    def parse(self, cells: RawCells) -> pl.Series:
        """Reads dates, times, ISO 8601 text or seconds since 1970; empty cells are unknown.

        Returns:
            Float64 [n], days since 1970-01-01; null where unknown.
        """
        times = to_moments(cells, self.name, None, "s")
        raw = cells.frame[self.name]
        is_known = raw.is_not_null()
        if raw.dtype in (pl.String, pl.Categorical, pl.Enum, pl.Binary):
            text = plain_cells(cells, self.name, "dates").str.strip_chars()
            is_known = is_known & (text != "")
        elif raw.dtype.is_float():
            is_known = is_known & raw.is_not_nan()
        bad = is_known & (times.is_null() | ~times.is_between(FIRST, LAST))
        cells.blank(bad, self.name, "a date (ISO 8601, as 2026-01-31, or seconds since 1970)")
        return without(times, bad).cast(pl.Float64) / DAY

    def signature(self) -> FeatureInput:
        """Says what a request brings."""
        meaning = f"Date {self.name!r} in days since 1970-01-01; NaN for unknown."
        return FeatureInput("float32", [None], meaning, float("nan"))
