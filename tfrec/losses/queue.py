"""Cross-batch memory: item embeddings of earlier steps as further negatives."""

from __future__ import annotations

import keras
import tensorflow as tf


class EmbeddingQueue:
    """Keeps the latest item embeddings, first in, first out; none of them carries a gradient.

    Args:
        size: Most entries.
        embedding_dim: Length of an embedding.

    Attributes:
        embeddings: float32 variable [size, embedding_dim], oldest entry first.
        item_index: int32 variable [size], whose embedding an entry is; 0 in empty entries, which
            stand before the others.

    Source: Wang et al., Cross-Batch Memory for Embedding Learning (2020), algorithm 1.
    """

    def __init__(self, size: int, embedding_dim: int) -> None:
        # On several devices each one adds the items of all, so one copy speaks for all.
        self.embeddings = keras.Variable(
            tf.zeros([size, embedding_dim]),
            trainable=False,
            aggregation="only_first_replica",
            name="queue_embeddings",
        )
        self.item_index = keras.Variable(
            tf.zeros([size], tf.int32),
            trainable=False,
            dtype="int32",
            aggregation="only_first_replica",
            name="queue_item_index",
        )

    @property
    def variables(self) -> list[keras.Variable]:
        """What a checkpoint has to hold."""
        return [self.embeddings, self.item_index]

    def read(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns all entries, float32 [size, embedding_dim] and int32 [size], 0 where empty."""
        return (
            tf.stop_gradient(tf.convert_to_tensor(self.embeddings.value)),
            tf.convert_to_tensor(self.item_index.value),
        )

    def enqueue(self, embeddings: tf.Tensor, item_index: tf.Tensor) -> None:
        """Adds entries, the last of them latest, and forgets as many of the oldest.

        Args:
            embeddings: float32 [n, embedding_dim]; of more than `size` the last are kept.
            item_index: int32 [n], above 0.
        """
        for variable, new in zip(self.variables, (embeddings, item_index), strict=True):
            both = tf.concat([variable.value, new], axis=0)[-variable.shape[0] :]
            variable.assign(tf.stop_gradient(tf.ensure_shape(both, variable.shape)))
