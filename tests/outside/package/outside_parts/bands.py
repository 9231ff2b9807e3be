"""A feature type: a number cut into bands that hold equally many training rows."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import polars as pl

from tfrec.features import LEARNED, FeatureInput, FeatureType, Number


@dataclass(frozen=True)
class Bands(FeatureType):
    """A band of a number has an embedding of its own.

    Attributes:
        count: Bands.
        edges: Learned: where each band but the first begins, ascending.
    """

    count: int = 5
    edges: list[float] = field(default_factory=list, metadata=LEARNED)

    uses: ClassVar[frozenset[str]] = frozenset({"context"})
    column_type: ClassVar[Any] = pl.Float64

    def parse(self, cells: Any) -> pl.Series:
        return Number(self.name).parse(cells)

    def fit(self, column: pl.Series) -> Bands:
        known = column.drop_nulls().drop_nans()
        shares = np.arange(1, self.count) / self.count
        edges = np.unique(np.quantile(known, shares).astype(np.float32)) if len(known) else []
        return dataclasses.replace(self, edges=[float(edge) for edge in edges])

    def encode_column(self, column: pl.Series) -> np.ndarray:
        values = self.request_values(column)
        found = 1 + np.searchsorted(np.array(self.edges, np.float32), values, side="right")
        return np.where(np.isfinite(values), found, 0).astype(np.int32)

    def encode_tensor(self, tensor: Any, table: Any) -> Any:
        import tensorflow as tf

        edges = tf.constant(self.edges, tf.float32)
        found = 1 + tf.searchsorted(edges, tensor, side="right")
        return tf.where(tf.math.is_finite(tensor), found, 0)

    def layer(self, dim: int, name: str) -> Any:
        import keras

        layer = keras.layers.Embedding(self.count + 1, dim, name=name)
        layer.build(None)
        return layer

    def signature(self) -> FeatureInput:
        return FeatureInput("float32", [None], "A number; NaN for unknown.", float("nan"))

    def request_values(self, column: pl.Series) -> np.ndarray:
        return column.fill_null(float("nan")).to_numpy().astype(np.float32)
