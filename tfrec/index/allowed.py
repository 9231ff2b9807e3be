"""Search for the best rows that a request allows: as many as asked for, if there are as many."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tfrec.index.item_index import Searcher

_SPARE = 1.3
_EXACT_SHARE = 0.1

IsAllowed = Callable[[tf.Tensor], tf.Tensor]
"""From rows, int32 [batch, n] (-1 for none), to bool [batch, n]; false for none."""

BestOf = Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
"""From one query, float32 [embedding_dim], and its number in the batch, int32 [], to the best
allowed rows of all, int32 [k], -1 where there are no more, and their scores, float32 [k]."""


def search_allowed(
    index: Searcher,
    queries: tf.Tensor,
    k: tf.Tensor | int,
    *,
    is_allowed: IsAllowed,
    best_of_all: BestOf,
    share: tf.Tensor,
    num_barred: tf.Tensor | int = 0,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Searches the index for more rows than are wanted and takes the allowed ones.

    How many more follows from the share of rows that are allowed. A query that finds too few all
    the same is answered by scoring all rows; so is any query where the index would have to give
    more than a tenth of its rows.

    Args:
        index: Any index.
        queries: float32 [batch, embedding_dim].
        k: Rows wanted.
        is_allowed: Tells which rows a query may get.
        best_of_all: Scores all rows for one query.
        share: float32 [batch], about what part of all rows each query may get.
        num_barred: Rows that a query may not get beside those that `share` tells of.

    Returns:
        int32 and float32 [batch, k], best first; -1 and 0 only where there are fewer allowed rows.
    """
    k = tf.minimum(k, index.num_items)
    least = tf.reduce_min(tf.concat([share, [1.0]], axis=0))
    wanted = _SPARE * tf.cast(k, tf.float32) / tf.maximum(least, 1e-6)
    wanted = tf.cast(tf.math.ceil(tf.minimum(wanted, float(index.num_items))), tf.int32)
    # Where nothing is barred, nothing is wanted beyond k.
    wanted = tf.where(least < 1.0, wanted, k)
    is_many = wanted > tf.maximum(k, int(_EXACT_SHARE * index.num_items))
    wanted += num_barred
    batch = tf.shape(queries)[0]

    def of_index() -> tuple[tf.Tensor, tf.Tensor]:
        rows, scores = index.search(queries, wanted)
        return first_allowed(rows, scores, is_allowed(rows), k)

    def nothing() -> tuple[tf.Tensor, tf.Tensor]:
        return tf.fill([batch, k], -1), tf.zeros([batch, k])

    rows, scores = tf.cond(is_many, nothing, of_index)
    lacks = tf.where(tf.reduce_any(rows < 0, axis=1))[:, 0]

    def with_all() -> tuple[tf.Tensor, tf.Tensor]:
        found = tf.map_fn(
            lambda number: best_of_all(queries[number], number),
            tf.cast(lacks, tf.int32),
            fn_output_signature=(tf.TensorSpec([None], tf.int32), tf.TensorSpec([None])),
        )
        at = lacks[:, None]
        return (
            tf.tensor_scatter_nd_update(rows, at, found[0]),
            tf.tensor_scatter_nd_update(scores, at, found[1]),
        )

    return tf.cond(tf.size(lacks) > 0, with_all, lambda: (rows, scores))


def first_allowed(
    rows: tf.Tensor, scores: tf.Tensor, is_allowed: tf.Tensor, k: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Takes the first k allowed rows of sorted lists.

    Args:
        rows: int32 [batch, n], best first.
        scores: float32 [batch, n].
        is_allowed: bool [batch, n].
        k: Rows to take.

    Returns:
        int32 and float32 [batch, k], in their order; -1 and 0 where no row is left.
    """
    # A stable sort keeps the order among the rows that stay.
    order = tf.argsort(tf.cast(~is_allowed, tf.int32), axis=1, stable=True)[:, :k]
    rows, scores, is_allowed = (
        tf.gather(values, order, batch_dims=1) for values in (rows, scores, is_allowed)
    )
    padding = [[0, 0], [0, k - tf.shape(rows)[1]]]
    return (
        tf.pad(tf.where(is_allowed, rows, -1), padding, constant_values=-1),
        tf.pad(tf.where(is_allowed, scores, 0.0), padding),
    )


def best_rows(
    scores: tf.Tensor, is_allowed: tf.Tensor, k: tf.Tensor | int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Takes the best allowed rows of one query, whose scores of all rows are known.

    Args:
        scores: float32 [num_rows].
        is_allowed: bool [num_rows].
        k: Rows to take, at most `num_rows`.

    Returns:
        int32 and float32 [k], best first; -1 and 0 where no row is left.
    """
    found = tf.math.top_k(tf.where(is_allowed, scores, -np.inf), k=k)
    is_row = tf.math.is_finite(found.values)
    return tf.where(is_row, found.indices, -1), tf.where(is_row, found.values, 0.0)
