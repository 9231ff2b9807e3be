"""The report of a run: numbers as JSON, a page for people, pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfrec.metrics.ranking import reliability_curve

Metrics = Mapping[str, Mapping[str, float]]

MODELS = ("ours", "ours, re-ranked", "popularity", "random", "oracle")


def table_rows(metrics: Metrics, names: Sequence[str]) -> list[list[str]]:
    """Lays out metrics: one row a model, the metric columns `names`."""
    return [
        [model, *(_format(metrics[model].get(name)) for name in names)]
        for model in MODELS
        if model in metrics
    ]


def shown_metrics(metrics: Metrics) -> list[str]:
    """Names of the metrics that tables show, in their order."""
    return [name for name in metrics["ours"] if name not in ("targets", "rows")]


def write_report(
    folder: Path,
    *,
    name: str,
    retrieval: Metrics,
    ranking: Metrics,
    histories: Mapping[str, Sequence[Mapping[str, float]]],
    labels: np.ndarray,
    probabilities: np.ndarray,
    data_report: Mapping[str, Any],
) -> None:
    """Writes ``report.json``, ``report.md`` and the pictures into `folder`.

    Args:
        folder: Existing folder.
        name: Of the run.
        retrieval: Metrics by model.
        ranking: Metrics by model.
        histories: Measurements of each training run, one mapping a round.
        labels: [n], answers of the test rows.
        probabilities: [n], our predictions of them.
        data_report: What preparing counted.
    """
    numbers = {"name": name, "retrieval": retrieval, "ranking": ranking, "data": data_report}
    (folder / "report.json").write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
    _draw(folder, retrieval, histories, labels, probabilities)
    lines = [
        f"# {name}",
        "",
        "## Retrieval: the test requests' items among the whole catalogue",
        "",
        *_markdown_table(retrieval),
        "",
        "![recall](recall.png)",
        "",
        "## Ranking: clicks on shown items",
        "",
        *_markdown_table(ranking),
        "",
        "![calibration](calibration.png)",
        "",
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


def _markdown_table(metrics: Metrics) -> list[str]:
    names = shown_metrics(metrics)
    return [
        "| model | " + " | ".join(names) + " |",
        "|---" * (len(names) + 1) + "|",
        *("| " + " | ".join(row) + " |" for row in table_rows(metrics, names)),
    ]


def _format(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _draw(
    folder: Path,
    retrieval: Metrics,
    histories: Mapping[str, Sequence[Mapping[str, float]]],
    labels: np.ndarray,
    probabilities: np.ndarray,
) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    names = [name for name in retrieval["ours"] if name.startswith("recall_at_")]
    models = [model for model in MODELS if model in retrieval]
    width = 0.8 / len(models)
    for number, model in enumerate(models):
        at = np.arange(len(names)) + number * width
        axes.bar(at, [retrieval[model][name] for name in names], width, label=model)
    axes.set_xticks(np.arange(len(names)) + 0.4 - width / 2, names)
    axes.set_ylabel("share of targets found")
    axes.legend()
    figure.savefig(folder / "recall.png", dpi=100)

    figure = Figure(figsize=(5, 4.5), layout="constrained")
    axes = figure.subplots()
    predicted, observed, _ = reliability_curve(labels, probabilities)
    limit = 1.05 * max(predicted.max(), observed.max())
    axes.plot([0, limit], [0, limit], color="grey", linewidth=1, label="perfect")
    axes.plot(predicted, observed, marker="o", label="ours")
    axes.set(xlabel="predicted probability", ylabel="share of clicks")
    axes.legend()
    figure.savefig(folder / "calibration.png", dpi=100)

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
    figure.savefig(folder / "learning_curves.png", dpi=100)
