"""The two-stage recommender: encode, search, leave out what was seen, rank.

All of it is TensorFlow operations on raw strings and numbers, so the same methods answer in memory
and inside the exported graph.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfrec.candidates.order import CLICK_LOG_ODDS, ListOrder
from tfrec.candidates.sources import CandidateSources
from tfrec.config.candidates import TWO_TOWER
from tfrec.config.ranking import CLICK
from tfrec.encoders.tokenizer import build_tokenizer, pack_tokens
from tfrec.features.time_gaps import gap_bucket_tensor, history_gap_tensor
from tfrec.index.allowed import search_allowed
from tfrec.index.exact import ItemIndex
from tfrec.index.table import EmbeddingTable, Precision
from tfrec.models.ranking import PairInputs, RankingModel, RequestInputs
from tfrec.models.retrieval import RetrievalModel
from tfrec.recommender.catalogue import Catalogue, Inputs
from tfrec.recommender.filters import Barred, ItemFilters
from tfrec.recommender.reading import RequestReader, last_items, last_values
from tfrec.schema import UNKNOWN_INDEX, Batch, Tensors


@dataclass(frozen=True)
class Candidates:
    """Candidates of requests.

    Attributes:
        items: int32 [batch, n]; 0 where there is none.
        scores: float32 [batch, n], retrieval scores.
        ranks: float32 [batch, n, num_sources], `CandidateSources.reciprocal_ranks`.
    """

    items: tf.Tensor
    scores: tf.Tensor
    ranks: tf.Tensor


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
        ranking_towers: Towers of the ranking model's own, with the encoder of `retrieval`; None: it
            reads those of retrieval.
        sources: Where candidates come from; None without towers.
        order: What candidates are sorted by; None: click log-odds.
        caps: By attribute of the catalogue, how many items with one value an answer may hold.
        precision: What item embeddings are kept in.
        k: Items in an answer.
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
        ranking_towers: RetrievalModel | None = None,
        sources: CandidateSources | None,
        order: ListOrder | None,
        k: int,
        caps: Mapping[str, int] | None = None,
        precision: Precision = "float32",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.retrieval = retrieval
        self.ranking = ranking
        self.ranking_towers = ranking_towers
        self.index = index
        self.inputs = inputs
        self.num_items = len(catalogue.item_ids)
        self.sources = sources
        self.num_candidates = self.num_items if sources is None else sources.num_candidates
        self.order = order or ListOrder([CLICK_LOG_ODDS], [1.0])
        self.k = k
        self.reader = RequestReader(catalogue, inputs)
        self.filters = ItemFilters(catalogue, caps or {})
        self._item_ids = _table(np.array(["", *catalogue.item_ids], dtype=object))
        self._item_inputs = {name: _table(v) for name, v in catalogue.item_inputs.items()}
        self._max_item_tokens = max_item_tokens
        self._max_query_tokens = max_query_tokens
        if retrieval is not None and catalogue.item_embeddings is not None:
            self.tokenizer = build_tokenizer(vocabulary)
            self._item_id_rows = _table(catalogue.item_id_rows)
            self._item_embeddings = EmbeddingTable(catalogue.item_embeddings, precision)
            self._ranked_embeddings = self._item_embeddings
        if ranking_towers is not None and catalogue.ranked_embeddings is not None:
            self._ranked_embeddings = EmbeddingTable(catalogue.ranked_embeddings, precision)
        self.built = True

    def encode_user(self, request: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Embeds requests; float32 [batch, embedding_dim]."""
        history = self.reader.item_indices(request[Tensors.HISTORY])
        return self._encode_user(request, history, self._request_text(request))

    def encode_item(self, item: Mapping[str, tf.Tensor], for_ranking: bool = False) -> tf.Tensor:
        """Embeds items from their text and features, known or new; [batch, embedding_dim].

        With `for_ranking` by the ranking model's own towers, where it has some.
        """
        towers = self._towers
        if for_ranking and self.ranking_towers is not None:
            towers = self.ranking_towers
        columns = [item[column] for column in self.inputs.item_text]
        text = tf.strings.join(columns, " ") if columns else tf.zeros_like(item[Tensors.ITEM_ID])
        indices = self.reader.item_indices(item[Tensors.ITEM_ID])
        return towers.embed_items(
            self._item_text(text),
            tf.gather(self._item_id_rows, indices),
            self.reader.item_features(item),
        )

    def retrieve(self, request: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Finds candidates, the items of the history and all that the request bars left out.

        Returns:
            ``item_id`` string and ``score`` float32, [batch, num_candidates], best first (with
            several sources in the order of their fused list), padded with "" and 0.
        """
        history = self.reader.item_indices(request[Tensors.HISTORY])
        users = self._encode_user(request, history, self._request_text(request))
        found = self._find(request, users, history, self._barred(request, history))
        width = self.num_candidates  # what fills up answers with caps may come behind
        items, scores = _pad_columns([found.items[:, :width], found.scores[:, :width]], width)
        return {Tensors.ITEM_ID: tf.gather(self._item_ids, items), Tensors.SCORE: scores}

    def similar_items(self, request: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Finds the items whose embeddings score highest with that of an item.

        Args:
            request: ``item_id`` string [batch], and filters.

        Returns:
            ``item_id`` string and ``score`` float32, [batch, k], best first, without the item
            itself, padded with "" and 0; nothing for an unknown item.
        """
        asked = self.reader.item_indices(request[Tensors.ITEM_ID])
        vectors = self._item_embeddings.gather(asked)
        barred = self._barred(request, asked[:, None])
        items = self._search(vectors, barred, min(self.k, self.num_items))
        if self.filters.caps:
            items = self._fill(items, vectors, barred)
        items = tf.where((asked != UNKNOWN_INDEX)[:, None], items, UNKNOWN_INDEX)
        scores = tf.einsum("bd,bnd->bn", vectors, self._item_embeddings.gather(items))
        is_item = items != UNKNOWN_INDEX
        best = self._best(items, tf.where(is_item, scores, -np.inf))
        found = {Tensors.ITEM_ID: tf.gather(self._item_ids, items), Tensors.SCORE: scores}
        return self._pick(found, best)

    def rank(self, request: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Scores given items, ``item_id`` string [batch, n], in their order.

        Returns:
            ``probability``, with towers ``score``, and what further heads predict, float32
            [batch, n]; an unknown item gets the score 0.
        """
        items = self.reader.item_indices(request[Tensors.ITEM_ID])
        history = self.reader.item_indices(request[Tensors.HISTORY])
        answer, users, text = {}, None, None
        if self.retrieval is not None:
            text = self._request_text(request)
            users = self._encode_user(request, history, text)
            vectors = self._item_embeddings.gather(items)
            answer[Tensors.SCORE] = tf.einsum("bd,bnd->bn", users, vectors)
        outputs = self._score_pairs(request, text, users, history, items)
        return answer | self._answers(outputs, tf.shape(items))

    def recommend(self, request: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Finds candidates, ranks them and sorts them by `order`.

        Returns:
            [batch, k], best first, padded with "" and 0 where fewer items exist: ``item_id``
            string; ``probability``, with towers ``score``, and what further heads predict,
            float32; with several sources ``sources`` string, the names of those that propose the
            item, with commas between.
        """
        history = self.reader.item_indices(request[Tensors.HISTORY])
        barred = self._barred(request, history)
        numbers: dict[str, tf.Tensor] = {}
        texts: dict[str, tf.Tensor] = {}
        if self.retrieval is not None:
            text = self._request_text(request)
            users = self._encode_user(request, history, text)
            found = self._find(request, users, history, barred)
            items, numbers[Tensors.SCORE] = found.items, found.scores
            outputs = self._score_pairs(request, text, users, history, items)
        else:
            every = tf.range(1, self.num_items + 1)[None]
            items = tf.where(self.filters.all_allowed(barred)[:, 1:], every, UNKNOWN_INDEX)
            outputs = self._score_one_by_one(request, history, items)
        numbers |= self._answers(outputs, tf.shape(items))
        values = [tf.reshape(self.ranking.click_order(outputs), tf.shape(items))]
        if self.retrieval is not None:
            values.append(found.scores)
        values = tf.stack(values, axis=-1)
        if self.has_several_sources:
            values = tf.concat([values, found.ranks], axis=-1)
            texts[Tensors.SOURCES] = self._name_sources(found.ranks)
        order = tf.linalg.matvec(values, tf.constant(self.order.weights, tf.float32))
        is_item = items != UNKNOWN_INDEX
        best = self._best(items, tf.where(is_item, order, -np.inf))
        numbers = {name: tf.where(is_item, value, 0.0) for name, value in numbers.items()}
        answer = {Tensors.ITEM_ID: tf.gather(self._item_ids, items), **numbers, **texts}
        return self._pick(answer, best)

    @property
    def has_several_sources(self) -> bool:
        """Whether candidates come from more than the index alone."""
        return self.sources is not None and len(self.sources.names) > 1

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

    def _barred(self, request: Mapping[str, tf.Tensor], history: tf.Tensor) -> Barred:
        """Reads which items requests bar: those of the history, and what their filters say."""
        barred = history
        if Tensors.EXCLUDE in request:
            excluded = self.reader.item_indices(request[Tensors.EXCLUDE])
            barred = tf.concat([history, excluded], axis=1)
        return self.filters.read(request, barred)

    def _best(self, items: tf.Tensor, order: tf.Tensor) -> tf.Tensor:
        """Picks the first k items within the caps; int32 [batch, up to k] places in a row."""
        num_found = tf.minimum(self.k, tf.shape(items)[1])
        if not self.filters.caps:
            return tf.math.top_k(order, k=num_found).indices
        places = tf.argsort(-order, axis=1, stable=True)
        stays = self.filters.is_within_caps(tf.gather(items, places, batch_dims=1))
        first = tf.argsort(tf.cast(~stays, tf.int32), axis=1, stable=True)[:, :num_found]
        best = tf.gather(places, first, batch_dims=1)
        return tf.where(tf.gather(stays, first, batch_dims=1), best, -1)

    def _pick(self, answer: Mapping[str, tf.Tensor], best: tf.Tensor) -> dict[str, tf.Tensor]:
        """Takes the places `_best` gave of each tensor, [batch, n]; [batch, k]."""
        values = list(answer.values())
        if self.filters.caps:  # what was taken away is a padded place at the end of the row
            end = tf.shape(values[0])[1]
            values = [tf.pad(value, [[0, 0], [0, 1]]) for value in values]
            best = tf.where(best < 0, end, best)
        best_first = [tf.gather(value, best, batch_dims=1) for value in values]
        return dict(zip(answer, _pad_columns(best_first, self.k), strict=True))

    def _find(
        self,
        request: Mapping[str, tf.Tensor],
        users: tf.Tensor,
        history: tf.Tensor,
        barred: Barred,
    ) -> Candidates:
        """Asks all sources; [batch, n], of which enough for an answer where there are as many."""
        if self.sources is None:
            raise ValueError("Wanted a recommender with sources, got one without.")
        filters = self.filters
        lists: dict[str, tf.Tensor] = {}
        if TWO_TOWER in self.sources.names:
            lists[TWO_TOWER] = self._search(users, barred, self.sources.counts[TWO_TOWER])
        if self.has_several_sources or not lists:
            query = None
            if self.sources.reads_query:
                query = pack_tokens(self.tokenizer, request[Tensors.QUERY], self._max_query_tokens)
            recent = last_items(history, self._towers.max_history)
            lists |= self.sources.propose(
                recent, query, lambda items: filters.is_allowed(barred, items)
            )
            items = self.sources.fuse(lists)
        else:
            items = lists[TWO_TOWER]
        if filters.caps or TWO_TOWER not in self.sources.names:
            items = self._fill(items, users, barred)
        scores = tf.einsum("bd,bnd->bn", users, self._item_embeddings.gather(items))
        scores = tf.where(items != UNKNOWN_INDEX, scores, 0.0)
        return Candidates(items, scores, self.sources.reciprocal_ranks(lists, items))

    def _search(self, users: tf.Tensor, barred: Barred, count: int) -> tf.Tensor:
        """Finds the best items that requests may get; int32 [batch, up to count], 0 pads."""
        if self.index is None:
            raise ValueError("Wanted a recommender with an index, got one without.")
        rows, _ = search_allowed(
            self.index,
            users,
            count,
            is_allowed=lambda rows: self.filters.is_allowed(barred, rows + 1),
            best_of_all=lambda user, number: self._best_of_all(user, barred.of(number), count),
            share=self.filters.share(barred),
            num_barred=tf.shape(barred.items)[1],
        )
        return rows + 1

    def _best_of_all(
        self, user: tf.Tensor, barred: Barred, count: int
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Scores all items for one request; rows, int32 [count], -1 for none, and scores."""
        scores = self._item_embeddings.scores(user[None])[0, 1:]
        scores = tf.where(self.filters.all_allowed(barred)[0, 1:], scores, -np.inf)
        found = tf.math.top_k(scores, k=tf.minimum(count, self.num_items))
        is_row = tf.math.is_finite(found.values)
        return tf.where(is_row, found.indices, -1), tf.where(is_row, found.values, 0.0)

    def _fill(self, items: tf.Tensor, users: tf.Tensor, barred: Barred) -> tf.Tensor:
        """Adds items where an answer, with what its caps take away, would get too few.

        Args:
            items: int32 [batch, n], 0 pads.
            users: float32 [batch, embedding_dim].
            barred: What may not be added.

        Returns:
            int32 [batch, n + k] or as it was; 0 pads.
        """
        stays = tf.cast(self.filters.is_within_caps(items), tf.int32)
        lacks = tf.reduce_sum(stays, axis=1) < min(self.k, self.num_items)

        def best_within_caps(number: tf.Tensor) -> tf.Tensor:
            rows, _ = self._best_of_all(users[number], barred.of(number), self.num_items)
            within = self.filters.is_within_caps(rows[None] + 1)[0]
            first = tf.boolean_mask(rows, within)[: self.k] + 1
            return tf.pad(first, [[0, self.k - tf.size(first)]])

        def filled() -> tf.Tensor:
            every = tf.range(tf.shape(items)[0])
            more = tf.map_fn(
                lambda number: tf.cond(
                    lacks[number],
                    lambda: best_within_caps(number),
                    lambda: tf.fill([self.k], UNKNOWN_INDEX),
                ),
                every,
                fn_output_signature=tf.TensorSpec([self.k], tf.int32),
            )
            is_there = tf.reduce_any(more[:, :, None] == items[:, None, :], axis=-1)
            return tf.concat([items, tf.where(is_there, UNKNOWN_INDEX, more)], axis=1)

        return tf.cond(tf.reduce_any(lacks), filled, lambda: items)

    def _name_sources(self, ranks: tf.Tensor) -> tf.Tensor:
        """Joins the names of the sources with a rank; string [batch, n]."""
        assert self.sources is not None  # ranks are those of its sources
        names = tf.where(ranks > 0, tf.constant([f"{n}," for n in self.sources.names]), "")
        return tf.strings.regex_replace(tf.strings.reduce_join(names, axis=-1), ",$", "")

    def _request_text(self, request: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Returns BERT(U), float32 [batch, text_dim]."""
        columns = [*self.inputs.user_text, Tensors.QUERY]
        text = tf.strings.join([request[column] for column in columns], " ")
        return self._query_text(text)

    def _encode_user(
        self,
        request: Mapping[str, tf.Tensor],
        history: tf.Tensor,
        text: tf.Tensor,
        for_ranking: bool = False,
    ) -> tf.Tensor:
        """Embeds requests, given BERT(U), with the towers of retrieval or of the ranking model."""
        towers, table = self._towers, self._item_embeddings
        if for_ranking and self.ranking_towers is not None:
            towers, table = self.ranking_towers, self._ranked_embeddings
        events = self._recent_events(request, history)
        recent = events[Batch.HISTORY]
        states = towers.read_histories(
            table.gather(recent),
            tf.cast(recent != UNKNOWN_INDEX, tf.int32),
            events.get(Batch.HISTORY_KIND),
            events.get(Batch.HISTORY_GAP),
        )
        return towers.embed_requests(
            text,
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
        if self._towers.reads_event_kinds:
            events[Batch.HISTORY_KIND] = pick(self.reader.event_kinds(request))
        if self._towers.reads_time_gaps:
            times = pick(request[Tensors.HISTORY_TIME])
            events[Batch.HISTORY_GAP] = history_gap_tensor(times)
            events[Batch.LAST_GAP] = gap_bucket_tensor(times[:, -1], request[Tensors.TIME])
        return events

    def _score_pairs(
        self,
        request: Mapping[str, tf.Tensor],
        text: tf.Tensor | None,
        users: tf.Tensor | None,
        history: tf.Tensor,
        items: tf.Tensor,
    ) -> tf.Tensor:
        """Runs the ranking model over items, int32 [batch, n]; float32 [batch * n, outputs].

        `text` is BERT(U), and `users` the requests' embeddings of retrieval.
        """
        batch, count = tf.shape(items)[0], tf.shape(items)[1]
        flat = tf.reshape(items, [-1])
        past, is_event, vectors, statistics = None, None, None, None
        if self.ranking_towers is not None:
            users = self._encode_user(request, history, text, for_ranking=True)
        if self.retrieval is not None:
            vectors = self._ranked_embeddings.gather(flat)
        if self.ranking.attention is not None:
            recent = last_items(history, self._towers.max_history)
            past, is_event = self._ranked_embeddings.gather(recent), recent != UNKNOWN_INDEX
        if self.ranking.item_statistics.shape[1]:
            # Items that came after the training have no past: that of the unknown item.
            has_past = flat < self.ranking.item_statistics.shape[0]
            known = tf.where(has_past, flat, UNKNOWN_INDEX)
            statistics = tf.gather(self.ranking.item_statistics, known)
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

    def _score_one_by_one(
        self, request: Mapping[str, tf.Tensor], history: tf.Tensor, items: tf.Tensor
    ) -> tf.Tensor:
        """As `_score_pairs` without towers; of all items, those of many requests would not fit."""

        def score(one: tuple[dict[str, tf.Tensor], tf.Tensor, tf.Tensor]) -> tf.Tensor:
            own = {name: value[None] for name, value in one[0].items()}
            return self._score_pairs(own, None, None, one[1][None], one[2][None])

        width = self.ranking.num_outputs
        signature = tf.TensorSpec([None, width])
        outputs = tf.map_fn(score, (dict(request), history, items), fn_output_signature=signature)
        return tf.reshape(outputs, [-1, width])

    @cached_property
    def _item_text(self) -> Any:
        """BERT(I)."""
        return self._text_encoder(self._max_item_tokens)

    @cached_property
    def _query_text(self) -> Any:
        """BERT(U)."""
        return self._text_encoder(self._max_query_tokens)

    def _text_encoder(self, max_tokens: int) -> Any:
        """Returns BERT over raw texts as a function that all signatures share, traced once."""
        encoder = self._towers.encoder

        def encode(text: tf.Tensor) -> tf.Tensor:
            return encoder(pack_tokens(self.tokenizer, text, max_tokens))

        return tf.function(encode, [tf.TensorSpec([None], tf.string)], autograph=False)


def _pad_columns(values: Sequence[tf.Tensor], width: int) -> list[tf.Tensor]:
    """Fills [batch, up to width] up to [batch, width] with 0 or "", each."""
    return [
        tf.ensure_shape(tf.pad(v, [[0, 0], [0, width - tf.shape(v)[1]]]), [None, width])
        for v in values
    ]


def _table(values: np.ndarray) -> tf.Variable:
    return tf.Variable(values, trainable=False)
