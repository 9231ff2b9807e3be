import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tfrec.config import Config, load_config, parse_config
from tfrec.errors import ConfigError
from tfrec.pipeline import cross_validation
from tfrec.pipeline.cross_validation import cross_validate, fold_config, metric_rows, summarise

SHOP = Path(__file__).parents[2] / "configs" / "shop.yaml"


def config(folder: Path, kind: str = "k_fold") -> Config:
    split: dict[str, Any] = {"kind": kind}
    if kind == "k_fold":
        split["folds"] = 3
    data = {"source": "shop", "split": split}
    return parse_config({"name": "mine", "runs": str(folder / "runs"), "data": data})


class FakePipeline:
    """Stands in for a run: its recall is the number of its fold."""

    runs: list[Config] = []

    def __init__(self, config: Config, announce: Any, tables: Any) -> None:
        self.config = config

    def run(self, until: str) -> None:
        assert until == "evaluation"
        (Path(self.config.runs) / self.config.name).mkdir(parents=True)
        self.runs.append(self.config)

    def report(self) -> dict[str, Any]:
        fold = self.config.data.split.fold
        return {
            "retrieval": {
                "ours": {"targets": 50.0 + fold, "recall_at_10": 0.1 * fold},
                "popularity": {"targets": 50.0 + fold, "recall_at_10": 0.05},
            },
            "ranking": {"ours": {"rows": 9.0, "auc": 0.7}},
        }


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[Config]:
    monkeypatch.setattr(cross_validation, "Pipeline", FakePipeline)
    monkeypatch.setattr(FakePipeline, "runs", [])
    return FakePipeline.runs


def test_cross_validation_runs_each_fold_in_a_folder_of_its_own(tmp_path: Path, runs: list[Config]):
    lines: list[str] = []
    cross_validate(config(tmp_path), lines.append)
    assert [run.data.split.fold for run in runs] == [0, 1, 2]
    assert {run.runs for run in runs} == {str(tmp_path / "runs" / "mine")}
    assert [run.name for run in runs] == ["fold-0", "fold-1", "fold-2"]
    assert lines == ["fold 1 of 3", "fold 2 of 3", "fold 3 of 3"]


def test_cross_validation_writes_mean_and_deviation(tmp_path: Path, runs: list[Config]):
    summary = cross_validate(config(tmp_path), lambda line: None)
    found = summary["retrieval"]["ours"]["recall_at_10"]
    # 0, 0.1, 0.2: mean 0.1, squares 0.01 + 0 + 0.01 over 3 - 1 folds
    assert found["folds"] == pytest.approx([0.0, 0.1, 0.2])
    assert (found["mean"], found["std"]) == (pytest.approx(0.1), pytest.approx(0.1))
    folder = tmp_path / "runs" / "mine"
    assert json.loads((folder / "cross_validation.json").read_text()) == summary
    page = (folder / "cross_validation.md").read_text()
    assert "| ours | 0.1000 ± 0.1000 |" in page
    assert "| popularity | 0.0500 ± 0.0000 |" in page


def test_cross_validation_of_another_split_is_refused(tmp_path: Path, runs: list[Config]):
    with pytest.raises(ConfigError, match=r"data.split.kind: wanted k_fold .* got 'time'"):
        cross_validate(config(tmp_path, "time"))
    assert runs == []
    assert list(tmp_path.iterdir()) == []


def test_fold_differs_from_the_run_in_nothing_else(tmp_path: Path):
    whole = config(tmp_path)
    ours, fold = (part.model_dump() for part in (whole, fold_config(whole, 2)))
    assert fold["data"]["split"].pop("fold") == 2
    ours["data"]["split"].pop("fold")
    assert {name for name in ours if ours[name] != fold[name]} == {"name", "runs"}


@pytest.mark.parametrize("seed", range(3))
def test_summary_equals_numpy(seed: int):
    numbers = np.random.default_rng(seed).normal(size=5)
    found = summarise([{"m": {"x": float(number)}} for number in numbers])["m"]["x"]
    assert found["mean"] == pytest.approx(numbers.mean())
    assert found["std"] == pytest.approx(np.sqrt(((numbers - numbers.mean()) ** 2).sum() / 4))


def test_summary_leaves_out_what_a_fold_did_not_measure():
    found = summarise([{"m": {"x": 1.0, "y": 2.0}, "n": {"x": 1.0}}, {"m": {"x": 3.0}}])
    assert found == {
        "m": {"x": {"mean": 2.0, "std": pytest.approx(2**0.5), "folds": [1.0, 3.0]}},
        "n": {},
    }


def test_rows_of_metrics_leave_out_counts():
    fact = {"mean": 0.5, "std": 0.125, "folds": []}
    names, rows = metric_rows({"ours": {"targets": fact, "mrr": fact}, "random": {}})
    assert names == ["mrr"]
    assert rows == [["ours", "0.5000 ± 0.1250"], ["random", ""]]


@pytest.mark.slow
def test_cross_validation_of_a_tiny_shop_measures_every_fold_and_resumes(tmp_path: Path):
    overrides = [
        f"runs={tmp_path / 'runs'}",
        "data.scale=0.02",
        "data.split.kind=k_fold",
        "data.split.folds=3",
        "text.vocabulary_size=500",
        "encoder.source=nano",
        "encoder.pretraining.steps=2",
        "retrieval.embedding_dim=16",
        "retrieval.batch_size=64",
        "retrieval.epochs=6",
        "retrieval.learning_rate=0.01",
        "ranking.epochs=1",
        "index.candidates=50",
    ]
    shop = load_config(SHOP, overrides)
    summary = cross_validate(shop, lambda line: None)
    recalls = summary["retrieval"]["ours"]["recall_at_50"]["folds"]
    assert len(recalls) == 3
    assert len(set(recalls)) == 3  # other events are tested in each
    random = summary["retrieval"]["random"]["recall_at_50"]
    assert random["mean"] < summary["retrieval"]["ours"]["recall_at_50"]["mean"] < 0.9
    aucs = summary["ranking"]["ours"]["auc"]["folds"]
    assert all(0.4 < auc < 0.95 for auc in aucs)

    lines: list[str] = []
    assert cross_validate(shop, lines.append) == summary
    stages = [line for line in lines if line.startswith("[")]
    assert stages
    assert all(line.endswith("unchanged") for line in stages)
