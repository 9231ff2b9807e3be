"""Softmax over the whole catalogue."""

from __future__ import annotations

import tensorflow as tf

from tfrec.losses.log_sum_exp import MASKED, log_sum_exp
from tfrec.losses.weighted_mean import weighted_mean


def full_softmax(
    users: tf.Tensor,
    items: tf.Tensor,
    target_index: tf.Tensor,
    *,
    weight: tf.Tensor,
    temperature: tf.Tensor | float,
    excluded: tuple[tf.Tensor, tf.Tensor] | None = None,
    label_smoothing: float = 0.0,
) -> tf.Tensor:
    """Computes the weighted mean of -log of the target's share among all items.

    Label smoothing takes the mass `label_smoothing` from the target and spreads it evenly over all
    items of the row that are not excluded, the target among them.

    Args:
        users: float32 [rows, embedding_dim].
        items: float32 [num_items + 1, embedding_dim]; row 0, the unknown item, never counts.
        target_index: int32 [rows], 1 to num_items; 0 in rows of padding, whose weight is 0.
        weight: float32 [rows], what a row counts.
        temperature: Divides the scores; a scalar.
        excluded: int32 [pairs] and int32 [pairs]: rows, and items that do not count in them, in
            any order and as often as you like. A row's own target counts all the same, and item 0
            pads.
        label_smoothing: In [0, 1].

    Returns:
        float32 [], 0 where all weights are.
    """
    users = users / temperature
    target_logits = tf.reduce_sum(users * tf.gather(items, target_index), axis=1)
    logits = tf.matmul(users, items[1:], transpose_b=True)
    if excluded is not None:
        row, item = excluded
        is_other = (item > 0) & (item != tf.gather(target_index, row))
        pairs = tf.boolean_mask(tf.stack([row, item - 1], axis=1), is_other)
        logits = tf.tensor_scatter_nd_update(logits, pairs, tf.fill(tf.shape(pairs)[:1], MASKED))
    loss = log_sum_exp(logits) - target_logits
    if label_smoothing:
        loss += label_smoothing * (target_logits - _mean_left(logits))
    return weighted_mean(loss, weight)


def _mean_left(logits: tf.Tensor) -> tf.Tensor:
    is_left = logits > MASKED / 2
    total = tf.reduce_sum(tf.where(is_left, logits, 0.0), axis=1)
    return tf.math.divide_no_nan(total, tf.reduce_sum(tf.cast(is_left, tf.float32), axis=1))
