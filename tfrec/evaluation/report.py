"""The report of a run: numbers as JSON, a page for people, pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from tfrec.evaluation.ranking import UNCALIBRATED, Predictions, RankingReport
from tfrec.evaluation.retrieval import EXPORTED, FUSED, OURS, RERANKED, RetrievalReport
from tfrec.metrics.calibration import reliability_curve
from tfrec.metrics.decisions import precision_recall_points, roc_points

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
            *(_format(metrics[model].get(n), bounds.get(model, {}).get(n)) for n in names),
        ]
        for model in MODELS
        if model in metrics
    ]


def shown_metrics(metrics: Metrics) -> list[str]:
    """Names of the metrics that tables show, in their order."""
    return [name for name in metrics["ours"] if name not in ("targets", "requests", "rows")]


def write_report(
    folder: Path,
    *,
    name: str,
    retrieval: RetrievalReport | None,
    ranking: RankingReport,
    predictions: Predictions,
    histories: Mapping[str, Sequence[Mapping[str, float]]],
    data_report: Mapping[str, Any],
) -> None:
    """Writes ``report.json``, ``report.md`` and the pictures into `folder`.

    Args:
        folder: Existing folder.
        name: Of the run.
        retrieval: From `evaluate_retrieval`; None without towers.
        ranking: From `evaluate_ranking`.
        predictions: Likewise.
        histories: Measurements of each training run, one mapping a round.
        data_report: What preparing counted.
    """
    ranking_details = asdict(ranking)
    numbers: dict[str, Any] = {
        "name": name,
        "ranking": ranking_details.pop("metrics"),
        "ranking_details": ranking_details,
        "data": data_report,
    }
    if retrieval is not None:
        details = asdict(retrieval)
        numbers |= {"retrieval": details.pop("targets"), "retrieval_details": details}
    (folder / "report.json").write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
    _draw(folder, retrieval, histories, ranking, predictions)
    lines = [
        f"# {name}",
        "",
        *([] if retrieval is None else _retrieval_lines(retrieval)),
        *_ranking_lines(ranking),
        "## Training",
        "",
        "![learning curves](learning_curves.png)",
        "",
        "## Data",
        "",
        *_data_lines(data_report),
    ]
    (folder / "report.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _data_lines(report: Mapping[str, Any]) -> list[str]:
    rows, split = report["rows"], report["split"]
    counts = [
        f"{rows['events']['kept']:,} of {rows['events']['read']:,} events kept",
        f"{rows['items']:,} items, {rows['users']:,} users",
        *(f"{step.replace('_', ' ')}: {n:,}" for step, n in report["cleaning"].items() if n),
    ]
    parts = {
        name: ", ".join(f"{part} {number:,}" for part, number in split[name].items())
        for name in ("requests", "targets", "ranked")
    }
    return [
        *(f"- {line}" for line in counts),
        f"- split by {split['kind'].replace('_', ' ')}",
        *(f"- {name}: {line}" for name, line in parts.items()),
        *(f"- warning: {warning}" for warning in report["warnings"]),
    ]


def _retrieval_lines(report: RetrievalReport) -> list[str]:
    k, sizes = report.k, report.requests[OURS]
    of_request = [name for name in shown_metrics(report.requests) if name.endswith(f"_at_{k}")]
    lines = [
        "## Retrieval: the test requests' items among the whole catalogue",
        "",
        f"{report.targets[OURS]['targets']:,.0f} targets of {sizes['requests']:,.0f} requests, "
        "each target ranked by itself."
        + (" In brackets: 95% intervals, by drawing requests." if report.intervals else ""),
        "",
        *_markdown_table(report.targets, bounds=report.intervals.get("targets")),
        "",
        *(f"- {note}" for note in report.notes),
        *([""] if report.notes else []),
        "![recall](recall.png)",
        "",
        "![NDCG with intervals](intervals.png)",
        "",
    ]
    if report.differences:
        lines += [
            "### Ours less the others, on the same requests",
            "",
            "An interval without 0 tells two models apart.",
            "",
            *_difference_table(report),
            "",
        ]
    lines += [
        f"### Whole lists of {k}: all targets of a request together",
        "",
        *_markdown_table(report.requests, of_request, report.intervals.get("requests")),
        "",
        f"### Beyond accuracy: lists of {k}",
        "",
        "Coverage: share of the catalogue that is shown to anybody. Distinct: distinct items by "
        "the most there could be. Diversity: 1 - mean cosine of our embeddings within a list. "
        "Novelty: bits, -log2 of an item's share of training targets. Popularity: mean training "
        "targets of an item shown. Gini: how unequally items are shown (0: alike).",
        "",
        *_markdown_table(report.lists),
        "",
        "### Slices",
        "",
        *_slice_table(report),
        "",
    ]
    return lines


def _ranking_lines(report: RankingReport) -> list[str]:
    decisions, threshold = report.decisions, report.threshold
    lines = [
        "## Ranking: clicks on shown items",
        "",
        "AUC over all rows; GAUC, MRR and NDCG are means over shown lists with both answers."
        + (" In brackets: 95% intervals, by drawing requests." if report.intervals else ""),
        "",
        *_markdown_table(report.metrics, bounds=report.intervals),
        "",
    ]
    if report.differences:
        values, bounds = _split_differences(report.differences)
        lines += [
            "### Ours less the others, on the same rows",
            "",
            "An interval without 0 tells two models apart. Less log loss is better.",
            "",
            *_markdown_table(values, list(next(iter(values.values()))), bounds, "ours less"),
            "",
        ]
    heads = ["segment", "rows", "click rate", "ECE", "ECE before calibration"]
    rows = [
        [name, f"{facts['rows']:,.0f}"]
        + [_format(facts.get(key)) for key in ("click_rate", "ece", "uncalibrated_ece")]
        for name, facts in report.segments.items()
    ]
    return [
        *lines,
        "### Calibration: how far probabilities are from shares of clicks",
        "",
        *_markdown_rows(heads, rows),
        "",
        "![calibration](calibration.png)",
        "",
        "### As decisions",
        "",
        f"A click is predicted from a probability of {threshold:.4f} on, where F1 is best on "
        f"validation: precision {decisions['precision']:.4f}, recall {decisions['recall']:.4f}, F1 "
        f"{decisions['f1']:.4f}.",
        "",
        *_markdown_rows(
            ["", "clicked", "not clicked"],
            [
                [
                    "predicted",
                    *(f"{decisions[n]:,.0f}" for n in ("true_positives", "false_positives")),
                ],
                [
                    "not predicted",
                    *(f"{decisions[n]:,.0f}" for n in ("false_negatives", "true_negatives")),
                ],
            ],
        ),
        "",
        "![ROC and precision over recall](curves.png)",
        "",
    ]


def _split_differences(
    differences: Mapping[str, Mapping[str, Mapping[str, float]]],
) -> tuple[Metrics, Bounds]:
    values = {
        model: {name: facts["difference"] for name, facts in metrics.items()}
        for model, metrics in differences.items()
    }
    bounds = {
        model: {name: (facts["low"], facts["high"]) for name, facts in metrics.items()}
        for model, metrics in differences.items()
    }
    return values, bounds


def _difference_table(report: RetrievalReport) -> list[str]:
    values, bounds = _split_differences(report.differences)
    return _markdown_table(values, shown_metrics(report.targets), bounds, "ours less")


def _slice_table(report: RetrievalReport) -> list[str]:
    models = [
        model for model in (OURS, RERANKED, EXPORTED, "popularity") if model in report.targets
    ]
    names = [f"{metric}_at_{report.k}" for metric in ("recall", "ndcg")]
    heads = ["slice", "targets", *(f"{name}, {model}" for name in names for model in models)]
    rows = []
    for slice_name, facts in report.slices.items():
        cells = [slice_name, f"{facts['targets']:,}"]
        for name in names:
            for model in models:
                has_bounds = model == OURS and name == names[-1]
                bounds = facts.get("interval") if has_bounds else None
                cells.append(_format(facts[model][name], bounds))
        rows.append(cells)
    return _markdown_rows(heads, rows)


def _markdown_table(
    metrics: Metrics,
    names: Sequence[str] | None = None,
    bounds: Bounds | None = None,
    head: str = "model",
) -> list[str]:
    names = shown_metrics(metrics) if names is None else names
    return _markdown_rows([head, *names], table_rows(metrics, names, bounds))


def _markdown_rows(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        "| " + " | ".join(heads) + " |",
        "|---" * len(heads) + "|",
        *("| " + " | ".join(row) + " |" for row in rows),
    ]


def _format(value: float | None, bounds: Sequence[float] | None = None) -> str:
    if value is None:
        return ""
    return f"{value:.4f}" + (f" ({bounds[0]:.4f} to {bounds[1]:.4f})" if bounds else "")


def _draw(
    folder: Path,
    retrieval: RetrievalReport | None,
    histories: Mapping[str, Sequence[Mapping[str, float]]],
    ranking: RankingReport,
    predictions: Predictions,
) -> None:
    if retrieval is not None:
        _draw_recall(folder / "recall.png", retrieval.targets)
        _draw_intervals(folder / "intervals.png", retrieval)
    _draw_calibration(folder / "calibration.png", predictions)
    _draw_curves(folder / "curves.png", predictions, ranking)
    _draw_learning(folder / "learning_curves.png", histories)


def _draw_recall(path: Path, metrics: Metrics) -> None:
    from matplotlib.figure import Figure

    names = [name for name in metrics[OURS] if name.startswith("recall_at_")]
    models = [model for model in MODELS if model in metrics]
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(models)
    for number, model in enumerate(models):
        at = np.arange(len(names)) + number * width
        axes.bar(at, [metrics[model][name] for name in names], width, label=model)
    axes.set_xticks(np.arange(len(names)) + 0.4 - width / 2, names)
    axes.set_ylabel("share of targets found")
    axes.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
    figure.savefig(path, dpi=100)


def _draw_intervals(path: Path, report: RetrievalReport) -> None:
    from matplotlib.figure import Figure

    name = f"ndcg_at_{report.k}"
    models = [model for model in MODELS if model in report.targets][::-1]
    figure = Figure(figsize=(6, 0.4 * len(models) + 1), layout="constrained")
    axes = figure.subplots()
    for number, model in enumerate(models):
        color = "tab:orange" if model in (OURS, RERANKED, EXPORTED) else "tab:blue"
        low_high = report.intervals.get("targets", {}).get(model, {}).get(name)
        if low_high:
            axes.plot(low_high, [number, number], color=color, linewidth=2)
        axes.plot(report.targets[model][name], number, "o", color=color)
    axes.set_yticks(range(len(models)), models)
    axes.set_xlim(left=0)
    axes.set_xlabel(f"NDCG at {report.k}" + (", 95% intervals" if report.intervals else ""))
    axes.grid(axis="x", alpha=0.3)
    figure.savefig(path, dpi=100)


def _draw_calibration(path: Path, predictions: Predictions) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 4.5), layout="constrained")
    axes = figure.subplots()
    limit = 0.0
    for model, marker in ((UNCALIBRATED, "s"), (OURS, "o")):
        if model not in predictions.probabilities:
            continue
        predicted, observed, _ = reliability_curve(
            predictions.rows.label, predictions.probabilities[model], predictions.rows.weights
        )
        limit = max(limit, 1.05 * max(predicted.max(initial=0), observed.max(initial=0)))
        axes.plot(predicted, observed, marker=marker, label=model)
    axes.plot([0, limit], [0, limit], color="grey", linewidth=1, label="perfect")
    axes.set(xlabel="predicted probability", ylabel="share of clicks")
    axes.legend()
    figure.savefig(path, dpi=100)


def _draw_curves(path: Path, predictions: Predictions, report: RankingReport) -> None:
    from matplotlib.figure import Figure

    rows, ours = predictions.rows, report.decisions
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    roc, precision = figure.subplots(1, 2)
    roc.plot([0, 1], [0, 1], color="grey", linewidth=1)
    if len(np.unique(rows.label)) == 2:
        for model in MODELS:
            if model not in predictions.probabilities or model == UNCALIBRATED:
                continue
            values = predictions.probabilities[model]
            roc.plot(*roc_points(rows.label, values, rows.weights), label=model)
            precision.plot(*precision_recall_points(rows.label, values, rows.weights), label=model)
        precision.plot(ours["recall"], ours["precision"], "k*", label="the threshold")
        precision.legend(fontsize="small")
    roc.set(xlabel="false positive rate", ylabel="true positive rate")
    precision.set(xlabel="recall", ylabel="precision")
    figure.savefig(path, dpi=100)


def _draw_learning(path: Path, histories: Mapping[str, Sequence[Mapping[str, float]]]) -> None:
    from matplotlib.figure import Figure

    shown = {run: rounds for run, rounds in histories.items() if rounds}
    if not shown:
        shown = {"no training": []}
    figure = Figure(figsize=(4.5 * len(shown), 3.5), layout="constrained")
    for axes, (run, rounds) in zip(
        figure.subplots(1, len(shown), squeeze=False)[0], shown.items(), strict=True
    ):
        numbers = np.arange(1, len(rounds) + 1)
        axes.plot(numbers, [r["loss"] for r in rounds], marker="o", label="loss")
        axes.set(title=run, xlabel="round", ylabel="training loss")
        others = [name for name in (rounds[0] if rounds else {}) if name != "loss"]
        if others:
            twin = axes.twinx()
            twin.plot(numbers, [r[others[0]] for r in rounds], "s--", color="tab:orange")
            twin.set_ylabel(others[0], color="tab:orange")
    figure.savefig(path, dpi=100)
