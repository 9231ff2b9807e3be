"""The two-stage recommender: encode, search, leave out what was seen, rank.

All of it is TensorFlow operations on raw strings and numbers, so the same methods answer in memory
and inside the exported graph.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfrec.config.ranking import CLICK
from tfrec.features.text import build_tokenizer, pack_tokens
from tfrec.features.time_gaps import gap_bucket_tensor, history_gap_tensor
from tfrec.index.exact import ItemIndex
from tfrec.models.ranking import PairInputs, RankingModel, RequestInputs
from tfrec.models.retrieval import RetrievalModel
from tfrec.recommender.catalogue import Catalogue, Inputs
from tfrec.recommender.reading import RequestReader, last_items, last_values
from tfrec.schema import UNKNOWN_INDEX, Batch, Tensors

_SERVED_POSITION = 1
"""Answers are probabilities of a click on an item shown first."""


class Recommender(keras.layers.Layer):
    """Answers raw requests.

    A request is a mapping of tensors: ``user_id`` string [batch], ``history`` string
    [batch, length] (item ids, oldest first, "" pads), ``query`` string [batch], and the declared
    attributes and features, where "" and 0 stand for unknown.

    Args:
        retrieval: The towers; None: all items are candidates, and the ranking model alone orders
            them.
        ranking: The ranking model.
        index: Search over the catalogue's embeddings (row r is item index r + 1); None without
            towers.
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
        retrieval: RetrievalModel | None,
        ranking: RankingModel,
        index: ItemIndex | None,
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
        self.num_items = len(catalogue.item_ids)
        self.num_candidates = num_candidates
        self.k = k
        self.score_weight = score_weight
        self.reader = RequestReader(catalogue, inputs)
        self._item_ids = _table(np.array(["", *catalogue.item_ids], dtype=object))
        self._item_inputs = {name: _table(v) for name, v in catalogue.item_inputs.items()}
        if retrieval is not None and catalogue.item_embeddings is not None:
            self._max_item_tokens = max_item_tokens
            self._max_query_tokens = max_query_tokens
            self.tokenizer = build_tokenizer(vocabulary)
            self._item_id_rows = _table(catalogue.item_id_rows)
            self._item_embeddings = _table(catalogue.item_embeddings)
        self.built = True

    def encode_user(self, request: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Embeds requests; float32 [batch, embedding_dim]."""
        return self._encode_user(request, self.reader.item_indices(request[Tensors.HISTORY]))

    def encode_item(self, item: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Embeds items from their text and features, known or new; [batch, embedding_dim]."""
        columns = [item[column] for column in self.inputs.item_text]
        text = tf.strings.join(columns, " ") if columns else tf.zeros_like(item[Tensors.ITEM_ID])
        indices = self.reader.item_indices(item[Tensors.ITEM_ID])
        return self._towers.embed_items(
            self._encode_text(text, self._max_item_tokens),
            tf.gather(self._item_id_rows, indices),
            self.reader.item_features(item),
        )

    def retrieve(self, request: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Finds candidates, the items of the history left out.

        Returns:
            ``item_id`` string and ``score`` float32, [batch, num_candidates], best first, padded
            with "" and 0.
        """
        history = self.reader.item_indices(request[Tensors.HISTORY])
        items, scores = self._search(self._encode_user(request, history), history)
        items, scores = _pad_columns([items, scores], self.num_candidates)
        return {Tensors.ITEM_ID: tf.gather(self._item_ids, items), Tensors.SCORE: scores}

    def rank(self, request: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Scores given items, ``item_id`` string [batch, n], in their order.

        Returns:
            ``probability``, with towers ``score``, and what further heads predict, float32
            [batch, n]; an unknown item gets the score 0.
        """
        items = self.reader.item_indices(request[Tensors.ITEM_ID])
        history = self.reader.item_indices(request[Tensors.HISTORY])
        answer, users = {}, None
        if self.retrieval is not None:
            users = self._encode_user(request, history)
            vectors = tf.gather(self._item_embeddings, items)
            answer[Tensors.SCORE] = tf.einsum("bd,bnd->bn", users, vectors)
        outputs = self._score_pairs(request, users, history, items)
        return answer | self._answers(outputs, tf.shape(items))

    def recommend(self, request: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Retrieves, ranks and sorts by click log-odds + score_weight * score.

        Returns:
            ``item_id`` string, ``probability``, with towers ``score``, and what further heads
            predict, float32, [batch, k], best first, padded with "" and 0 where fewer items exist.
        """
        history = self.reader.item_indices(request[Tensors.HISTORY])
        users, values = None, {}
        if self.retrieval is not None:
            users = self._encode_user(request, history)
            items, scores = self._search(users, history)
            values[Tensors.SCORE] = scores
        else:
            items = self._all_items(history)
        outputs = self._score_pairs(request, users, history, items)
        values |= self._answers(outputs, tf.shape(items))
        is_item = items != UNKNOWN_INDEX
        order = tf.reshape(self.ranking.click_order(outputs), tf.shape(items))
        order += self.score_weight * values.get(Tensors.SCORE, 0.0)
        num_found = tf.minimum(self.k, tf.shape(items)[1])
        best = tf.math.top_k(tf.where(is_item, order, -np.inf), k=num_found).indices
        columns = [items, *(tf.where(is_item, value, 0.0) for value in values.values())]
        items, *columns = _pad_columns(
            [tf.gather(column, best, batch_dims=1) for column in columns], self.k
        )
        named = dict(zip(values, columns, strict=True))
        return {Tensors.ITEM_ID: tf.gather(self._item_ids, items), **named}

    @property
    def _towers(self) -> RetrievalModel:
        if self.retrieval is None:
            raise ValueError("Wanted a recommender with towers, got one without.")
        return self.retrieval

    def _answers(self, outputs: tf.Tensor, shape: tf.Tensor) -> dict[str, tf.Tensor]:
        """Names what the heads predict: probabilities of sigmoid heads, values of linear ones."""
        answers = {}
        for name, value in self.ranking.predict(outputs).items():
            answer = tf.sigmoid(value) if self.ranking.is_probability(name) else value
            answers[Tensors.PROBABILITY if name == CLICK else name] = tf.reshape(answer, shape)
        return answers

    def _search(self, users: tf.Tensor, history: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns item indices and scores, [batch, n <= num_candidates]; index 0 where none is."""
        if self.index is None:
            raise ValueError("Wanted a recommender with an index, got one without.")
        rows, scores = self.index.search(users, self.num_candidates + tf.shape(history)[1])
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
        return tf.where(is_new, items, UNKNOWN_INDEX), tf.where(is_new, scores, 0.0)

    def _all_items(self, history: tf.Tensor) -> tf.Tensor:
        """Returns int32 [batch, num_items]: every item, 0 in place of those of the history."""
        batch = tf.shape(history)[0]
        at = tf.stack([tf.broadcast_to(tf.range(batch)[:, None], tf.shape(history)), history], -1)
        seen = tf.scatter_nd(
            tf.reshape(at, [-1, 2]),
            tf.ones([tf.size(history)], tf.int32),
            tf.stack([batch, self.num_items + 1]),
        )
        every = tf.range(1, self.num_items + 1)[None]
        return tf.where(seen[:, 1:] == 0, every, UNKNOWN_INDEX)

    def _encode_user(self, request: Mapping[str, tf.Tensor], history: tf.Tensor) -> tf.Tensor:
        columns = [*self.inputs.user_text, Tensors.QUERY]
        text = tf.strings.join([request[column] for column in columns], " ")
        events = self._recent_events(request, history)
        recent = events[Batch.HISTORY]
        states = self._towers.read_histories(
            tf.gather(self._item_embeddings, recent),
            tf.cast(recent != UNKNOWN_INDEX, tf.int32),
            events.get(Batch.HISTORY_KIND),
            events.get(Batch.HISTORY_GAP),
        )
        return self._towers.embed_requests(
            self._encode_text(text, self._max_query_tokens),
            self.reader.user_rows(request),
            self.reader.request_features(request),
            states[:, -1],
            events.get(Batch.LAST_GAP),
        )

    def _recent_events(
        self, request: Mapping[str, tf.Tensor], history: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Picks the last events of known items, with what the model reads of them."""
        length = self._towers.max_history

        def pick(values: tf.Tensor) -> tf.Tensor:
            return last_values(values, history, length)

        events = {Batch.HISTORY: pick(history)}
        settings = self._towers.history
        if settings.event_kinds:
            events[Batch.HISTORY_KIND] = pick(self.reader.event_kinds(request))
        if settings.time_gaps:
            times = pick(request[Tensors.HISTORY_TIME])
            events[Batch.HISTORY_GAP] = history_gap_tensor(times)
            events[Batch.LAST_GAP] = gap_bucket_tensor(times[:, -1], request[Tensors.TIME])
        return events

    def _score_pairs(
        self,
        request: Mapping[str, tf.Tensor],
        users: tf.Tensor | None,
        history: tf.Tensor,
        items: tf.Tensor,
    ) -> tf.Tensor:
        """Runs the ranking model over items, int32 [batch, n]; float32 [batch * n, num_heads]."""
        batch, count = tf.shape(items)[0], tf.shape(items)[1]
        flat = tf.reshape(items, [-1])
        past, is_event, vectors, statistics = None, None, None, None
        if self.retrieval is not None:
            vectors = tf.gather(self._item_embeddings, flat)
        if self.ranking.attention is not None:
            recent = last_items(history, self._towers.max_history)
            past, is_event = tf.gather(self._item_embeddings, recent), recent != UNKNOWN_INDEX
        if self.ranking.item_statistics.shape[1]:
            statistics = tf.gather(self.ranking.item_statistics, flat)
        return self.ranking.score(
            RequestInputs(
                user=self.reader.user_rows(request),
                features=self.reader.request_features(request),
                embedding=users,
                history=past,
                is_event=is_event,
                time=request.get(Tensors.TIME),
            ),
            PairInputs(
                request=tf.repeat(tf.range(batch), count),
                position=tf.fill(tf.shape(flat), _SERVED_POSITION),
                item_features={n: tf.gather(table, flat) for n, table in self._item_inputs.items()},
                embedding=vectors,
                statistics=statistics,
            ),
        )

    def _encode_text(self, text: tf.Tensor, max_tokens: int) -> tf.Tensor:
        return self._towers.encoder(pack_tokens(self.tokenizer, text, max_tokens))


def _pad_columns(values: Sequence[tf.Tensor], width: int) -> list[tf.Tensor]:
    """Fills [batch, up to width] up to [batch, width] with zeros, each."""
    return [
        tf.ensure_shape(tf.pad(v, [[0, 0], [0, width - tf.shape(v)[1]]]), [None, width])
        for v in values
    ]


def _table(values: np.ndarray) -> tf.Variable:
    return tf.Variable(values, trainable=False)
