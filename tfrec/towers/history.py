"""How a history becomes a state: a causal transformer, attention pooling, or the plain mean.

Every reader answers with a state for each event, which has seen this event and those before it and
nothing behind. Only distances between events count, never their place in the window, so the state
of a prefix within a long window is the state that the prefix alone would have: training reads a
sequence once for all its targets and serving reads what the request brings.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tfrec.config.retrieval import History

_MASKED = -1e9


class HistoryReader(keras.layers.Layer):
    """The base of all readers.

    Args:
        dim: Length of item embeddings and of states.
        max_history: Longest distance between events that is told apart.
    """

    def __init__(self, dim: int, max_history: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dim = dim
        self.max_history = max_history

    def call(self, events: tf.Tensor, segment: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Reads n rows of histories.

        Args:
            events: float32 [n, length, dim], oldest first, padding anywhere.
            segment: int32 [n, length], 0 on padding. Events of one number follow one another and
                are one history; those of other numbers are out of sight, so that a row may hold
                several short histories.
            training: Whether dropout is active.

        Returns:
            float32 [n, length, dim], the state after each event; zeros on padding.
        """
        raise NotImplementedError


class NoHistory(HistoryReader):
    """Sees nothing: every state is zero."""

    def call(self, events: tf.Tensor, segment: tf.Tensor, training: bool = False) -> tf.Tensor:
        return tf.zeros_like(events)


class MeanReader(HistoryReader):
    """The projected mean of the events so far."""

    def __init__(self, dim: int, max_history: int, **kwargs: Any) -> None:
        super().__init__(dim, max_history, **kwargs)
        self.output_projection = keras.layers.Dense(dim, name="output")
        self.output_projection.build((None, None, dim))
        self.built = True

    def call(self, events: tf.Tensor, segment: tf.Tensor, training: bool = False) -> tf.Tensor:
        is_visible = tf.cast(visible_events(segment), events.dtype)  # [n, length, length]
        count = tf.reduce_sum(is_visible, axis=-1, keepdims=True)
        mean = tf.einsum("npj,njd->npd", is_visible, events) / tf.maximum(count, 1.0)
        return self.output_projection(mean) * tf.minimum(count, 1.0)


class AttentionReader(HistoryReader):
    """A weighted mean: what counts is what an item is and how many events ago it was."""

    def __init__(self, dim: int, max_history: int, **kwargs: Any) -> None:
        super().__init__(dim, max_history, **kwargs)
        self.recency = self.add_weight(shape=(max_history,), initializer="zeros", name="recency")
        self.hidden = keras.layers.Dense(dim, activation="tanh", name="hidden")
        self.hidden.build((None, None, dim))
        self.weight = keras.layers.Dense(1, use_bias=False, name="weight")
        self.weight.build((None, None, dim))
        self.output_projection = keras.layers.Dense(dim, name="output")
        self.output_projection.build((None, None, dim))
        self.built = True

    def call(self, events: tf.Tensor, segment: tf.Tensor, training: bool = False) -> tf.Tensor:
        logits = self.weight(self.hidden(events))[:, None, :, 0]  # [n, 1, length]
        logits += tf.cast(by_distance(self.recency, tf.shape(events)[1]), logits.dtype)
        is_visible = visible_events(segment)  # [n, length, length]
        weights = tf.nn.softmax(tf.where(is_visible, logits, _MASKED), axis=-1)
        pooled = self.output_projection(tf.einsum("npj,njd->npd", weights, events))
        return pooled * tf.cast(tf.reduce_any(is_visible, axis=-1)[..., None], pooled.dtype)


class TransformerReader(HistoryReader):
    """A causal transformer: pre-norm blocks whose attention knows distances.

    Args:
        dim: Length of item embeddings and of states.
        max_history: Longest distance that is told apart.
        layers: Number of blocks.
        heads: Attention heads.
        dropout: Of inputs, attention weights and hidden layers.

    Source: Kang and McAuley, Self-Attentive Sequential Recommendation (2018); distances as a
        learned bias of the attention as in Raffel et al., T5 (2020), section 2.1.
    Deviates: Pre-norm blocks of the width 4 d with GELU; distances in place of absolute positions.
    """

    def __init__(
        self,
        dim: int,
        max_history: int,
        *,
        layers: int,
        heads: int,
        dropout: float,
        **kwargs: Any,
    ) -> None:
        super().__init__(dim, max_history, **kwargs)
        self.input_norm = keras.layers.LayerNormalization(epsilon=1e-6, name="input_norm")
        self.input_norm.build((None, None, dim))
        self.input_dropout = keras.layers.Dropout(dropout)
        self.blocks = [
            _Block(dim, max_history, heads, dropout, name=f"block_{number}")
            for number in range(layers)
        ]
        self.output_norm = keras.layers.LayerNormalization(epsilon=1e-6, name="output_norm")
        self.output_norm.build((None, None, dim))
        self.built = True

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
        self.heads = heads
        self.head_dim = dim // heads
        self.distance = self.add_weight(
            shape=(max_history, heads), initializer="zeros", name="distance"
        )
        self.attention_norm = keras.layers.LayerNormalization(epsilon=1e-6, name="attention_norm")
        self.attention_norm.build((None, None, dim))
        self.query_key_value = keras.layers.Dense(3 * dim, name="query_key_value")
        self.query_key_value.build((None, None, dim))
        self.attention_output = keras.layers.Dense(dim, name="attention_output")
        self.attention_output.build((None, None, dim))
        self.attention_dropout = keras.layers.Dropout(dropout)
        self.hidden_norm = keras.layers.LayerNormalization(epsilon=1e-6, name="hidden_norm")
        self.hidden_norm.build((None, None, dim))
        self.hidden = keras.layers.Dense(4 * dim, activation="gelu", name="hidden")
        self.hidden.build((None, None, dim))
        self.output_projection = keras.layers.Dense(dim, name="output")
        self.output_projection.build((None, None, 4 * dim))
        self.dropout = keras.layers.Dropout(dropout)
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
        logits = tf.where(is_visible[:, None], logits, tf.cast(_MASKED, logits.dtype))
        weights = self.attention_dropout(tf.nn.softmax(logits, axis=-1), training=training)
        mixed = tf.transpose(tf.matmul(weights, value), [0, 2, 1, 3])  # [n, l, heads, hd]
        return self.attention_output(tf.reshape(mixed, [count, length, self.heads * self.head_dim]))


def build_reader(settings: History, dim: int, max_history: int, name: str) -> HistoryReader:
    """Returns the reader that the configuration names."""
    if settings.kind == "transformer":
        return TransformerReader(
            dim,
            max_history,
            layers=settings.layers,
            heads=settings.heads,
            dropout=settings.dropout,
            name=name,
        )
    kinds = {"attention": AttentionReader, "mean": MeanReader, "none": NoHistory}
    return kinds[settings.kind](dim, max_history, name=name)


def visible_events(segment: tf.Tensor) -> tf.Tensor:
    """Tells which events each place may see: itself and earlier ones of the same history.

    Args:
        segment: int32 [n, length], 0 on padding.

    Returns:
        bool [n, length, length]; entry [i, p, j] is about place p looking at j. A place of padding
        sees nothing.
    """
    place = tf.range(tf.shape(segment)[1])
    is_same = (segment[:, :, None] == segment[:, None, :]) & (segment[:, None, :] > 0)
    return is_same & (place[None, :] <= place[:, None])


def by_distance(values: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
    """Lays out what is learned for each distance by pairs of places.

    Args:
        values: [max_history, ...], entry d is about an event d places before; farther events share
            the last entry.
        length: Places, a scalar.

    Returns:
        [length, length, ...]; entry [p, j] is about place p looking at j, of no meaning for j > p.
    """
    place = tf.range(length)
    distance = tf.clip_by_value(place[:, None] - place[None, :], 0, values.shape[0] - 1)
    return tf.gather(tf.convert_to_tensor(values), distance)
