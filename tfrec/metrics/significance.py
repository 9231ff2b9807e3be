"""Is a difference more than chance? P-values of resampled differences, one and many."""

from __future__ import annotations

import numpy as np


def two_sided_p(drawn: np.ndarray) -> np.ndarray:
    """Tells how surprising a difference would be if there were none.

    Twice the smaller share of resampled differences on one side of 0, each share raised by one
    draw, so that no p-value is smaller than the draws can tell.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), section 15.4 (the
        achieved significance level by inverting the percentile interval); Davison and Hinkley,
        Bootstrap Methods and their Application (1997), equation 4.11, for the added draw.

    Args:
        drawn: float [resamples, num_metrics], resampled differences; NaN is left out.

    Returns:
        float64 [num_metrics] in (0, 1]; NaN where nothing was drawn.
    """
    number = (~np.isnan(drawn)).sum(axis=0)
    least = np.minimum((drawn <= 0).sum(axis=0), (drawn >= 0).sum(axis=0))
    return np.where(number > 0, np.minimum(1.0, 2.0 * (least + 1.0) / (number + 1.0)), np.nan)


def holm_adjusted(p_values: np.ndarray) -> np.ndarray:
    """Raises p-values so that each can be read as if it were the only one.

    With m of them in ascending order the j-th becomes the largest of (m - i + 1) p_i, i <= j. All
    below a level a together hold a false alarm with a probability of at most a.

    Source: Holm, A Simple Sequentially Rejective Multiple Test Procedure (1979).

    Args:
        p_values: float [m]; NaN is not counted and stays NaN.

    Returns:
        float64 [m], at most 1.
    """
    adjusted = np.full(len(p_values), np.nan)
    known = np.flatnonzero(~np.isnan(p_values))
    order = known[np.argsort(p_values[known], kind="stable")]
    raised = p_values[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(raised))
    return adjusted
