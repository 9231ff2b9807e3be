"""Squared error on ratings."""

from __future__ import annotations

import keras
import tensorflow as tf

from tfrec.losses.retrieval import Rated, RetrievalLoss
from tfrec.losses.weighted_mean import weighted_mean


def rating_loss(predictions: tf.Tensor, ratings: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    """Computes the weighted mean squared error, the loss of matrix factorisation on ratings.

    Args:
        predictions: float32 [rows].
        ratings: float32 [rows].
        weight: float32 [rows], what a row counts.

    Returns:
        float32 [], 0 where all weights are.

    Source: Koren et al., Matrix Factorization Techniques for Recommender Systems (2009), eq. 2.
    Deviates: Weight decay is the optimizer's.
    """
    return weighted_mean(tf.square(predictions - ratings), weight)


@keras.saving.register_keras_serializable("tfrec")
class SquaredError(RetrievalLoss):
    """`rating_loss` as a retrieval loss.

    Example:
        >>> SquaredError().get_config()
        {}
    """

    reads = Rated

    def __call__(self, given: Rated) -> tf.Tensor:
        """See `rating_loss`."""
        return rating_loss(given.predictions, given.ratings, given.weight)
