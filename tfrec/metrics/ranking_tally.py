"""What each request adds to the metrics of click prediction, so that requests can be drawn anew."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from tfrec.metrics.calibration import equal_weight_bins
from tfrec.metrics.impressions import impression_values
from tfrec.metrics.intervals import drawn_weights
from tfrec.metrics.ranking import group_auc, log_losses

_SCORE_BINS = 4096
_RELIABILITY_BINS = 15


@dataclass(frozen=True)
class RankingTally:
    """Sums by request, R of them in ascending order.

    Attributes:
        positives, negatives: CSR [R, at most 4096], weight of clicked and of other rows by score,
            in ascending order; close scores share a column where there are more of them.
        residuals: CSR [R, 15], weight * (prediction - answer) by bin of the reliability curve.
        weights: float64 [R].
        sums: By metric, float64 [R]: what a request adds to it.
        counts: By metric, float64 [R]: what it adds to the divisor.
    """

    positives: sparse.csr_matrix
    negatives: sparse.csr_matrix
    residuals: sparse.csr_matrix
    weights: np.ndarray
    sums: dict[str, np.ndarray]
    counts: dict[str, np.ndarray]

    def measure(self, times: np.ndarray) -> dict[str, np.ndarray]:
        """Measures sets of requests.

        Args:
            times: float64 [b, R], how often each request is in each set.

        Returns:
            float64 [b] by metric: those of `tfrec.metrics.ranking.ranking_metrics` and, as means
            over requests, ``mrr``, ``ndcg_at_5`` and ``ndcg_at_10``; NaN where there is none. The
            bins of ``ece`` are those of all requests.
        """
        clicked, other = times @ self.positives, times @ self.negatives
        num_clicked, num_other = clicked.sum(axis=1), other.sum(axis=1)
        below = np.cumsum(other, axis=1) - other / 2.0
        # From the highest score down: clicked and all rows that a threshold there would choose.
        found = np.cumsum(clicked[:, ::-1], axis=1)
        chosen = np.cumsum(other[:, ::-1], axis=1) + found
        precision = np.divide(found, chosen, out=np.zeros_like(found), where=chosen > 0)
        has_both = (num_clicked > 0) & (num_other > 0)

        def share(part: np.ndarray, whole: np.ndarray, known: np.ndarray) -> np.ndarray:
            return np.divide(part, whole, out=np.full(len(times), np.nan), where=known)

        total = times @ self.weights
        found_metrics = {
            "auc": share((clicked * below).sum(axis=1), num_clicked * num_other, has_both),
            "pr_auc": share((clicked[:, ::-1] * precision).sum(axis=1), num_clicked, has_both),
            "ece": share(np.abs(times @ self.residuals).sum(axis=1), total, total > 0),
        }
        for name, values in self.sums.items():
            count = times @ self.counts[name]
            found_metrics[name] = share(times @ values, count, count > 0)
        return {name: found_metrics[name] for name in METRICS}

    def resample(self, resamples: int, seed: int) -> np.ndarray:
        """Measures drawn sets of requests; float64 [resamples, len(METRICS)]."""
        drawn = np.full((resamples, len(METRICS)), np.nan)
        start = 0
        for times in drawn_weights(len(self.weights), resamples, seed):
            measured = self.measure(times)
            drawn[start : start + len(times)] = np.column_stack([measured[n] for n in METRICS])
            start += len(times)
        return drawn


METRICS = ("auc", "gauc", "pr_auc", "log_loss", "ece", "mrr", "ndcg_at_5", "ndcg_at_10")


def tally_requests(
    labels: np.ndarray,
    probabilities: np.ndarray,
    requests: np.ndarray,
    weights: np.ndarray | None = None,
) -> RankingTally:
    """Sums rows up by request.

    Args:
        labels: int or float [n], 0 or 1.
        probabilities: float [n] in [0, 1].
        requests: int [n], the request of each row.
        weights: float [n]: how many rows each stands for; 1 by default. MRR and NDCG, which are
            about the list that was shown, do not look at them.
    """
    weights = np.ones(len(labels)) if weights is None else weights.astype(np.float64)
    probabilities = probabilities.astype(np.float64)
    names, request = np.unique(requests, return_inverse=True)
    distinct, run = np.unique(probabilities, return_inverse=True)
    if len(distinct) > _SCORE_BINS:
        run = equal_weight_bins(probabilities, _SCORE_BINS, weights)
    reliability = equal_weight_bins(probabilities, _RELIABILITY_BINS, weights)

    def spread(values: np.ndarray, column: np.ndarray) -> sparse.csr_matrix:
        shape = (len(names), int(column.max(initial=0)) + 1)
        return sparse.csr_matrix((values, (request, column)), shape=shape)

    def total(values: np.ndarray) -> np.ndarray:
        return np.bincount(request, weights=values, minlength=len(names))

    lists = impression_values(labels, probabilities, requests)
    lists["gauc"] = group_auc(labels, probabilities, requests, weights)
    del lists["auc"]
    is_measured = {name: ~np.isnan(values) for name, values in lists.items()}
    of_weights = total(weights)
    return RankingTally(
        positives=spread(np.where(labels == 1, weights, 0.0), run),
        negatives=spread(np.where(labels == 1, 0.0, weights), run),
        residuals=spread(weights * (probabilities - labels), reliability),
        weights=of_weights,
        sums={
            "log_loss": total(weights * log_losses(labels, probabilities)),
            **{n: np.where(is_measured[n], values, 0.0) for n, values in lists.items()},
        },
        counts={
            "log_loss": of_weights,
            **{n: known.astype(np.float64) for n, known in is_measured.items()},
        },
    )
