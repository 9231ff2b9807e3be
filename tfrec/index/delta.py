"""An index and a few rows more, which are searched exactly."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfrec.index.item_index import Searcher


class DeltaIndex(Searcher):
    """Searches a base index and, exactly, rows that came later.

    Rows of the base keep their numbers and scores; those that came later follow them.

    Args:
        base: Any index.
        embeddings: float32 [num_added, embedding_dim].
    """

    def __init__(self, base: Searcher, embeddings: np.ndarray) -> None:
        added = len(embeddings)
        super().__init__(base.num_items + added, {**base.parameters, "added": added})
        self.base = base
        self._embeddings = tf.Variable(embeddings, trainable=False, dtype=tf.float32)

    def tensors(self) -> list[np.ndarray]:
        """Returns the base's arrays and the embeddings of the rows that came later."""
        return [*self.base.tensors(), self._embeddings.numpy()]

    def search(self, queries: tf.Tensor, k: tf.Tensor | int) -> tuple[tf.Tensor, tf.Tensor]:
        """See `Searcher.search`. Of equal scores the row of the base comes first."""
        rows, scores = self.base.search(queries, k)
        scores = tf.where(rows >= 0, scores, -np.inf)
        added = tf.linalg.matmul(queries, self._embeddings, transpose_b=True)
        of_added = tf.repeat(
            tf.range(self.base.num_items, self.num_items)[None], tf.shape(queries)[0], axis=0
        )
        rows = tf.concat([rows, of_added], axis=1)
        best = tf.math.top_k(tf.concat([scores, added], axis=1), k=tf.minimum(k, self.num_items))
        is_row = tf.math.is_finite(best.values)
        found = tf.gather(rows, best.indices, batch_dims=1)
        return tf.where(is_row, found, -1), tf.where(is_row, best.values, 0.0)
