"""How a history becomes a state: a causal transformer, attention pooling, or the plain mean.

Every reader answers with a state for each event, which has seen this event and those before it and
nothing behind. Only distances between events count, never their place in the window, so the state
of a prefix within a long window is the state that the prefix alone would have: training reads a
sequence once for all its targets and serving reads what the request brings.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfrec.errors import ConfigError, place_of
from tfrec.layer_trial import try_layer

MASKED = -1e9
"""In place of a logit that must not count."""


class HistoryReader(keras.layers.Layer, ABC):
    """The contract of all readers.

    One that `retrieval.user.history.kind` names is made with ``dim``, ``max_history`` and its
    options.

    Args:
        dim: Length of item embeddings and of states.
        max_history: Longest distance between events that is told apart.

    Example:
        The last event alone:

        >>> import keras, numpy as np, tensorflow as tf
        >>> from tfrec.towers import HistoryReader
        >>> @keras.saving.register_keras_serializable("example")
        ... class LastEvent(HistoryReader):
        ...     def call(self, events, segment, training=False):
        ...         return events * tf.cast(segment > 0, events.dtype)[..., None]
        >>> reader = LastEvent(dim=2, max_history=50)
        >>> reader(np.ones((1, 3, 2)), np.array([[0, 1, 1]])).numpy()[0]
        array([[0., 0.],
               [1., 1.],
               [1., 1.]], dtype=float32)
    """

    def __init__(self, dim: int, max_history: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dim = dim
        self.max_history = max_history

    @abstractmethod
    def call(self, events: tf.Tensor, segment: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Reads n rows of histories.

        Args:
            events: float32 [n, length, dim], oldest first, padding anywhere.
            segment: int32 [n, length], 0 on padding. Events of one number follow one another and
                are one history; those of other numbers are out of sight, so that a row may hold
                several short histories.
            training: Whether dropout is active.

        Returns:
            float32 [n, length, dim], the state after each event, which has seen nothing behind it;
            zeros on padding. In a model of mixed precision bfloat16, as the events.
        """

    def get_config(self) -> dict[str, Any]:
        """Returns what builds the layer again; see Keras."""
        return super().get_config() | {"dim": self.dim, "max_history": self.max_history}


@keras.saving.register_keras_serializable("tfrec")
class NoHistory(HistoryReader):
    """Sees nothing: every state is zero.

    Example:
        >>> import numpy as np
        >>> from tfrec.towers import NoHistory
        >>> reader = NoHistory(dim=4, max_history=50)
        >>> reader(np.ones((2, 3, 4)), np.array([[0, 1, 1], [1, 1, 1]])).shape
        TensorShape([2, 3, 4])
    """

    def call(self, events: tf.Tensor, segment: tf.Tensor, training: bool = False) -> tf.Tensor:
        return tf.zeros_like(events)


@keras.saving.register_keras_serializable("tfrec")
class MeanReader(HistoryReader):
    """The projected mean of the events so far.

    Example:
        >>> import numpy as np
        >>> from tfrec.towers import MeanReader
        >>> reader = MeanReader(dim=4, max_history=50)
        >>> reader(np.ones((2, 3, 4)), np.array([[0, 1, 1], [1, 1, 1]])).shape
        TensorShape([2, 3, 4])
    """

    def __init__(self, dim: int, max_history: int, **kwargs: Any) -> None:
        super().__init__(dim, max_history, **kwargs)
        self.output_projection = keras.layers.Dense(dim, name="output", dtype=self.dtype_policy)
        self.output_projection.build((None, None, dim))
        self.built = True

    def call(self, events: tf.Tensor, segment: tf.Tensor, training: bool = False) -> tf.Tensor:
        is_visible = tf.cast(visible_events(segment), events.dtype)  # [n, length, length]
        count = tf.reduce_sum(is_visible, axis=-1, keepdims=True)
        mean = tf.einsum("npj,njd->npd", is_visible, events) / tf.maximum(count, 1.0)
        return self.output_projection(mean) * tf.minimum(count, 1.0)


@keras.saving.register_keras_serializable("tfrec")
class AttentionReader(HistoryReader):
    """A weighted mean: what counts is what an item is and how many events ago it was.

    Example:
        >>> import numpy as np
        >>> from tfrec.towers import AttentionReader
        >>> reader = AttentionReader(dim=4, max_history=50)
        >>> reader(np.ones((2, 3, 4)), np.array([[0, 1, 1], [1, 1, 1]])).shape
        TensorShape([2, 3, 4])
    """

    def __init__(self, dim: int, max_history: int, **kwargs: Any) -> None:
        super().__init__(dim, max_history, **kwargs)
        self.recency = self.add_weight(shape=(max_history,), initializer="zeros", name="recency")
        self.hidden = keras.layers.Dense(
            dim, activation="tanh", name="hidden", dtype=self.dtype_policy
        )
        self.hidden.build((None, None, dim))
        self.weight = keras.layers.Dense(1, use_bias=False, name="weight", dtype=self.dtype_policy)
        self.weight.build((None, None, dim))
        self.output_projection = keras.layers.Dense(dim, name="output", dtype=self.dtype_policy)
        self.output_projection.build((None, None, dim))
        self.built = True

    def call(self, events: tf.Tensor, segment: tf.Tensor, training: bool = False) -> tf.Tensor:
        logits = self.weight(self.hidden(events))[:, None, :, 0]  # [n, 1, length]
        logits += tf.cast(by_distance(self.recency, tf.shape(events)[1]), logits.dtype)
        is_visible = visible_events(segment)  # [n, length, length]
        weights = tf.nn.softmax(tf.where(is_visible, logits, MASKED), axis=-1)
        pooled = self.output_projection(tf.einsum("npj,njd->npd", weights, events))
        return pooled * tf.cast(tf.reduce_any(is_visible, axis=-1)[..., None], pooled.dtype)


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


def check_history_reader(reader: HistoryReader, key: str) -> None:
    """Tries a reader on two tiny batches; see `try_layer`.

    Raises:
        ConfigError: It breaks the contract.
    """
    segments = (np.array([[0, 1, 1], [0, 0, 0]]), np.array([[1, 1], [0, 1], [1, 2]]))
    batches = [
        ([np.ones((*segment.shape, reader.dim), np.float32), segment.astype(np.int32)],
         (*segment.shape, reader.dim))
        for segment in segments
    ]  # fmt: skip
    try_layer(reader, key, batches, reader.compute_dtype)
    states = tf.boolean_mask(reader(*batches[0][0]), segments[0] == 0)
    if np.any(tf.cast(states, tf.float32)):
        raise ConfigError(
            f"{key}: {place_of(reader)}: wanted states of zeros "
            "on padding, where `segment` is 0, got other values."
        )
