"""Texts sorted into buckets by length, so that short ones are not padded to the longest."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import tensorflow as tf

_NUM_BUCKETS = 4  # more gain little: the work for each grows


def rows_by_length(token_ids: tf.Tensor, num_buckets: int = _NUM_BUCKETS) -> list[tf.Tensor]:
    """Parts the rows of int32 [n, length], 0 pads, into buckets of equal size, shortest first.

    Returns:
        int32 [about n / num_buckets] each, together every row once.
    """
    lengths = tf.math.count_nonzero(token_ids, axis=1, dtype=tf.int32)
    order = tf.argsort(lengths, stable=True)
    edges = [tf.size(order) * k // num_buckets for k in range(num_buckets + 1)]
    return [order[start:end] for start, end in pairwise(edges)]


def encode_by_length(
    encode: Callable[[tf.Tensor], tf.Tensor],
    token_ids: tf.Tensor,
    num_buckets: int = _NUM_BUCKETS,
) -> tf.Tensor:
    """Gives what ``encode(token_ids)`` gives, with less padding on the way.

    Args:
        encode: From int32 [n, length] to [n, dim], each row on its own.
        token_ids: int32 [n, length], 0 pads.
        num_buckets: Parts that are encoded one after the other, each as wide as its longest text.

    Returns:
        [n, dim].
    """
    buckets = rows_by_length(token_ids, num_buckets)
    vectors = [encode(trim(tf.gather(token_ids, rows))) for rows in buckets]
    place = tf.math.invert_permutation(tf.concat(buckets, axis=0))
    return tf.gather(tf.concat(vectors, axis=0), place)


def trim(tokens: tf.Tensor) -> tf.Tensor:
    """Cuts trailing padding columns that no row needs; int32 [n, length] to [n, shorter]."""
    lengths = tf.reduce_sum(tf.cast(tokens != 0, tf.int32), axis=1)
    return tokens[:, : tf.maximum(tf.reduce_max(lengths), 1)]
