"""The two-stage recommender: decode, encode, find candidates, rank, build the list.

All of it is TensorFlow operations, so the same methods answer in memory and inside the exported
graph. Raw requests are decoded once; what follows, the core, reads a `DecodedRequest`, which the
evaluation makes of prepared data instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfrec.candidates.order import CLICK_LOG_ODDS, SCORE, ListOrder
from tfrec.candidates.sources import CandidateSources
from tfrec.encoders.tokenizer import build_tokenizer, pack_tokens
from tfrec.index.item_index import Searcher
from tfrec.index.table import EmbeddingTable, Precision
from tfrec.models.ranking import RankingModel
from tfrec.models.retrieval import RetrievalModel
from tfrec.recommender.candidate_search import CandidateSearch
from tfrec.recommender.catalogue import Catalogue, Inputs
from tfrec.recommender.core import RecommenderCore
from tfrec.recommender.filters import ItemFilters
from tfrec.recommender.list_builder import ListBuilder, pad_columns
from tfrec.recommender.request_reader import RequestReader, Tokenize
from tfrec.schema import UNKNOWN_INDEX, Tensors


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
        index: Searcher | None,
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
        self.inputs = inputs
        self.num_items = len(catalogue.item_ids)
        self.num_candidates = self.num_items if sources is None else sources.num_candidates
        self.k = k
        self.filters = ItemFilters(catalogue, caps or {})
        self.names = order_names(sources)
        self._item_ids = _table(np.array(["", *catalogue.item_ids], dtype=object))
        embeddings = ranked = search = request_tokens = None
        if retrieval is not None and catalogue.item_embeddings is not None:
            embeddings = ranked = EmbeddingTable(catalogue.item_embeddings, precision)
            self._item_id_rows = _table(catalogue.item_id_rows)
            tokenizer = build_tokenizer(vocabulary)
            self._item_tokens = _packer(tokenizer, max_item_tokens)
            request_tokens = _packer(tokenizer, max_query_tokens)
        if ranking_towers is not None and catalogue.ranked_embeddings is not None:
            ranked = EmbeddingTable(catalogue.ranked_embeddings, precision)
        if index is not None and sources is not None and embeddings is not None:
            search = CandidateSearch(
                index, sources, self.filters, embeddings, num_items=self.num_items, k=k
            )
        self._embeddings = embeddings
        self.core = RecommenderCore(
            retrieval,
            ranking,
            ranking_towers=ranking_towers,
            search=search,
            filters=self.filters,
            lists=ListBuilder(order or ListOrder([CLICK_LOG_ODDS], [1.0]), self.filters, k),
            item_inputs={name: _table(v) for name, v in catalogue.item_inputs.items()},
            embeddings=embeddings,
            ranked_embeddings=ranked,
        )
        self.reader = _request_reader(
            retrieval, sources, catalogue, inputs, self.filters, request_tokens
        )
        self.built = True

    def encode_user(self, request: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Embeds requests; float32 [batch, embedding_dim]."""
        self._check_towers()
        return self.core.embed(self.reader.decode(request)).embedding

    def encode_item(self, item: Mapping[str, tf.Tensor], for_ranking: bool = False) -> tf.Tensor:
        """Embeds items from their text and features, known or new; [batch, embedding_dim].

        With `for_ranking` by the ranking model's own towers, where it has some.
        """
        towers = self._check_towers()
        if for_ranking and self.ranking_towers is not None:
            towers = self.ranking_towers
        columns = [item[column] for column in self.inputs.item_text]
        text = tf.strings.join(columns, " ") if columns else tf.zeros_like(item[Tensors.ITEM_ID])
        indices = self.reader.item_indices(item[Tensors.ITEM_ID])
        return towers.embed_items(
            self.core.encode(self._item_tokens(text)),
            tf.gather(self._item_id_rows, indices),
            self.reader.item_features(item),
        )

    def retrieve(self, request: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Finds candidates, the items of the history and all that the request bars left out.

        Returns:
            ``item_id`` string and ``score`` float32, [batch, num_candidates], best first (with
            several sources in the order of their fused list), padded with "" and 0.
        """
        found = self.core.find(self.reader.decode(request))
        width = self.num_candidates  # what fills up answers with caps may come behind
        items, scores = pad_columns([found.items[:, :width], found.scores[:, :width]], width)
        return {Tensors.ITEM_ID: tf.gather(self._item_ids, items), Tensors.SCORE: scores}

    def similar_items(self, request: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Finds the items whose embeddings score highest with that of an item.

        Args:
            request: ``item_id`` string [batch], and filters.

        Returns:
            ``item_id`` string and ``score`` float32, [batch, k], best first, without the item
            itself, padded with "" and 0; nothing for an unknown item.
        """
        search, lists, table = self._searching, self.core.lists, self._embeddings
        asked = self.reader.item_indices(request[Tensors.ITEM_ID])
        assert table is not None  # what is searched
        vectors = table.gather(asked)
        barred = self.reader.barred(request, asked[:, None])
        items = search.nearest(vectors, barred, min(self.k, self.num_items))
        if self.filters.caps:
            items = search.fill(items, vectors, barred)
        items = tf.where((asked != UNKNOWN_INDEX)[:, None], items, UNKNOWN_INDEX)
        scores = search.scores(vectors, items)
        found = {Tensors.ITEM_ID: tf.gather(self._item_ids, items), Tensors.SCORE: scores}
        return lists.build(found, items, scores)

    def rank(self, request: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Scores given items, ``item_id`` string [batch, n], in their order.

        Returns:
            ``probability``, with towers ``score``, and what further heads predict, float32
            [batch, n]; an unknown item gets the score 0.
        """
        items = self.reader.item_indices(request[Tensors.ITEM_ID])
        decoded, answer = self.core.embed(self.reader.decode(request)), {}
        if self._embeddings is not None:
            answer[Tensors.SCORE] = self._embeddings.scores_of(decoded.embedding, items)
        return answer | self._answers(self.core.score(decoded, items), tf.shape(items))

    def recommend(self, request: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Finds candidates, ranks them and sorts them by `order`.

        Returns:
            [batch, k], best first, padded with "" and 0 where fewer items exist: ``item_id``
            string; ``probability``, with towers ``score``, and what further heads predict,
            float32; with several sources ``sources`` string, the names of those that propose the
            item, with commas between.
        """
        core, lists = self.core, self.core.lists
        decoded = core.embed(self.reader.decode(request))
        found = core.find(decoded)
        items, numbers = found.items, {}
        if self.retrieval is None:
            outputs = core.score_one_by_one(decoded, items)
        else:
            outputs = core.score(decoded, items)
            numbers[Tensors.SCORE] = found.scores
        numbers |= self._answers(outputs, tf.shape(items))
        is_item = items != UNKNOWN_INDEX
        numbers = {name: tf.where(is_item, value, 0.0) for name, value in numbers.items()}
        answer = {Tensors.ITEM_ID: tf.gather(self._item_ids, items), **numbers}
        if self.has_several_sources:
            answer[Tensors.SOURCES] = self._searching.name_sources(found.ranks)
        return lists.build(answer, items, lists.blend(core.values(outputs, found)))

    @property
    def has_several_sources(self) -> bool:
        """Whether candidates come from more than the index alone."""
        return self.core.has_several_sources

    @property
    def index(self) -> Searcher:
        """Search over the catalogue."""
        return self._searching.index

    @property
    def _searching(self) -> CandidateSearch:
        if self.core.search is None:
            raise ValueError("Wanted a recommender with an index and sources, got one without.")
        return self.core.search

    def _check_towers(self) -> RetrievalModel:
        if self.retrieval is None:
            raise ValueError("Wanted a recommender with towers, got one without.")
        return self.retrieval

    def _answers(self, outputs: tf.Tensor, shape: tf.Tensor) -> dict[str, tf.Tensor]:
        """Names what the heads predict: probabilities of sigmoid heads, values of linear ones."""
        answers = {}
        for number, (name, value) in enumerate(self.ranking.predict(outputs).items()):
            answer = tf.sigmoid(value) if self.ranking.is_probability(name) else value
            answers[name if number else Tensors.PROBABILITY] = tf.reshape(answer, shape)
        return answers


def _request_reader(
    retrieval: RetrievalModel | None,
    sources: CandidateSources | None,
    catalogue: Catalogue,
    inputs: Inputs,
    filters: ItemFilters,
    tokenize: Tokenize | None,
) -> RequestReader:
    """Makes what decodes requests as far as models and sources read them."""
    return RequestReader(
        catalogue,
        inputs,
        filters,
        max_history=0 if retrieval is None else retrieval.max_history,
        tokenize=tokenize,
        event_kinds=retrieval is not None and retrieval.reads_event_kinds,
        time_gaps=retrieval is not None and retrieval.reads_time_gaps,
        reads_query=sources is not None and sources.reads_query,
    )


def order_names(sources: CandidateSources | None) -> list[str]:
    """Lists what candidates are sorted by; a source on its own tells nothing beside its score."""
    if sources is None:
        return [CLICK_LOG_ODDS]
    return [CLICK_LOG_ODDS, SCORE, *(sources.names if len(sources.names) > 1 else [])]


def _packer(tokenizer: Any, max_tokens: int) -> Tokenize:
    """Returns what cuts texts into tokens as a function that all signatures share, traced once."""
    return tf.function(
        lambda texts: pack_tokens(tokenizer, texts, max_tokens),
        [tf.TensorSpec([None], tf.string)],
        autograph=False,
    )


def _table(values: np.ndarray) -> tf.Variable:
    return tf.Variable(values, trainable=False)
