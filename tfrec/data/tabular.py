"""Categories, numbers, lists and vectors as arrays: learned on train, the same in graph and numpy.

A `FeatureEncoder` turns one raw column into the array that a tower reads, either from a polars
series (`encode_column`, for training) or from the tensor of a request (`encode_tensor`, inside the
exported graph). Index 0 always stands for "unknown".
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from tfrec.config import Feature, Features, FeatureType

if TYPE_CHECKING:
    import tensorflow as tf


# Bounds that keep one absurd value of a request from overflowing a tower.
_MAX_NUMBER = 10.0
_MAX_VECTOR = 1e6


@dataclass(frozen=True)
class FeatureEncoder:
    """What was learned about one feature.

    Attributes:
        name: Column, and key in requests.
        type: One of the configuration's feature types.
        scale: ``linear`` or ``log`` (numbers).
        vocabulary: Known values of a category, in index order from 1 on.
        mean: Of the scaled numbers.
        std: Of the scaled numbers; 1 for a constant.
        size: Length of a vector.
    """

    name: str
    type: FeatureType
    scale: str = "linear"
    vocabulary: list[str] = field(default_factory=list)
    mean: float = 0.0
    std: float = 1.0
    size: int = 0

    @classmethod
    def fit(cls, name: str, declared: Feature, column: pl.Series) -> FeatureEncoder:
        """Learns vocabulary, moments or size from a column of training rows."""
        kind = declared.type
        if kind == "number":
            scaled = _scale(column.drop_nulls().to_numpy().astype(np.float64), declared.scale)
            scaled = scaled[scaled != 0]
            std = float(scaled.std()) if scaled.size else 1.0
            return cls(
                name,
                kind,
                scale=declared.scale,
                mean=float(scaled.mean()) if scaled.size else 0.0,
                std=std if std > 1e-9 else 1.0,
            )
        if kind == "vector":
            lengths = column.list.len().drop_nulls()
            return cls(name, kind, size=int(lengths[0]) if lengths.len() else 0)
        values = column.explode() if kind == "category_list" else column
        counts = (
            values.drop_nulls().alias("value").value_counts().filter(
                (pl.col("value") != "") & (pl.col("count") >= declared.min_count)
            )
        )  # fmt: skip
        return cls(name, kind, vocabulary=sorted(counts["value"].to_list()))

    def encode_column(self, column: pl.Series) -> np.ndarray:
        """Encodes n rows.

        Returns:
            category: int32 [n]. category_list: int32 [n, longest], padded with 0.
            number: float32 [n, 2], standardised value, at most 10 deviations from the mean, and
                1.0 where unknown (null, NaN or 0).
            vector: float32 [n, size], zeros where null or NaN, entries in [-1e6, 1e6].
        """
        if self.type == "number":
            values = column.fill_null(0).fill_nan(0).to_numpy().astype(np.float64)
            scaled = _scale(values, self.scale)
            unknown = values == 0
            standardised = np.where(unknown, 0.0, (scaled - self.mean) / self.std)
            clipped = np.clip(standardised, -_MAX_NUMBER, _MAX_NUMBER)
            return np.stack([clipped, unknown], axis=1).astype(np.float32)
        if self.type == "vector":
            rows = np.zeros((len(column), self.size), np.float32)
            is_known = (column.list.len() == self.size).fill_null(False)
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
        filled = column.filter(column.list.len() > 0)
        if len(filled):
            encoded[is_cell] = self._look_up(filled.explode())
        return encoded

    def encode_tensor(self, tensor: tf.Tensor, table: Any) -> tf.Tensor:
        """Encodes the values of requests; `table` maps text to index (categories only).

        Args:
            tensor: category: string [batch]. category_list: string [batch, n], "" pads.
                number: float32 [batch], 0 for unknown. vector: float32 [batch, size].
            table: Lookup table from value to index, 0 for unknown; None for numbers and vectors.

        Returns:
            The same arrays as `encode_column`.
        """
        import tensorflow as tf

        if self.type in ("category", "category_list"):
            return table.lookup(tensor)
        if self.type == "vector":
            finite = tf.where(tf.math.is_finite(tensor), tensor, 0.0)
            return tf.clip_by_value(finite, -_MAX_VECTOR, _MAX_VECTOR)
        values = tf.where(tf.math.is_finite(tensor), tensor, 0.0)
        scaled = tf.sign(values) * tf.math.log1p(tf.abs(values)) if self.scale == "log" else values
        unknown = tf.equal(values, 0.0)
        standardised = tf.where(unknown, 0.0, (scaled - self.mean) / self.std)
        clipped = tf.clip_by_value(standardised, -_MAX_NUMBER, _MAX_NUMBER)
        return tf.stack([clipped, tf.cast(unknown, tf.float32)], axis=-1)

    def unknown_row(self) -> np.ndarray:
        """Encodes one row of which nothing is known; the first dimension is 1."""
        null = pl.Series([None], dtype=_COLUMN_TYPES[self.type])
        return self.encode_column(null.fill_null([]) if self.type == "category_list" else null)

    def to_dict(self) -> dict[str, Any]:
        """Returns a form that JSON can hold."""
        return dataclasses.asdict(self)

    def _look_up(self, column: pl.Series) -> np.ndarray:
        index = dict(zip(self.vocabulary, range(1, len(self.vocabulary) + 1), strict=True))
        if not index:
            return np.zeros(len(column), np.int32)
        found = column.replace_strict(index, default=0, return_dtype=pl.Int32)
        return found.fill_null(0).to_numpy().astype(np.int32)


_COLUMN_TYPES: dict[str, Any] = {
    "category": pl.String,
    "category_list": pl.List(pl.String),
    "number": pl.Float64,
    "vector": pl.List(pl.Float32),
}


def fit_features(declared: Features, frame: pl.DataFrame) -> list[FeatureEncoder]:
    """Fits an encoder for each declared feature on the rows of `frame`."""
    return [FeatureEncoder.fit(name, feature, frame[name]) for name, feature in declared.items()]


def encode_frame(
    encoders: list[FeatureEncoder], frame: pl.DataFrame, with_unknown_row: bool
) -> dict[str, np.ndarray]:
    """Encodes every feature of `frame`.

    Args:
        encoders: Fitted encoders.
        frame: Typed columns under the encoders' names.
        with_unknown_row: Puts a row 0 of unknown values before the rows.

    Returns:
        Feature name to array; see `FeatureEncoder.encode_column`.
    """
    arrays = {}
    for encoder in encoders:
        array = encoder.encode_column(frame[encoder.name])
        if with_unknown_row:
            first = np.zeros_like(array[:1]) if len(array) else encoder.unknown_row()
            row = encoder.unknown_row()
            first[..., : row.shape[-1]] = row
            array = np.concatenate([first, array])
        arrays[encoder.name] = array
    return arrays


def _scale(values: np.ndarray, scale: str) -> np.ndarray:
    return np.sign(values) * np.log1p(np.abs(values)) if scale == "log" else values
