"""In-batch softmax retrieval."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf
import tensorflow_recommenders as tfrs

InBatchSoftmax = Callable[..., tf.Tensor]


def in_batch_softmax(temperature: float) -> InBatchSoftmax:
    """Returns the loss ``loss(users, items, item_index, item_probability, weight)``.

    It is the TensorFlow Recommenders `Retrieval` task: row r's item is the positive of row r and a
    negative of every other row; other rows with the same item are masked; logits are divided by
    the temperature and, where `item_probability` is given, corrected by -log(probability).

    Args:
        temperature: Divides the scores.

    Returns:
        A function of users and items, float32 [batch, embedding_dim]; item_index, int32 [batch];
        item_probability, float32 [batch] or None, how likely an item is drawn into a slot of the
        batch; weight, float32 [batch]. It answers with the weighted mean loss, a scalar.

    Source: Yi et al., Sampling-Bias-Corrected Neural Modeling for Large Corpus Item
        Recommendations (2019), equations 2 to 4.
    """
    task = tfrs.tasks.Retrieval(
        loss=tf.keras.losses.CategoricalCrossentropy(
            from_logits=True, reduction=tf.keras.losses.Reduction.SUM
        ),
        temperature=temperature,
        remove_accidental_hits=True,
    )

    # The task relies on AutoGraph, which a plain function called from a Keras 3 step lacks.
    @tf.function(autograph=True)
    def loss(
        users: tf.Tensor,
        items: tf.Tensor,
        item_index: tf.Tensor,
        item_probability: tf.Tensor | None,
        weight: tf.Tensor,
    ) -> tf.Tensor:
        summed = task(
            users,
            items,
            candidate_ids=item_index,
            candidate_sampling_probability=item_probability,
            sample_weight=weight,
            compute_metrics=False,
            compute_batch_metrics=False,
        )
        return summed / tf.reduce_sum(weight)

    return loss
