"""The two-stage recommender: raw requests in, ranked items out. The only place the stages meet.

All of it is TensorFlow operations on raw strings and numbers, so the same methods answer in memory
and inside the exported graph.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfrec.data.tabular import FeatureEncoder
from tfrec.features.text import build_tokenizer, pack_tokens
from tfrec.features.time_gaps import gap_bucket_tensor, history_gap_tensor
from tfrec.index.exact import ItemIndex
from tfrec.models.ranking import RankingModel
from tfrec.models.retrieval import RetrievalModel
from tfrec.schema import UNKNOWN_INDEX, Batch, Tensors

_SERVED_POSITION = 1
"""Answers are probabilities of a click on an item shown first."""


@dataclass(frozen=True)
class Catalogue:
    """What the recommender keeps of items and users.

    Attributes:
        item_ids: The n items' outside ids.
        item_id_rows: int32 [n + 1], rows of the id table.
        item_inputs: Encoded item features, [n + 1, ...] each.
        item_embeddings: float32 [n + 1, embedding_dim], row 0 zeros.
        user_ids: Outside ids of the known users.
        user_id_rows: int32 [num_users + 1].
    """

    item_ids: Sequence[str]
    item_id_rows: np.ndarray
    item_inputs: Mapping[str, np.ndarray]
    item_embeddings: np.ndarray
    user_ids: Sequence[str]
    user_id_rows: np.ndarray


@dataclass(frozen=True)
class Inputs:
    """Names of the columns that requests and items bring along.

    Attributes:
        user_text: Text columns of users, read before the query.
        request_features: Encoders of user attributes and request features.
        item_text: Text columns of items.
        item_features: Encoders of item features.
        event_kinds: Names of the kinds of events; kind k is the one at k - 1.
    """

    user_text: Sequence[str]
    request_features: Sequence[FeatureEncoder]
    item_text: Sequence[str]
    item_features: Sequence[FeatureEncoder]
    event_kinds: Sequence[str] = ()


class Recommender(keras.layers.Layer):
    """Answers raw requests: encode, search, leave out what was seen, rank.

    A request is a mapping of tensors: ``user_id`` string [batch], ``history`` string
    [batch, length] (item ids, oldest first, "" pads), ``query`` string [batch], and the declared
    attributes and features, where "" and 0 stand for unknown.

    Args:
        retrieval: The towers.
        ranking: The ranking model.
        index: Search over the catalogue's embeddings (row r is item index r + 1).
        catalogue: Items and users.
        inputs: Columns of requests and items.
        vocabulary: WordPiece tokens.
        max_item_tokens: Longest item text.
        max_query_tokens: Longest request text.
        num_candidates: Items that are ranked.
        k: Items in an answer.
        score_weight: Answers are sorted by click log-odds + score_weight * retrieval score.
    """

    def __init__(
        self,
        retrieval: RetrievalModel,
        ranking: RankingModel,
        index: ItemIndex,
        catalogue: Catalogue,
        inputs: Inputs,
        *,
        vocabulary: Sequence[str],
        max_item_tokens: int,
        max_query_tokens: int,
        num_candidates: int,
        k: int,
        score_weight: float,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.retrieval = retrieval
        self.ranking = ranking
        self.index = index
        self.inputs = inputs
        self.num_candidates = num_candidates
        self.k = k
        self.score_weight = score_weight
        self._max_item_tokens = max_item_tokens
        self._max_query_tokens = max_query_tokens
        self.tokenizer = build_tokenizer(vocabulary)

        self._item_index = _lookup(catalogue.item_ids, range(1, len(catalogue.item_ids) + 1))
        self._user_row = _lookup(catalogue.user_ids, catalogue.user_id_rows[1:])
        kinds = inputs.event_kinds
        self._event_kind = _lookup(kinds, range(1, len(kinds) + 1))
        self._request_categories = _category_lookups(inputs.request_features)
        self._item_categories = _category_lookups(inputs.item_features)
        self._item_ids = _table(np.array(["", *catalogue.item_ids], dtype=object))
        self._item_id_rows = _table(catalogue.item_id_rows)
        self._item_embeddings = _table(catalogue.item_embeddings)
        self._item_inputs = {name: _table(v) for name, v in catalogue.item_inputs.items()}
        self.built = True

    def encode_user(self, request: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Embeds requests; float32 [batch, embedding_dim]."""
        return self._encode_user(request, self._look_up_items(request[Tensors.HISTORY]))

    def encode_item(self, item: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Embeds items from their text and features, known or new; [batch, embedding_dim]."""
        columns = [item[column] for column in self.inputs.item_text]
        text = tf.strings.join(columns, " ") if columns else tf.zeros_like(item[Tensors.ITEM_ID])
        return self.retrieval.embed_items(
            self._encode_text(text, self._max_item_tokens),
            tf.gather(self._item_id_rows, self._look_up_items(item[Tensors.ITEM_ID])),
            _encode_features(self.inputs.item_features, item, self._item_categories),
        )

    def retrieve(self, request: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Finds candidates, the items of the history left out.

        Returns:
            ``item_id`` string and ``score`` float32, [batch, num_candidates], best first, padded
            with "" and 0.
        """
        _, items, scores = self._retrieve(request)
        padding = [[0, 0], [0, self.num_candidates - tf.shape(items)[1]]]
        items, scores = (
            tf.ensure_shape(tf.pad(values, padding), [None, self.num_candidates])
            for values in (items, scores)
        )
        return {Tensors.ITEM_ID: tf.gather(self._item_ids, items), Tensors.SCORE: scores}

    def rank(self, request: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Scores given items, ``item_id`` string [batch, n], in their order.

        Returns:
            ``score`` and ``probability``, float32 [batch, n]; an unknown item gets the score 0.
        """
        users = self.encode_user(request)
        items = self._look_up_items(request[Tensors.ITEM_ID])
        scores = tf.einsum("bd,bnd->bn", users, tf.gather(self._item_embeddings, items))
        return {
            Tensors.SCORE: scores,
            Tensors.PROBABILITY: tf.sigmoid(self._click_logits(users, request, items)),
        }

    def recommend(self, request: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Retrieves, ranks and sorts by click log-odds + score_weight * score.

        Returns:
            ``item_id`` string, ``score`` and ``probability`` float32, [batch, k], best first,
            padded with "", 0 and 0 where fewer items exist.
        """
        users, items, scores = self._retrieve(request)
        logits = self._click_logits(users, request, items)
        is_item = items != UNKNOWN_INDEX
        order = tf.where(is_item, logits + self.score_weight * scores, -np.inf)
        num_found = tf.minimum(self.k, tf.shape(items)[1])
        best = tf.math.top_k(order, k=num_found)
        items, scores, probabilities = (
            tf.gather(values, best.indices, batch_dims=1)
            for values in (items, scores, tf.where(is_item, tf.sigmoid(logits), 0.0))
        )
        padding = [[0, 0], [0, self.k - num_found]]
        items, scores, probabilities = (
            tf.ensure_shape(tf.pad(values, padding), [None, self.k])
            for values in (items, scores, probabilities)
        )
        return {
            Tensors.ITEM_ID: tf.gather(self._item_ids, items),
            Tensors.SCORE: scores,
            Tensors.PROBABILITY: probabilities,
        }

    def _retrieve(self, request: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns users [batch, dim], item indices and scores [batch, n <= num_candidates]."""
        history = self._look_up_items(request[Tensors.HISTORY])
        users = self._encode_user(request, history)
        wanted = self.num_candidates + tf.shape(history)[1]
        rows, scores = self.index.search(users, wanted)
        items = rows + 1
        is_seen = tf.reduce_any(items[:, :, None] == history[:, None, :], axis=-1)
        is_new = ~is_seen & (items != UNKNOWN_INDEX)
        # A stable sort keeps the order by score among the items that stay.
        order = tf.argsort(tf.cast(~is_new, tf.int32), axis=1, stable=True)[
            :, : self.num_candidates
        ]
        items, scores, is_new = (
            tf.gather(values, order, batch_dims=1) for values in (items, scores, is_new)
        )
        return users, tf.where(is_new, items, UNKNOWN_INDEX), tf.where(is_new, scores, 0.0)

    def _encode_user(self, request: Mapping[str, tf.Tensor], history: tf.Tensor) -> tf.Tensor:
        columns = [*self.inputs.user_text, Tensors.QUERY]
        text = tf.strings.join([request[column] for column in columns], " ")
        events = self._recent_events(request, history)
        recent = events[Batch.HISTORY]
        states = self.retrieval.read_histories(
            tf.gather(self._item_embeddings, recent),
            tf.cast(recent != UNKNOWN_INDEX, tf.int32),
            events.get(Batch.HISTORY_KIND),
            events.get(Batch.HISTORY_GAP),
        )
        return self.retrieval.embed_requests(
            self._encode_text(text, self._max_query_tokens),
            self._user_row.lookup(request[Tensors.USER_ID]),
            self._encode_request_features(request),
            states[:, -1],
            events.get(Batch.LAST_GAP),
        )

    def _recent_events(
        self, request: Mapping[str, tf.Tensor], history: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Picks the last events of known items, with what the model reads of them."""
        length = self.retrieval.max_history

        def pick(values: tf.Tensor) -> tf.Tensor:
            return last_values(values, history, length)

        events = {Batch.HISTORY: pick(history)}
        settings = self.retrieval.history
        if settings.event_kinds:
            events[Batch.HISTORY_KIND] = pick(
                self._event_kind.lookup(request[Tensors.HISTORY_KIND])
            )
        if settings.time_gaps:
            times = pick(request[Tensors.HISTORY_TIME])
            events[Batch.HISTORY_GAP] = history_gap_tensor(times)
            events[Batch.LAST_GAP] = gap_bucket_tensor(times[:, -1], request[Tensors.TIME])
        return events

    def _click_logits(
        self, users: tf.Tensor, request: Mapping[str, tf.Tensor], items: tf.Tensor
    ) -> tf.Tensor:
        """Predicts clicks on items, int32 [batch, n]; float32 [batch, n]."""
        count = tf.shape(items)[1]
        flat = tf.reshape(items, [-1])
        features = self._encode_request_features(request)
        logits = self.ranking(
            tf.repeat(users, count, axis=0),
            tf.gather(self._item_embeddings, flat),
            flat,
            {name: tf.repeat(value, count, axis=0) for name, value in features.items()},
            {name: tf.gather(table, flat) for name, table in self._item_inputs.items()},
            tf.fill(tf.shape(flat), _SERVED_POSITION),
        )
        return tf.reshape(logits, tf.shape(items))

    def _encode_text(self, text: tf.Tensor, max_tokens: int) -> tf.Tensor:
        return self.retrieval.encoder(pack_tokens(self.tokenizer, text, max_tokens))

    def _encode_request_features(self, request: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return _encode_features(self.inputs.request_features, request, self._request_categories)

    def _look_up_items(self, item_ids: tf.Tensor) -> tf.Tensor:
        return self._item_index.lookup(item_ids)


def last_items(history: tf.Tensor, length: int) -> tf.Tensor:
    """Moves padding and unknown items to the front and keeps the last `length` entries.

    Args:
        history: int32 [batch, any length], 0 anywhere for none.
        length: Entries to keep.

    Returns:
        int32 [batch, length], known items at the end in their order.
    """
    return last_values(history, history, length)


def last_values(values: tf.Tensor, history: tf.Tensor, length: int) -> tf.Tensor:
    """Picks what goes with `last_items`.

    Args:
        values: Number for each entry of the histories, or for the last of them, [batch, up to
            any length].
        history: int32 [batch, any length], 0 anywhere for none.
        length: Entries to keep.

    Returns:
        [batch, length]; 0 where there is no item or no value.
    """
    width = tf.shape(history)[1] + length
    missing = tf.maximum(width - tf.shape(values)[1], 0)
    values = tf.pad(values, [[0, 0], [missing, 0]])[:, -width:]
    padded = tf.pad(history, [[0, 0], [length, 0]])
    values = tf.where(padded != UNKNOWN_INDEX, values, tf.zeros_like(values))
    order = tf.argsort(tf.cast(padded != UNKNOWN_INDEX, tf.int32), axis=1, stable=True)
    return tf.gather(values, order[:, -length:], batch_dims=1)


def _encode_features(
    encoders: Sequence[FeatureEncoder],
    values: Mapping[str, tf.Tensor],
    categories: Mapping[str, tf.lookup.StaticHashTable],
) -> dict[str, tf.Tensor]:
    return {
        encoder.name: encoder.encode_tensor(values[encoder.name], categories.get(encoder.name))
        for encoder in encoders
    }


def _category_lookups(
    encoders: Sequence[FeatureEncoder],
) -> dict[str, tf.lookup.StaticHashTable]:
    return {
        encoder.name: _lookup(encoder.vocabulary, range(1, len(encoder.vocabulary) + 1))
        for encoder in encoders
        if encoder.is_category
    }


def _lookup(keys: Sequence[str], values: Any) -> tf.lookup.StaticHashTable:
    """Maps text to int32; what is not among the keys, and "", becomes 0."""
    initializer = tf.lookup.KeyValueTensorInitializer(
        tf.constant(list(keys) or [""], tf.string),
        tf.constant(np.asarray(list(values), np.int32) if len(keys) else [UNKNOWN_INDEX]),
    )
    return tf.lookup.StaticHashTable(initializer, UNKNOWN_INDEX)


def _table(values: np.ndarray) -> tf.Variable:
    return tf.Variable(values, trainable=False)
