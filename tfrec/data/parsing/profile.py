"""What the columns of a table hold, measured batch by batch in memory that does not grow.

Every number is exact, with two exceptions: distinct values beyond `MAX_EXACT_DISTINCT` are
estimated (which is said), and counts of frequent values in columns of very many values may be a
little low.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import polars as pl

from tfrec.data.parsing.tallies import DistinctCount, FrequentValues, LabelTie, Moments
from tfrec.schema import Columns

_MAX_SHOWN = 5
_MAX_VALUE_CHARS = 40

# Columns of typed events that are no context features.
_DECLARED = (
    Columns.USER_ID, Columns.ITEM_ID, Columns.TIME, "sequence", Columns.LABEL, Columns.WEIGHT,
    Columns.IS_RANKED, Columns.IS_TARGET, Columns.QUERY, Columns.POSITION, Columns.WATCH_TIME,
    Columns.IMPRESSION, Columns.TRUE_PROBABILITY, Columns.SPLIT, Columns.RATING,
)  # fmt: skip

Facts = dict[str, Any]


class TableProfile:
    """Statistics of each column of a typed table.

    Events also get, for each context feature, how closely it goes with the label.
    """

    def __init__(self) -> None:
        self._columns: dict[str, _Column] = {}
        self._ties: dict[str, LabelTie] = {}

    def add(self, frame: pl.DataFrame) -> None:
        """Counts the rows of a batch; all batches have the same columns."""
        for name in frame.columns:
            values = frame[name]
            if name not in self._columns:
                self._columns[name] = _new_column(values.dtype)
            self._columns[name].add(values)
            if Columns.LABEL in frame.columns and name not in _DECLARED:
                tie = self._ties.setdefault(name, LabelTie())
                tie.add(values, frame[Columns.LABEL])

    def to_dict(self) -> dict[str, Facts]:
        """Returns the facts of each column in a form that JSON can hold.

        Every column has ``kind``, ``rows`` and ``unknown`` (null, NaN, "" or an empty list):

        - ``number``: min, max, mean, std.
        - ``boolean``: rate, the share of true.
        - ``time``: first, last (ISO 8601) and at_midnight, a count.
        - ``text``: chars (min, mean, max), distinct, is_distinct_exact, most_frequent (value and
          count of at most five).
        - ``list``: size (min, mean, max) and, of the elements, distinct, is_distinct_exact,
          most_frequent.
        - ``vector``: size (min, max), norm (min, max), zero (count of vectors without length).

        ``label_tie`` of context features: the correlation of a number with the label, that of being
        known with it (known_correlation), and for texts of few values the share of the errors of
        always guessing the commoner label that guessing by value avoids (explained).
        """
        facts = {name: column.to_dict() for name, column in self._columns.items()}
        for name, tie in self._ties.items():
            facts[name]["label_tie"] = tie.to_dict()
        return facts


class _Column(Protocol):
    def add(self, values: pl.Series) -> None: ...

    def to_dict(self) -> Facts: ...


def _new_column(dtype: pl.DataType) -> _Column:
    if dtype == pl.Boolean:
        return _Booleans()
    if dtype.is_numeric():
        return _Numbers()
    if dtype.is_temporal():
        return _Times()
    if isinstance(dtype, pl.List | pl.Array):
        inner = dtype.inner
        is_vector = isinstance(inner, pl.DataType) and inner.is_numeric()
        return _Vectors() if is_vector else _Lists()
    return _Texts()


class _Values:
    """Distinct and frequent values of a column of texts."""

    def __init__(self) -> None:
        self._distinct = DistinctCount()
        self._frequent = FrequentValues()

    def add(self, values: pl.Series) -> None:
        counts = values.alias("value").value_counts().cast({"count": pl.Int64})
        self._distinct.add(counts["value"])
        self._frequent.add(counts)

    def to_dict(self) -> Facts:
        return {
            "distinct": self._distinct.count,
            "is_distinct_exact": self._distinct.is_exact,
            "most_frequent": [
                [_shorten(value), count] for value, count in self._frequent.top(_MAX_SHOWN)
            ],
        }


class _Numbers:
    def __init__(self) -> None:
        self._rows = 0
        self._moments = Moments()

    def add(self, values: pl.Series) -> None:
        self._rows += len(values)
        self._moments.add(_finite(values))

    def to_dict(self) -> Facts:
        moments = self._moments
        unknown = self._rows - moments.count
        facts = {"kind": "number", "rows": self._rows, "unknown": unknown, **moments.range()}
        return facts | {"std": moments.std if moments.count else None}


class _Booleans:
    def __init__(self) -> None:
        self._rows = 0
        self._known = 0
        self._true = 0

    def add(self, values: pl.Series) -> None:
        self._rows += len(values)
        self._known += len(values) - values.null_count()
        self._true += int(values.sum() or 0)

    def to_dict(self) -> Facts:
        rate = self._true / self._known if self._known else None
        unknown = self._rows - self._known
        return {"kind": "boolean", "rows": self._rows, "unknown": unknown, "rate": rate}


class _Times:
    def __init__(self) -> None:
        self._rows = 0
        self._known = 0
        self._at_midnight = 0
        self._bounds: list[Any] = []

    def add(self, values: pl.Series) -> None:
        times = values.drop_nulls().cast(pl.Datetime("us"))
        self._rows += len(values)
        self._known += len(times)
        if not len(times):
            return
        day = 24 * 3600 * 1_000_000
        self._at_midnight += int((times.to_physical() % day == 0).sum())
        bounds = [*self._bounds, times.min(), times.max()]
        self._bounds = [min(bounds), max(bounds)]

    def to_dict(self) -> Facts:
        first, last = [time.isoformat(" ") for time in self._bounds] or (None, None)
        return {
            "kind": "time",
            "rows": self._rows,
            "unknown": self._rows - self._known,
            "first": first,
            "last": last,
            "at_midnight": self._at_midnight,
        }


class _Texts:
    def __init__(self) -> None:
        self._rows = 0
        self._chars = Moments()
        self._values = _Values()

    def add(self, values: pl.Series) -> None:
        self._rows += len(values)
        known = values.drop_nulls().cast(pl.String)
        known = known.filter(known != "")
        self._chars.add(known.str.len_chars().to_numpy().astype(np.float64))
        self._values.add(known)

    def to_dict(self) -> Facts:
        return {
            "kind": "text",
            "rows": self._rows,
            "unknown": self._rows - self._chars.count,
            "chars": _whole(self._chars.range()),
            **self._values.to_dict(),
        }


class _Lists:
    def __init__(self) -> None:
        self._rows = 0
        self._sizes = Moments()
        self._values = _Values()

    def add(self, values: pl.Series) -> None:
        self._rows += len(values)
        known = _filled(values)
        self._sizes.add(known.list.len().to_numpy().astype(np.float64))
        self._values.add(known.explode().drop_nulls().cast(pl.String))

    def to_dict(self) -> Facts:
        return {
            "kind": "list",
            "rows": self._rows,
            "unknown": self._rows - self._sizes.count,
            "size": _whole(self._sizes.range()),
            **self._values.to_dict(),
        }


class _Vectors:
    def __init__(self) -> None:
        self._rows = 0
        self._sizes = Moments()
        self._norms = Moments()
        self._zero = 0

    def add(self, values: pl.Series) -> None:
        self._rows += len(values)
        known = _filled(values)
        if not len(known):
            return
        sizes = known.list.len().to_numpy()
        numbers = known.explode().to_numpy().astype(np.float64)
        starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
        norms = np.sqrt(np.add.reduceat(np.square(numbers), starts))
        self._sizes.add(sizes.astype(np.float64))
        self._norms.add(norms[np.isfinite(norms)])
        self._zero += int((norms == 0).sum())

    def to_dict(self) -> Facts:
        return {
            "kind": "vector",
            "rows": self._rows,
            "unknown": self._rows - self._sizes.count,
            "size": _whole(self._sizes.range()),
            "norm": self._norms.range(),
            "zero": self._zero,
        }


def _finite(values: pl.Series) -> np.ndarray:
    numbers = values.drop_nulls().cast(pl.Float64).to_numpy()
    return numbers[np.isfinite(numbers)]


def _filled(values: pl.Series) -> pl.Series:
    """Returns the lists that hold something."""
    if isinstance(values.dtype, pl.Array):
        values = values.arr.to_list()
    known = values.drop_nulls()
    return known.filter(known.list.len() > 0)


def _whole(bounds: Facts) -> Facts:
    """Returns bounds of counts: min and max as whole numbers."""
    if bounds["min"] is None:
        return bounds
    return bounds | {"min": int(bounds["min"]), "max": int(bounds["max"])}


def _shorten(value: str) -> str:
    return value if len(value) <= _MAX_VALUE_CHARS else value[:_MAX_VALUE_CHARS] + "..."
