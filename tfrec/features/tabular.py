"""Categories, numbers, lists and vectors as arrays: learned on train, the same in graph and numpy.

A `FeatureEncoder` turns one raw column into the array that a tower reads, either from a polars
series (`encode_column`, for training) or from the tensor of a request (`encode_tensor`, inside the
exported graph). Index 0 always stands for "unknown".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from tfrec.config import Feature, Features, FeatureType
from tfrec.features.numbers import (
    SMALLEST_NUMBER,
    finite_numbers,
    known_numbers,
    learn_numbers,
    scale_numbers,
)

if TYPE_CHECKING:
    import tensorflow as tf


# Bounds that keep one absurd value of a request from overflowing a tower.
_MAX_NUMBER = 10.0
_MAX_VECTOR = 1e6
# Values that preparation finds and puts into a column beside the raw one, see `filled_column`.
_FILLED_WHEN_PREPARED = ("interpolate", "nearest")


@dataclass(frozen=True)
class FeatureEncoder:
    """What was learned about one feature.

    Attributes:
        name: Column, and key in requests.
        type: One of the configuration's feature types; a date is a number of days.
        scale: ``linear`` or ``log`` (numbers).
        vocabulary: Known values of a category, in index order from 1 on.
        mean: Of the known numbers, after `low`, `high` and `scale`.
        std: Of the same; 1 for a constant.
        size: Length of a vector.
        missing: The declared method for missing values.
        fill: Stands for a missing value, a raw number or a value of the vocabulary; None: a
            missing number is encoded as the mean and a missing category as index 0.
        indicator: Whether an encoded number says that it was missing.
        low, high: Raw numbers beyond are moved here; None: no bounds.
        oov_buckets: Indices behind the vocabulary that values outside of it share by hash.
    """

    name: str
    type: FeatureType
    scale: str = "linear"
    vocabulary: list[str] = field(default_factory=list)
    mean: float = 0.0
    std: float = 1.0
    size: int = 0
    missing: str = "unknown"
    fill: float | str | None = None
    indicator: bool = True
    low: float | None = None
    high: float | None = None
    oov_buckets: int = 0

    @classmethod
    def fit(cls, name: str, declared: Feature, column: pl.Series) -> FeatureEncoder:
        """Learns from a column of training rows: vocabulary, moments, bounds, fill or size.

        With nothing known in `column`, a missing number has no fill: no scale is known to put it
        on.
        """
        kind, missing = declared.type, declared.missing
        if kind == "vector":
            lengths = column.list.len().drop_nulls()
            return cls(name, kind, size=int(lengths[0]) if lengths.len() else 0)
        if kind not in ("category", "category_list"):
            unknown = cls(
                name,
                kind,
                scale=declared.scale,
                missing=missing.method,
                indicator=missing.indicator,
            )
            numbers, is_known = known_numbers(column)
            if not is_known.any():
                return unknown
            learned: dict[str, Any] = learn_numbers(declared, numbers[is_known])
            return dataclasses.replace(unknown, **learned)
        values = column.explode() if kind == "category_list" else column
        counts = (
            values.drop_nulls().alias("value").value_counts().filter(
                (pl.col("value") != "") & (pl.col("count") >= declared.min_count)
            )
        )  # fmt: skip
        vocabulary, fill = set(counts["value"]), None
        if missing.method == "constant":
            fill = str(missing.value)
            vocabulary.add(fill)
        elif missing.method == "most_frequent" and vocabulary:  # of several, the first in order
            fill = counts.sort("count", "value", descending=[True, False])["value"][0]
        return cls(
            name,
            kind,
            vocabulary=sorted(vocabulary),
            missing=missing.method,
            fill=fill,
            oov_buckets=declared.oov_buckets,
        )

    @property
    def is_category(self) -> bool:
        """Whether values are looked up in a vocabulary."""
        return self.type in ("category", "category_list")

    @property
    def is_number(self) -> bool:
        """Whether values are numbers, dates among them."""
        return self.type in ("number", "date")

    @property
    def num_rows(self) -> int:
        """Rows of an embedding table of a category: unknown, vocabulary, buckets."""
        return 1 + len(self.vocabulary) + self.oov_buckets if self.is_category else 0

    @property
    def width(self) -> int:
        """Numbers in an encoded row of a number or vector."""
        return 2 if self.is_number else self.size

    def encode_column(self, column: pl.Series, filled: pl.Series | None = None) -> np.ndarray:
        """Encodes n rows.

        Args:
            column: Raw values.
            filled: Numbers that stand for missing ones, as preparing finds them; null where
                `fill` does. What is missing in `column` stays marked as missing.

        Returns:
            category: int32 [n]: 1 to V of the vocabulary, then the buckets; 0, or the fill's index,
                for null, "" and, without buckets, values out of the vocabulary.
            category_list: int32 [n, longest], likewise, padded with 0.
            number, date: float32 [n, 2], the value moved into [`low`, `high`], scaled and
                standardised, at most 10 deviations from the mean; 0, or the standardised fill, and
                1.0 (with `indicator`) where unknown: null, NaN, infinite or 0.
            vector: float32 [n, size], zeros where null or NaN, entries in [-1e6, 1e6].
        """
        if self.is_number:
            return self._encode_numbers(column, filled)
        if self.type == "vector":
            rows = np.zeros((len(column), self.size), np.float32)
            is_known = self._is_vector(column)
            if self.size and is_known.any():
                known = column.filter(is_known).explode().to_numpy().astype(np.float32)
                rows[is_known.to_numpy()] = known.reshape(-1, self.size)
            finite = np.where(np.isfinite(rows), rows, np.float32(0))
            return np.clip(finite, -_MAX_VECTOR, _MAX_VECTOR)
        if self.type == "category":
            return self._look_up(column)
        lengths = column.list.len().fill_null(0).to_numpy()
        encoded = np.zeros((len(column), max(1, int(lengths.max(initial=0)))), np.int32)
        is_cell = np.arange(encoded.shape[1]) < lengths[:, None]
        non_empty = column.filter(column.list.len() > 0)
        if len(non_empty):
            encoded[is_cell] = self._look_up(non_empty.explode())
        return encoded

    def encode_tensor(self, tensor: tf.Tensor, table: Any) -> tf.Tensor:
        """Encodes the values of requests; `table` maps text to index (categories only).

        Args:
            tensor: category: string [batch]. category_list: string [batch, n], "" pads.
                number, date: float32 [batch], 0 for unknown. vector: float32 [batch, size].
            table: Lookup table from value to int32 index, 0 for unknown; None for numbers and
                vectors.

        Returns:
            The same arrays as `encode_column`.
        """
        import tensorflow as tf

        if self.type == "vector":
            finite = tf.where(tf.math.is_finite(tensor), tensor, 0.0)
            return tf.clip_by_value(finite, -_MAX_VECTOR, _MAX_VECTOR)
        if self.is_category:
            found = table.lookup(tensor)
            if self.oov_buckets:
                is_outside = (found == 0) & (tensor != "")
                found = tf.where(is_outside, self._hash(tensor), found)
            return tf.where(found == 0, self._fill_index, found) if self._fill_index else found
        # In float64, as numpy computes: days since 1970 lose their digits in float32.
        values = tf.cast(tensor, tf.float64)
        is_known = tf.math.is_finite(values) & (tf.abs(values) >= SMALLEST_NUMBER)
        values = tf.where(is_known, values, 0.0)
        if self.low is not None:
            values = tf.clip_by_value(values, self.low, self.high)
        scaled = tf.sign(values) * tf.math.log1p(tf.abs(values)) if self.scale == "log" else values
        standardised = (scaled - self.mean) / self.std
        bounded = tf.clip_by_value(standardised, -_MAX_NUMBER, _MAX_NUMBER)
        number = tf.cast(tf.where(is_known, bounded, self._fill_number), tf.float32)
        unknown = ~is_known if self.indicator else tf.zeros_like(is_known)
        return tf.stack([number, tf.cast(unknown, tf.float32)], axis=-1)

    def unknown_row(self) -> np.ndarray:
        """Encodes one row of which nothing is known; the first dimension is 1."""
        null = pl.Series([None], dtype=_COLUMN_TYPES[self.type])
        return self.encode_column(null.fill_null([]) if self.type == "category_list" else null)

    def describe(self, column: pl.Series, filled: pl.Series | None = None) -> dict[str, Any]:
        """Counts what encoding changes in a column, and says what was learned.

        Returns:
            ``missing`` counts rows. Numbers: ``filled`` (missing rows with a value in `filled`),
            ``clipped`` (outside of `low` and `high`), ``bounded`` (still more than 10 deviations
            from the mean), ``mean``, ``std``, ``low``, ``high``, ``fill``. Categories:
            ``out_of_vocabulary`` (values), ``vocabulary`` (its size), ``oov_buckets``, ``fill``.
            Vectors: ``missing_entries`` (of rows that are not missing), ``bounded`` (entries), and
            ``size``; a row of another length is missing.
        """
        if self.type == "vector":
            is_vector = self._is_vector(column)
            entries, is_finite = finite_numbers(column.filter(is_vector).explode())
            return {
                "missing": int((~is_vector).sum()),
                "missing_entries": int((~is_finite).sum()) if self.size else 0,
                "bounded": int((np.abs(entries) > _MAX_VECTOR).sum()),
                "size": self.size,
            }
        if self.is_category:
            is_list = self.type == "category_list"
            cells = column.explode() if is_list else column
            given = cells.filter(cells.fill_null("") != "")
            has_value = column.list.len() > 0 if is_list else column != ""
            return {
                "missing": int((~has_value.fill_null(False)).sum()),
                "out_of_vocabulary": int((~given.is_in(self.vocabulary)).sum()),
                "vocabulary": len(self.vocabulary),
                "oov_buckets": self.oov_buckets,
                "fill": self.fill,
            }
        values, is_known = known_numbers(column)
        known = values[is_known]
        clipped = np.clip(known, self.low, self.high)
        beyond = np.abs((scale_numbers(clipped, self.scale) - self.mean) / self.std) > _MAX_NUMBER
        is_filled = np.zeros(len(column), bool) if filled is None else finite_numbers(filled)[1]
        return {
            "missing": int((~is_known).sum()),
            "filled": int((is_filled & ~is_known).sum()),
            "clipped": int((clipped != known).sum()),
            "bounded": int(beyond.sum()),
            "mean": self.mean,
            "std": self.std,
            "low": self.low,
            "high": self.high,
            "fill": self.fill,
        }

    def to_dict(self) -> dict[str, Any]:
        """Returns a form that JSON can hold."""
        return dataclasses.asdict(self)

    @property
    def _fill_index(self) -> int:
        is_text = self.is_category and isinstance(self.fill, str)
        return self.vocabulary.index(str(self.fill)) + 1 if is_text else 0

    @property
    def _fill_number(self) -> float:
        # The fill is not clipped: a constant is what the user wants.
        return 0.0 if self.fill is None else float(self._standardise(np.float64(self.fill)))

    def _encode_numbers(self, column: pl.Series, filled: pl.Series | None) -> np.ndarray:
        values, is_known = known_numbers(column)
        has_value = is_known
        if filled is not None:
            found, is_found = finite_numbers(filled)
            values = np.where(is_known, values, found)
            has_value = is_known | is_found
        encoded = np.zeros((len(values), 2), np.float32)
        standardised = self._standardise(np.clip(values, self.low, self.high))
        encoded[:, 0] = np.where(has_value, standardised, self._fill_number)
        if self.indicator:
            encoded[:, 1] = ~is_known
        return encoded

    def _standardise(self, values: Any) -> Any:
        standardised = (scale_numbers(values, self.scale) - self.mean) / self.std
        return np.clip(standardised, -_MAX_NUMBER, _MAX_NUMBER)

    def _is_vector(self, column: pl.Series) -> pl.Series:
        return (column.list.len() == self.size).fill_null(False)

    def _look_up(self, column: pl.Series) -> np.ndarray:
        index = {value: row for row, value in enumerate(self.vocabulary, 1)}
        if self.oov_buckets:
            distinct = column.unique().drop_nulls().to_list()
            outside = [value for value in distinct if value and value not in index]
            if outside:
                index |= zip(outside, self._hash(outside).numpy().tolist(), strict=True)
        if not index:
            return np.zeros(len(column), np.int32)
        found = column.replace_strict(index, default=self._fill_index, return_dtype=pl.Int32)
        return found.fill_null(self._fill_index).to_numpy().astype(np.int32)

    def _hash(self, values: Any) -> tf.Tensor:
        """Returns the bucket's index of each text, int32; the same for Python and the graph."""
        import tensorflow as tf

        buckets = tf.strings.to_hash_bucket_fast(values, self.oov_buckets)
        return tf.cast(buckets, tf.int32) + len(self.vocabulary) + 1


_COLUMN_TYPES: dict[str, Any] = {
    "category": pl.String,
    "category_list": pl.List(pl.String),
    "number": pl.Float64,
    "date": pl.Float64,
    "vector": pl.List(pl.Float32),
}


def filled_column(name: str) -> str:
    """Returns the column that holds the numbers found for what is missing in column `name`."""
    return f"{name}__filled"


def load_feature(saved: Mapping[str, Any]) -> FeatureEncoder:
    """Returns the fitted encoder that `FeatureEncoder.to_dict` wrote."""
    return FeatureEncoder(**saved)


def fit_features(declared: Features, frame: pl.DataFrame) -> list[FeatureEncoder]:
    """Fits an encoder for each declared feature on the rows of `frame`."""
    return [FeatureEncoder.fit(name, feature, frame[name]) for name, feature in declared.items()]


def encode_frame(
    encoders: list[FeatureEncoder], frame: pl.DataFrame, with_unknown_row: bool
) -> dict[str, np.ndarray]:
    """Encodes every feature of `frame`.

    Args:
        encoders: Fitted encoders.
        frame: Typed columns under the encoders' names, and, where preparation found numbers for
            missing ones, the columns of them (`filled_column`).
        with_unknown_row: Puts a row 0 of unknown values before the rows.

    Returns:
        Feature name to array; see `FeatureEncoder.encode_column`.
    """
    arrays = {}
    for encoder in encoders:
        filled = None
        if encoder.missing in _FILLED_WHEN_PREPARED:
            filled = frame.get_column(filled_column(encoder.name), default=None)
        array = encoder.encode_column(frame[encoder.name], filled)
        if with_unknown_row:
            first = np.zeros_like(array[:1]) if len(array) else encoder.unknown_row()
            row = encoder.unknown_row()
            first[..., : row.shape[-1]] = row
            array = np.concatenate([first, array])
        arrays[encoder.name] = array
    return arrays
