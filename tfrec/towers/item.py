"""The item tower: i = BERT(I) + i0, with i0 from the id, the item's features and own parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfrec.features.feature_type import FeatureType
from tfrec.towers.features import FeatureEmbedding
from tfrec.towers.fusion import Fusion, SumFusion
from tfrec.towers.part import TowerPart
from tfrec.towers.tower_layer import TowerLayer

_INITIAL_DEVIATION = 0.02
"""Of each entry of an id's vector and of a projected text. Small, so that the first steps turn
embeddings where they belong and nothing drawn by chance has to be forgotten."""


@keras.saving.register_keras_serializable("tfrec")
class ItemTower(TowerLayer):
    """Joins projected text, id, features and own parts to one vector.

    Args:
        num_ids: Items with a row of their own; row 0 is shared by all others.
        features: Fitted encoders of the item features.
        text_dim: Length of the encoder's vector.
        embedding_dim: Length of the embedding.
        fusion: Joins the parts; None: their sum.
        parts: Own parts by name.
        use_id: Whether an item with a row has a vector of its own.
        text_scale: Factor of text vectors before their projection. Below 1, texts are learned more
            slowly than ids.
        id_dropout: Share of ids hidden in training, which teaches row 0 to stand for new items.
        feature_dropout: Share of texts, of each feature and of each part hidden in training.
        is_unit: Whether embeddings are scaled to length 1.

    Example:
        >>> import numpy as np
        >>> from tfrec.towers import ConcatFusion, ItemTower
        >>> tower = ItemTower(100, [], text_dim=6, embedding_dim=4, fusion=ConcatFusion())
        >>> tower(np.ones((2, 6)), np.array([7, 0]), {}).shape
        TensorShape([2, 4])
    """

    layer_arguments = ("fusion", "parts")

    def __init__(
        self,
        num_ids: int,
        features: Sequence[FeatureType],
        text_dim: int,
        embedding_dim: int,
        *,
        fusion: Fusion | None = None,
        parts: Mapping[str, TowerPart] | None = None,
        use_id: bool = True,
        text_scale: float = 1.0,
        id_dropout: float = 0.1,
        feature_dropout: float = 0.0,
        is_unit: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_ids, features, text_dim, embedding_dim, **kwargs)
        self.use_id = use_id
        self.text_scale = text_scale
        self.id_dropout = id_dropout
        self.feature_dropout = feature_dropout
        self.is_unit = is_unit
        self.seed_generator = keras.random.SeedGenerator()
        self.id_embedding = keras.layers.Embedding(
            num_ids + 1 if use_id else 1,
            embedding_dim,
            embeddings_initializer=keras.initializers.RandomNormal(stddev=_INITIAL_DEVIATION),
            name="id",
            dtype=self.dtype_policy,
        )
        self.id_embedding.build(None)
        # Standardised texts begin as long as ids do: else ids would not be heard for long.
        self.text_projection = keras.layers.Dense(
            embedding_dim,
            use_bias=False,
            kernel_initializer=keras.initializers.VarianceScaling(_INITIAL_DEVIATION**2),
            name="text",
            dtype=self.dtype_policy,
        )
        self.text_projection.build((None, text_dim))
        self.feature_embedding = FeatureEmbedding(
            features, embedding_dim, name="features", dtype=self.dtype_policy
        )
        self.parts = dict(parts or {})
        self.fusion = fusion or SumFusion(name="fusion", dtype=self.dtype_policy)
        if not self.fusion.built:
            num_parts = 2 + len(features) + len(self.parts)
            self.fusion.build([(None, embedding_dim)] * num_parts)
        self.built = True

    def get_config(self) -> dict[str, Any]:
        """Returns what builds the layer again; see Keras."""
        return super().get_config() | {
            "fusion": keras.saving.serialize_keras_object(self.fusion),
            "parts": keras.saving.serialize_keras_object(dict(self.parts)),
            "use_id": self.use_id,
            "text_scale": self.text_scale,
            "id_dropout": self.id_dropout,
            "feature_dropout": self.feature_dropout,
            "is_unit": self.is_unit,
        }

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
        if not self.use_id:
            id_row = tf.zeros_like(id_row)
        text_vector = self.text_scale * text_vector
        content = [self.text_projection(text_vector), *self.feature_embedding(features)]
        if training and self.id_dropout:
            id_row = drop_ids(id_row, self.id_dropout, self.seed_generator)
        content += [
            part(text_vector, id_row, features, training=training) for part in self.parts.values()
        ]
        if training and self.feature_dropout:
            content = drop_parts(content, self.feature_dropout, self.seed_generator)
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
