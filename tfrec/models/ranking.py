"""The ranking model: r = MLP(u, i, features) with a sigmoid output, on top of the towers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import tensorflow as tf

from tfrec.config import Ranking
from tfrec.config.ranking import CLICK
from tfrec.features.clock import CLOCK_WIDTH, clock_features
from tfrec.features.feature_type import FeatureType
from tfrec.models.calibration import Calibrator
from tfrec.models.cross import Cross
from tfrec.models.target_attention import HistoryAttention
from tfrec.towers.features import FeatureEmbedding

NUM_POSITIONS = 100
"""Positions from here on share one row; row 0 stands for an unknown position."""


_TIE_WEIGHT = 1e-3
_NUM_SHALLOW_TERMS = 2
"""The click logit's terms beside that of the layers: the position and the item's past."""


@dataclass(frozen=True)
class RequestInputs:
    """What the ranking model reads of b requests.

    Attributes:
        user: int32 [b], index of the user; says how many requests there are.
        features: Encoded user attributes and request features, [b, ...] each.
        embedding: float32 [b, embedding_dim], from the user tower; None without towers.
        history: float32 [b, length, embedding_dim], the history's item embeddings, the last event
            at the end; None where no candidate looks at it.
        is_event: bool [b, length], False on the history's padding.
        time: int64 [b], seconds since 1970, 0 for unknown; None where the model reads no clock.
    """

    user: tf.Tensor
    features: Mapping[str, tf.Tensor] = field(default_factory=dict)
    embedding: tf.Tensor | None = None
    history: tf.Tensor | None = None
    is_event: tf.Tensor | None = None
    time: tf.Tensor | None = None


@dataclass(frozen=True)
class PairInputs:
    """What the ranking model reads of n pairs of a request and an item.

    Attributes:
        request: int32 [n], row of the request among the b; ascending.
        position: int [n], from 1, at which the item is shown; 0 for unknown.
        item_features: Encoded, [n, ...] each.
        embedding: float32 [n, embedding_dim], from the item tower; None without towers.
        statistics: float32 [n, num_statistics], the item's past, log odds first.
    """

    request: tf.Tensor
    position: tf.Tensor
    item_features: Mapping[str, tf.Tensor] = field(default_factory=dict)
    embedding: tf.Tensor | None = None
    statistics: tf.Tensor | None = None


class RankingModel(keras.layers.Layer):
    """Predicts the click logit of a request and an item, and what else is declared.

    What belongs to the request is computed once for all its pairs. The position at which the item
    was shown enters as a bias beside the MLP, so that at serving, where every candidate gets the
    same position, it cannot change their order.

    How often each item was chosen where it was shown, as log odds, is what the MLP starts from:
    towers trained to retrieve do not carry it, and the MLP learns the rest.

    Args:
        item_features: Fitted encoders of the item features.
        request_features: Fitted encoders of user attributes and request features.
        config: Layers, heads and inputs.
        num_items: Size of the catalogue.
        embedding_dim: Length of the towers' embeddings; 0 without towers.
        max_history: Longest history.
        num_statistics: Numbers about each item's past; 0 without.

    Attributes:
        item_statistics: float32 [num_items + 1, num_statistics], each item's past as it stands at
            the end of training; what serving reads.
        calibrators: The calibration of each head with a sigmoid, by name.
        head_names: ``click``, then the declared ones.
        value_scale: float32 [num_heads, 2], mean and deviation of what linear heads predict.

    Sources: Cheng et al., Wide & Deep Learning for Recommender Systems (2016), figure 1, for an MLP
        over embedded features beside a linear part. Zhao et al., Recommending What Video to Watch
        Next (2019), section 4.3, for the position as a separate, shallow part. Wang et al.,
        DCN V2 (2021), figure 1 (b), for cross layers in parallel with the MLP.
    """

    def __init__(
        self,
        item_features: Sequence[FeatureType],
        request_features: Sequence[FeatureType],
        config: Ranking,
        *,
        num_items: int,
        embedding_dim: int = 0,
        max_history: int = 0,
        num_statistics: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.config = config
        self.embedding_dim = embedding_dim
        self.item_features = FeatureEmbedding(
            item_features, config.feature_dim, name="item_features"
        )
        self.request_features = FeatureEmbedding(
            request_features, config.feature_dim, name="request_features"
        )
        self.attention = None
        if embedding_dim and max_history and config.attention.use:
            self.attention = HistoryAttention(
                embedding_dim,
                max_history,
                config.attention.heads,
                config.attention.units,
                name="attention",
            )
        request_width = embedding_dim + config.feature_dim * len(request_features)
        request_width += CLOCK_WIDTH if config.time_features else 0
        pair_width = config.feature_dim * len(item_features) + num_statistics
        if embedding_dim:
            pair_width += 2 * embedding_dim + 1
        if self.attention is not None:
            pair_width += self.attention.width
        request_width, pair_width = max(1, request_width), max(1, pair_width)  # see `_join`
        width = request_width + pair_width
        self.crosses = [
            Cross(width, config.cross_rank, name=f"cross_{number}")
            for number in range(config.cross_layers)
        ]
        # The first hidden layer in two parts: the request's is computed once for all its pairs.
        units = config.hidden[0]
        limit = math.sqrt(6.0 / (width + units))
        self.request_layer, self.pair_layer = (
            keras.layers.Dense(
                units,
                use_bias=has_bias,
                kernel_initializer=keras.initializers.RandomUniform(-limit, limit),
                name=name,
            )
            for name, has_bias in (("hidden_0_request", True), ("hidden_0", False))
        )
        self.request_layer.build((None, request_width))
        self.pair_layer.build((None, pair_width))
        self.hidden: list[keras.layers.Layer] = []
        self.dropout = keras.layers.Dropout(config.dropout)
        for number, next_units in enumerate(config.hidden[1:], start=1):
            layer = keras.layers.Dense(next_units, activation="relu", name=f"hidden_{number}")
            layer.build((None, units))
            self.hidden.append(layer)
            units = next_units
        self.head_names = [CLICK, *config.heads]
        self.logit = keras.layers.Dense(len(self.head_names), name="logit")
        self.logit.build((None, units + (width if self.crosses else 0)))
        self.item_statistics = self.add_weight(
            shape=(num_items + 1, num_statistics),
            initializer="zeros",
            trainable=False,
            name="item_statistics",
        )
        self.log_odds_weight = self.add_weight(shape=(), initializer="ones", name="log_odds_weight")
        self.position_bias = self.add_weight(
            shape=(NUM_POSITIONS,), initializer="zeros", name="position_bias"
        )
        self.value_scale = self.add_weight(
            shape=(len(self.head_names), 2),
            initializer=_standard_scale,
            trainable=False,
            name="value_scale",
        )
        self.calibrators = {
            name: Calibrator(
                config.calibration.method,
                num_terms=1 + _NUM_SHALLOW_TERMS if name == CLICK else 1,
                name=f"calibration_{name}",
            )
            for name in self.head_names
            if self.is_probability(name)
        }
        self.built = True

    def is_probability(self, head: str) -> bool:
        """Whether a head ends in a sigmoid."""
        return head == CLICK or self.config.heads[head].value is None

    def score(
        self, requests: RequestInputs, pairs: PairInputs, training: bool = False
    ) -> tf.Tensor:
        """Predicts n pairs of b requests.

        Args:
            requests: The requests.
            pairs: The pairs.
            training: Whether dropout is active.

        Returns:
            float32 [n, num_outputs], before calibration: logits of sigmoid heads and standardised
            values of linear ones, in the order of `head_names`; then the terms of the click logit
            that the layers have no part in, for the position and for the item's past.
        """
        request_part = self._request_part(requests)
        pair_part = self._pair_part(requests, pairs)
        hidden = tf.gather(self.request_layer(request_part), pairs.request)
        hidden = self.dropout(tf.nn.relu(hidden + self.pair_layer(pair_part)), training=training)
        for layer in self.hidden:
            hidden = self.dropout(layer(hidden), training=training)
        if self.crosses:
            first = tf.concat([tf.gather(request_part, pairs.request), pair_part], axis=-1)
            crossed = first
            for cross in self.crosses:
                crossed = cross(first, crossed)
            hidden = tf.concat([hidden, crossed], axis=-1)
        logits = self.logit(hidden)
        row = tf.clip_by_value(tf.cast(pairs.position, tf.int32), 0, NUM_POSITIONS - 1)
        position = tf.gather(self.position_bias, row)
        past = tf.zeros_like(position)
        if pairs.statistics is not None:
            past = self.log_odds_weight * pairs.statistics[:, 0]
        click = logits[:, 0] + position + past
        return tf.concat([click[:, None], logits[:, 1:], position[:, None], past[:, None]], axis=-1)

    @property
    def num_outputs(self) -> int:
        """How many numbers `score` returns for a pair."""
        return len(self.head_names) + _NUM_SHALLOW_TERMS

    def terms(self, outputs: tf.Tensor, head: str) -> tf.Tensor:
        """Takes the logit of a sigmoid head apart.

        Args:
            outputs: float32 [n, num_outputs], from `score`.
            head: Its name.

        Returns:
            float32 [n, num_terms], what the head's calibrator reads. Their sum is the logit: of a
            click, the layers' part, that of the position and that of the item's past; of others,
            the one.
        """
        logit = outputs[:, self.head_names.index(head)]
        if head != CLICK:
            return logit[:, None]
        shallow = outputs[:, len(self.head_names) :]
        layers = logit - tf.reduce_sum(shallow, axis=-1)
        return tf.concat([layers[:, None], shallow], axis=-1)

    def predict(self, outputs: tf.Tensor) -> dict[str, tf.Tensor]:
        """Turns what `score` returns, [n, num_outputs], into answers.

        Returns:
            By head, float32 [n]: calibrated log odds of sigmoid heads, values of linear ones (a
            watch time in seconds, a rating on the log's scale).
        """
        answers = {}
        for number, name in enumerate(self.head_names):
            output = outputs[:, number]
            if self.is_probability(name):
                answers[name] = self.calibrators[name](self.terms(outputs, name))
                continue
            value = self.value_scale[number, 0] + self.value_scale[number, 1] * output
            is_time = self.config.heads[name].value == "watch_time"
            answers[name] = tf.math.expm1(value) if is_time else value
        return answers

    def click_order(self, outputs: tf.Tensor) -> tf.Tensor:
        """Returns float32 [n], calibrated click log odds without ties that the logits do not have.

        A calibration in steps gives many pairs the same probability. A thousandth of the raw logit
        keeps their order, and is too little to change that of others.
        """
        calibrator = self.calibrators[CLICK]
        in_steps = calibrator.method == "isotonic"
        log_odds = calibrator(self.terms(outputs, CLICK))
        return log_odds + (_TIE_WEIGHT * outputs[:, 0] if in_steps else 0.0)

    def _request_part(self, requests: RequestInputs) -> tf.Tensor:
        parts = [*self.request_features(requests.features)]
        if self.embedding_dim:
            parts.append(requests.embedding)
        if self.config.time_features:
            parts.append(clock_features(requests.time))
        return _join(parts, requests.user)

    def _pair_part(self, requests: RequestInputs, pairs: PairInputs) -> tf.Tensor:
        parts = [*self.item_features(pairs.item_features)]
        if pairs.statistics is not None:
            parts.append(pairs.statistics)
        if self.embedding_dim:
            product = tf.gather(requests.embedding, pairs.request) * pairs.embedding
            parts += [
                pairs.embedding,
                product * tf.sqrt(float(self.embedding_dim)),  # brings the products to unit scale
                tf.reduce_sum(product, axis=-1, keepdims=True),
            ]
        if self.attention is not None:
            history = self.attention.read(requests.history, requests.is_event)
            parts.append(self.attention(pairs.embedding, pairs.request, history))
        return _join(parts, pairs.request)


def _join(parts: list[tf.Tensor], rows: tf.Tensor) -> tf.Tensor:
    """Joins what a side reads; float32 [n, 1] of zeros where it reads nothing.

    A product with a matrix of no rows ends the process in TensorFlow's CPU library.
    """
    return tf.concat(parts, axis=-1) if parts else tf.zeros([tf.shape(rows)[0], 1])


def _standard_scale(shape: tuple[int, ...], dtype: Any = None) -> tf.Tensor:
    """Mean 0 and deviation 1 of each head."""
    return tf.broadcast_to(tf.constant([0.0, 1.0], dtype or tf.float32), shape)
