import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from tfrec.evaluation.ranking import Predictions, RankingReport
from tfrec.evaluation.report import write_report
from tfrec.evaluation.retrieval_report import RetrievalReport
from tfrec.evaluation.tables import MODELS, shown_metrics, table_rows
from tfrec.inputs.ranked_rows import pair_rows

DECISIONS = (
    "precision", "recall", "f1",
    "true_positives", "false_positives", "false_negatives", "true_negatives",
)  # fmt: skip
MODELS_MEASURED = ("popularity", "ours", "ease")


def make_report(with_intervals: bool = True) -> RetrievalReport:
    """Returns a report of three models with numbers that tell where they come from."""
    names = ("recall_at_5", "ndcg_at_5", "recall_at_20", "ndcg_at_20", "mrr")
    values = {m: {n: 0.1 * i + 0.01 * j for j, n in enumerate(names)} for i, m in enumerate("abc")}
    values = dict(zip(MODELS_MEASURED, values.values(), strict=True))
    bounds = {m: {n: [v - 0.005, v + 0.005] for n, v in vs.items()} for m, vs in values.items()}
    report = RetrievalReport(
        k=5,
        targets={m: v | {"targets": 1234.0} for m, v in values.items()},
        requests={m: {"map_at_5": 0.5, "map_at_20": 0.6, "requests": 900.0} for m in values},
        lists={m: {"coverage": 0.75, "gini": float("nan")} for m in values},
        slices={
            "cold users": {"targets": 1100}
            | ({"interval": [0.3111, 0.3222]} if with_intervals else {})
            | {m: {"recall_at_5": 0.25, "ndcg_at_5": 0.125} for m in values}
        },
        notes=["ease: something was left out"],
    )
    if with_intervals:
        report.intervals.update(targets=bounds, requests={})
        facts = {n: {"difference": 0.0321, "low": 0.0123, "high": 0.0456} for n in names}
        report.differences.update(popularity=facts, ease=facts)
    return report


def write(folder: Path, report: RetrievalReport) -> tuple[dict, str]:
    write_report(
        folder,
        name="mine",
        retrieval=report,
        ranking=RankingReport(
            metrics={"ours": {"auc": 0.7, "rows": 9.0}},
            segments={"all": {"rows": 4.0, "click_rate": 0.5, "ece": 0.125}},
            decisions=dict.fromkeys(DECISIONS, 1.0),
        ),
        predictions=Predictions(
            dataclasses.replace(
                pair_rows(np.zeros(4), np.arange(4)), label=np.array([0, 1, 1, 0], np.float32)
            ),
            {"ours": np.array([0.1, 0.8, 0.7, 0.3])},
        ),
        histories={"retrieval": [{"loss": 2.0}, {"loss": 1.0}]},
        data_report={
            "rows": {"events": {"kept": 9, "read": 10}, "items": 3, "users": 2},
            "cleaning": {"duplicates": 1},
            "split": {
                "kind": "time",
                **{n: {"train": 1, "test": 1} for n in ("requests", "targets", "ranked")},
            },
            "warnings": [],
        },
    )
    numbers = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return numbers, (folder / "report.md").read_text(encoding="utf-8")


def test_json_holds_metrics_by_model_and_all_details(tmp_path: Path):
    report = make_report()
    numbers, _ = write(tmp_path, report)
    assert numbers["retrieval"] == report.targets
    details = numbers["retrieval_details"]
    assert set(details) == {
        "k", "requests", "lists", "intervals", "differences", "slices", "notes",
    }  # fmt: skip
    assert details["differences"] == report.differences
    assert details["slices"] == report.slices


def test_page_shows_values_with_intervals_ours_first(tmp_path: Path):
    _, page = write(tmp_path, make_report())
    rows = [line for line in page.splitlines() if line.startswith("| ours |")]
    assert "0.1000 (0.0950 to 0.1050)" in rows[0]
    assert page.index("| ours |") < page.index("| popularity |") < page.index("| ease |")
    assert "1,234 targets of 900 requests" in page
    assert "0.0321 (0.0123 to 0.0456)" in page
    assert "- ease: something was left out" in page
    assert "| cold users | 1,100 | 0.2500 | 0.2500 | 0.1250 (0.3111 to 0.3222) | 0.1250 |" in page
    assert "map_at_5" in page
    assert "map_at_20" not in page  # whole lists at the smallest k only


@pytest.mark.parametrize("with_intervals", [True, False])
def test_pictures_of_the_page_are_written(tmp_path: Path, with_intervals: bool):
    _, page = write(tmp_path, make_report(with_intervals))
    for name in ("recall", "intervals", "calibration", "learning_curves"):
        assert f"({name}.png)" in page
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_page_without_intervals_speaks_of_none(tmp_path: Path):
    _, page = write(tmp_path, make_report(with_intervals=False))
    assert "95%" not in page
    assert "Ours less the others" not in page


def test_table_leaves_counts_out_and_missing_numbers_empty():
    metrics = {"oracle": {"auc": 0.9}, "ours": {"auc": 0.75, "ece": 0.1, "rows": 7.0}}
    assert shown_metrics(metrics) == ["auc", "ece"]
    assert table_rows(metrics, ["auc", "ece"]) == [
        ["ours", "0.7500", "0.1000"],
        ["oracle", "0.9000", ""],
    ]


def test_every_model_of_a_report_has_a_row(prepare_log):
    from tfrec.config.models import Evaluation

    assert set(Evaluation().baselines) < set(MODELS)
