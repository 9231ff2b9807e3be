"""The core of a recommender: answers decoded requests, in memory, in the graph, in evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import keras
import tensorflow as tf

from tfrec.index.table import EmbeddingTable
from tfrec.models.ranking import PairInputs, RankingModel, RequestInputs
from tfrec.models.retrieval import RetrievalModel
from tfrec.recommender.candidate_search import Candidates, CandidateSearch
from tfrec.recommender.filters import ItemFilters
from tfrec.recommender.list_builder import ListBuilder
from tfrec.recommender.request_reader import DecodedRequest
from tfrec.schema import UNKNOWN_INDEX

_SERVED_POSITION = 1
"""Answers are probabilities of a click on an item shown first."""


class RecommenderCore(keras.layers.Layer):
    """Embeds, finds candidates and scores them.

    The same object answers raw requests that were decoded and, in the evaluation, requests of the
    prepared data.

    Args:
        retrieval: The towers; None: all items are candidates.
        ranking: The ranking model.
        ranking_towers: Towers of the ranking model's own; None: it reads those of retrieval.
        search: Finds candidates; None without towers.
        filters: Which items requests may get.
        lists: Makes lists of candidates.
        item_inputs: Encoded item features, [num_items + 1, ...] each.
        embeddings: Of all items, by retrieval's towers; None without.
        ranked_embeddings: The same by the towers that the ranking model reads.
    """

    def __init__(
        self,
        retrieval: RetrievalModel | None,
        ranking: RankingModel,
        *,
        ranking_towers: RetrievalModel | None,
        search: CandidateSearch | None,
        filters: ItemFilters,
        lists: ListBuilder,
        item_inputs: Mapping[str, tf.Variable],
        embeddings: EmbeddingTable | None,
        ranked_embeddings: EmbeddingTable | None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.retrieval = retrieval
        self.ranking = ranking
        self.ranking_towers = ranking_towers
        self.search = search
        self.filters = filters
        self.lists = lists
        self._item_inputs = dict(item_inputs)
        self._embeddings = embeddings
        self._ranked_embeddings = ranked_embeddings
        self.built = True

    @property
    def has_several_sources(self) -> bool:
        """Whether candidates come from more than one source."""
        return self.search is not None and self.search.has_several_sources

    @property
    def num_sources(self) -> int:
        """How many sources propose candidates; 0 without towers."""
        return 0 if self.search is None else len(self.search.sources.names)

    @cached_property
    def encode(self) -> Any:
        """BERT over tokens as a function that all signatures share, traced once."""
        assert self.retrieval is not None  # texts are read by towers alone
        return tf.function(
            self.retrieval.encoder, [tf.TensorSpec([None, None], tf.int32)], autograph=False
        )

    def embed(self, request: DecodedRequest) -> DecodedRequest:
        """Fills in the embeddings of requests that are not known yet; without towers none."""
        if self.retrieval is None or self._embeddings is None:
            return request
        own, ranked = self.ranking_towers, self._ranked_embeddings
        lacks_own = request.embedding is None
        lacks_ranked = own is not None and request.ranked_embedding is None
        if not (lacks_own or lacks_ranked):
            return request
        text, found = self.encode(request.text), {}
        if lacks_own:
            found["embedding"] = _embed(self.retrieval, self._embeddings, request, text)
        if own is not None and ranked is not None and lacks_ranked:
            found["ranked_embedding"] = _embed(own, ranked, request, text)
        return request._replace(**found)

    def find(self, request: DecodedRequest) -> Candidates:
        """Finds candidates; without towers these are all items that requests may get."""
        if self.search is not None:
            return self.search.find(request, self.embed(request).embedding)
        allowed = self.filters.all_allowed(request.barred)[:, 1:]
        every = tf.range(1, tf.shape(allowed)[1] + 1)[None]
        items = tf.where(allowed, every, UNKNOWN_INDEX)
        scores = tf.zeros(tf.shape(items))
        return Candidates(items, scores, scores[..., None][..., :0])

    def score(
        self, request: DecodedRequest, items: tf.Tensor, statistics: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Runs the ranking model over items.

        Args:
            request: The requests.
            items: int32 [batch, n].
            statistics: float32 [batch, n, num_statistics], what was known of the items' past when
                the requests came; by default what is known at the end of training.

        Returns:
            float32 [batch * n, num_outputs], see `RankingModel.score`.
        """
        batch, count = tf.shape(items)[0], tf.shape(items)[1]
        flat, table = tf.reshape(items, [-1]), self._ranked_embeddings
        request = self.embed(request)
        vectors, past, is_event = None, None, None
        if table is not None:
            vectors = table.gather(flat)
        if self.ranking.attention is not None and table is not None:
            past, is_event = table.gather(request.recent), request.recent != UNKNOWN_INDEX
        is_own = self.ranking_towers is not None
        return self.ranking.score(
            RequestInputs(
                user=request.user,
                features=request.features,
                embedding=request.ranked_embedding if is_own else request.embedding,
                history=past,
                is_event=is_event,
                time=request.time,
            ),
            PairInputs(
                request=tf.repeat(tf.range(batch), count),
                position=tf.fill(tf.shape(flat), _SERVED_POSITION),
                item_features={n: tf.gather(v, flat) for n, v in self._item_inputs.items()},
                embedding=vectors,
                statistics=self._statistics(flat, statistics),
            ),
        )

    def score_one_by_one(self, request: DecodedRequest, items: tf.Tensor) -> tf.Tensor:
        """As `score`, one request after the other: all items of many would not fit into memory."""
        width = self.ranking.num_outputs
        outputs = tf.map_fn(
            lambda number: self.score(request.of(number), items[number][None]),
            tf.range(tf.shape(items)[0]),
            fn_output_signature=tf.TensorSpec([None, width]),
        )
        return tf.reshape(outputs, [-1, width])

    def values(self, outputs: tf.Tensor, found: Candidates) -> tf.Tensor:
        """Gathers what candidates are sorted by.

        Returns:
            float32 [batch, n, num_names]: click log-odds, with towers the score, with several
            sources their reciprocal ranks.
        """
        values = [tf.reshape(self.ranking.click_order(outputs), tf.shape(found.items))[..., None]]
        if self.search is not None:
            values.append(found.scores[..., None])
        if self.has_several_sources:
            values.append(found.ranks)
        return tf.concat(values, axis=-1)

    def _statistics(self, flat: tf.Tensor, given: tf.Tensor | None) -> tf.Tensor | None:
        """Returns what is known of the past of items, int32 [n]; None where nothing is read."""
        table = self.ranking.item_statistics
        if not table.shape[1]:
            return None
        if given is not None:
            return tf.reshape(given, [-1, table.shape[1]])
        # Items that came after the training have no past: that of the unknown item.
        return tf.gather(table, tf.where(flat < table.shape[0], flat, UNKNOWN_INDEX))


def _embed(
    towers: RetrievalModel, table: EmbeddingTable, request: DecodedRequest, text: tf.Tensor
) -> tf.Tensor:
    """Embeds requests by some towers, given BERT(U); float32 [batch, embedding_dim]."""
    recent = request.recent
    states = towers.read_histories(
        table.gather(recent),
        tf.cast(recent != UNKNOWN_INDEX, tf.int32),
        request.kinds,
        request.gaps,
    )
    return towers.embed_requests(
        text, request.user, request.features, states[:, -1], request.last_gap
    )
