"""The ranking model: r = MLP(u, i, features) with a sigmoid output, on top of the towers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfrec.features.clock import CLOCK_WIDTH, clock_features
from tfrec.features.feature_type import FeatureType, load_feature
from tfrec.models.calibration import Calibrator, PlattCalibrator
from tfrec.models.ranking_head import RankingHead, head_columns
from tfrec.models.ranking_inputs import PairInputs, RequestInputs
from tfrec.models.ranking_layer import RankingLayer
from tfrec.models.target_attention import HistoryAttention
from tfrec.schema import CLICK
from tfrec.towers.features import FeatureEmbedding

__all__ = ["NUM_CLICK_TERMS", "NUM_POSITIONS", "PairInputs", "RankingModel", "RequestInputs"]

NUM_POSITIONS = 100
"""Positions from here on share one row; row 0 stands for an unknown position."""


_TIE_WEIGHT = 1e-3
_NUM_SHALLOW_TERMS = 2
"""The click logit's terms beside that of the layers: the position and the item's past."""

NUM_CLICK_TERMS = 1 + _NUM_SHALLOW_TERMS
"""Terms that the click's calibrator reads."""


@keras.saving.register_keras_serializable("tfrec")
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
        num_items: Size of the catalogue.
        embedding_dim: Length of the towers' embeddings; 0 without towers.
        max_history: Longest history.
        num_statistics: Numbers about each item's past; 0 without.
        hidden: Widths of the MLP's layers, one or more.
        dropout: Of the MLP.
        layers: What reads all of a pair beside the MLP, by name.
        heads: What is predicted beside the click, by name.
        calibrators: By name, of the click, which has `NUM_CLICK_TERMS` terms, and of other heads
            with a sigmoid, which have one; Platt's for those that are not named.
        feature_dim: Numbers that each feature becomes.
        attention: ``heads`` and ``units`` of what the candidate finds in the history; None:
            nothing.
        time_features: Whether the hour and the day of the week of the request are read.

    Attributes:
        item_statistics: float32 [num_items + 1, num_statistics], each item's past as it stands at
            the end of training; what serving reads.
        calibrators: The calibration of each head with a sigmoid, by name.
        head_names: ``click``, then the declared ones.
        value_scale: float32 [num_heads, 2], mean and deviation of what linear heads predict.

    Sources: Cheng et al., Wide & Deep Learning for Recommender Systems (2016), figure 1, for an MLP
        over embedded features beside a linear part. Zhao et al., Recommending What Video to Watch
        Next (2019), section 4.3, for the position as a separate, shallow part.
    """

    def __init__(
        self,
        item_features: Sequence[FeatureType],
        request_features: Sequence[FeatureType],
        *,
        num_items: int,
        embedding_dim: int = 0,
        max_history: int = 0,
        num_statistics: int = 0,
        hidden: Sequence[int] = (128, 64),
        dropout: float = 0.1,
        layers: Mapping[str, RankingLayer] | None = None,
        heads: Mapping[str, RankingHead] | None = None,
        calibrators: Mapping[str, Calibrator] | None = None,
        feature_dim: int = 16,
        attention: Mapping[str, int] | None = None,
        time_features: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.num_items, self.num_statistics = num_items, num_statistics
        self.embedding_dim, self.max_history = embedding_dim, max_history
        self.units, self.feature_dim = list(hidden), feature_dim
        self.heads, self.time_features = dict(heads or {}), time_features
        self.attention_sizes = None if attention is None else dict(attention)
        self.head_names = [CLICK, *self.heads]
        self.columns = head_columns(self.heads)
        self.item_features = FeatureEmbedding(item_features, feature_dim, name="item_features")
        self.request_features = FeatureEmbedding(
            request_features, feature_dim, name="request_features"
        )
        self.attention = None
        if embedding_dim and max_history and attention is not None:
            self.attention = HistoryAttention(
                embedding_dim, max_history, **attention, name="attention"
            )
        self.dropout = keras.layers.Dropout(dropout)
        self.beside: dict[str, RankingLayer] = dict(layers or {})
        width = self._make_layers()
        self.logit = keras.layers.Dense(self.columns[self.head_names[-1]].stop, name="logit")
        self.logit.build((None, width))
        self._make_weights()
        given = calibrators or {}
        self.calibrators = {
            name: given.get(name) or PlattCalibrator(NUM_CLICK_TERMS if name == CLICK else 1)
            for name in self.head_names
            if self.is_probability(name)
        }
        self.built = True

    @property
    def widths(self) -> tuple[int, int]:
        """How many numbers are read of the request and of the pair; see `_join`."""
        request = self.embedding_dim + self.feature_dim * len(self.request_features.features)
        request += CLOCK_WIDTH if self.time_features else 0
        pair = self.feature_dim * len(self.item_features.features) + self.num_statistics
        pair += 2 * self.embedding_dim + 1 if self.embedding_dim else 0
        pair += self.attention.width if self.attention is not None else 0
        return max(1, request), max(1, pair)

    def _make_layers(self) -> int:
        """Makes the MLP and what stands beside it; returns the width of what the heads read."""
        request_width, pair_width = self.widths
        width = request_width + pair_width
        beside = [int(layer(tf.zeros([1, width])).shape[-1]) for layer in self.beside.values()]
        # The first hidden layer in two parts: the request's is computed once for all its pairs.
        units = self.units[0]
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
        for number, next_units in enumerate(self.units[1:], start=1):
            layer = keras.layers.Dense(next_units, activation="relu", name=f"hidden_{number}")
            layer.build((None, units))
            self.hidden.append(layer)
            units = next_units
        return units + sum(beside)

    def _make_weights(self) -> None:
        self.item_statistics = self.add_weight(
            shape=(self.num_items + 1, self.num_statistics),
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

    def get_config(self) -> dict[str, Any]:
        """Returns what `from_config` needs; what was learned stands in the weights."""
        save = keras.saving.serialize_keras_object
        names = ("num_items", "embedding_dim", "max_history", "num_statistics", "feature_dim")
        return {
            **super().get_config(),
            **{name: getattr(self, name) for name in (*names, "time_features")},
            "item_features": [feature.to_dict() for feature in self.item_features.features],
            "request_features": [feature.to_dict() for feature in self.request_features.features],
            "hidden": self.units,
            "dropout": self.dropout.rate,
            "layers": save(dict(self.beside)),
            "heads": save(dict(self.heads)),
            "calibrators": save(dict(self.calibrators)),
            "attention": self.attention_sizes,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> RankingModel:
        """Takes `get_config` back."""
        load = keras.saving.deserialize_keras_object
        parts = {name: load(config[name]) for name in ("layers", "heads", "calibrators")}
        features = {
            name: [load_feature(saved) for saved in config[name]]
            for name in ("item_features", "request_features")
        }
        return cls(**config | parts | features)

    def is_probability(self, head: str) -> bool:
        """Whether a head answers a probability, which is calibrated."""
        return head == CLICK or self.heads[head].is_probability

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
        if self.beside:
            whole = tf.concat([tf.gather(request_part, pairs.request), pair_part], axis=-1)
            answers = [layer(whole, training=training) for layer in self.beside.values()]
            hidden = tf.concat([hidden, *answers], axis=-1)
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
        return self.columns[self.head_names[-1]].stop + _NUM_SHALLOW_TERMS

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
        if head != CLICK:
            return self.heads[head].log_odds(outputs[:, self.columns[head]])[:, None]
        logit, shallow = outputs[:, 0], outputs[:, -_NUM_SHALLOW_TERMS:]
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
            if self.is_probability(name):
                answers[name] = self.calibrators[name](self.terms(outputs, name))
                continue
            logit = outputs[:, self.columns[name]]
            value = self.value_scale[number, 0] + self.value_scale[number, 1] * logit
            answers[name] = self.heads[name].predict(value)
        return answers

    def click_order(self, outputs: tf.Tensor) -> tf.Tensor:
        """Returns float32 [n], calibrated click log odds without ties that the logits do not have.

        A calibration in steps gives many pairs the same probability. A thousandth of the raw logit
        keeps their order, and is too little to change that of others.
        """
        calibrator = self.calibrators[CLICK]
        log_odds = calibrator(self.terms(outputs, CLICK))
        return log_odds + (_TIE_WEIGHT * outputs[:, 0] if calibrator.has_ties else 0.0)

    def _request_part(self, requests: RequestInputs) -> tf.Tensor:
        parts = [*self.request_features(requests.features)]
        if self.embedding_dim:
            parts.append(requests.embedding)
        if self.time_features:
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
