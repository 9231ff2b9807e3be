"""Squared error on ratings."""

from __future__ import annotations

import tensorflow as tf

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
