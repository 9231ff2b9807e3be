"""Lists as they were shown, in the order a model would have given them, each measured by itself."""

from __future__ import annotations

import numpy as np

from tfrec.metrics.ranking import group_auc

DEPTHS = (5, 10)


def impression_values(
    labels: np.ndarray, scores: np.ndarray, groups: np.ndarray
) -> dict[str, np.ndarray]:
    """Measures each impression, the rows of one group in descending order of their scores.

    * ``auc``: `tfrec.metrics.ranking.group_auc`.
    * ``mrr``: mean over the clicked rows of 1 / position.
    * ``ndcg_at_5``, ``ndcg_at_10``: sum over clicked rows of 1 / log2(position + 1) up to that
      position, by its largest value.

    Of equal scores those without a click come first, as ties in retrieval count against the model.

    Source: Wu et al., MIND: A Large-scale Dataset for News Recommendation (2020), section 5.1, and
        its evaluation script, whose MRR is that over all clicked rows.

    Args:
        labels: int or float [n], 0 or 1.
        scores: float [n], any real numbers.
        groups: int [n], the impression of each row.

    Returns:
        float64 [num_groups] in [0, 1] by the names above, in ascending order of the groups; NaN for
        impressions without a click, or with nothing but clicks: no order is better there.
    """
    _, group = np.unique(groups, return_inverse=True)
    order = np.lexsort((labels, -scores, group))
    at, clicked = group[order], labels[order] == 1
    size = np.bincount(group)
    position = 1 + np.arange(len(at)) - (np.cumsum(size) - size)[at]
    num_clicks = np.bincount(at, weights=clicked)
    has_both = (num_clicks > 0) & (num_clicks < size)

    def total(values: np.ndarray) -> np.ndarray:
        return np.bincount(at, weights=np.where(clicked, values, 0.0))

    def share(found: np.ndarray, most: np.ndarray) -> np.ndarray:
        return np.divide(found, most, out=np.full(len(size), np.nan), where=has_both)

    values = {
        "auc": group_auc(labels, scores, groups),
        "mrr": share(total(1.0 / position), num_clicks),
    }
    for depth in DEPTHS:
        discount = np.where(position <= depth, 1.0 / np.log2(position + 1.0), 0.0)
        ideal = np.cumsum(1.0 / np.log2(np.arange(1, depth + 1) + 1.0))
        best = ideal[np.clip(num_clicks.astype(int), 1, depth) - 1]
        values[f"ndcg_at_{depth}"] = share(total(discount), best)
    return values
