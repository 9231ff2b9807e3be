"""The exact index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfrec.index.item_index import ItemIndex
from tfrec.index.table import EmbeddingTable, Precision


class ExactIndex(ItemIndex):
    """Scores every row.

    Args:
        embeddings: float32 [num_items, embedding_dim].
        precision: What they are kept in.

    Example:
        >>> index = ExactIndex(np.array([[1.0, 0.0], [0.0, 1.0]], np.float32))
        >>> index.search(tf.constant([[0.1, 0.9]]), k=1)[0].numpy().tolist()
        [[1]]
    """

    def __init__(self, embeddings: np.ndarray, precision: Precision = "float32") -> None:
        super().__init__(len(embeddings), {"precision": precision})
        self._embeddings = EmbeddingTable(embeddings, precision)

    @classmethod
    def build(cls, embeddings: np.ndarray, k: int, precision: Precision = "float32") -> ExactIndex:
        """Keeps the embeddings, whatever `k` searches want."""
        return cls(embeddings, precision)

    @classmethod
    def restore(
        cls, tensors: Sequence[np.ndarray], num_items: int, parameters: Mapping[str, Any]
    ) -> ExactIndex:
        """Takes the embeddings again."""
        return cls(tensors[0], parameters["precision"])

    def tensors(self) -> list[np.ndarray]:
        """Returns the embeddings."""
        return [self._embeddings.numpy()]

    def search(self, queries: tf.Tensor, k: tf.Tensor | int) -> tuple[tf.Tensor, tf.Tensor]:
        """See `Searcher.search`. Of equal scores the lower row comes first."""
        best = tf.math.top_k(self._embeddings.scores(queries), k=tf.minimum(k, self.num_items))
        return best.indices, best.values
