"""A further part of an item or user embedding, beside text, id, features and history."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from tfrec.layer_trial import repeat_rows, try_layer
from tfrec.towers.tower_layer import TowerLayer


class TowerPart(TowerLayer, ABC):
    """The contract of the parts that `retrieval.item.parts` and `retrieval.user.parts` name.

    Args:
        num_ids: Largest id row.
        features: Fitted features of what `call` gets as `features`.
        text_dim: Length of the encoder's vector.
        embedding_dim: Length of the embedding.

    Example:
        Another look at the text, through a layer that is not linear:

        >>> import keras, numpy as np
        >>> from tfrec.towers import TowerPart
        >>> @keras.saving.register_keras_serializable("example")
        ... class DeepText(TowerPart):
        ...     def __init__(self, *, width=32, **kwargs):
        ...         super().__init__(**kwargs)
        ...         self.width = width
        ...         self.hidden = keras.layers.Dense(width, activation="gelu")
        ...         self.output_projection = keras.layers.Dense(self.embedding_dim)
        ...
        ...     def call(self, text_vector, id_row, features, training=False):
        ...         return self.output_projection(self.hidden(text_vector))
        ...
        ...     def get_config(self):
        ...         return super().get_config() | {"width": self.width}
        >>> part = DeepText(num_ids=9, features=[], text_dim=6, embedding_dim=4)
        >>> part(np.ones((2, 6)), np.array([1, 0]), {}).shape
        TensorShape([2, 4])
    """

    @abstractmethod
    def call(
        self,
        text_vector: tf.Tensor,
        id_row: tf.Tensor,
        features: Mapping[str, tf.Tensor],
        training: bool = False,
    ) -> tf.Tensor:
        """Embeds n items or requests.

        Args:
            text_vector: float32 [n, text_dim]; zeros without text.
            id_row: int32 [n], 0 for one without a row, and for all without `use_id`.
            features: Encoded features, [n, ...] each; see `FeatureType.encode_column`.
            training: Whether dropout is active. What the tower hides in training is hidden here:
                ids before, and this part as a feature after.

        Returns:
            float32 [n, embedding_dim], which joins the fusion (items) or the sum (users). In a
            model of mixed precision bfloat16.
        """


def check_tower_part(part: TowerPart, key: str) -> None:
    """Tries a part on two tiny batches; see `try_layer`.

    Raises:
        ConfigError: It breaks the contract.
    """
    unknown = {feature.name: feature.unknown_row() for feature in part.features}
    batches = [
        (
            [
                np.ones((count, part.text_dim), np.float32),
                np.minimum(np.arange(count), part.num_ids).astype(np.int32),
                repeat_rows(unknown, count),
            ],
            (count, part.embedding_dim),
        )
        for count in (2, 3)
    ]
    try_layer(part, key, batches, part.compute_dtype)
