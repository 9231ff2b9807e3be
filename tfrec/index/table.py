"""Rows of embeddings, kept in as few bits as is asked for."""

from __future__ import annotations

from typing import Literal

import numpy as np
import tensorflow as tf

Precision = Literal["float32", "float16", "int8"]

_LARGEST_CODE = 127


class EmbeddingTable(tf.Module):
    """A table of embeddings; what comes out of it is float32 whatever it is kept in.

    An int8 row is the row divided by a scale of its own, the largest absolute value by 127, and
    rounded: no number is off by more than half the scale. Values that came out of a table go into
    another one of the same precision unchanged.

    Args:
        values: float32 [num_rows, embedding_dim].
        precision: What the rows are kept in.

    Source: Jacob et al., Quantization and Training of Neural Networks (2018), section 2.1.
    Deviates: Symmetric, with a scale for each row in place of one for all.
    """

    def __init__(self, values: np.ndarray, precision: Precision = "float32") -> None:
        super().__init__(name="embedding_table")
        self._scales: tf.Variable | None = None
        if precision == "int8":
            scales = np.abs(values).max(axis=1, initial=0.0) / _LARGEST_CODE
            values = np.rint(values / np.where(scales > 0, scales, 1.0)[:, None])
            self._scales = tf.Variable(scales, trainable=False, dtype=tf.float32)
        self._rows = tf.Variable(values.astype(precision), trainable=False)

    def numpy(self) -> np.ndarray:
        """Returns all rows as they come out, float32 [num_rows, embedding_dim]."""
        return self.gather(tf.range(self._rows.shape[0])).numpy()

    def gather(self, rows: tf.Tensor) -> tf.Tensor:
        """Returns rows, int32 of any shape; float32 [..., embedding_dim]."""
        values = tf.cast(tf.gather(self._rows, rows), tf.float32)
        if self._scales is None:
            return values
        return values * tf.gather(self._scales, rows)[..., None]

    def scores(self, queries: tf.Tensor) -> tf.Tensor:
        """Returns the dot products of queries, float32 [batch, embedding_dim], with all rows.

        Returns:
            float32 [batch, num_rows].
        """
        scores = tf.linalg.matmul(queries, tf.cast(self._rows, tf.float32), transpose_b=True)
        return scores if self._scales is None else scores * self._scales

    def scores_of(self, queries: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
        """Returns the dot products of queries with some rows each.

        Args:
            queries: float32 [batch, embedding_dim].
            rows: int32 [batch, n].

        Returns:
            float32 [batch, n].
        """
        return tf.einsum("bd,bnd->bn", queries, self.gather(rows))
