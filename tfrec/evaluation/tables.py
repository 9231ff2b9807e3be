"""Tables of a report: models by metrics, as cells and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tfrec.evaluation.ranking import UNCALIBRATED
from tfrec.evaluation.retrieval_report import EXPORTED, FUSED, OURS, RERANKED

Metrics = Mapping[str, Mapping[str, float]]
# By model and metric: low and high.
Bounds = Mapping[str, Mapping[str, Sequence[float]]]

MODELS = (
    OURS,
    FUSED,
    RERANKED,
    EXPORTED,
    UNCALIBRATED,
    "popularity",
    "recent_popularity",
    "item_knn",
    "ease",
    "ials",
    "content",
    "logistic_regression",
    "lightgbm",
    "factorization_machine",
    "random",
    "oracle",
)


def table_rows(
    metrics: Metrics, names: Sequence[str], bounds: Bounds | None = None
) -> list[list[str]]:
    """Lays out metrics: one row a model, the metric columns `names`, with intervals if given."""
    bounds = bounds or {}
    return [
        [
            model,
            *(format_value(metrics[model].get(n), bounds.get(model, {}).get(n)) for n in names),
        ]
        for model in MODELS
        if model in metrics
    ]


def shown_metrics(metrics: Metrics) -> list[str]:
    """Names of the metrics that tables show, in their order."""
    return [name for name in metrics["ours"] if name not in ("targets", "requests", "rows")]


def markdown_table(
    metrics: Metrics,
    names: Sequence[str] | None = None,
    bounds: Bounds | None = None,
    head: str = "model",
) -> list[str]:
    """Writes metrics as Markdown; by default all that tables show."""
    names = shown_metrics(metrics) if names is None else names
    return markdown_rows([head, *names], table_rows(metrics, names, bounds))


def markdown_rows(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Writes cells as Markdown."""
    return [
        "| " + " | ".join(heads) + " |",
        "|---" * len(heads) + "|",
        *("| " + " | ".join(row) + " |" for row in rows),
    ]


def format_value(value: float | None, bounds: Sequence[float] | None = None) -> str:
    """Writes a number with its interval; nothing where there is none."""
    if value is None:
        return ""
    return f"{value:.4f}" + (f" ({bounds[0]:.4f} to {bounds[1]:.4f})" if bounds else "")


def split_differences(
    differences: Mapping[str, Mapping[str, Mapping[str, float]]],
) -> tuple[Metrics, Bounds]:
    """Takes paired differences apart: by model and metric the value, and low and high."""
    values = {
        model: {name: facts["difference"] for name, facts in metrics.items()}
        for model, metrics in differences.items()
    }
    bounds = {
        model: {name: (facts["low"], facts["high"]) for name, facts in metrics.items()}
        for model, metrics in differences.items()
    }
    return values, bounds
