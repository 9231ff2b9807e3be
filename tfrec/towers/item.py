"""The item tower: i = BERT(I) + i0, with i0 from the id and the item's features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfrec.data.tabular import FeatureEncoder
from tfrec.towers.features import FeatureEmbedding


class ItemTower(keras.layers.Layer):
    """Sums projected text, id and features, then normalises to length 1.

    Args:
        num_ids: Items with a row of their own; row 0 is shared by all others.
        features: Fitted encoders of the item features.
        text_dim: Length of the encoder's vector.
        embedding_dim: Length of the embedding.
        id_dropout: Share of ids hidden in training, which teaches row 0 to stand for new items.
    """

    def __init__(
        self,
        num_ids: int,
        features: Sequence[FeatureEncoder],
        text_dim: int,
        embedding_dim: int,
        id_dropout: float,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.id_dropout = id_dropout
        self.seed_generator = keras.random.SeedGenerator()
        self.id_embedding = keras.layers.Embedding(num_ids + 1, embedding_dim, name="id")
        self.id_embedding.build(None)
        self.text_projection = keras.layers.Dense(embedding_dim, use_bias=False, name="text")
        self.text_projection.build((None, text_dim))
        self.feature_embedding = FeatureEmbedding(features, embedding_dim, name="features")
        self.built = True

    def call(
        self,
        text_vector: tf.Tensor,
        id_row: tf.Tensor,
        features: Mapping[str, tf.Tensor],
        training: bool = False,
    ) -> tf.Tensor:
        """Embeds n items.

        Args:
            text_vector: float32 [n, text_dim], BERT(I).
            id_row: int32 [n], 0 for an item without a row.
            features: Encoded features, [n, ...] each.
            training: Whether ids are dropped.

        Returns:
            float32 [n, embedding_dim] of length 1.
        """
        if training and self.id_dropout:
            id_row = drop_ids(id_row, self.id_dropout, self.seed_generator)
        parts = [
            self.text_projection(text_vector),
            self.id_embedding(id_row),
            *self.feature_embedding(features),
        ]
        return tf.math.l2_normalize(tf.add_n(parts), axis=-1)


def drop_ids(ids: tf.Tensor, rate: float, seed_generator: keras.random.SeedGenerator) -> tf.Tensor:
    """Sets about `rate` of the entries of `ids`, int32 [n], to 0."""
    drawn = keras.random.uniform(tf.shape(ids), seed=seed_generator)
    return tf.where(drawn < rate, 0, ids)
