"""The user tower: u = BERT(U) + u0, with u0 from id, attributes, request and history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfrec.config.retrieval import UserSide
from tfrec.features.feature_type import FeatureType
from tfrec.towers.features import FeatureEmbedding
from tfrec.towers.history import build_reader
from tfrec.towers.item import drop_ids


class UserTower(keras.layers.Layer):
    """Reads histories, then joins their states to text, id, attributes and request features.

    The two steps are apart, since one pass over a history serves all requests made along it.

    Args:
        num_ids: Users with a row of their own; row 0 is shared.
        features: Fitted encoders of user attributes and request features.
        text_dim: Length of the encoder's vector.
        embedding_dim: Length of the embedding.
        max_history: Length of a history.
        settings: How histories are read; what is hidden in training, so that requests without it
            are answered.
        num_event_kinds: Declared kinds of events.
        num_gaps: Buckets of the time between events.
        is_unit: Whether embeddings are scaled to length 1.
    """

    def __init__(
        self,
        num_ids: int,
        features: Sequence[FeatureType],
        text_dim: int,
        embedding_dim: int,
        max_history: int,
        settings: UserSide,
        num_event_kinds: int = 0,
        num_gaps: int = 0,
        is_unit: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.settings = settings
        self.is_unit = is_unit
        self.seed_generator = keras.random.SeedGenerator()
        self.id_embedding = _embedding(num_ids if settings.use_id else 0, embedding_dim, "id")
        self.text_projection = keras.layers.Dense(embedding_dim, use_bias=False, name="text")
        self.text_projection.build((None, text_dim))
        self.feature_embedding = FeatureEmbedding(features, embedding_dim, name="features")
        history = settings.history
        self.kind_embedding = self.gap_embedding = self.last_gap_embedding = None
        if history.event_kinds:
            self.kind_embedding = _embedding(num_event_kinds, embedding_dim, "event_kind")
        if history.time_gaps:
            self.gap_embedding = _embedding(num_gaps, embedding_dim, "gap")
            self.last_gap_embedding = _embedding(num_gaps, embedding_dim, "last_gap")
        self.reader = build_reader(history, embedding_dim, max_history, "history")
        if settings.hidden_layer:
            self.hidden = keras.layers.Dense(2 * embedding_dim, activation="gelu", name="hidden")
            self.hidden.build((None, embedding_dim))
            self.output_projection = keras.layers.Dense(
                embedding_dim, kernel_initializer="zeros", name="output"
            )
            self.output_projection.build((None, 2 * embedding_dim))
        self.built = True

    def read_histories(
        self,
        items: tf.Tensor,
        segment: tf.Tensor,
        kinds: tf.Tensor | None = None,
        gaps: tf.Tensor | None = None,
        training: bool = False,
    ) -> tf.Tensor:
        """Reads n rows of histories.

        Args:
            items: float32 [n, length, embedding_dim], item embeddings, oldest first.
            segment: int32 [n, length], 0 on padding; see `HistoryReader.call`.
            kinds: int32 [n, length], 0 unknown; read with `history.event_kinds`.
            gaps: int32 [n, length], bucket of the time since the event before, 0 unknown; read
                with `history.time_gaps`.
            training: Whether dropout is active.

        Returns:
            float32 [n, length, embedding_dim], the state after each event.
        """
        if self.kind_embedding is not None:
            items += self.kind_embedding(kinds)
        if self.gap_embedding is not None:
            items += self.gap_embedding(gaps)
        return self.reader(items, segment, training=training)

    def call(
        self,
        text_vector: tf.Tensor,
        id_row: tf.Tensor,
        features: Mapping[str, tf.Tensor],
        state: tf.Tensor,
        last_gap: tf.Tensor | None = None,
        training: bool = False,
    ) -> tf.Tensor:
        """Embeds n requests.

        Args:
            text_vector: float32 [n, text_dim], BERT(U); zeros without text.
            id_row: int32 [n], 0 for an unknown user.
            features: Encoded attributes and request features, [n, ...] each.
            state: float32 [n, embedding_dim], of the history; zeros for an empty one.
            last_gap: int32 [n], bucket of the time since the last event, 0 unknown; read with
                `history.time_gaps`.
            training: Whether inputs are hidden.

        Returns:
            float32 [n, embedding_dim].
        """
        if not self.settings.use_id:
            id_row = tf.zeros_like(id_row)
        embedded = self.feature_embedding(features)
        if self.last_gap_embedding is not None:
            embedded.append(self.last_gap_embedding(last_gap))
        if training and self.settings.id_dropout:
            id_row = drop_ids(id_row, self.settings.id_dropout, self.seed_generator)
        if training and self.settings.dropout:
            drawn = keras.random.uniform((tf.shape(id_row)[0], 2), seed=self.seed_generator)
            keep = tf.cast(drawn >= self.settings.dropout, state.dtype)
            state *= keep[:, :1]
            embedded = [part * keep[:, 1:] for part in embedded]
        parts = [self.text_projection(text_vector), self.id_embedding(id_row), state, *embedded]
        user = tf.add_n(parts)
        if self.settings.hidden_layer:
            user += self.output_projection(self.hidden(user))
        user = tf.cast(user, tf.float32)  # scores want more than 16 bits
        return tf.math.l2_normalize(user, axis=-1) if self.is_unit else user


def _embedding(num_known: int, dim: int, name: str) -> keras.layers.Embedding:
    """Returns a table with a row for each known value and row 0 for the unknown."""
    layer = keras.layers.Embedding(num_known + 1, dim, name=name)
    layer.build(None)
    return layer
