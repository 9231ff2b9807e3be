"""The mean over the rows of a batch that losses end in."""

from __future__ import annotations

import tensorflow as tf


def weighted_mean(values: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    """Averages `values`, float32 [n], by `weight`, float32 [n]; 0 where all weights are 0."""
    return tf.math.divide_no_nan(tf.reduce_sum(weight * values), tf.reduce_sum(weight))
