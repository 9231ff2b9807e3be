"""Predictions as decisions: at one threshold, and at all of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.metrics import precision_recall_curve, roc_curve

NEUTRAL_THRESHOLD = 0.5
"""Where the rows tell nothing of a better one."""


@dataclass(frozen=True)
class Confusion:
    """How decisions met answers: sums of weights.

    Attributes:
        true_positives, false_positives: Rows that were predicted to be clicked.
        false_negatives, true_negatives: The others.
    """

    true_positives: float
    false_positives: float
    false_negatives: float
    true_negatives: float

    @property
    def precision(self) -> float:
        """Share of clicks among what was predicted; NaN if nothing was."""
        return _ratio(self.true_positives, self.true_positives + self.false_positives)

    @property
    def recall(self) -> float:
        """Share of the clicks that were predicted; NaN without clicks."""
        return _ratio(self.true_positives, self.true_positives + self.false_negatives)

    @property
    def f1(self) -> float:
        """Harmonic mean of both; NaN if nothing was clicked and nothing predicted."""
        wrong = self.false_positives + self.false_negatives
        return _ratio(2.0 * self.true_positives, 2.0 * self.true_positives + wrong)


def confuse(
    labels: np.ndarray,
    probabilities: np.ndarray,
    threshold: float,
    weights: np.ndarray | None = None,
) -> Confusion:
    """Predicts a click where the probability is at least `threshold`, and counts.

    Args:
        labels: int or float [n], 0 or 1.
        probabilities: float [n].
        threshold: In [0, 1].
        weights: float [n]: how many rows each stands for; 1 by default.
    """
    weights = np.ones(len(labels)) if weights is None else weights
    chosen, clicked = probabilities >= threshold, labels == 1
    return Confusion(
        *(
            float(weights[rows].sum())
            for rows in (chosen & clicked, chosen & ~clicked, ~chosen & clicked, ~chosen & ~clicked)
        )
    )


def best_threshold(
    labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None = None
) -> float:
    """Returns the probability from which on predicting a click gives the highest F1.

    It is chosen on validation and used on the test. Of several that are as good, the highest.
    Without any click it is `NEUTRAL_THRESHOLD`.
    """
    weights = np.ones(len(labels)) if weights is None else weights
    clicks = np.where(labels == 1, weights, 0.0)
    if not clicks.sum():
        return NEUTRAL_THRESHOLD
    values, run = np.unique(-probabilities.astype(np.float64), return_inverse=True)
    found = np.cumsum(np.bincount(run, weights=clicks))
    chosen = np.cumsum(np.bincount(run, weights=weights))
    return float(-values[np.argmax(2.0 * found / (chosen + clicks.sum()))])


def roc_points(
    labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the false and the true positive rate at each threshold, from (0, 0) to (1, 1)."""
    false_rate, true_rate, _ = roc_curve(labels, probabilities, sample_weight=weights)
    return false_rate, true_rate


def precision_recall_points(
    labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Returns recall and precision at each threshold, in ascending order of recall."""
    precision, recall, _ = precision_recall_curve(labels, probabilities, sample_weight=weights)
    return recall[::-1], precision[::-1]


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")
