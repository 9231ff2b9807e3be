"""What the cells of one column look like, as the parsers of the data read them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Literal

import numpy as np
import polars as pl

from tfrec.autoconfig import words
from tfrec.data.parsing.checks import Findings, RowChecks
from tfrec.data.parsing.times import Unit, to_times
from tfrec.data.reading.batch import RawBatch
from tfrec.features.cells import to_numbers, to_text

Form = Literal["empty", "number", "boolean", "time", "text", "list", "other"]

_LIKELY = 0.95
PER_SECOND: dict[Unit, int] = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
"""How many of each unit of numbers that are times make a second."""
# Numbers are times only where they are of our days: most others would be, too.
_OUR_DAYS = datetime(1990, 1, 1), datetime(2040, 1, 1)
_ALL_DAYS = datetime(1000, 1, 1), datetime(9999, 1, 1)
_TIME_FORMATS = (
    "%m/%d/%Y %I:%M:%S %p", "%m/%d/%Y %H:%M:%S", "%m/%d/%Y %H:%M", "%m/%d/%Y",
    "%m/%d/%y %H:%M", "%m/%d/%y",
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


@dataclass(frozen=True, eq=False)
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
        return to_text(_rows_of(self.known), "cells")

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
        if self.share(r"^0\d") < 0.02 and self.numbers.null_count() < 0.02 * len(self.known):
            return "number"
        return "text" if self.time_format is None else "time"

    @cached_property
    def numbers(self) -> pl.Series:
        """The known cells as numbers, null where they are none."""
        return to_numbers(_rows_of(self.known), "cells")

    @cached_property
    def time_format(self) -> str | None:
        """How text has to be read to be a time: empty for ISO 8601, None for what is no time."""
        if self.known.dtype != pl.String or self.numbers.null_count() < 0.5 * len(self.known):
            return None
        sample = self.known.head(1000)
        if self.share(r"\d") < _LIKELY or sample.str.contains(r"^.{41}").any():
            return None
        for form in ("", *_TIME_FORMATS):
            times = to_times(_rows_of(sample), "cells", *_ALL_DAYS, form or None)
            if times.null_count() <= (1 - _LIKELY) * len(times):
                return form
        return None

    @cached_property
    def time_unit(self) -> Unit | None:
        """The unit in which numbers are times of our days since 1970; None if they are none."""
        if self.form != "number":
            return None
        for unit in PER_SECOND:
            times = to_times(_rows_of(self.known), "cells", *_OUR_DAYS, None, unit)
            if times.null_count() <= 0.02 * len(times):
                return unit
        return None

    @cached_property
    def times(self) -> pl.Series:
        """The known cells as Datetime("us"), null where they are no times."""
        form = self.time_format if self.known.dtype == pl.String and not self.time_unit else None
        bounds = _OUR_DAYS if self.time_unit else _ALL_DAYS
        unit = self.time_unit or "s"
        return to_times(_rows_of(self.known), "cells", *bounds, form or None, unit)

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
        return len(self.raw) > 1 and self.distinct >= 0.98 * len(self.raw)

    @cached_property
    def is_id(self) -> bool:
        """Whether cells could be ids: whole numbers or short text in one piece."""
        if self.form == "number":
            return self.is_whole and (self.low >= 0 or self.has(words.ID))
        return self.form == "text" and self.share(r"^\S{1,64}$") > 0.99

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
        return as_float(self.text.str.count_matches(r"\S+").mean())

    @cached_property
    def is_flag(self) -> bool:
        """Whether cells are 0 and 1 or true and false."""
        if self.form == "boolean":
            return True
        return self.form == "number" and bool(self.numbers.is_in([0.0, 1.0]).all())

    @cached_property
    def is_url(self) -> bool:
        """Whether cells are addresses of pages or pictures."""
        return self.form == "text" and self.share(_URL) > 0.5

    @cached_property
    def personal(self) -> str:
        """What of a person the cells tell by their form or name; empty for nothing."""
        if self.form not in ("text", "number", "time") or self.is_url:
            return ""
        if self.share(_EMAIL) > 0.5:
            return "e-mail addresses"
        if self.share(_IP) > 0.5:
            return "network addresses"
        if self.has(words.PERSONAL):
            return f"the name says {self.name!r}"
        if not self.has_name and self.share(_POSTCODE) > 0.9 and self.share_distinct > 0.1:
            return "five digits, like postcodes"
        if self.form == "text" and self.share(_PHONE) > 0.9:
            return "like phone numbers"
        return ""

    def has(self, *groups: frozenset[str]) -> bool:
        """Tells whether its name holds a word of each group."""
        return all(any(word in group for word in self.words) for group in groups)

    def consists_of(self, *groups: frozenset[str]) -> bool:
        """Tells whether its name is made of words of these groups alone."""
        return bool(self.words) and set(self.words) <= frozenset().union(*groups)

    def share(self, pattern: str) -> float:
        """Returns the share of known cells that fit a pattern."""
        return as_float(self.text.str.contains(pattern).mean())


def as_float(value: object) -> float:
    """Returns a number that polars computed; 0 for what it says of no cells."""
    return float(value) if isinstance(value, int | float) else 0.0


def _rows_of(cells: pl.Series) -> RowChecks:
    """Returns rows whose one column is to be parsed; what does not fit becomes null."""
    frame = cells.alias("cells").to_frame()
    return RowChecks(RawBatch(frame, "", np.arange(len(cells))), "", Findings("collect"))
