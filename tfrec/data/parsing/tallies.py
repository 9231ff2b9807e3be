"""Statistics of values that come in parts, in memory that does not grow."""

from __future__ import annotations

import math

import numpy as np
import polars as pl

MAX_EXACT_DISTINCT = 50_000
_MAX_COUNTED = 2_000
_MAX_TIED_VALUES = 100
_HASH_RANGE = 2.0**64


class Moments:
    """Number, mean and variance of values that come in parts.

    Source: Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm for computing sample
    variances", 1979, equation 2.1.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean = 0.0
        self._squares = 0.0
        self.low = math.inf
        self.high = -math.inf

    def add(self, values: np.ndarray) -> None:
        """Counts float64 [n], all finite."""
        count = len(values)
        if not count:
            return
        mean = float(values.mean())
        squares = float(np.square(values - mean).sum())
        total = self.count + count
        difference = mean - self.mean
        self._squares += squares + difference**2 * self.count * count / total
        self.mean += difference * count / total
        self.count = total
        self.low = min(self.low, float(values.min()))
        self.high = max(self.high, float(values.max()))

    @property
    def std(self) -> float:
        """Standard deviation of the values, not of a sample (divisor: their number)."""
        return math.sqrt(self._squares / self.count) if self.count else 0.0

    def range(self) -> dict[str, float | None]:
        """Returns min, mean and max; None without values."""
        if not self.count:
            return {"min": None, "mean": None, "max": None}
        return {"min": self.low, "mean": self.mean, "max": self.high}


class Correlation:
    """Pearson correlation of pairs that come in parts."""

    def __init__(self) -> None:
        self._first = Moments()
        self._second = Moments()
        self._together = 0.0

    def add(self, first: np.ndarray, second: np.ndarray) -> None:
        """Counts pairs: float64 [n] each, all finite."""
        count, before = len(first), self._first.count
        if not count:
            return
        means = float(first.mean()), float(second.mean())
        self._together += float(((first - means[0]) * (second - means[1])).sum())
        differences = (means[0] - self._first.mean) * (means[1] - self._second.mean)
        self._together += differences * before * count / (before + count)
        self._first.add(first)
        self._second.add(second)

    @property
    def value(self) -> float | None:
        """In [-1, 1]; None where one side does not vary."""
        count = self._first.count
        spread = self._first.std * self._second.std * count
        return self._together / spread if spread > 0 else None


class DistinctCount:
    """Number of distinct values: exact up to `limit`, above estimated from the smallest hashes.

    Source: Bar-Yossef et al., "Counting distinct elements in a data stream", 2002, algorithm 2:
    with h the k-th smallest of the hashes, spread evenly over [0, 1), (k - 1) / h values differ.
    The relative error is about 1 / sqrt(k), half a percent for k = 50,000.
    """

    def __init__(self, limit: int = MAX_EXACT_DISTINCT) -> None:
        self._limit = limit
        self._hashes = np.zeros(0, np.uint64)
        self.is_exact = True

    def add(self, values: pl.Series) -> None:
        """Counts values, none of them null."""
        hashes = values.hash()
        if not self.is_exact:
            hashes = hashes.filter(hashes < self._hashes[-1])
        both = pl.concat([pl.Series(self._hashes), hashes.rename("")])
        merged = both.unique().sort().to_numpy()
        self.is_exact &= len(merged) <= self._limit
        self._hashes = merged[: self._limit]

    @property
    def count(self) -> int:
        """Distinct values."""
        if self.is_exact:
            return len(self._hashes)
        return round((self._limit - 1) / (float(self._hashes[-1]) / _HASH_RANGE))


class FrequentValues:
    """The most frequent values with their counts.

    With more than `limit` distinct values, rare ones are given up: a count is then too low by at
    most `error`, which is at most the number of values / `limit`.

    Source: Agarwal et al., "Mergeable summaries", 2012, section 3.
    """

    def __init__(self, limit: int = _MAX_COUNTED) -> None:
        self._limit = limit
        self._counts = pl.DataFrame(schema={"value": pl.String, "count": pl.Int64})
        self.error = 0

    def add(self, counts: pl.DataFrame) -> None:
        """Adds counts: distinct values in `value` (String), how often in `count` (Int64)."""
        both = pl.concat([self._counts, self._shorten(counts)])
        self._counts = self._shorten(both.group_by("value").agg(pl.col("count").sum()))

    def top(self, number: int) -> list[tuple[str, int]]:
        """Returns values that certainly are frequent, most frequent first."""
        certain = self._counts.filter(pl.col("count") > self.error)
        ordered = certain.sort(["count", "value"], descending=[True, False]).head(number)
        return list(ordered.iter_rows())

    def _shorten(self, counts: pl.DataFrame) -> pl.DataFrame:
        """Takes from all counts the first one that is too many, which leaves at most `limit`."""
        if counts.height <= self._limit:
            return counts
        given_up = int(counts["count"].top_k(self._limit + 1)[-1])
        self.error += given_up
        return counts.with_columns(pl.col("count") - given_up).filter(pl.col("count") > 0)


class LabelTie:
    """How closely a column goes with the label, 0 or 1, of the same row.

    Text columns with many values are given up: a value of few rows explains its label by chance.
    """

    def __init__(self) -> None:
        self._numbers = Correlation()
        self._known = Correlation()
        self._counts: pl.DataFrame | None = pl.DataFrame(
            schema={"value": pl.String, "rows": pl.Int64, "positive": pl.Int64}
        )

    def add(self, values: pl.Series, label: pl.Series) -> None:
        """Counts the rows that have a label."""
        has_label = label.is_not_null()
        values, label = values.filter(has_label), label.filter(has_label)
        labels = label.to_numpy().astype(np.float64)
        if values.dtype.is_numeric():
            numbers = values.cast(pl.Float64).fill_null(math.nan).to_numpy()
            is_known = np.isfinite(numbers)
            self._numbers.add(numbers[is_known], labels[is_known])
        elif values.dtype == pl.String:
            is_known = (values.fill_null("") != "").to_numpy()
            if self._counts is not None:
                self._count(values, label)
        else:
            is_known = values.is_not_null().to_numpy()
        self._known.add(is_known.astype(np.float64), labels)

    def to_dict(self) -> dict[str, float | None]:
        """Returns what `TableProfile.to_dict` says of ``label_tie``."""
        return {
            "correlation": self._numbers.value,
            "known_correlation": self._known.value,
            "explained": self._explained(),
        }

    def _count(self, values: pl.Series, label: pl.Series) -> None:
        assert self._counts is not None
        rows = pl.DataFrame({"value": values, "label": label}).drop_nulls("value")
        rows = rows.filter(pl.col("value") != "")
        new = rows.group_by("value").agg(
            pl.len().cast(pl.Int64).alias("rows"),
            pl.col("label").cast(pl.Int64).sum().alias("positive"),
        )
        counts = pl.concat([self._counts, new])
        counts = counts.group_by("value").agg(pl.col("rows").sum(), pl.col("positive").sum())
        self._counts = counts if counts.height <= _MAX_TIED_VALUES else None

    def _explained(self) -> float | None:
        """Returns 1 - errors of each value's majority / errors of the overall majority."""
        if self._counts is None or not self._counts.height:
            return None
        rows, positive = (self._counts[name].to_numpy() for name in ("rows", "positive"))
        by_chance = min(positive.sum(), (rows - positive).sum())
        if not by_chance:
            return None
        return float(1 - np.minimum(positive, rows - positive).sum() / by_chance)
