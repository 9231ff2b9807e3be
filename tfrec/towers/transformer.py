"""A causal transformer as reader of histories."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tfrec.towers.history import MASKED, HistoryReader, by_distance, visible_events


@keras.saving.register_keras_serializable("tfrec")
class TransformerReader(HistoryReader):
    """A causal transformer: pre-norm blocks whose attention knows distances.

    Args:
        dim: Length of item embeddings and of states.
        max_history: Longest distance that is told apart.
        layers: Number of blocks.
        heads: Attention heads; must divide `dim`.
        dropout: Of inputs, attention weights and hidden layers.

    Source: Kang and McAuley, Self-Attentive Sequential Recommendation (2018); distances as a
        learned bias of the attention as in Raffel et al., T5 (2020), section 2.1.
    Deviates: Pre-norm blocks of the width 4 d with GELU; distances in place of absolute positions.

    Example:
        >>> import numpy as np
        >>> from tfrec.towers import TransformerReader
        >>> reader = TransformerReader(dim=4, max_history=50, heads=2)
        >>> reader(np.ones((2, 3, 4)), np.array([[0, 1, 1], [1, 1, 1]])).shape
        TensorShape([2, 3, 4])
    """

    def __init__(
        self,
        dim: int,
        max_history: int,
        *,
        layers: int = 2,
        heads: int = 2,
        dropout: float = 0.2,
        **kwargs: Any,
    ) -> None:
        super().__init__(dim, max_history, **kwargs)
        self.settings = {"layers": layers, "heads": heads, "dropout": dropout}
        dtype = self.dtype_policy
        self.input_norm = keras.layers.LayerNormalization(
            epsilon=1e-6, name="input_norm", dtype=dtype
        )
        self.input_norm.build((None, None, dim))
        self.input_dropout = keras.layers.Dropout(dropout, dtype=dtype)
        self.blocks = [
            _Block(dim, max_history, heads, dropout, name=f"block_{number}", dtype=dtype)
            for number in range(layers)
        ]
        self.output_norm = keras.layers.LayerNormalization(
            epsilon=1e-6, name="output_norm", dtype=dtype
        )
        self.output_norm.build((None, None, dim))
        self.built = True

    def get_config(self) -> dict[str, Any]:
        """Returns what builds the layer again; see Keras."""
        return super().get_config() | self.settings

    def call(self, events: tf.Tensor, segment: tf.Tensor, training: bool = False) -> tf.Tensor:
        is_visible = visible_events(segment)
        states = self.input_dropout(self.input_norm(events), training=training)
        for block in self.blocks:
            states = block(states, is_visible, training=training)
        has_event = tf.reduce_any(is_visible, axis=-1)[..., None]
        return self.output_norm(states) * tf.cast(has_event, states.dtype)


class _Block(keras.layers.Layer):
    """Attention and a feed-forward layer, each behind a norm and beside a shortcut."""

    def __init__(
        self, dim: int, max_history: int, heads: int, dropout: float, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        dtype = self.dtype_policy
        self.heads = heads
        self.head_dim = dim // heads
        self.distance = self.add_weight(
            shape=(max_history, heads), initializer="zeros", name="distance"
        )
        self.attention_norm = keras.layers.LayerNormalization(
            epsilon=1e-6, name="attention_norm", dtype=dtype
        )
        self.attention_norm.build((None, None, dim))
        self.query_key_value = keras.layers.Dense(3 * dim, name="query_key_value", dtype=dtype)
        self.query_key_value.build((None, None, dim))
        self.attention_output = keras.layers.Dense(dim, name="attention_output", dtype=dtype)
        self.attention_output.build((None, None, dim))
        self.attention_dropout = keras.layers.Dropout(dropout, dtype=dtype)
        self.hidden_norm = keras.layers.LayerNormalization(
            epsilon=1e-6, name="hidden_norm", dtype=dtype
        )
        self.hidden_norm.build((None, None, dim))
        self.hidden = keras.layers.Dense(4 * dim, activation="gelu", name="hidden", dtype=dtype)
        self.hidden.build((None, None, dim))
        self.output_projection = keras.layers.Dense(dim, name="output", dtype=dtype)
        self.output_projection.build((None, None, 4 * dim))
        self.dropout = keras.layers.Dropout(dropout, dtype=dtype)
        self.built = True

    def call(self, states: tf.Tensor, is_visible: tf.Tensor, training: bool = False) -> tf.Tensor:
        attended = self._attend(self.attention_norm(states), is_visible, training)
        states += self.dropout(attended, training=training)
        hidden = self.output_projection(self.hidden(self.hidden_norm(states)))
        return states + self.dropout(hidden, training=training)

    def _attend(self, states: tf.Tensor, is_visible: tf.Tensor, training: bool) -> tf.Tensor:
        count, length = tf.shape(states)[0], tf.shape(states)[1]
        split = tf.reshape(
            self.query_key_value(states), [count, length, 3, self.heads, self.head_dim]
        )
        query, key, value = tf.unstack(tf.transpose(split, [2, 0, 3, 1, 4]))  # [n, heads, l, hd]
        logits = tf.matmul(query, key, transpose_b=True) * self.head_dim**-0.5
        distance = tf.transpose(by_distance(self.distance, length), [2, 0, 1])  # [heads, l, l]
        logits += tf.cast(distance, logits.dtype)
        logits = tf.where(is_visible[:, None], logits, tf.cast(MASKED, logits.dtype))
        weights = self.attention_dropout(tf.nn.softmax(logits, axis=-1), training=training)
        mixed = tf.transpose(tf.matmul(weights, value), [0, 2, 1, 3])  # [n, l, heads, hd]
        return self.attention_output(tf.reshape(mixed, [count, length, self.heads * self.head_dim]))
