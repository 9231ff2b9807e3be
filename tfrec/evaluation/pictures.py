"""Pictures of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tfrec.evaluation.ranking import UNCALIBRATED, Predictions, RankingReport
from tfrec.evaluation.retrieval_report import EXPORTED, OURS, RERANKED, RetrievalReport
from tfrec.evaluation.tables import MODELS, Metrics
from tfrec.metrics.calibration import reliability_curve
from tfrec.metrics.decisions import precision_recall_points, roc_points


def draw_report(
    folder: Path,
    retrieval: RetrievalReport | None,
    histories: Mapping[str, Sequence[Mapping[str, float]]],
    ranking: RankingReport,
    predictions: Predictions,
) -> None:
    """Draws all pictures of a report into a folder; see `write_report`."""
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
