"""Candidates of decoded requests: asks all sources, leaves out what is barred, fills up."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tfrec.candidates.source import Asked
from tfrec.candidates.sources import CandidateSources
from tfrec.index.allowed import best_rows, search_allowed
from tfrec.index.item_index import Searcher
from tfrec.index.table import EmbeddingTable
from tfrec.recommender.filters import Barred, ItemFilters
from tfrec.recommender.request_reader import DecodedRequest
from tfrec.schema import UNKNOWN_INDEX


class Candidates(NamedTuple):
    """Candidates of requests.

    Attributes:
        items: int32 [batch, n]; 0 where there is none.
        scores: float32 [batch, n], retrieval scores.
        ranks: float32 [batch, n, num_sources], `CandidateSources.reciprocal_ranks`.
    """

    items: tf.Tensor
    scores: tf.Tensor
    ranks: tf.Tensor


class CandidateSearch(keras.layers.Layer):
    """Finds candidates.

    Args:
        index: Search over the catalogue's embeddings (row r is item index r + 1).
        sources: Where candidates come from.
        filters: Which items requests may get.
        embeddings: Of all items, [num_items + 1, embedding_dim].
        num_items: Size of the catalogue.
        k: Items in an answer, which candidates have to be enough for.
    """

    def __init__(
        self,
        index: Searcher,
        sources: CandidateSources,
        filters: ItemFilters,
        embeddings: EmbeddingTable,
        *,
        num_items: int,
        k: int,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.index = index
        self.sources = sources
        self.filters = filters
        self._embeddings = embeddings
        self._num_items = num_items
        self._k = k
        self.built = True

    @property
    def has_several_sources(self) -> bool:
        """Whether candidates come from more than one source."""
        return len(self.sources.names) > 1

    def find(self, request: DecodedRequest, users: tf.Tensor) -> Candidates:
        """Asks all sources; [batch, n], of which enough for an answer where there are as many.

        Args:
            request: The requests.
            users: float32 [batch, embedding_dim], what the user tower says of them.
        """
        barred, sources = request.barred, self.sources
        asked = Asked(
            recent=request.recent,
            query=request.query,
            is_allowed=lambda items: self.filters.is_allowed(barred, items),
            nearest=lambda count: self.nearest(users, barred, count),
        )
        lists = sources.propose(asked)
        if sources.searches and not self.has_several_sources:
            (items,) = lists.values()
        else:
            items = sources.fuse(lists)
        if self.filters.caps or not sources.searches:
            items = self.fill(items, users, barred)
        return Candidates(items, self.scores(users, items), sources.reciprocal_ranks(lists, items))

    def scores(self, vectors: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        """Returns the dot products of vectors with items, int32 [batch, n]; 0 where is none."""
        scores = self._embeddings.scores_of(vectors, items)
        return tf.where(items != UNKNOWN_INDEX, scores, 0.0)

    def nearest(self, vectors: tf.Tensor, barred: Barred, count: int) -> tf.Tensor:
        """Finds the best items that requests may get; int32 [batch, up to count], 0 pads."""
        rows, _ = search_allowed(
            self.index,
            vectors,
            count,
            is_allowed=lambda rows: self.filters.is_allowed(barred, rows + 1),
            best_of_all=lambda vector, number: self._best_of_all(vector, barred.of(number), count),
            share=self.filters.share(barred),
            num_barred=tf.shape(barred.items)[1],
        )
        return rows + 1

    def fill(self, items: tf.Tensor, vectors: tf.Tensor, barred: Barred) -> tf.Tensor:
        """Adds items where an answer, with what its caps take away, would get too few.

        Args:
            items: int32 [batch, n], 0 pads.
            vectors: float32 [batch, embedding_dim].
            barred: What may not be added.

        Returns:
            int32 [batch, n + k] or as it was; 0 pads.
        """
        stays = tf.cast(self.filters.is_within_caps(items), tf.int32)
        lacks = tf.reduce_sum(stays, axis=1) < min(self._k, self._num_items)

        def best_within_caps(number: tf.Tensor) -> tf.Tensor:
            rows, _ = self._best_of_all(vectors[number], barred.of(number), self._num_items)
            within = self.filters.is_within_caps(rows[None] + 1)[0]
            first = tf.boolean_mask(rows, within)[: self._k] + 1
            return tf.pad(first, [[0, self._k - tf.size(first)]])

        def filled() -> tf.Tensor:
            every = tf.range(tf.shape(items)[0])
            more = tf.map_fn(
                lambda number: tf.cond(
                    lacks[number],
                    lambda: best_within_caps(number),
                    lambda: tf.fill([self._k], UNKNOWN_INDEX),
                ),
                every,
                fn_output_signature=tf.TensorSpec([self._k], tf.int32),
            )
            is_there = tf.reduce_any(more[:, :, None] == items[:, None, :], axis=-1)
            return tf.concat([items, tf.where(is_there, UNKNOWN_INDEX, more)], axis=1)

        return tf.cond(tf.reduce_any(lacks), filled, lambda: items)

    def name_sources(self, ranks: tf.Tensor) -> tf.Tensor:
        """Joins the names of the sources with a rank; string [batch, n]."""
        names = tf.where(ranks > 0, tf.constant([f"{n}," for n in self.sources.names]), "")
        return tf.strings.regex_replace(tf.strings.reduce_join(names, axis=-1), ",$", "")

    def _best_of_all(
        self, vector: tf.Tensor, barred: Barred, count: int
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Scores all items for one request; rows, int32 [count], -1 for none, and scores."""
        scores = self._embeddings.scores(vector[None])[0, 1:]
        is_allowed = self.filters.all_allowed(barred)[0, 1:]
        return best_rows(scores, is_allowed, tf.minimum(count, self._num_items))
