"""Metrics of click prediction: pure functions of rows, each with its answer and a prediction."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from tfrec.metrics.calibration import expected_calibration_error

_SMALLEST = 1e-7


def ranking_metrics(
    labels: np.ndarray,
    probabilities: np.ndarray,
    weights: np.ndarray | None = None,
    groups: np.ndarray | None = None,
) -> dict[str, float]:
    """Measures predicted click probabilities.

    Args:
        labels: int or float [n], 0 or 1.
        probabilities: float [n] in [0, 1].
        weights: float [n]: how many rows each stands for; 1 by default.
        groups: int [n], the request of each row; with it ``gauc`` is measured.

    Returns:
        ``auc``, ``gauc``, ``pr_auc``, ``log_loss`` in nats and ``ece``, the expected calibration
        error. Those that need both classes are NaN where only one is there; without rows all are.
    """
    has_both = bool((labels == 0).any() and (labels == 1).any())
    scores = probabilities.astype(np.float64)
    metrics = {"auc": float("nan")}
    if has_both:
        metrics["auc"] = float(roc_auc_score(labels, scores, sample_weight=weights))
    if groups is not None:
        metrics["gauc"] = gauc(labels, scores, groups, weights)
    metrics["pr_auc"] = float("nan")
    if has_both:
        precision = average_precision_score(labels, scores, sample_weight=weights)
        metrics["pr_auc"] = float(precision)
    losses = log_losses(labels, scores)
    metrics["log_loss"] = float(np.average(losses, weights=weights)) if len(losses) else np.nan
    metrics["ece"] = expected_calibration_error(labels, scores, weights)
    return metrics


def log_losses(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Returns float64 [n]: minus the log of the probability given to what happened, in nats.

    Probabilities are kept 1e-7 away from 0 and 1.
    """
    clipped = np.clip(probabilities.astype(np.float64), _SMALLEST, 1.0 - _SMALLEST)
    return -np.log(np.where(labels == 1, clipped, 1.0 - clipped))


def group_auc(
    labels: np.ndarray,
    scores: np.ndarray,
    groups: np.ndarray,
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """Measures the AUC of each group by itself: sorts once, whatever the number of groups.

    Args:
        labels: int or float [n], 0 or 1.
        scores: float [n], any real numbers.
        groups: int [n].
        weights: float [n]; 1 by default.

    Returns:
        float64 [num_groups], in ascending order of the groups: the share of (positive, negative)
        pairs in the right order, a tie being half a pair; NaN for groups of one class.
    """
    if not len(labels):
        return np.zeros(0)
    weights = np.ones(len(labels)) if weights is None else weights.astype(np.float64)
    _, group = np.unique(groups, return_inverse=True)
    order = np.lexsort((scores, group))
    group, score = group[order], scores[order]
    positive, negative = ((weights * (labels == side))[order] for side in (1, 0))
    is_first = np.ones(len(score), bool)
    is_first[1:] = (group[1:] != group[:-1]) | (score[1:] != score[:-1])
    starts = np.flatnonzero(is_first)
    positive, negative = np.add.reduceat(positive, starts), np.add.reduceat(negative, starts)
    of_run = group[starts]
    num_positive, num_negative = (np.bincount(of_run, weights=w) for w in (positive, negative))
    below = np.cumsum(negative) - negative - (np.cumsum(num_negative) - num_negative)[of_run]
    won = np.bincount(of_run, weights=positive * (below + negative / 2.0))
    pairs = num_positive * num_negative
    return np.divide(won, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)


def gauc(
    labels: np.ndarray,
    scores: np.ndarray,
    groups: np.ndarray,
    weights: np.ndarray | None = None,
) -> float:
    """Mean of the AUC of each group that has both classes; NaN if none has.

    Each group counts once, as in the protocols of MIND and EB-NeRD.

    Source: Wu et al., MIND: A Large-scale Dataset for News Recommendation (2020), section 5.1.
    Deviates: from Zhou et al., Deep Interest Network (2018), equation 5, who weigh groups by their
        rows and let a group be a user.
    """
    values = group_auc(labels, scores, groups, weights)
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
