"""The ranking model: r = MLP(u, i, features) with a sigmoid output, on top of the towers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfrec.config import Ranking
from tfrec.data.tabular import FeatureEncoder
from tfrec.towers.features import FeatureEmbedding

NUM_POSITIONS = 100
"""Positions from here on share one row; row 0 stands for an unknown position."""

_FEATURE_DIM = 16


class RankingModel(keras.layers.Layer):
    """Predicts the click logit of a request and an item.

    The position at which the item was shown enters as a bias beside the MLP, so that at serving,
    where every candidate gets the same position, it cannot change their order. Logits are scaled by
    ``calibration`` (slope, offset), which training sets at its end.

    How often each item was chosen in training, as log odds, is what the MLP starts from: towers
    trained to retrieve do not carry it, and the MLP learns the rest.

    Args:
        num_items: Size of the catalogue.
        embedding_dim: Length of the towers' embeddings.
        item_features: Fitted encoders of the item features.
        request_features: Fitted encoders of user attributes and request features.
        config: Hidden layers and dropout.

    Source: for the position bias as a separate, shallow part: Zhao et al., Recommending What Video
        to Watch Next (2019), section 4.3.
    """

    def __init__(
        self,
        num_items: int,
        embedding_dim: int,
        item_features: Sequence[FeatureEncoder],
        request_features: Sequence[FeatureEncoder],
        config: Ranking,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.item_features = FeatureEmbedding(item_features, _FEATURE_DIM, name="item_features")
        self.request_features = FeatureEmbedding(
            request_features, _FEATURE_DIM, name="request_features"
        )
        num_features = len(item_features) + len(request_features)
        width = 3 * embedding_dim + 2 + _FEATURE_DIM * num_features
        self.hidden: list[keras.layers.Layer] = []
        self.dropout = keras.layers.Dropout(config.dropout)
        for number, units in enumerate(config.hidden):
            layer = keras.layers.Dense(units, activation="relu", name=f"hidden_{number}")
            layer.build((None, width))
            self.hidden.append(layer)
            width = units
        self.logit = keras.layers.Dense(1, name="logit")
        self.logit.build((None, width))
        self.item_log_odds = self.add_weight(
            shape=(num_items + 1,), initializer="zeros", trainable=False, name="item_log_odds"
        )
        self.log_odds_weight = self.add_weight(shape=(), initializer="ones", name="log_odds_weight")
        self.calibration = self.add_weight(
            shape=(2,), initializer=_identity, trainable=False, name="calibration"
        )
        self.position_bias = self.add_weight(
            shape=(NUM_POSITIONS,), initializer="zeros", name="position_bias"
        )
        self.built = True

    def call(
        self,
        users: tf.Tensor,
        items: tf.Tensor,
        item_index: tf.Tensor,
        request_features: Mapping[str, tf.Tensor],
        item_features: Mapping[str, tf.Tensor],
        position: tf.Tensor,
        training: bool = False,
    ) -> tf.Tensor:
        """Predicts n pairs.

        Args:
            users: float32 [n, embedding_dim], from the user tower.
            items: float32 [n, embedding_dim], from the item tower.
            item_index: int [n], the items' indices, 0 for an unknown item.
            request_features: Encoded, [n, ...] each.
            item_features: Encoded, [n, ...] each.
            position: int [n], from 1; 0 for unknown.
            training: Whether dropout is active.

        Returns:
            float32 [n], logits.
        """
        product = users * items
        log_odds = tf.gather(self.item_log_odds, item_index)  # [n]
        parts = [
            users,
            items,
            product * tf.sqrt(float(users.shape[-1])),  # brings the products to unit scale
            tf.reduce_sum(product, axis=-1, keepdims=True),
            log_odds[:, None],
            *self.request_features(request_features),
            *self.item_features(item_features),
        ]
        hidden = tf.concat(parts, axis=-1)
        for layer in self.hidden:
            hidden = self.dropout(layer(hidden), training=training)
        row = tf.clip_by_value(tf.cast(position, tf.int32), 0, NUM_POSITIONS - 1)
        logit = self.logit(hidden)[:, 0] + self.log_odds_weight * log_odds
        logit += tf.gather(self.position_bias, row)
        return self.calibration[0] * logit + self.calibration[1]


def _identity(shape: tuple[int, ...], dtype: Any = None) -> tf.Tensor:
    """Slope 1 and offset 0: a model that has not been calibrated answers with raw logits."""
    del shape
    return tf.constant([1.0, 0.0], dtype or tf.float32)
