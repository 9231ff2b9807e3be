"""Retrieval in numbers: means, intervals, differences and slices of what models ranked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from tfrec.config import Config
from tfrec.data.dataset import PreparedData
from tfrec.evaluation.own_metrics import own_metrics
from tfrec.evaluation.requests import MeasuredRequests
from tfrec.evaluation.slices import target_slices
from tfrec.metrics.intervals import paired_difference, percentile_interval, resample_means
from tfrec.metrics.lists import list_metrics
from tfrec.metrics.request_metric import RequestMetric, measure_requests
from tfrec.metrics.retrieval import Ranked, request_values, target_values

if TYPE_CHECKING:  # reports are shown without loading TensorFlow
    from tfrec.inference.embeddings import Embeddings

Metrics = dict[str, dict[str, float]]
Intervals = dict[str, dict[str, list[float]]]
# By model: what each request adds to each metric, float64 [num_requests].
Values = dict[str, dict[str, np.ndarray]]

OURS = "ours"
FUSED, RERANKED, EXPORTED = "ours, fused", "ours, re-ranked", "ours, as exported"


@dataclass(frozen=True)
class RetrievalReport:
    """Retrieval in numbers; the mappings go from model to metric to value.

    Attributes:
        k: Length of the lists of `lists` and `slices`: the smallest of `evaluation.k`.
        targets: Metrics per target (`retrieval_metrics`), with the number of ``targets``.
        requests: Metrics per request (`request_values`), with the number of ``requests``.
        lists: What the lists look like beyond accuracy (`list_metrics`).
        intervals: 95% intervals [low, high] of `targets` and of `requests`; empty without any.
        differences: Ours less each other model: ``difference``, ``low`` and ``high`` by metric of
            `targets`; empty without intervals.
        slices: By slice: ``targets`` (their number), ``interval`` (of our NDCG) and, by model,
            recall and NDCG at `k`.
        notes: Lines about what could not be measured.
    """

    k: int
    targets: Metrics
    requests: Metrics
    lists: Metrics
    intervals: dict[str, Intervals] = field(default_factory=dict)
    differences: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    slices: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def summarise(
    data: PreparedData,
    embeddings: Embeddings,
    config: Config,
    tests: MeasuredRequests,
    ranked: Mapping[str, Ranked],
    notes: list[str],
) -> RetrievalReport:
    """Measures ranks and lists.

    Args:
        data: The prepared data set.
        embeddings: Of items, to say how alike those of a list are.
        config: `evaluation` and the seed.
        tests: Requests and targets.
        ranked: By model.
        notes: What could not be measured.
    """
    settings, k = config.evaluation, min(config.evaluation.k)
    num_requests, num_targets = len(tests.contexts), len(tests.target)
    sizes = np.bincount(tests.request, minlength=num_requests).astype(np.float64)
    of_target = {name: target_values(found.ranks, settings.k) for name, found in ranked.items()}
    added: Values = {
        model: {
            name: np.bincount(tests.request, weights=value, minlength=num_requests)
            for name, value in values.items()
        }
        for model, values in of_target.items()
    }
    own = own_metrics(settings)
    of_request: Values = {
        model: {
            f"{name}_at_{depth}": value
            for depth in settings.k
            for name, value in _request_values(own, tests.request, found.ranks, depth).items()
        }
        for model, found in ranked.items()
    }
    counts = data.item_counts()
    report = RetrievalReport(
        k=k,
        targets={
            model: _means(values) | {"targets": float(num_targets)}
            for model, values in of_target.items()
        },
        requests={
            model: _means(values) | {"requests": float(num_requests)}
            for model, values in of_request.items()
        },
        lists={
            model: list_metrics(found.top, counts, embeddings.items)
            for model, found in ranked.items()
        },
        slices=_measure_slices(data, config, tests, of_target),
        notes=notes,
    )
    if settings.bootstrap and num_requests:
        draws = {"resamples": settings.bootstrap, "seed": config.seed}
        report.intervals["targets"] = _intervals(added, sizes, draws)
        report.intervals["requests"] = _intervals(of_request, None, draws)
        report.differences.update(_differences(added, sizes, draws))
    return report


def _means(values: Mapping[str, np.ndarray]) -> dict[str, float]:
    return {n: float(v.mean()) if len(v) else float("nan") for n, v in values.items()}


def _intervals(added: Values, sizes: np.ndarray | None, draws: Mapping[str, int]) -> Intervals:
    names = [(model, name) for model, values in added.items() for name in values]
    columns = np.column_stack([added[model][name] for model, name in names])
    bounds = percentile_interval(resample_means(columns, sizes, **draws))
    found: Intervals = {}
    for (model, name), bound in zip(names, bounds.tolist(), strict=True):
        found.setdefault(model, {})[name] = bound
    return found


def _differences(
    added: Values, sizes: np.ndarray, draws: Mapping[str, int]
) -> dict[str, dict[str, dict[str, float]]]:
    """Compares ours with each other model, all of them with the same draws."""
    names = [(model, name) for model in added if model != OURS for name in added[model]]
    ours = np.column_stack([added[OURS][name] for _, name in names])
    others = np.column_stack([added[model][name] for model, name in names])
    difference, bounds = paired_difference(ours, others, sizes, **draws)
    found: dict[str, dict[str, dict[str, float]]] = {}
    for (model, name), value, (low, high) in zip(
        names, difference.tolist(), bounds.tolist(), strict=True
    ):
        found.setdefault(model, {})[name] = {"difference": value, "low": low, "high": high}
    return found


def _measure_slices(
    data: PreparedData, config: Config, tests: MeasuredRequests, of_target: Values
) -> dict[str, dict[str, Any]]:
    k = min(config.evaluation.k)
    shown = (f"recall_at_{k}", f"ndcg_at_{k}")
    slices: dict[str, dict[str, Any]] = {}
    inside_of = target_slices(data, tests.contexts[tests.request], tests.target)
    for name, inside in inside_of.items():
        slices[name] = {"targets": int(inside.sum())} | {
            model: {metric: float(values[metric][inside].mean()) for metric in shown}
            for model, values in of_target.items()
        }
        if config.evaluation.bootstrap:
            slices[name]["interval"] = _slice_interval(
                tests.request[inside], of_target[OURS][shown[1]][inside], config
            )
    return slices


def _slice_interval(request: np.ndarray, values: np.ndarray, config: Config) -> Sequence[float]:
    """Returns the interval of a mean over targets, drawn among the requests that have some."""
    _, at = np.unique(request, return_inverse=True)
    sums = np.bincount(at, weights=values)[:, None]
    drawn = resample_means(
        sums, np.bincount(at), resamples=config.evaluation.bootstrap, seed=config.seed
    )
    return percentile_interval(drawn)[0].tolist()


def _request_values(
    own: Sequence[RequestMetric], request: np.ndarray, ranks: np.ndarray, k: int
) -> dict[str, np.ndarray]:
    """Measures each request by our metrics and by those of somebody else."""
    return request_values(request, ranks, k) | measure_requests(own, request, ranks, k)
