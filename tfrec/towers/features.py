"""Features to embeddings: one projection a feature, shared by towers and ranking model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfrec.features.feature_type import FeatureType, load_feature


@keras.saving.register_keras_serializable(package="tfrec")
class FeatureEmbedding(keras.layers.Layer):
    """Embeds each feature of a row.

    >>> from tfrec.features import Category, Number
    >>> features = [Category("brand", vocabulary=["a", "b"]), Number("price", mean=3.0)]
    >>> layer = FeatureEmbedding(features, dim=4)
    >>> inputs = {"brand": tf.constant([2, 0]), "price": tf.constant([[1.0, 0.0], [0.0, 1.0]])}
    >>> [embedded.shape for embedded in layer(inputs)]
    [TensorShape([2, 4]), TensorShape([2, 4])]

    Args:
        features: Fitted features; each makes its own layer.
        dim: Size of each embedding.
    """

    def __init__(self, features: Sequence[FeatureType], dim: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.features = list(features)
        self.dim = dim
        # A column's name may hold what Keras forbids in names.
        self.projections: dict[str, keras.layers.Layer] = {
            feature.name: feature.layer(dim, f"feature_{number}")
            for number, feature in enumerate(self.features)
        }
        for layer in self.projections.values():
            layer.dtype_policy = self.dtype_policy
        self.built = True

    def call(self, inputs: Mapping[str, tf.Tensor]) -> list[tf.Tensor]:
        """Embeds n rows.

        Args:
            inputs: Feature name to array; see `FeatureType.encode_column`.

        Returns:
            A float32 [n, dim] for each feature, in their order.
        """
        return [self.projections[f.name](inputs[f.name]) for f in self.features]

    def get_config(self) -> dict[str, Any]:
        """Returns what `from_config` needs: what was learned about the features, and `dim`."""
        features = [feature.to_dict() for feature in self.features]
        return {**super().get_config(), "features": features, "dim": self.dim}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> FeatureEmbedding:
        """Takes `get_config` back."""
        return cls(**{**config, "features": [load_feature(saved) for saved in config["features"]]})
