"""Metrics of somebody else, as the configuration names them."""

from __future__ import annotations

from tfrec.config import Evaluation
from tfrec.metrics.request_metric import RequestMetric, check_metric
from tfrec.registry import METRICS

_OURS = ("precision", "recall", "f1", "map", "mrr", "hit_rate", "ndcg")


def own_metrics(settings: Evaluation) -> list[RequestMetric]:
    """Makes and tries the metrics of `evaluation.metrics`.

    Raises:
        ConfigError: One cannot be made, or keeps not to `RequestMetric`.
    """
    found: list[RequestMetric] = []
    for number, entry in enumerate(settings.metrics):
        key = f"evaluation.metrics.{number}.kind"
        metric = METRICS.make(entry.kind, key, entry.options)
        check_metric(metric, key, [*_OURS, *(other.name for other in found)])
        found.append(metric)
    return found
