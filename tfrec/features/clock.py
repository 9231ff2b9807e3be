"""The hour and the day of the week as numbers on circles."""

from __future__ import annotations

import math

import tensorflow as tf

from tfrec.schema import UNKNOWN_TIME

CLOCK_WIDTH = 5
"""Numbers that a time becomes."""

_DAY_SECONDS = 86_400
_WEEK_SECONDS = 7 * _DAY_SECONDS


def clock_features(time: tf.Tensor) -> tf.Tensor:
    """Says where in the day and in the week times lie.

    Args:
        time: int64 [n], seconds since 1970 (UTC); 0 for unknown.

    Returns:
        float32 [n, 5]: sine and cosine of the time of day and of the time of the week, and 1.0
        where the time is known; zeros where it is not.
    """
    is_known = tf.cast(time != UNKNOWN_TIME, tf.float32)
    circles = []
    for seconds in (_DAY_SECONDS, _WEEK_SECONDS):
        angle = tf.cast(tf.math.floormod(time, seconds), tf.float32) * (2 * math.pi / seconds)
        circles += [tf.sin(angle), tf.cos(angle)]
    return tf.stack([part * is_known for part in [*circles, tf.ones_like(is_known)]], axis=-1)
