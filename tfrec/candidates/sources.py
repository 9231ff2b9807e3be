"""Candidate sources in the graph: each proposes items, and their lists become one by rank."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfrec.candidates.tables import HISTORY, KEYS, QUERY, CandidateTable
from tfrec.config.candidates import Candidates
from tfrec.schema import UNKNOWN_INDEX

IsAllowed = Callable[[tf.Tensor], tf.Tensor]
"""From items, int32 [batch, n], to bool [batch, n]: whether a request may get them."""


class CandidateSources(keras.layers.Layer):
    """Proposes candidates from several sources.

    Args:
        tables: Of all sources but the towers.
        config: Sources, their weights and counts.
        num_candidates: Items in the fused list; what a source without a count proposes.

    Attributes:
        names: The sources in the order of the configuration.
        counts: Items each proposes.
    """

    def __init__(
        self,
        tables: Mapping[str, CandidateTable],
        config: Candidates,
        num_candidates: int,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.names: list[str] = list(config.sources)
        self.num_candidates = num_candidates
        self.counts: dict[str, int] = {
            name: source.count or num_candidates for name, source in config.sources.items()
        }
        self._weights = [source.weight for source in config.sources.values()]
        self._constant = config.rank_constant
        self._tables = {
            name: (_table(table.items), _table(table.weights)) for name, table in tables.items()
        }
        self.built = True

    @property
    def reads_query(self) -> bool:
        """Whether a source looks up the tokens of the query."""
        return any(KEYS.get(name) == QUERY for name in self.names)

    def propose(
        self, recent: tf.Tensor, query: tf.Tensor | None, is_allowed: IsAllowed
    ) -> dict[str, tf.Tensor]:
        """Asks every source but the towers.

        Args:
            recent: int32 [batch, any length], the last items of the history; 0 pads.
            query: int32 [batch, any length], tokens of the query; 0 pads. None where no source
                reads it.
            is_allowed: Which items may be proposed.

        Returns:
            By source, int32 [batch, its count or fewer], best first; 0 where there is none.
        """
        nothing = tf.zeros([tf.shape(recent)[0], 1], tf.int32)
        keys = {HISTORY: recent, QUERY: query}
        found = {}
        for name, (items, weights) in self._tables.items():
            asked = keys.get(KEYS[name], nothing)
            # Items that came after the training are no keys.
            asked = tf.where(asked < tf.shape(items)[0], asked, UNKNOWN_INDEX)
            shape = [tf.shape(recent)[0], -1]
            proposed, score = sum_by_item(
                tf.reshape(tf.gather(items, asked), shape),
                tf.reshape(tf.gather(weights, asked), shape),
            )
            found[name] = best_allowed(proposed, score, is_allowed(proposed), self.counts[name])
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


def sum_by_item(items: tf.Tensor, weights: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Adds up the weights of each item of a row.

    Args:
        items: int32 [batch, n], in any order; 0 is no item.
        weights: float32 [batch, n].

    Returns:
        int32 and float32 [batch, n]: each item once, ascending, then 0 with the sum 0.
    """
    batch, width = tf.shape(items)[0], tf.shape(items)[1]
    order = tf.argsort(items, axis=1, stable=True)
    items, weights = (tf.gather(values, order, batch_dims=1) for values in (items, weights))
    is_first = items[:, 1:] != items[:, :-1]
    is_first = tf.pad(tf.cast(is_first, tf.int32), [[0, 0], [1, 0]])[:, :width]
    group = tf.cumsum(is_first, axis=1) + tf.range(batch)[:, None] * width
    flat = tf.reshape(group, [-1])
    sums = tf.math.unsorted_segment_sum(tf.reshape(weights, [-1]), flat, batch * width)
    # A row's groups are counted from its start; unused ones hold the least int32.
    found = tf.math.unsorted_segment_max(tf.reshape(items, [-1]), flat, batch * width)
    found = tf.reshape(tf.maximum(found, UNKNOWN_INDEX), [batch, width])
    sums = tf.where(found != UNKNOWN_INDEX, tf.reshape(sums, [batch, width]), 0.0)
    return found, sums


def best_allowed(
    items: tf.Tensor, scores: tf.Tensor, is_allowed: tf.Tensor, count: int
) -> tf.Tensor:
    """Picks the best items that are allowed.

    Args:
        items: int32 [batch, n], each at most once a row; 0 where there is none.
        scores: float32 [batch, n]; of equal ones the first wins.
        is_allowed: bool [batch, n].
        count: Items to pick.

    Returns:
        int32 [batch, up to count], best first; 0 where no item is left.
    """
    is_left = is_allowed & (items != UNKNOWN_INDEX)
    number = tf.minimum(count, tf.shape(items)[1])
    scores, at = tf.math.top_k(tf.where(is_left, scores, -np.inf), k=number)
    found = tf.gather(items, at, batch_dims=1)
    return tf.where(tf.math.is_finite(scores), found, UNKNOWN_INDEX)


def not_among(seen: tf.Tensor) -> IsAllowed:
    """Allows all items but those in int32 [batch, any length]."""
    return lambda items: ~tf.reduce_any(items[:, :, None] == seen[:, None, :], axis=-1)


def _ranks(items: tf.Tensor) -> tf.Tensor:
    """Returns float32 [1, n]: 1, 2, ..."""
    return tf.cast(tf.range(1, tf.shape(items)[1] + 1), tf.float32)[None]


def _table(values: np.ndarray) -> tf.Variable:
    return tf.Variable(values, trainable=False)
