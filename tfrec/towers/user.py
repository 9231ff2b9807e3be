"""The user tower: u = BERT(U) + u0, with u0 from id, attributes, request, history and own parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfrec.features.feature_type import FeatureType
from tfrec.towers.features import FeatureEmbedding
from tfrec.towers.history import HistoryReader, NoHistory
from tfrec.towers.item import drop_ids
from tfrec.towers.part import TowerPart
from tfrec.towers.tower_layer import TowerLayer


@keras.saving.register_keras_serializable("tfrec")
class UserTower(TowerLayer):
    """Reads histories, then joins their states to text, id, attributes and request features.

    The two steps are apart, since one pass over a history serves all requests made along it.

    Args:
        num_ids: Users with a row of their own; row 0 is shared.
        features: Fitted encoders of user attributes and request features.
        text_dim: Length of the encoder's vector.
        embedding_dim: Length of the embedding.
        history: Reads histories, with states of length `embedding_dim`; None: nothing does.
        parts: Own parts by name; they join the sum.
        num_event_kinds: Declared kinds of events; None: kinds are not read.
        num_gaps: Buckets of the time between events; None: times are not read.
        use_id: Whether a user with a row has a vector of their own.
        id_dropout: Share of ids hidden in training.
        dropout: Share of histories, and of attributes and parts, hidden in training, so that
            requests without them are answered.
        hidden_layer: Whether a residual layer mixes the sum once more.
        is_unit: Whether embeddings are scaled to length 1.

    Example:
        >>> import numpy as np
        >>> from tfrec.towers import AttentionReader, UserTower
        >>> reader = AttentionReader(dim=4, max_history=50)
        >>> tower = UserTower(100, [], text_dim=6, embedding_dim=4, history=reader)
        >>> items, segment = np.ones((2, 3, 4)), np.array([[0, 1, 1], [1, 1, 1]])
        >>> states = tower.read_histories(items, segment)
        >>> tower(np.zeros((2, 6)), np.array([7, 0]), {}, states[:, -1]).shape
        TensorShape([2, 4])
    """

    layer_arguments = ("history", "parts")

    def __init__(
        self,
        num_ids: int,
        features: Sequence[FeatureType],
        text_dim: int,
        embedding_dim: int,
        *,
        history: HistoryReader | None = None,
        parts: Mapping[str, TowerPart] | None = None,
        num_event_kinds: int | None = None,
        num_gaps: int | None = None,
        use_id: bool = True,
        id_dropout: float = 0.8,
        dropout: float = 0.1,
        hidden_layer: bool = True,
        is_unit: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_ids, features, text_dim, embedding_dim, **kwargs)
        dtype = self.dtype_policy
        self.num_event_kinds = num_event_kinds
        self.num_gaps = num_gaps
        self.use_id = use_id
        self.id_dropout = id_dropout
        self.dropout = dropout
        self.hidden_layer = hidden_layer
        self.is_unit = is_unit
        self.seed_generator = keras.random.SeedGenerator()
        self.id_embedding = _embedding(num_ids if use_id else 0, embedding_dim, "id", dtype)
        self.text_projection = keras.layers.Dense(
            embedding_dim, use_bias=False, name="text", dtype=dtype
        )
        self.text_projection.build((None, text_dim))
        self.feature_embedding = FeatureEmbedding(
            features, embedding_dim, name="features", dtype=dtype
        )
        self.kind_embedding = self.gap_embedding = self.last_gap_embedding = None
        if num_event_kinds is not None:
            self.kind_embedding = _embedding(num_event_kinds, embedding_dim, "event_kind", dtype)
        if num_gaps is not None:
            self.gap_embedding = _embedding(num_gaps, embedding_dim, "gap", dtype)
            self.last_gap_embedding = _embedding(num_gaps, embedding_dim, "last_gap", dtype)
        self.reader = history or NoHistory(embedding_dim, 1, name="history", dtype=dtype)
        if self.reader.dim != embedding_dim:
            raise ValueError(
                f"`history.dim` must be `embedding_dim`. Received: {self.reader.dim} and "
                f"{embedding_dim}."
            )
        self.parts = dict(parts or {})
        if hidden_layer:
            self._build_hidden_layer()
        self.built = True

    def _build_hidden_layer(self) -> None:
        dim, dtype = self.embedding_dim, self.dtype_policy
        self.hidden = keras.layers.Dense(2 * dim, activation="gelu", name="hidden", dtype=dtype)
        self.hidden.build((None, dim))
        self.output_projection = keras.layers.Dense(
            dim, kernel_initializer="zeros", name="output", dtype=dtype
        )
        self.output_projection.build((None, 2 * dim))

    def get_config(self) -> dict[str, Any]:
        """Returns what builds the layer again; see Keras."""
        return super().get_config() | {
            "history": keras.saving.serialize_keras_object(self.reader),
            "parts": keras.saving.serialize_keras_object(dict(self.parts)),
            "num_event_kinds": self.num_event_kinds,
            "num_gaps": self.num_gaps,
            "use_id": self.use_id,
            "id_dropout": self.id_dropout,
            "dropout": self.dropout,
            "hidden_layer": self.hidden_layer,
            "is_unit": self.is_unit,
        }

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
            kinds: int32 [n, length], 0 unknown; None: not read.
            gaps: int32 [n, length], bucket of the time since the event before, 0 unknown; None: not
                read.
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
            last_gap: int32 [n], bucket of the time since the last event, 0 unknown; None: not read.
            training: Whether inputs are hidden.

        Returns:
            float32 [n, embedding_dim].
        """
        if not self.use_id:
            id_row = tf.zeros_like(id_row)
        embedded = self.feature_embedding(features)
        if self.last_gap_embedding is not None:
            embedded.append(self.last_gap_embedding(last_gap))
        if training and self.id_dropout:
            id_row = drop_ids(id_row, self.id_dropout, self.seed_generator)
        embedded += [
            part(text_vector, id_row, features, training=training) for part in self.parts.values()
        ]
        if training and self.dropout:
            drawn = keras.random.uniform((tf.shape(id_row)[0], 2), seed=self.seed_generator)
            keep = tf.cast(drawn >= self.dropout, state.dtype)
            state *= keep[:, :1]
            embedded = [part * keep[:, 1:] for part in embedded]
        parts = [self.text_projection(text_vector), self.id_embedding(id_row), state, *embedded]
        user = tf.add_n(parts)
        if self.hidden_layer:
            user += self.output_projection(self.hidden(user))
        user = tf.cast(user, tf.float32)  # scores want more than 16 bits
        return tf.math.l2_normalize(user, axis=-1) if self.is_unit else user


def _embedding(
    num_known: int, dim: int, name: str, dtype: keras.DTypePolicy
) -> keras.layers.Embedding:
    """Returns a table with a row for each known value and row 0 for the unknown."""
    layer = keras.layers.Embedding(num_known + 1, dim, name=name, dtype=dtype)
    layer.build(None)
    return layer
