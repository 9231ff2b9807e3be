"""Vectors: embeddings of images, audio or whatever somebody else's model sees."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import polars as pl

from tfrec.features.cells import RawCells, plain_cells, stripped, without
from tfrec.features.feature_type import LEARNED, FeatureInput, FeatureType
from tfrec.features.numbers import finite_numbers

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

# Keeps one absurd entry of a request from overflowing a tower.
_MAX_ENTRY = 1e6


@dataclass(frozen=True)
class Vector(FeatureType):
    """Numbers of one length; a missing vector is zeros.

    >>> image = Vector("image").fit(pl.Series([[1.0, 2.0], None]))
    >>> image.encode_column(pl.Series([[3.0, None], None])).tolist()
    [[3.0, 0.0], [0.0, 0.0]]

    Attributes:
        size: Length; 0: no vector is known yet.
    """

    size: int = field(default=0, metadata=LEARNED)

    column_type: ClassVar[Any] = pl.List(pl.Float32)

    def parse(self, cells: RawCells) -> pl.Series:
        """Reads lists of numbers, or text such as ``[0.1, 0.2]``.

        Returns:
            List(Float32) [n], finite and of length `size`, or, where it is not known yet, of the
            most frequent length here, of several the longest; others are reported and null.
        """
        raw = cells.frame[self.name]
        if isinstance(raw.dtype, pl.Array):
            raw = raw.arr.to_list()
        if not isinstance(raw.dtype, pl.List):
            text = plain_cells(cells, self.name, "vectors")
            if text.dtype != pl.String:
                raise cells.fail(self.name, "vectors", str(text.dtype))
            text = text.str.replace_all(r"[\[\]()]", "").str.replace_all(r"[\s,;|]+", " ")
            raw = stripped(text).str.split(" ")
        inner = raw.dtype.inner  # type: ignore[attr-defined]
        if not (inner.is_numeric() or inner in (pl.String, pl.Null)):
            raise cells.fail(self.name, "vectors of numbers", str(raw.dtype))
        vectors = raw.cast(pl.List(pl.Float32), strict=False)
        is_odd = vectors.list.eval(~pl.element().is_finite().fill_null(False)).list.any()
        cells.blank(is_odd, self.name, "a vector of finite numbers")
        vectors = without(vectors, is_odd)
        lengths = vectors.list.len()
        known = lengths.filter(lengths > 0)
        size = self.size or (int(known.mode().sort()[-1]) if len(known) else 1)
        has_other_size = lengths != size
        cells.blank(has_other_size, self.name, f"a vector of {size} numbers")
        return without(vectors, has_other_size)

    def seen(self, column: pl.Series) -> Self:
        """Holds the length fast once a vector is known."""
        return self if self.size else self.fit(column)

    def fit(self, column: pl.Series) -> Self:
        """Learns the length."""
        lengths = column.list.len().drop_nulls()
        return dataclasses.replace(self, size=int(lengths[0]) if lengths.len() else 0)

    def encode_column(self, column: pl.Series) -> np.ndarray:
        """Returns float32 [n, size], zeros where null or NaN, entries in [-1e6, 1e6]."""
        rows = np.zeros((len(column), self.size), np.float32)
        is_known = self._is_vector(column)
        if self.size and is_known.any():
            known = column.filter(is_known).explode().to_numpy().astype(np.float32)
            rows[is_known.to_numpy()] = known.reshape(-1, self.size)
        finite = np.where(np.isfinite(rows), rows, np.float32(0))
        return np.clip(finite, -_MAX_ENTRY, _MAX_ENTRY)

    def encode_tensor(self, tensor: tf.Tensor, table: Any = None) -> tf.Tensor:
        """Encodes float32 [batch, size] to the same shape."""
        import tensorflow as tf

        finite = tf.where(tf.math.is_finite(tensor), tensor, 0.0)
        return tf.clip_by_value(finite, -_MAX_ENTRY, _MAX_ENTRY)

    def layer(self, dim: int, name: str) -> keras.layers.Layer:
        """Makes a projection."""
        import keras

        projection = keras.layers.Dense(dim, name=name)
        projection.build((None, self.size))
        return projection

    def signature(self) -> FeatureInput:
        """Says what a request brings."""
        return FeatureInput("float32", [None, self.size], f"Vector {self.name!r}.", 0.0)

    def request_values(self, column: pl.Series) -> np.ndarray:
        """Writes float32 [n, size], zeros for a missing vector."""
        return self.encode_column(column)

    def describe(self, column: pl.Series) -> dict[str, Any]:
        """Counts rows without a vector, and entries that encoding changes.

        Returns:
            ``missing`` (rows, those of another length too), ``missing_entries`` (of the other
            rows), ``bounded`` (entries), and ``size``.
        """
        is_vector = self._is_vector(column)
        entries, is_finite = finite_numbers(column.filter(is_vector).explode())
        return {
            "missing": int((~is_vector).sum()),
            "missing_entries": int((~is_finite).sum()) if self.size else 0,
            "bounded": int((np.abs(entries) > _MAX_ENTRY).sum()),
            "size": self.size,
        }

    def _is_vector(self, column: pl.Series) -> pl.Series:
        return (column.list.len() == self.size).fill_null(False)
