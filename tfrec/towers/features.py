"""Features to embeddings: one projection a feature, shared by towers and ranking model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfrec.features.tabular import FeatureEncoder, load_feature


@keras.saving.register_keras_serializable("tfrec")
class FeatureEmbedding(keras.layers.Layer):
    """Embeds each feature of a row.

    Args:
        encoders: What was learned about the features; decides table sizes.
        dim: Size of each embedding.

    Example:
        >>> import numpy as np
        >>> from tfrec.features.tabular import FeatureEncoder
        >>> from tfrec.towers import FeatureEmbedding
        >>> brand = FeatureEncoder("brand", "category", vocabulary=["acme", "zeta"])
        >>> [part.shape for part in FeatureEmbedding([brand], 4)({"brand": np.array([1, 0, 2])})]
        [TensorShape([3, 4])]
    """

    def __init__(self, encoders: Sequence[FeatureEncoder], dim: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.encoders = list(encoders)
        self.dim = dim
        self.projections: dict[str, keras.layers.Layer] = {}
        for number, encoder in enumerate(self.encoders):
            name = f"feature_{number}"  # a column's name may hold what Keras forbids in names
            if encoder.is_category:
                layer: keras.layers.Layer = keras.layers.Embedding(
                    encoder.num_rows, dim, name=name, dtype=self.dtype_policy
                )
                layer.build(None)
            else:
                layer = keras.layers.Dense(dim, name=name, dtype=self.dtype_policy)
                layer.build((None, encoder.width))
            self.projections[encoder.name] = layer
        self.built = True

    def get_config(self) -> dict[str, Any]:
        """Returns what builds the layer again; see Keras."""
        encoders = [encoder.to_dict() for encoder in self.encoders]
        return super().get_config() | {"encoders": encoders, "dim": self.dim}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> FeatureEmbedding:
        """Builds the layer that `get_config` describes, without its weights."""
        encoders = [load_feature(saved) for saved in config["encoders"]]
        return cls(**(config | {"encoders": encoders}))

    def call(self, inputs: Mapping[str, tf.Tensor]) -> list[tf.Tensor]:
        """Embeds n rows.

        Args:
            inputs: Feature name to array; see `FeatureEncoder.encode_column`.

        Returns:
            A float32 [n, dim] for each feature, in the order of the encoders. A list of
            categories is the mean of its known members.
        """
        embedded = []
        for encoder in self.encoders:
            value = inputs[encoder.name]
            projected = self.projections[encoder.name](value)
            if encoder.type == "category_list":  # [n, members, dim] -> [n, dim]
                is_known = tf.cast(value > 0, projected.dtype)[..., None]
                count = tf.maximum(tf.reduce_sum(is_known, axis=-2), 1.0)
                projected = tf.reduce_sum(projected * is_known, axis=-2) / count
            embedded.append(projected)
        return embedded
