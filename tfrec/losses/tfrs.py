"""In-batch softmax by TensorFlow Recommenders."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
import tensorflow_recommenders as tfrs

from tfrec.losses.retrieval import Pairs, RetrievalLoss


@keras.saving.register_keras_serializable("tfrec")
class TfrsRetrieval(RetrievalLoss):
    """The `Retrieval` task of TensorFlow Recommenders on plain pairs.

    Row r's item is the positive of row r and a negative of every other row, but for those with the
    same item and for known positives. The task corrects the positive like any candidate, by -log
    of its probability. Where the negatives alone shall be corrected, the task's loss gives the
    positive back what it lost.

    Args:
        corrects_target: Whether the positive is corrected too (`log_q: all`).

    Source: Yi et al., Sampling-Bias-Corrected Neural Modeling for Large Corpus Item
        Recommendations (2019), equations 2 to 4; for the negatives alone Khrylchenko et al.,
        Correcting the LogQ Correction (2025).
    Deviates: The task takes no probability below one in a million.

    Example:
        >>> import tensorflow as tf
        >>> from tfrec.losses.retrieval import Pairs
        >>> pairs = Pairs(
        ...     users=tf.constant([[1.0, 0.0], [1.0, 0.0]]),
        ...     items=tf.constant([[1.0, 0.0], [0.0, 1.0]]),
        ...     item_index=tf.constant([7, 9]),
        ...     weight=tf.ones([2]),
        ...     temperature=tf.constant(0.5),
        ...     is_negative=tf.constant([[False, True], [True, False]]),
        ...     probability=tf.ones([2]),
        ...     log_expected=tf.zeros([2]),
        ... )
        >>> round(float(TfrsRetrieval()(pairs)), 4)
        1.1269
    """

    reads = Pairs

    def __init__(self, *, corrects_target: bool = False) -> None:
        self.corrects_target = corrects_target
        self._cross_entropy = tf.keras.losses.CategoricalCrossentropy(
            from_logits=True, reduction=tf.keras.losses.Reduction.SUM
        )
        # The task relies on AutoGraph, which a plain function called from a Keras 3 step lacks.
        self._summed = tf.function(self._run_task, autograph=True)

    def __call__(self, given: Pairs) -> tf.Tensor:
        """See `RetrievalLoss`."""
        return tf.math.divide_no_nan(self._summed(given), tf.reduce_sum(given.weight))

    def get_config(self) -> dict[str, Any]:
        """Returns the keywords that make the loss again."""
        return {"corrects_target": self.corrects_target}

    def _run_task(self, given: Pairs) -> tf.Tensor:
        def loss(y_true: tf.Tensor, y_pred: tf.Tensor, sample_weight: tf.Tensor) -> tf.Tensor:
            if not self.corrects_target:
                y_pred += y_true * given.log_expected[:, tf.newaxis]
            return self._cross_entropy(y_true, y_pred, sample_weight)

        task = tfrs.tasks.Retrieval(
            loss=loss, temperature=given.temperature, remove_accidental_hits=True
        )
        is_own = tf.eye(tf.shape(given.users)[0], dtype=tf.bool)
        return task(
            given.users,
            given.items,
            candidate_ids=given.item_index,
            candidate_sampling_probability=given.probability,
            sample_weight=given.weight,
            score_mask=given.is_negative | is_own,
            compute_metrics=False,
            compute_batch_metrics=False,
        )
