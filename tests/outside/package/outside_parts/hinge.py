"""A retrieval loss: the target has to lead every negative by a margin."""

from __future__ import annotations

import tensorflow as tf

from tfrec.losses.retrieval import RetrievalLoss, Sampled


class Hinge(RetrievalLoss):
    """Sums by how much the negatives of a row come too near."""

    def __init__(self, margin: float = 1.0) -> None:
        self.margin = margin

    def __call__(self, given: Sampled) -> tf.Tensor:
        behind = self.margin + given.logits - given.target_logits[:, None]
        rows = tf.reduce_sum(tf.where(given.is_negative, tf.nn.relu(behind), 0.0), axis=1)
        return tf.math.divide_no_nan(
            tf.reduce_sum(given.weight * rows), tf.reduce_sum(given.weight)
        )

    def get_config(self) -> dict[str, float]:
        return {"margin": self.margin}
