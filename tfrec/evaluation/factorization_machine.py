"""A factorization machine that the ranking model has to beat."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from scipy.special import expit

_FACTORS, _BATCH, _EPOCHS, _RATE = 8, 2048, 3, 0.01
_DECAY = 1e-5
_BLOCK = 2**16


class FactorizationMachine(tf.Module):
    """A factorization machine over categories and numbers, trained by Adam.

    Source: Rendle, Factorization Machines (2010), equations 1 and 5.

    Args:
        num_categories: Rows of the table of all categories.
        num_numbers: Numbers of a row.
        rate: Share of ones among the labels, in (0, 1).
        seed: Of initial weights and of batches.
    """

    def __init__(self, num_categories: int, num_numbers: int, rate: float, seed: int) -> None:
        super().__init__(name="factorization_machine")
        generator = tf.random.Generator.from_seed(seed)
        self._seed = seed
        self._tables = [
            tf.Variable(generator.normal([num_categories, 1 + _FACTORS], stddev=0.01)),
            tf.Variable(generator.normal([num_numbers, 1 + _FACTORS], stddev=0.01)),
            tf.Variable([float(np.log(rate / (1 - rate)))]),
        ]
        self._moments = [
            (tf.Variable(tf.zeros_like(t)), tf.Variable(tf.zeros_like(t))) for t in self._tables
        ]

    def fit(
        self, categories: np.ndarray, numbers: np.ndarray, labels: np.ndarray, weights: np.ndarray
    ) -> None:
        """Learns from n rows.

        Args:
            categories: int32 [n, any], rows of the table of all categories.
            numbers: float32 [n, num_numbers].
            labels: float32 [n], 0 or 1.
            weights: float [n].
        """
        step = tf.function(self._step, reduce_retracing=True, autograph=False)
        rng, t = np.random.default_rng(self._seed), 0
        for _ in range(_EPOCHS):
            order = rng.permutation(len(labels))
            for start in range(0, len(order), _BATCH):
                at = order[start : start + _BATCH]
                t += 1
                step(
                    tf.constant(categories[at]),
                    tf.constant(numbers[at]),
                    tf.constant(labels[at]),
                    tf.constant(weights[at], tf.float32),
                    tf.constant(float(t)),
                )

    def predict(self, categories: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """Returns probabilities of n rows, float64 [n]; see `fit`."""
        found = [
            self._logits(
                tf.constant(categories[start : start + _BLOCK]),
                tf.constant(numbers[start : start + _BLOCK]),
            ).numpy()
            for start in range(0, len(categories), _BLOCK)
        ]
        return expit(np.concatenate(found).astype(np.float64))

    def _logits(self, categories: tf.Tensor, numbers: tf.Tensor) -> tf.Tensor:
        known = tf.gather(self._tables[0], categories)  # [n, num_categories, 1 + factors]
        parts = numbers[:, :, None] * self._tables[1]
        linear = tf.reduce_sum(known[..., 0], 1) + tf.reduce_sum(parts[..., 0], 1)
        vectors = tf.concat([known[..., 1:], parts[..., 1:]], axis=1)
        squared = tf.square(tf.reduce_sum(vectors, 1)) - tf.reduce_sum(tf.square(vectors), 1)
        return self._tables[2] + linear + 0.5 * tf.reduce_sum(squared, -1)

    def _step(
        self,
        categories: tf.Tensor,
        numbers: tf.Tensor,
        label: tf.Tensor,
        weight: tf.Tensor,
        t: tf.Tensor,
    ) -> None:
        with tf.GradientTape() as tape:
            logits = self._logits(categories, numbers)
            losses = tf.nn.sigmoid_cross_entropy_with_logits(label, logits)
            loss = tf.reduce_sum(losses * weight) / tf.reduce_sum(weight)
        for variable, (mean, square), gradient in zip(
            self._tables, self._moments, tape.gradient(loss, self._tables), strict=True
        ):
            gradient = tf.convert_to_tensor(gradient) + _DECAY * variable
            mean.assign(0.9 * mean + 0.1 * gradient)
            square.assign(0.999 * square + 0.001 * tf.square(gradient))
            rate = _RATE * tf.sqrt(1 - 0.999**t) / (1 - 0.9**t)
            variable.assign_sub(rate * mean / (tf.sqrt(square) + 1e-7))
