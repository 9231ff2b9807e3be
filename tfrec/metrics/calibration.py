"""How far predicted probabilities can be taken at their word."""

from __future__ import annotations

import numpy as np


def equal_weight_bins(
    values: np.ndarray, num_bins: int, weights: np.ndarray | None = None
) -> np.ndarray:
    """Cuts values into bins of about equal weight; equal values share a bin.

    Args:
        values: float [n].
        num_bins: Most bins there may be.
        weights: float [n]; 1 each by default.

    Returns:
        int64 [n], the bin of each row, in the order of the values. Bins may be empty.
    """
    distinct, run = np.unique(values, return_inverse=True)
    of_run = np.bincount(run, weights=weights, minlength=len(distinct)).astype(np.float64)
    before = np.cumsum(of_run) - of_run
    bins = np.floor(before * num_bins / max(of_run.sum(), np.finfo(float).tiny)).astype(np.int64)
    return np.minimum(bins, num_bins - 1)[run]


def reliability_curve(
    labels: np.ndarray,
    probabilities: np.ndarray,
    weights: np.ndarray | None = None,
    num_bins: int = 15,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cuts the predictions into bins of about equal weight.

    Args:
        labels: int [n], 0 or 1.
        probabilities: float [n] in [0, 1].
        weights: float [n]: how many rows each stands for; 1 by default.
        num_bins: Most bins there may be.

    Returns:
        Mean prediction, share of clicks and weight of each bin that has any, float64 [bins].
    """
    weights = np.ones(len(labels)) if weights is None else weights.astype(np.float64)
    bins = equal_weight_bins(probabilities, num_bins, weights)
    size, predicted, observed = (
        np.bincount(bins, weights=weights * values, minlength=num_bins)
        for values in (1.0, probabilities, labels)
    )
    is_used = size > 0
    size = size[is_used]
    return predicted[is_used] / size, observed[is_used] / size, size


def expected_calibration_error(
    labels: np.ndarray,
    probabilities: np.ndarray,
    weights: np.ndarray | None = None,
    num_bins: int = 15,
) -> float:
    """Mean distance between prediction and share of clicks over the bins of `reliability_curve`.

    Source: Nguyen and O'Connor, Posterior Calibration and Exploratory Analysis for Natural Language
        Processing Models (2015), section 3 (bins of equal counts).
    Deviates: Equal predictions share a bin, so the order of the rows does not matter.

    Returns:
        In [0, 1]; NaN without rows.
    """
    predicted, observed, size = reliability_curve(labels, probabilities, weights, num_bins)
    return float(np.average(np.abs(predicted - observed), weights=size)) if size.size else np.nan
