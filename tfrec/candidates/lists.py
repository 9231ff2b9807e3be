"""Lists of items in the graph: summed, and cut to what is allowed."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfrec.schema import UNKNOWN_INDEX


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
