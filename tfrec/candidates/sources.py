"""All sources of candidates of a recommender, and how their lists become one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from tfrec.candidates.lists import best_allowed, sum_by_item
from tfrec.candidates.source import Asked, CandidateSource, TwoTower
from tfrec.schema import UNKNOWN_INDEX


class CandidateSources(keras.layers.Layer):
    """Proposes candidates from several sources.

    Args:
        sources: By name, loaded.
        num_candidates: Items in the fused list; what a source without a count proposes.
        weights: By source, of its ranks; 1 where none is given.
        counts: By source, items it proposes.
        rank_constant: An item at rank r of a source adds weight / (constant + r).

    Attributes:
        names: The sources in their order.
        counts: Items each proposes.

    Example:
        >>> sources = CandidateSources({"two_tower": TwoTower()}, num_candidates=200)
        >>> sources.names, sources.counts, sources.searches
        (['two_tower'], {'two_tower': 200}, True)
    """

    def __init__(
        self,
        sources: Mapping[str, CandidateSource],
        num_candidates: int,
        *,
        weights: Mapping[str, float] | None = None,
        counts: Mapping[str, int] | None = None,
        rank_constant: float = 60.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.names: list[str] = list(sources)
        self.num_candidates = num_candidates
        self.counts: dict[str, int] = {
            name: (counts or {}).get(name, num_candidates) for name in sources
        }
        self._weights = [(weights or {}).get(name, 1.0) for name in sources]
        self._constant = rank_constant
        self._sources = dict(sources)
        self.reads_query = any(source.reads_query for source in sources.values())
        self.searches = any(isinstance(source, TwoTower) for source in sources.values())
        self.built = True

    def propose(self, asked: Asked) -> dict[str, tf.Tensor]:
        """Asks every source.

        Returns:
            By source, int32 [batch, its count or fewer], best first; 0 where there is none.
        """
        found = {}
        for name, source in self._sources.items():
            items = source.propose(asked, self.counts[name])
            if not source.keeps_filters:
                places = tf.cast(-tf.range(tf.shape(items)[1]), tf.float32)
                order = tf.broadcast_to(places[None], tf.shape(items))
                items = best_allowed(items, order, asked.is_allowed(items), self.counts[name])
            found[name] = items
        return found

    def fuse(self, lists: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Makes one list of those of all sources.

        An item's score is the sum of weight / (constant + rank) over the sources that propose it.

        Source: Cormack, Clarke and Büttcher, Reciprocal Rank Fusion outperforms Condorcet and
            individual Rank Learning Methods (2009), section 2.

        Args:
            lists: By source, int32 [batch, any length], best first, 0 where there is none.

        Returns:
            int32 [batch, up to num_candidates], best first; 0 where there is none.
        """
        parts = [lists[name] for name in self.names]
        weights = [
            tf.broadcast_to(weight / (self._constant + _ranks(items)), tf.shape(items))
            for items, weight in zip(parts, self._weights, strict=True)
        ]
        items, scores = sum_by_item(tf.concat(parts, axis=1), tf.concat(weights, axis=1))
        number = tf.minimum(self.num_candidates, tf.shape(items)[1])
        best = tf.math.top_k(scores, k=number).indices
        return tf.gather(items, best, batch_dims=1)

    def reciprocal_ranks(self, lists: Mapping[str, tf.Tensor], items: tf.Tensor) -> tf.Tensor:
        """Tells what each source says of candidates.

        Args:
            lists: By source, int32 [batch, any length].
            items: int32 [batch, n]; 0 where there is none.

        Returns:
            float32 [batch, n, num_sources], (constant + 1) / (constant + rank) in (0, 1]; 0 where
            the source does not propose the item.
        """
        found = []
        for name in self.names:
            listed = lists[name]
            share = (self._constant + 1) / (self._constant + _ranks(listed))
            is_same = (items[:, :, None] == listed[:, None, :]) & (items != UNKNOWN_INDEX)[
                ..., None
            ]
            found.append(tf.reduce_max(tf.where(is_same, share[:, None, :], 0.0), axis=-1))
        return tf.stack(found, axis=-1)


def _ranks(items: tf.Tensor) -> tf.Tensor:
    """Returns float32 [1, n]: 1, 2, ..."""
    return tf.cast(tf.range(1, tf.shape(items)[1] + 1), tf.float32)[None]
