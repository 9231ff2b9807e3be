"""The retrieval model: one text encoder, an item tower and a user tower."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfrec.config import Retrieval
from tfrec.data.tabular import FeatureEncoder
from tfrec.encoders.bert import TextEncoder
from tfrec.towers.item import ItemTower
from tfrec.towers.user import UserTower


class RetrievalModel(keras.layers.Layer):
    """u = BERT(U) + u0 and i = BERT(I) + i0; the score of a pair is their dot product.

    Args:
        encoder: Turns token ids into vectors, for items and requests alike.
        num_item_ids: Items with an id row of their own.
        num_user_ids: Users with an id row of their own; 0 for a model without user ids.
        item_features: Fitted encoders of the item features.
        request_features: Fitted encoders of user attributes and request features.
        max_history: Length of a history.
        config: Sizes and dropout.
    """

    def __init__(
        self,
        encoder: TextEncoder,
        *,
        num_item_ids: int,
        num_user_ids: int,
        item_features: Sequence[FeatureEncoder],
        request_features: Sequence[FeatureEncoder],
        max_history: int,
        config: Retrieval,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.embedding_dim = config.embedding_dim
        self.max_history = max_history
        self.encoder = encoder
        self.item_tower = ItemTower(
            num_item_ids,
            item_features,
            encoder.hidden_dim,
            config.embedding_dim,
            config.id_dropout,
            name="item_tower",
        )
        self.user_tower = UserTower(
            num_user_ids if config.use_user_id else 0,
            request_features,
            encoder.hidden_dim,
            config.embedding_dim,
            max_history,
            dropout=config.id_dropout,
            id_dropout=config.user_id_dropout,
            name="user_tower",
        )
        self.use_user_id = config.use_user_id
        self.built = True

    def embed_items(
        self,
        text_vector: tf.Tensor,
        id_row: tf.Tensor,
        features: Mapping[str, tf.Tensor],
        training: bool = False,
    ) -> tf.Tensor:
        """See `ItemTower.call`."""
        return self.item_tower(text_vector, id_row, features, training=training)

    def embed_requests(
        self,
        text_vector: tf.Tensor,
        id_row: tf.Tensor,
        features: Mapping[str, tf.Tensor],
        history: tf.Tensor,
        is_item: tf.Tensor,
        training: bool = False,
    ) -> tf.Tensor:
        """See `UserTower.call`; a model without user ids ignores `id_row`."""
        if not self.use_user_id:
            id_row = tf.zeros_like(id_row)
        return self.user_tower(text_vector, id_row, features, history, is_item, training=training)
