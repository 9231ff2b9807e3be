"""The time between events, in buckets that double, for arrays and for tensors.

Bucket b holds gaps of 2^(b-1) up to less than 2^b seconds; the first also holds shorter ones, and
the last everything longer. Bucket 0 says that there is no gap, or that one of the times is unknown.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfrec.schema import UNKNOWN_TIME

NUM_GAP_BUCKETS = 28
"""Buckets from 1 on; the last begins at 2^27 seconds, a little more than four years."""

_EDGES = 2 ** np.arange(1, NUM_GAP_BUCKETS, dtype=np.int64)


def gap_buckets(earlier: np.ndarray, later: np.ndarray) -> np.ndarray:
    """Sorts the times between pairs of events into buckets.

    Args:
        earlier: int64, any shape, seconds since 1970.
        later: int64, of the same shape.

    Returns:
        int32, of the same shape, 0 to `NUM_GAP_BUCKETS`.
    """
    buckets = 1 + np.searchsorted(_EDGES, later - earlier, side="right")
    is_known = (earlier != UNKNOWN_TIME) & (later != UNKNOWN_TIME)
    return np.where(is_known, buckets, 0).astype(np.int32)


def history_gaps(times: np.ndarray) -> np.ndarray:
    """Sorts the time between each event of a history and the one before it into buckets.

    Args:
        times: int64 [n, length], seconds since 1970, oldest first; `UNKNOWN_TIME` on padding.

    Returns:
        int32 [n, length]; 0 for the first event, which has none before it.
    """
    first = np.zeros((len(times), 1), np.int32)
    return np.concatenate([first, gap_buckets(times[:, :-1], times[:, 1:])], axis=1)


def gap_bucket_tensor(earlier: tf.Tensor, later: tf.Tensor) -> tf.Tensor:
    """Does to tensors what `gap_buckets` does to arrays."""
    gaps = tf.reshape(later - earlier, [-1])
    buckets = tf.reshape(1 + tf.searchsorted(_EDGES, gaps, side="right"), tf.shape(later))
    is_known = (earlier != UNKNOWN_TIME) & (later != UNKNOWN_TIME)
    return tf.where(is_known, buckets, 0)


def history_gap_tensor(times: tf.Tensor) -> tf.Tensor:
    """Does to tensors what `history_gaps` does to arrays."""
    first = tf.zeros([tf.shape(times)[0], 1], tf.int32)
    return tf.concat([first, gap_bucket_tensor(times[:, :-1], times[:, 1:])], axis=1)
