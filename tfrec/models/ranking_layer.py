"""What reads all of a pair beside the MLP of the ranking model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfrec.errors import ConfigError, place_of, reason_of
from tfrec.layer_trial import try_layer


class RankingLayer(keras.layers.Layer, ABC):
    """The contract of all layers beside the MLP; one of `ranking.layers` is made with its options.

    What it answers stands beside the MLP's last hidden layer, before the heads. Weights are made in
    `build`, which is given the shape (None, width).

    Example:
        >>> import keras, numpy as np, tensorflow as tf
        >>> from tfrec.models.ranking_layer import RankingLayer
        >>> @keras.saving.register_keras_serializable("example")
        ... class Squares(RankingLayer):
        ...     def call(self, pairs, training=False):
        ...         return tf.square(pairs)
        >>> Squares()(np.array([[1.0, 3.0]])).numpy()
        array([[1., 9.]], dtype=float32)
    """

    @abstractmethod
    def call(self, pairs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Reads n pairs of a request and an item.

        Args:
            pairs: float32 [n, width], all that the model reads of request and item, joined.
            training: Whether dropout is active.

        Returns:
            float32 [n, any width].
        """


def check_ranking_layer(layer: RankingLayer, key: str, width: int) -> None:
    """Tries a layer on two tiny batches; see `try_layer`.

    Raises:
        ConfigError: It breaks the contract.
    """
    part = f"{key}: {place_of(layer)}"
    try:
        shape: Any = np.shape(layer(np.ones((2, width), np.float32)))
    except Exception as error:  # a layer of somebody else raises whatever it raises
        reason = reason_of(error)
        raise ConfigError(f"{part}: failed on a small batch: {reason}") from error
    if len(shape) != 2:
        raise ConfigError(f"{part}: wanted float32 [2, any width], got the shape {list(shape)}.")
    batches = [([np.ones((count, width), np.float32)], (count, int(shape[1]))) for count in (2, 3)]
    try_layer(layer, key, batches, "float32")
