"""The user tower: u = BERT(U) + u0, with u0 from id, attributes, request and history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfrec.data.tabular import FeatureEncoder
from tfrec.towers.features import FeatureEmbedding
from tfrec.towers.item import drop_ids


class HistoryPooling(keras.layers.Layer):
    """Attention over the items of a history: what counts is what the item is and how recent.

    Args:
        embedding_dim: Length of item embeddings and of the pooled vector.
        max_history: Length of a history.
    """

    def __init__(self, embedding_dim: int, max_history: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.recency = self.add_weight(
            shape=(max_history, embedding_dim), initializer="zeros", name="recency"
        )
        self.hidden = keras.layers.Dense(embedding_dim, activation="tanh", name="hidden")
        self.hidden.build((None, None, embedding_dim))
        self.weight = keras.layers.Dense(1, use_bias=False, name="weight")
        self.weight.build((None, None, embedding_dim))
        self.output_projection = keras.layers.Dense(embedding_dim, name="output")
        self.output_projection.build((None, embedding_dim))
        self.built = True

    def call(self, items: tf.Tensor, is_item: tf.Tensor) -> tf.Tensor:
        """Pools n histories.

        Args:
            items: float32 [n, max_history, embedding_dim], oldest first.
            is_item: bool [n, max_history].

        Returns:
            float32 [n, embedding_dim]; zeros for an empty history.
        """
        logits = self.weight(self.hidden(items + self.recency))[..., 0]  # [n, max_history]
        logits = tf.where(is_item, logits, -1e9)
        weights = tf.nn.softmax(logits, axis=-1) * tf.cast(is_item, tf.float32)
        pooled = self.output_projection(tf.einsum("nl,nld->nd", weights, items))
        return pooled * tf.cast(tf.reduce_any(is_item, axis=1, keepdims=True), tf.float32)


class UserTower(keras.layers.Layer):
    """Sums projected text, id, attributes, request features and history; then one residual layer.

    Args:
        num_ids: Users with a row of their own, 0 for a tower without ids; row 0 is shared.
        features: Fitted encoders of user attributes and request features.
        text_dim: Length of the encoder's vector.
        embedding_dim: Length of the embedding.
        max_history: Length of a history.
        dropout: Share of histories and of attributes hidden in training, so that requests
            without them are answered.
        id_dropout: Share of ids hidden in training.
    """

    def __init__(
        self,
        num_ids: int,
        features: Sequence[FeatureEncoder],
        text_dim: int,
        embedding_dim: int,
        max_history: int,
        dropout: float,
        id_dropout: float,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.dropout = dropout
        self.id_dropout = id_dropout
        self.seed_generator = keras.random.SeedGenerator()
        self.id_embedding = keras.layers.Embedding(num_ids + 1, embedding_dim, name="id")
        self.id_embedding.build(None)
        self.text_projection = keras.layers.Dense(embedding_dim, use_bias=False, name="text")
        self.text_projection.build((None, text_dim))
        self.feature_embedding = FeatureEmbedding(features, embedding_dim, name="features")
        self.history_pooling = HistoryPooling(embedding_dim, max_history, name="history")
        self.hidden = keras.layers.Dense(2 * embedding_dim, activation="gelu", name="hidden")
        self.hidden.build((None, embedding_dim))
        self.output_projection = keras.layers.Dense(
            embedding_dim, kernel_initializer="zeros", name="output"
        )
        self.output_projection.build((None, 2 * embedding_dim))
        self.built = True

    def call(
        self,
        text_vector: tf.Tensor,
        id_row: tf.Tensor,
        features: Mapping[str, tf.Tensor],
        history: tf.Tensor,
        is_item: tf.Tensor,
        training: bool = False,
    ) -> tf.Tensor:
        """Embeds n requests.

        Args:
            text_vector: float32 [n, text_dim], BERT(U); zeros without text.
            id_row: int32 [n], 0 for an unknown user.
            features: Encoded attributes and request features, [n, ...] each.
            history: float32 [n, max_history, embedding_dim], item embeddings, oldest first.
            is_item: bool [n, max_history], false on padding.
            training: Whether inputs are dropped.

        Returns:
            float32 [n, embedding_dim] of length 1.
        """
        embedded = self.feature_embedding(features)
        if training:
            id_row = drop_ids(id_row, self.id_dropout, self.seed_generator)
            count = tf.shape(id_row)[0]
            keep = keras.random.uniform((count, 2), seed=self.seed_generator) >= self.dropout
            is_item = is_item & keep[:, :1]
            embedded = [part * tf.cast(keep[:, 1:], tf.float32) for part in embedded]
        parts = [
            self.text_projection(text_vector),
            self.id_embedding(id_row),
            self.history_pooling(history, is_item),
            *embedded,
        ]
        user = tf.add_n(parts)
        user += self.output_projection(self.hidden(user))
        return tf.math.l2_normalize(user, axis=-1)
