"""What categories and lists of them share: a vocabulary learned on train, buckets behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from tfrec.features.feature_type import LEARNED, FeatureType

if TYPE_CHECKING:
    import tensorflow as tf


@dataclass(frozen=True)
class VocabularyFeature(FeatureType):
    """Text values by index: 0 unknown, 1 to V the vocabulary, then the buckets.

    Attributes:
        min_count: Rarer values are out of the vocabulary.
        oov_buckets: Indices behind the vocabulary that values outside of it share by hash.
        vocabulary: Known values, in index order from 1 on.
    """

    min_count: int = 1
    oov_buckets: int = 0
    vocabulary: list[str] = field(default_factory=list, metadata=LEARNED)

    @property
    def num_rows(self) -> int:
        """Rows of an embedding table: unknown, vocabulary, buckets."""
        return 1 + len(self.vocabulary) + self.oov_buckets

    def table(self) -> tf.lookup.StaticHashTable:
        """Makes the lookup table from value to index."""
        from tfrec.features.lookup import lookup_table

        return lookup_table(self.vocabulary, range(1, len(self.vocabulary) + 1))

    def encode_tensor(self, tensor: tf.Tensor, table: Any) -> tf.Tensor:
        """Encodes strings of any shape to int32 of the same shape."""
        import tensorflow as tf

        found = table.lookup(tensor)
        if self.oov_buckets:
            is_outside = (found == 0) & (tensor != "")
            found = tf.where(is_outside, self._hash(tensor), found)
        return found

    def _count(self, values: pl.Series) -> pl.DataFrame:
        """Counts the values that may enter the vocabulary; columns value and count."""
        counts = values.drop_nulls().alias("value").value_counts()
        return counts.filter((pl.col("value") != "") & (pl.col("count") >= self.min_count))

    def _look_up(self, values: pl.Series, fill: int = 0) -> np.ndarray:
        """Returns int32 [n], `fill` for what has no index."""
        index = {value: row for row, value in enumerate(self.vocabulary, 1)}
        if self.oov_buckets:
            distinct = values.unique().drop_nulls().to_list()
            outside = [value for value in distinct if value and value not in index]
            if outside:
                index |= zip(outside, self._hash(outside).numpy().tolist(), strict=True)
        if not index:
            return np.zeros(len(values), np.int32)
        found = values.replace_strict(index, default=fill, return_dtype=pl.Int32)
        return found.fill_null(fill).to_numpy().astype(np.int32)

    def _hash(self, values: Sequence[str] | tf.Tensor) -> tf.Tensor:
        """Returns the bucket's index of each text, int32; the same for Python and the graph."""
        import tensorflow as tf

        buckets = tf.strings.to_hash_bucket_fast(values, self.oov_buckets)
        return tf.cast(buckets, tf.int32) + len(self.vocabulary) + 1

    def _describe(self, has_value: pl.Series, values: pl.Series) -> dict[str, Any]:
        given = values.filter(values.fill_null("") != "")
        return {
            "missing": int((~has_value.fill_null(False)).sum()),
            "out_of_vocabulary": int((~given.is_in(self.vocabulary)).sum()),
            "vocabulary": len(self.vocabulary),
            "oov_buckets": self.oov_buckets,
        }
