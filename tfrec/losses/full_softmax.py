"""Softmax over the whole catalogue."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tfrec.losses.log_sum_exp import log_sum_exp
from tfrec.losses.retrieval import Catalogue, RetrievalLoss
from tfrec.losses.weighted_mean import weighted_mean


def full_softmax(
    users: tf.Tensor,
    items: tf.Tensor,
    target_index: tf.Tensor,
    *,
    weight: tf.Tensor,
    temperature: tf.Tensor | float,
    request: tf.Tensor | None = None,
    label_smoothing: float = 0.0,
) -> tf.Tensor:
    """Computes the weighted mean of -log of the target's share among all items.

    The sum over all items is taken once a request, however many targets it has. Label smoothing
    takes the mass `label_smoothing` from the target and spreads it evenly over all items, the
    target among them.

    Args:
        users: float32 [requests, embedding_dim].
        items: float32 [num_items + 1, embedding_dim]; row 0, the unknown item, never counts.
        target_index: int32 [rows], 1 to num_items; 0 in rows of padding, whose weight is 0.
        weight: float32 [rows], what a row counts.
        temperature: Divides the scores; a scalar.
        request: int32 [rows], the row of `users` that each target belongs to; by default each
            has its own.
        label_smoothing: In [0, 1].

    Returns:
        float32 [], 0 where all weights are.
    """
    users = users / temperature
    logits = tf.matmul(users, items[1:], transpose_b=True)
    normaliser, mean = log_sum_exp(logits), tf.reduce_mean(logits, axis=1)
    if request is not None:
        users, normaliser, mean = (tf.gather(each, request) for each in (users, normaliser, mean))
    target_logits = tf.reduce_sum(users * tf.gather(items, target_index), axis=1)
    smoothed = target_logits + label_smoothing * (mean - target_logits)
    return weighted_mean(normaliser - smoothed, weight)


@keras.saving.register_keras_serializable("tfrec")
class FullSoftmax(RetrievalLoss):
    """`full_softmax` as a retrieval loss.

    Args:
        label_smoothing: In [0, 1].

    Example:
        >>> FullSoftmax(label_smoothing=0.1).get_config()
        {'label_smoothing': 0.1}
    """

    reads = Catalogue

    def __init__(self, *, label_smoothing: float = 0.0) -> None:
        self.label_smoothing = label_smoothing

    def __call__(self, given: Catalogue) -> tf.Tensor:
        """See `full_softmax`."""
        return full_softmax(
            given.users,
            given.items,
            given.item_index,
            weight=given.weight,
            temperature=given.temperature,
            request=given.request,
            label_smoothing=self.label_smoothing,
        )

    def get_config(self) -> dict[str, Any]:
        """Returns the keywords that make the loss again."""
        return {"label_smoothing": self.label_smoothing}
