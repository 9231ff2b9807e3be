"""What a text encoder is: a layer that turns token ids into one vector a text."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfrec.errors import ConfigError, place_of
from tfrec.layer_trial import try_layer


class TextEncoder(keras.layers.Layer, ABC):
    """The contract of all text encoders.

    One that `encoder.kind` names is made with ``vocabulary_size`` (ids are smaller), ``max_tokens``
    (no text is longer) and its options. It learns with the towers unless `encoder.adaptation` is
    ``frozen``, when it must know something from the start; it has no masked-LM pre-training.

    Args:
        hidden_dim: Length of a text's vector.

    Example:
        The mean of learned vectors of the words:

        >>> import keras, numpy as np, tensorflow as tf
        >>> from tfrec.encoders import TextEncoder
        >>> @keras.saving.register_keras_serializable("example")
        ... class BagOfWords(TextEncoder):
        ...     def __init__(self, vocabulary_size, max_tokens, hidden_dim=16, **kwargs):
        ...         super().__init__(hidden_dim, **kwargs)
        ...         self.limits = {"vocabulary_size": vocabulary_size, "max_tokens": max_tokens}
        ...         self.words = keras.layers.Embedding(vocabulary_size, hidden_dim)
        ...
        ...     def call(self, token_ids, training=False):
        ...         is_token = tf.cast(token_ids != 0, tf.float32)[..., None]
        ...         total = tf.reduce_sum(self.words(token_ids) * is_token, axis=1)
        ...         return total / tf.maximum(tf.reduce_sum(is_token, axis=1), 1.0)
        ...
        ...     def get_config(self):
        ...         return super().get_config() | self.limits
        >>> encoder = BagOfWords(vocabulary_size=100, max_tokens=8)
        >>> encoder(np.array([[7, 8, 0], [0, 0, 0]])).shape
        TensorShape([2, 16])
    """

    def __init__(self, hidden_dim: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.hidden_dim = hidden_dim

    @abstractmethod
    def call(self, token_ids: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Encodes texts.

        Args:
            token_ids: int32 [n, length], 0 pads; a row of zeros is an empty text.
            training: Whether dropout is active.

        Returns:
            float32 [n, hidden_dim], in a model of mixed precision too; zeros for an empty text.
        """

    def standardize(self, vectors: np.ndarray) -> None:
        """Learns from the vectors of the catalogue's texts, once before the towers are trained.

        Args:
            vectors: float32 [n, hidden_dim], what `call` gave. By default nothing is learned.
        """

    def get_config(self) -> dict[str, Any]:
        """Returns what builds the layer again; see Keras."""
        return super().get_config() | {"hidden_dim": self.hidden_dim}


def check_text_encoder(encoder: TextEncoder, key: str, vocabulary_size: int) -> None:
    """Tries an encoder on two tiny batches; see `try_layer`.

    Raises:
        ConfigError: It breaks the contract.
    """
    rows = (np.array([[1, 2, 0], [0, 0, 0]]), np.array([[3, 0], [1, 1], [0, 0]]))
    tokens = [(values % vocabulary_size).astype(np.int32) for values in rows]
    batches = [([values], (len(values), encoder.hidden_dim)) for values in tokens]
    try_layer(encoder, key, batches, "float32")
    if np.any(encoder(tokens[0])[1]):
        raise ConfigError(
            f"{key}: {place_of(encoder)}: wanted zeros for an "
            "empty text, a row of zeros, got other values."
        )
