"""Metrics of click prediction."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score


def ranking_metrics(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Measures predicted click probabilities.

    Args:
        labels: int [n], 0 or 1.
        probabilities: float [n] in [0, 1].

    Returns:
        ``auc`` and ``pr_auc`` (NaN where only one class is there), ``log_loss`` in nats and
        ``ece``, the expected calibration error.
    """
    has_both = 0 < labels.mean() < 1
    clipped = np.clip(probabilities.astype(np.float64), 1e-7, 1 - 1e-7)
    return {
        "auc": float(roc_auc_score(labels, clipped)) if has_both else float("nan"),
        "pr_auc": float(average_precision_score(labels, clipped)) if has_both else float("nan"),
        "log_loss": float(log_loss(labels, clipped, labels=[0, 1])),
        "ece": expected_calibration_error(labels, clipped),
    }


def reliability_curve(
    labels: np.ndarray, probabilities: np.ndarray, num_bins: int = 15
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cuts the predictions into bins of equal counts.

    Returns:
        Mean prediction, share of clicks and number of rows of each bin, float64 [bins].
    """
    order = np.argsort(probabilities, kind="stable")
    bins = [part for part in np.array_split(order, num_bins) if part.size]
    return (
        np.array([probabilities[part].mean() for part in bins], np.float64),
        np.array([labels[part].mean() for part in bins], np.float64),
        np.array([part.size for part in bins], np.float64),
    )


def expected_calibration_error(
    labels: np.ndarray, probabilities: np.ndarray, num_bins: int = 15
) -> float:
    """Mean distance between prediction and share of clicks over bins of equal counts.

    Source: Nguyen and O'Connor, Posterior Calibration and Exploratory Analysis for Natural Language
        Processing Models (2015), section 3 (bins of equal counts).
    """
    predicted, observed, rows = reliability_curve(labels, probabilities, num_bins)
    return float(np.average(np.abs(predicted - observed), weights=rows))
