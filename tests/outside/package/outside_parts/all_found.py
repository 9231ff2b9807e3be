"""A metric: whether a list holds all that was wanted."""

from __future__ import annotations

import numpy as np

from tfrec.metrics.request_metric import RequestMetric


class AllFound(RequestMetric):
    name = "all_found"

    def measure(self, ranks: np.ndarray, k: int) -> float:
        return float(ranks[-1] <= k)
