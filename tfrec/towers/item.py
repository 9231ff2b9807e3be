"""The item tower: i = BERT(I) + i0, with i0 from the id and the item's features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfrec.config.retrieval import ItemSide
from tfrec.features.feature_type import FeatureType
from tfrec.towers.features import FeatureEmbedding
from tfrec.towers.fusion import build_fusion

_INITIAL_DEVIATION = 0.02
"""Of each entry of an id's vector and of a projected text. Small, so that the first steps turn
embeddings where they belong and nothing drawn by chance has to be forgotten."""


class ItemTower(keras.layers.Layer):
    """Joins projected text, id and features to one vector.

    Args:
        num_ids: Items with a row of their own; row 0 is shared by all others.
        features: Fitted encoders of the item features.
        text_dim: Length of the encoder's vector.
        embedding_dim: Length of the embedding.
        settings: What counts, how it is joined, what is hidden in training. Hiding ids teaches row
            0 to stand for new items.
        is_unit: Whether embeddings are scaled to length 1.
    """

    def __init__(
        self,
        num_ids: int,
        features: Sequence[FeatureType],
        text_dim: int,
        embedding_dim: int,
        settings: ItemSide,
        is_unit: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.settings = settings
        self.is_unit = is_unit
        self.seed_generator = keras.random.SeedGenerator()
        num_rows = num_ids + 1 if settings.use_id else 1
        self.id_embedding = keras.layers.Embedding(
            num_rows,
            embedding_dim,
            embeddings_initializer=keras.initializers.RandomNormal(stddev=_INITIAL_DEVIATION),
            name="id",
        )
        self.id_embedding.build(None)
        # Standardised texts begin as long as ids do: else ids would not be heard for long.
        self.text_projection = keras.layers.Dense(
            embedding_dim,
            use_bias=False,
            kernel_initializer=keras.initializers.VarianceScaling(_INITIAL_DEVIATION**2),
            name="text",
        )
        self.text_projection.build((None, text_dim))
        self.feature_embedding = FeatureEmbedding(features, embedding_dim, name="features")
        self.fusion = build_fusion(settings.fusion, 2 + len(features), embedding_dim)
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
            training: Whether ids and features are hidden.

        Returns:
            float32 [n, embedding_dim].
        """
        if not self.settings.use_id:
            id_row = tf.zeros_like(id_row)
        text_vector = self.settings.text_scale * text_vector
        content = [self.text_projection(text_vector), *self.feature_embedding(features)]
        if training and self.settings.id_dropout:
            id_row = drop_ids(id_row, self.settings.id_dropout, self.seed_generator)
        if training and self.settings.feature_dropout:
            content = drop_parts(content, self.settings.feature_dropout, self.seed_generator)
        fused = self.fusion([*content, self.id_embedding(id_row)])
        embedding = tf.cast(fused, tf.float32)  # scores want more than 16 bits
        return tf.math.l2_normalize(embedding, axis=-1) if self.is_unit else embedding


def drop_ids(ids: tf.Tensor, rate: float, seed_generator: keras.random.SeedGenerator) -> tf.Tensor:
    """Sets about `rate` of the entries of `ids`, int32 [n], to 0."""
    drawn = keras.random.uniform(tf.shape(ids), seed=seed_generator)
    return tf.where(drawn < rate, 0, ids)


def drop_parts(
    parts: Sequence[tf.Tensor], rate: float, seed_generator: keras.random.SeedGenerator
) -> list[tf.Tensor]:
    """Sets about `rate` of the rows of each part, [n, dim], to zeros, independently."""
    count = tf.shape(parts[0])[0]
    drawn = keras.random.uniform((count, len(parts)), seed=seed_generator)
    keep = tf.cast(drawn >= rate, parts[0].dtype)
    return [part * keep[:, number, None] for number, part in enumerate(parts)]
