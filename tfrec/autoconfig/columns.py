"""What the cells of one column look like."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import polars as pl

from tfrec.autoconfig import words

Form = Literal["empty", "number", "boolean", "time", "text", "list", "other"]

_LIKELY = 0.95
# Years 1990 to 2040 in seconds.
_FIRST_SECOND, _LAST_SECOND = 631_152_000, 2_208_988_800
_UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_ISO = (
    r"^\d{4}-\d{1,2}-\d{1,2}([T ]\d{1,2}:\d{2}(:\d{2}([.,]\d+)?)?\s*(Z|UTC|[+-]\d{2}(:?\d{2})?)?)?$"
)
_TIME_FORMATS = (
    "%m/%d/%Y %I:%M:%S %p", "%m/%d/%Y %H:%M:%S", "%m/%d/%Y %H:%M", "%m/%d/%Y",
    "%d/%m/%Y %H:%M:%S", "%d/%m/%Y %H:%M", "%d/%m/%Y", "%d.%m.%Y %H:%M:%S", "%d.%m.%Y %H:%M",
    "%d.%m.%Y", "%Y/%m/%d %H:%M:%S", "%Y/%m/%d %H:%M", "%Y/%m/%d", "%d-%b-%Y %H:%M:%S",
    "%d-%b-%Y", "%d %b %Y", "%b %d, %Y", "%B %d, %Y", "%d-%m-%Y %H:%M:%S", "%d-%m-%Y",
    "%m %d, %Y", "%a %b %d %H:%M:%S %Y", "%Y%m%d%H%M%S", "%d/%b/%Y:%H:%M:%S %z",
)  # fmt: skip
_URL = r"^(https?://|www\.|//)\S+$|\.(jpg|jpeg|png|gif|webp)$"
_EMAIL = r"^[^@\s]+@[^@\s]+\.[A-Za-z]{2,}$"
_PHONE = r"^\+?\d[\d ()./-]{7,}\d$"
_POSTCODE = r"^\d{5}(-\d{4})?$"
_IP = r"^\d{1,3}(\.\d{1,3}){3}$"


@dataclass(frozen=True)
class Column:
    """One column of the first rows of a table.

    Attributes:
        name: Its name.
        raw: Its cells; text is null where empty.
        has_name: Whether the file gives it that name.
    """

    name: str
    raw: pl.Series
    has_name: bool = True

    @cached_property
    def words(self) -> list[str]:
        """The words of its name; none where the file has no names."""
        return words.words_of(self.name) if self.has_name else []

    @cached_property
    def known(self) -> pl.Series:
        """The cells that are not empty."""
        cells = self.raw.drop_nulls()
        return cells.drop_nans() if cells.dtype.is_float() else cells

    @cached_property
    def text(self) -> pl.Series:
        """The known cells as text."""
        if self.known.dtype.is_nested() or self.known.dtype in (pl.Object, pl.Binary):
            return pl.Series([], dtype=pl.String)
        if self.known.dtype.is_float():
            return self.known.cast(pl.String).str.replace(r"\.0$", "")
        return self.known.cast(pl.String)

    @cached_property
    def distinct(self) -> int:
        """Different known cells."""
        return self.known.n_unique() if not self.known.dtype.is_nested() else len(self.known)

    @property
    def share_distinct(self) -> float:
        """Different cells by known ones; 1 where none stands twice."""
        return self.distinct / max(len(self.known), 1)

    @cached_property
    def form(self) -> Form:
        """What the cells are, whatever their storage."""
        dtype = self.known.dtype
        if not len(self.known):
            return "empty"
        if isinstance(dtype, pl.List):
            return "list"
        if dtype == pl.Boolean:
            return "boolean"
        if dtype == pl.Date or isinstance(dtype, pl.Datetime):
            return "time"
        if dtype.is_numeric():
            return "number"
        if dtype != pl.String:
            return "other"
        if self.known.str.to_lowercase().is_in(["true", "false"]).all():
            return "boolean"
        if self._matches(r"^0\d") < 0.02 and self.numbers.null_count() < 0.02 * len(self.known):
            return "number"
        return "time" if self._matches(_ISO) >= _LIKELY or self.time_format else "text"

    @cached_property
    def numbers(self) -> pl.Series:
        """The known cells as numbers, null where they are none."""
        numbers = self.known.cast(pl.Float64, strict=False)
        return numbers.set(~numbers.is_finite().fill_null(True), None)

    @cached_property
    def time_format(self) -> str | None:
        """How text has to be read to be a time; None for ISO 8601 and for what is no time."""
        if self.known.dtype != pl.String or self._matches(_ISO) >= _LIKELY:
            return None
        sample = self.known.head(1000)
        if self._matches(r"\d") < _LIKELY or sample.str.contains(r"^.{41}").any():
            return None
        for form in _TIME_FORMATS:
            times = sample.str.to_datetime(form, time_unit="us", strict=False)
            if len(times.drop_nulls()) >= _LIKELY * len(sample):
                return form
        return None

    @cached_property
    def time_unit(self) -> str | None:
        """The unit in which numbers are times of our days since 1970; None if they are none."""
        if self.form != "number" or not self.is_whole:
            return None
        low, high = (as_float(self.numbers.quantile(share)) for share in (0.01, 0.99))
        for unit, size in _UNITS.items():
            if _FIRST_SECOND * size <= low and high < _LAST_SECOND * size:
                return unit
        is_days = self.text.str.to_datetime("%Y%m%d", strict=False).null_count() == 0
        return "s" if is_days and low >= 19_900_101 and high < 20_400_101 else None

    @cached_property
    def times(self) -> pl.Series:
        """The known cells as Datetime("us"), null where they are no times."""
        dtype = self.known.dtype
        if dtype == pl.Date or isinstance(dtype, pl.Datetime):
            times = self.known.cast(pl.Datetime("us", getattr(dtype, "time_zone", None)))
            return times.dt.replace_time_zone(None)
        if self.time_unit:
            if self.high < 20_400_101:
                return self.text.str.to_datetime("%Y%m%d", time_unit="us", strict=False)
            micros = self.numbers * (10**6 / _UNITS[self.time_unit])
            return micros.cast(pl.Int64).cast(pl.Datetime("us"))
        if dtype != pl.String:
            return pl.Series([], dtype=pl.Datetime("us"))
        if self.time_format:
            return _plain(self.known.str.to_datetime(self.time_format, strict=False))
        iso = self.known.str.extract(r"^(\d{4}-\d{1,2}-\d{1,2}(?:[T ]\d{1,2}:\d{2}(?::\d{2})?)?)")
        iso = iso.str.replace("T", " ", literal=True)
        parts = [iso.str.to_datetime(form, time_unit="us", strict=False) for form in
                 ("%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%d")]  # fmt: skip
        return parts[0].fill_null(parts[1]).fill_null(parts[2])

    @cached_property
    def is_whole(self) -> bool:
        """Whether all known cells are whole numbers."""
        if self.form != "number":
            return False
        numbers = self.numbers.drop_nulls()
        return bool((numbers == numbers.round()).all())

    @cached_property
    def is_unique(self) -> bool:
        """Whether hardly a cell stands twice and hardly one is empty."""
        rows = len(self.raw)
        return rows > 1 and self.distinct >= 0.98 * rows

    @cached_property
    def is_id(self) -> bool:
        """Whether cells could be ids: whole numbers or short text in one piece."""
        if self.form == "number":
            return self.is_whole and self.low >= 0
        return self.form == "text" and self._matches(r"^\S{1,64}$") > 0.99

    @cached_property
    def low(self) -> float:
        """The least number; 0 for other cells."""
        return as_float(self.numbers.min()) if self.form == "number" else 0.0

    @cached_property
    def high(self) -> float:
        """The greatest number; 0 for other cells."""
        return as_float(self.numbers.max()) if self.form == "number" else 0.0

    @cached_property
    def num_words(self) -> float:
        """Words of a cell, on average."""
        counts = self.text.str.count_matches(r"\S+")
        return as_float(counts.mean())

    @cached_property
    def is_flag(self) -> bool:
        """Whether cells are 0 and 1 or true and false."""
        if self.form == "boolean":
            return True
        return self.form == "number" and bool(self.numbers.is_in([0.0, 1.0]).all())

    @cached_property
    def is_url(self) -> bool:
        """Whether cells are addresses of pages or pictures."""
        return self.form == "text" and self._matches(_URL) > 0.5

    @cached_property
    def personal(self) -> str:
        """What of a person the cells tell by their form or name; empty for nothing."""
        if self.form not in ("text", "number", "time") or self.is_url:
            return ""
        if self._matches(_EMAIL) > 0.5:
            return "e-mail addresses"
        if self._matches(_IP) > 0.5:
            return "network addresses"
        if any(word in words.PERSONAL for word in self.words):
            return f"the name says {self.name!r}"
        if not self.has_name and self._matches(_POSTCODE) > 0.9 and self.share_distinct > 0.1:
            return "five digits, like postcodes"
        if self.form == "text" and self._matches(_PHONE) > 0.9:
            return "like phone numbers"
        return ""

    def has(self, *groups: frozenset[str]) -> bool:
        """Tells whether its name holds a word of each group."""
        return all(any(word in group for word in self.words) for group in groups)

    def consists_of(self, *groups: frozenset[str]) -> bool:
        """Tells whether its name is made of words of these groups alone."""
        known = frozenset().union(*groups)
        return bool(self.words) and all(word in known for word in self.words)

    def _matches(self, pattern: str) -> float:
        """Returns the share of known cells that fit a pattern."""
        if not len(self.text):
            return 0.0
        return as_float(self.text.str.contains(pattern).mean())


def as_float(value: object) -> float:
    """Returns a number that polars computed; 0 for what it says of no cells."""
    return float(value) if isinstance(value, int | float) else 0.0


def columns_of(frame: pl.DataFrame, has_names: bool = True) -> dict[str, Column]:
    """Describes each column of a frame."""
    return {
        name: Column(name, frame[name], has_names or not re.fullmatch(r"column_\d+", name))
        for name in frame.columns
    }


def _plain(times: pl.Series) -> pl.Series:
    return times.dt.replace_time_zone(None).cast(pl.Datetime("us"))
