"""What both towers and their further parts are built on: sizes, fitted features, and a config."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import keras

from tfrec.features.feature_type import FeatureType, load_feature


class TowerLayer(keras.layers.Layer):
    """A layer over id, features and text of items or requests.

    Args:
        num_ids: Largest id row.
        features: Fitted.
        text_dim: Length of the encoder's vector.
        embedding_dim: Length of the embedding.

    Attributes:
        layer_arguments: Arguments of the constructor that are layers, or mappings of layers, which
            stand in the config in the form of Keras.
    """

    layer_arguments: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        num_ids: int,
        features: Sequence[FeatureType],
        text_dim: int,
        embedding_dim: int,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.num_ids = num_ids
        self.features = list(features)
        self.text_dim = text_dim
        self.embedding_dim = embedding_dim

    def get_config(self) -> dict[str, Any]:
        """Returns what builds the layer again; see Keras."""
        return super().get_config() | {
            "num_ids": self.num_ids,
            "features": [feature.to_dict() for feature in self.features],
            "text_dim": self.text_dim,
            "embedding_dim": self.embedding_dim,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Builds the layer that `get_config` describes, without its weights."""
        load = keras.saving.deserialize_keras_object
        layers = {name: load(config[name]) for name in cls.layer_arguments}
        features = [load_feature(saved) for saved in config["features"]]
        return cls(**(config | layers | {"features": features}))
