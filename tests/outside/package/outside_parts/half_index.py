"""An index: every item is scored, in 16 bits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfrec.index import ItemIndex
from tfrec.index.item_index import filled


class HalfIndex(ItemIndex):
    """Keeps embeddings as float16."""

    def __init__(
        self, tensors: Sequence[np.ndarray], num_items: int, parameters: Mapping[str, Any]
    ) -> None:
        super().__init__(num_items, parameters)
        self._rows = tf.Variable(tensors[0], trainable=False)

    @classmethod
    def build(
        cls, embeddings: np.ndarray, k: int, precision: str = "float32", note: str = ""
    ) -> HalfIndex:
        return cls([embeddings.astype(np.float16)], len(embeddings), {"note": note})

    def tensors(self) -> list[np.ndarray]:
        return [self._rows.numpy()]

    def search(self, queries: tf.Tensor, k: tf.Tensor | int) -> tuple[tf.Tensor, tf.Tensor]:
        k = tf.minimum(k, self.num_items)
        rows = tf.cast(self._rows, tf.float32)
        best = tf.math.top_k(tf.linalg.matmul(queries, rows, transpose_b=True), k)
        return filled(best.indices, best.values, k)
