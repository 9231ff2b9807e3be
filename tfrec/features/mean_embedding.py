"""Embeddings of several categories a row, averaged."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tfrec.schema import UNKNOWN_INDEX


@keras.saving.register_keras_serializable(package="tfrec")
class MeanEmbedding(keras.layers.Embedding):
    """Averages the embeddings of a row's known categories.

    >>> layer = MeanEmbedding(input_dim=3, output_dim=2)
    >>> layer(tf.constant([[1, 2, 0], [0, 0, 0]])).shape
    TensorShape([2, 2])
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Embeds int32 [n, members], 0 for none, to float [n, output_dim]; zeros for no member."""
        embedded = super().call(inputs)
        is_known = tf.cast(inputs != UNKNOWN_INDEX, embedded.dtype)[..., None]
        count = tf.maximum(tf.reduce_sum(is_known, axis=-2), 1.0)
        return tf.reduce_sum(embedded * is_known, axis=-2) / count

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        """Returns the shape without the members."""
        return (*input_shape[:-1], self.output_dim)
