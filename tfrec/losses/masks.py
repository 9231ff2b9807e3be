"""Which candidates are no negatives of a row."""

from __future__ import annotations

import tensorflow as tf


def accidental_hits(target_index: tf.Tensor, candidate_index: tf.Tensor) -> tf.Tensor:
    """Finds candidates that are the row's own item.

    Args:
        target_index: int32 [rows].
        candidate_index: int32 [n], shared by all rows, or [rows, n].

    Returns:
        bool [rows, n].
    """
    return target_index[:, tf.newaxis] == candidate_index


def known_positives(
    pair_row: tf.Tensor, pair_item: tf.Tensor, candidate_index: tf.Tensor, num_rows: tf.Tensor
) -> tf.Tensor:
    """Finds candidates that are known positives of a row, given as pairs of row and item.

    Memory is that of the answer and of the pairs, never of rows x candidates x positives.

    Args:
        pair_row: int32 [pairs], 0 to num_rows - 1.
        pair_item: int32 [pairs]; 0 pads. Pairs stand in any order and may repeat.
        candidate_index: int32 [n], shared by all rows, or [num_rows, n].
        num_rows: int32 [].

    Returns:
        bool [num_rows, n]; false for candidate 0, which is padding.
    """
    if candidate_index.shape.rank == 1:
        return _known_of_shared(pair_row, pair_item, candidate_index, num_rows)
    rows = tf.range(num_rows)[:, tf.newaxis]
    known = _with_end(tf.sort(_pair_keys(pair_row, pair_item)))
    wanted = _pair_keys(rows, candidate_index)
    place = tf.reshape(tf.searchsorted(known, tf.reshape(wanted, [-1])), tf.shape(wanted))
    return (tf.gather(known, place) == wanted) & (candidate_index > 0)


def _known_of_shared(
    pair_row: tf.Tensor, pair_item: tf.Tensor, candidate_index: tf.Tensor, num_rows: tf.Tensor
) -> tf.Tensor:
    distinct = _with_end(tf.sort(tf.unique(candidate_index)[0]))
    place = tf.searchsorted(distinct, pair_item)
    is_candidate = (tf.gather(distinct, place) == pair_item) & (pair_item > 0)
    found = tf.boolean_mask(tf.stack([pair_row, place], axis=1), is_candidate)
    of_distinct = tf.tensor_scatter_nd_update(
        tf.zeros([num_rows, tf.size(distinct)], tf.bool), found, tf.ones(tf.shape(found)[:1], bool)
    )
    return tf.gather(of_distinct, tf.searchsorted(distinct, candidate_index), axis=1)


def _pair_keys(row: tf.Tensor, item: tf.Tensor) -> tf.Tensor:
    return tf.bitwise.left_shift(tf.cast(row, tf.int64), tf.constant(32, tf.int64)) + tf.cast(
        item, tf.int64
    )


def _with_end(ascending: tf.Tensor) -> tf.Tensor:
    """Adds a last value, so that a search for anything ends at an element."""
    return tf.concat([ascending, [ascending.dtype.max]], axis=0)
