"""The retrieval model: one text encoder, an item tower and a user tower."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfrec.config import Retrieval
from tfrec.encoders.bert import TextEncoder
from tfrec.features.feature_type import FeatureType
from tfrec.towers.item import ItemTower
from tfrec.towers.user import UserTower


class RetrievalModel(keras.layers.Layer):
    """u = BERT(U) + u0 and i = BERT(I) + i0; the score of a pair is their dot product.

    Args:
        encoder: Turns token ids into vectors, for items and requests alike.
        num_item_ids: Items with an id row of their own.
        num_user_ids: Users with an id row of their own.
        item_features: Fitted encoders of the item features.
        request_features: Fitted encoders of user attributes and request features.
        max_history: Length of a history.
        config: Sizes, towers and similarity.
        num_event_kinds: Declared kinds of events.
        num_gaps: Buckets of the time between events.
    """

    def __init__(
        self,
        encoder: TextEncoder,
        *,
        num_item_ids: int,
        num_user_ids: int,
        item_features: Sequence[FeatureType],
        request_features: Sequence[FeatureType],
        max_history: int,
        config: Retrieval,
        num_event_kinds: int = 0,
        num_gaps: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.embedding_dim = config.embedding_dim
        self.max_history = max_history
        self.history = config.user.history
        self.encoder = encoder
        is_unit = config.loss.similarity == "cosine"
        self.item_tower = ItemTower(
            num_item_ids,
            item_features,
            encoder.hidden_dim,
            config.embedding_dim,
            config.item,
            is_unit=is_unit,
            name="item_tower",
        )
        self.user_tower = UserTower(
            num_user_ids,
            request_features,
            encoder.hidden_dim,
            config.embedding_dim,
            max_history,
            config.user,
            num_event_kinds=num_event_kinds,
            num_gaps=num_gaps,
            is_unit=is_unit,
            name="user_tower",
        )
        self.log_temperature = self.add_weight(
            shape=(),
            initializer=keras.initializers.Constant(math.log(config.loss.temperature)),
            trainable=config.loss.learn_temperature,
            name="log_temperature",
        )
        self.rating_offset = self.add_weight(
            shape=(), initializer="zeros", trainable=False, name="rating_offset"
        )
        self.built = True

    @property
    def temperature(self) -> float:
        """What scores are divided by before a softmax."""
        return math.exp(float(self.log_temperature.numpy()))

    def embed_items(
        self,
        text_vector: tf.Tensor,
        id_row: tf.Tensor,
        features: Mapping[str, tf.Tensor],
        training: bool = False,
    ) -> tf.Tensor:
        """See `ItemTower.call`."""
        return self.item_tower(text_vector, id_row, features, training=training)

    def read_histories(
        self,
        items: tf.Tensor,
        segment: tf.Tensor,
        kinds: tf.Tensor | None = None,
        gaps: tf.Tensor | None = None,
        training: bool = False,
    ) -> tf.Tensor:
        """See `UserTower.read_histories`."""
        return self.user_tower.read_histories(items, segment, kinds, gaps, training=training)

    def embed_requests(
        self,
        text_vector: tf.Tensor,
        id_row: tf.Tensor,
        features: Mapping[str, tf.Tensor],
        state: tf.Tensor,
        last_gap: tf.Tensor | None = None,
        training: bool = False,
    ) -> tf.Tensor:
        """See `UserTower.call`."""
        return self.user_tower(text_vector, id_row, features, state, last_gap, training=training)
