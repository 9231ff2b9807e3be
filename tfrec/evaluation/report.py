"""The report of a run: numbers as JSON, a page for people, pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tfrec.evaluation.pictures import draw_report
from tfrec.evaluation.ranking import Predictions, RankingReport
from tfrec.evaluation.retrieval_report import EXPORTED, OURS, RERANKED, RetrievalReport
from tfrec.evaluation.tables import (
    format_value,
    markdown_rows,
    markdown_table,
    shown_metrics,
    split_differences,
)
from tfrec.files import write_file, write_json


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
    write_json(folder / "report.json", numbers)
    draw_report(folder, retrieval, histories, ranking, predictions)
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
    write_file(folder / "report.md", "\n".join(lines) + "\n")


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
        *markdown_table(report.targets, bounds=report.intervals.get("targets")),
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
        *markdown_table(report.requests, of_request, report.intervals.get("requests")),
        "",
        f"### Beyond accuracy: lists of {k}",
        "",
        "Coverage: share of the catalogue that is shown to anybody. Distinct: distinct items by "
        "the most there could be. Diversity: 1 - mean cosine of our embeddings within a list. "
        "Novelty: bits, -log2 of an item's share of training targets. Popularity: mean training "
        "targets of an item shown. Gini: how unequally items are shown (0: alike).",
        "",
        *markdown_table(report.lists),
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
        *markdown_table(report.metrics, bounds=report.intervals),
        "",
    ]
    if report.differences:
        values, bounds = split_differences(report.differences)
        lines += [
            "### Ours less the others, on the same rows",
            "",
            "An interval without 0 tells two models apart. Less log loss is better.",
            "",
            *markdown_table(values, list(next(iter(values.values()))), bounds, "ours less"),
            "",
        ]
    heads = ["segment", "rows", "click rate", "ECE", "ECE before calibration"]
    rows = [
        [name, f"{facts['rows']:,.0f}"]
        + [format_value(facts.get(key)) for key in ("click_rate", "ece", "uncalibrated_ece")]
        for name, facts in report.segments.items()
    ]
    return [
        *lines,
        "### Calibration: how far probabilities are from shares of clicks",
        "",
        *markdown_rows(heads, rows),
        "",
        "![calibration](calibration.png)",
        "",
        "### As decisions",
        "",
        f"A click is predicted from a probability of {threshold:.4f} on, where F1 is best on "
        f"validation: precision {decisions['precision']:.4f}, recall {decisions['recall']:.4f}, F1 "
        f"{decisions['f1']:.4f}.",
        "",
        *markdown_rows(
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


def _difference_table(report: RetrievalReport) -> list[str]:
    values, bounds = split_differences(report.differences)
    return markdown_table(values, shown_metrics(report.targets), bounds, "ours less")


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
                cells.append(format_value(facts[model][name], bounds))
        rows.append(cells)
    return markdown_rows(heads, rows)
