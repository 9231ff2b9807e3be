"""A history reader: the last event alone."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tfrec.towers import HistoryReader


@keras.saving.register_keras_serializable("outside_parts")
class LastEvent(HistoryReader):
    """Projects the last event."""

    def __init__(self, dim: int, max_history: int, *, activation: str = "tanh", **kwargs: Any):
        super().__init__(dim, max_history, **kwargs)
        self.activation = activation
        self.projection = keras.layers.Dense(dim, activation=activation, name="projection")

    def call(self, events: tf.Tensor, segment: tf.Tensor, training: bool = False) -> tf.Tensor:
        return self.projection(events) * tf.cast(segment > 0, events.dtype)[..., None]

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"activation": self.activation}
