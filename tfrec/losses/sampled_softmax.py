"""Softmax over a positive and sampled negatives, corrected for how they were drawn."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tfrec.losses.log_sum_exp import MASKED, log_sum_exp
from tfrec.losses.retrieval import RetrievalLoss, Sampled
from tfrec.losses.weighted_mean import weighted_mean


def sampled_softmax(
    positive_logits: tf.Tensor,
    negative_logits: tf.Tensor,
    *,
    weight: tf.Tensor,
    is_negative: tf.Tensor | None = None,
    log_expected: tf.Tensor | None = None,
    positive_log_expected: tf.Tensor | None = None,
    label_smoothing: float = 0.0,
) -> tf.Tensor:
    """Computes the weighted mean of -log of the positive's share in a sampled softmax.

    With f the logits, c the expected count of an item among the drawn candidates, p the positive
    and n the slots of its negatives, a row loses

        -f_p + log(e^f_p + sum_n e^(f_n - log c_n)).

    Item j fills c_j slots in the mean, so the sum over slots estimates, without bias, the sum of
    e^f_j over all items other than p: the loss estimates the full softmax, and equals it where
    every item fills exactly c_j slots. The positive is not drawn, it is there with certainty, and
    so it is not corrected. This is `log_q: negatives`: give `log_expected` alone.

    `log_q: all`, the form of TensorFlow Recommenders, corrects the positive like a drawn item,
    which makes the gradients of popular positives too small: give both. A constant factor of c
    then cancels. `log_q: none`: give neither; popular items are pushed away too hard.

    Label smoothing takes the mass `label_smoothing` from the positive and spreads it evenly over
    all candidates of the row: the positive and each negative that is left.

    Args:
        positive_logits: float32 [rows], score of the row's item, divided by the temperature.
        negative_logits: float32 [rows, n], the same of its candidates.
        weight: float32 [rows], what a row counts; rows of weight 0 are padding.
        is_negative: bool [rows, n], which candidates are negatives of the row; None: all.
        log_expected: float32 [n] or [rows, n], log of the expected count of each candidate's item
            among the candidates of a row; see `log_expected_counts`.
        positive_log_expected: float32 [rows], the same of the row's item.
        label_smoothing: In [0, 1].

    Returns:
        float32 [], 0 where all weights are. A row without negatives loses 0.

    Source: Khrylchenko et al., Correcting the LogQ Correction (2025); for `log_q: all` Yi et al.,
        Sampling-Bias-Corrected Neural Modeling for Large Corpus Item Recommendations (2019).
    Deviates: Khrylchenko et al. write the loss as a softmax over negatives alone, times the
        positive's missing share as a constant. With that share taken from the same draws, the
        gradient is the one above.
    """
    positive, negatives = positive_logits, negative_logits
    if log_expected is not None:
        negatives -= log_expected
    if positive_log_expected is not None:
        positive -= positive_log_expected
    if is_negative is not None:
        negatives = tf.where(is_negative, negatives, MASKED)
    loss = tf.math.softplus(log_sum_exp(negatives) - positive)
    if label_smoothing:
        loss += label_smoothing * (positive - _mean_candidate(positive, negatives))
    return weighted_mean(loss, weight)


def _mean_candidate(positive: tf.Tensor, negatives: tf.Tensor) -> tf.Tensor:
    is_left = negatives > MASKED / 2
    total = tf.reduce_sum(tf.where(is_left, negatives, 0.0), axis=1)
    count = tf.reduce_sum(tf.cast(is_left, tf.float32), axis=1)
    return (positive + total) / (1 + count)


@keras.saving.register_keras_serializable("tfrec")
class SampledSoftmax(RetrievalLoss):
    """`sampled_softmax` as a retrieval loss.

    Args:
        corrects_target: Whether the positive is corrected too (`log_q: all`).
        label_smoothing: In [0, 1].

    Example:
        >>> SampledSoftmax(label_smoothing=0.1).get_config()
        {'corrects_target': False, 'label_smoothing': 0.1}
    """

    def __init__(self, *, corrects_target: bool = False, label_smoothing: float = 0.0) -> None:
        self.corrects_target = corrects_target
        self.label_smoothing = label_smoothing

    def __call__(self, given: Sampled) -> tf.Tensor:
        """See `sampled_softmax`."""
        return sampled_softmax(
            given.target_logits,
            given.logits,
            weight=given.weight,
            is_negative=given.is_negative,
            log_expected=given.log_expected,
            positive_log_expected=given.target_log_expected if self.corrects_target else None,
            label_smoothing=self.label_smoothing,
        )

    def get_config(self) -> dict[str, Any]:
        """Returns the keywords that make the loss again."""
        return {"corrects_target": self.corrects_target, "label_smoothing": self.label_smoothing}
