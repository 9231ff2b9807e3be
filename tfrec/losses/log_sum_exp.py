"""The logarithm of a sum of exponentials, the costly part of every softmax."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

MASKED = tf.float32.min / 2
"""A logit that counts for nothing: finite, so that rows without any other have gradients."""


@tf.custom_gradient
def log_sum_exp(logits: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
    """Computes log(sum_n exp(logits_n)) of each row.

    Keeps one tensor of the size of `logits` for the gradient, which `tf.reduce_logsumexp` does
    not, and has no part that op determinism makes slow, which TensorFlow's sparse softmax
    cross-entropy has.

    Args:
        logits: float32 [rows, n].

    Returns:
        float32 [rows]; -inf where n is 0, and about `MASKED` where all logits are.
    """
    highest = tf.reduce_max(logits, axis=1)
    exponentials = tf.exp(logits - highest[:, tf.newaxis])
    total = tf.reduce_sum(exponentials, axis=1)

    def gradient(upstream: tf.Tensor) -> tf.Tensor:
        return exponentials * (upstream / total)[:, tf.newaxis]

    return highest + tf.math.log(total), gradient
