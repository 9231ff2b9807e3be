"""Two views of the same thing find each other among the views of others."""

from __future__ import annotations

import tensorflow as tf

from tfrec.losses.sampled_softmax import sampled_softmax


def contrastive_loss(
    first: tf.Tensor,
    second: tf.Tensor,
    *,
    temperature: tf.Tensor | float,
    weight: tf.Tensor,
    is_negative: tf.Tensor | None = None,
) -> tf.Tensor:
    """Computes the symmetrical InfoNCE loss of two views by cosine.

    Row r of one view has to pick row r among all rows of the other, by a softmax over the cosines
    divided by the temperature. The loss is the mean of both directions.

    Args:
        first: float32 [rows, dim], one view.
        second: float32 [rows, dim], the other.
        temperature: Divides the cosines; a scalar.
        weight: float32 [rows], what a row counts when it picks. As something to be picked, a row
            counts whatever its weight.
        is_negative: bool [rows, rows], which row of the second view is a negative of which row of
            the first; None: all others. The diagonal is not read.

    Returns:
        float32 [], 0 where all weights are.

    Source: van den Oord et al., Representation Learning with Contrastive Predictive Coding (2018),
        eq. 4; for views made by dropout Gao et al., SimCSE (2021); of sequences Xie et al.,
        Contrastive Learning for Sequential Recommendation (2022).
    Deviates: Symmetrical, as Radford et al. (CLIP, 2021); SimCSE takes one direction. Xie et al.
        count the other rows of the same view as negatives too.
    """
    first = tf.math.l2_normalize(first, axis=1)
    second = tf.math.l2_normalize(second, axis=1)
    logits = tf.matmul(first, second, transpose_b=True) / temperature
    others = ~tf.eye(tf.shape(first)[0], dtype=tf.bool)
    if is_negative is not None:
        others &= is_negative

    def one_way(logits: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
        return sampled_softmax(
            tf.linalg.diag_part(logits), logits, weight=weight, is_negative=others
        )

    return 0.5 * (one_way(logits, others) + one_way(tf.transpose(logits), tf.transpose(others)))
