import json
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from tfrec.cli import app
from tfrec.errors import ArtefactError, ConfigError
from tfrec.evaluation.comparison import compare_runs, write_comparison

START = datetime(2026, 1, 1)


def write_run(
    folder: Path, name: str, seed: int, skill: float, *, towers: bool = True, requests: int = 120
) -> Path:
    """Writes what an evaluated run leaves behind: the same test for all, answers by skill."""
    draw = np.random.default_rng(0)
    request = np.sort(draw.integers(0, requests, 4 * requests))
    keys = {
        "user_id": [f"u{n % 17}" for n in request],
        "time": [START + timedelta(minutes=int(n)) for n in request],
        "query": ["" for _ in request],
        "item_id": [f"i{n}" for n in range(len(request))],
    }
    label = (draw.random(len(request)) < 0.3).astype(np.int8)
    own = np.random.default_rng(seed)
    logit = skill * (2 * label - 1) + own.normal(size=len(label)) - 0.8
    evaluation = folder / name / "evaluation"
    evaluation.mkdir(parents=True)
    pl.DataFrame(keys).with_columns(
        position=np.ones(len(label), np.int32),
        label=label,
        weight=np.ones(len(label)),
        probability=1 / (1 + np.exp(-logit)),
    ).sample(fraction=1.0, shuffle=True, seed=seed).write_parquet(
        evaluation / "predictions.parquet"
    )
    report = {"name": name, "ranking": {}}
    if towers:
        rank = 1 + own.geometric(skill / 10, len(label))
        pl.DataFrame(keys).with_columns(rank=rank, recommended_rank=rank + 1).write_parquet(
            evaluation / "ranks.parquet"
        )
        report["retrieval"] = {"ours": {"recall_at_3": 0.0, "ndcg_at_3": 0.0, "mrr": 0.0}}
    (evaluation / "report.json").write_text(json.dumps(report))
    return folder / name


def read_aligned(run: Path, file: str) -> pl.DataFrame:
    return pl.read_parquet(run / "evaluation" / file).sort("time", "item_id")


def test_values_are_those_of_both_runs_and_the_interval_is_that_of_a_plain_bootstrap(tmp_path):
    a, b = write_run(tmp_path, "a", 1, 1.0), write_run(tmp_path, "b", 2, 1.5)
    comparison = compare_runs(a, b, resamples=1500, seed=3)
    found = {(d.part, d.metric): d for d in comparison.differences}
    assert comparison.targets == comparison.rows == 480
    first, second = (read_aligned(run, "predictions.parquet") for run in (a, b))
    auc = found["clicks", "auc"]
    label = first["label"].to_numpy()
    assert auc.a == pytest.approx(roc_auc_score(label, first["probability"].to_numpy()))
    assert auc.b == pytest.approx(roc_auc_score(label, second["probability"].to_numpy()))
    ranks = [read_aligned(run, "ranks.parquet") for run in (a, b)]
    recall = found["retrieval", "recall_at_3"]
    hits = [(frame["rank"].to_numpy() <= 3).astype(float) for frame in ranks]
    assert (recall.a, recall.b) == pytest.approx((hits[0].mean(), hits[1].mean()))
    assert recall.difference == pytest.approx(recall.b - recall.a)

    _, request = np.unique(first["time"].to_numpy(), return_inverse=True)
    members = [np.flatnonzero(request == n) for n in range(request.max() + 1)]
    draw, drawn = np.random.default_rng(11), {"recall": [], "auc": []}
    for _ in range(1500):
        rows = np.concatenate([members[n] for n in draw.integers(0, len(members), len(members))])
        drawn["recall"].append((hits[1] - hits[0])[rows].mean())
        scores = [frame["probability"].to_numpy()[rows] for frame in (first, second)]
        drawn["auc"].append(
            roc_auc_score(label[rows], scores[1]) - roc_auc_score(label[rows], scores[0])
        )
    for entry, name in ((recall, "recall"), (auc, "auc")):
        low, high = np.quantile(drawn[name], [0.025, 0.975])
        assert (entry.low, entry.high) == pytest.approx((low, high), abs=0.15 * (high - low))


def test_a_better_run_is_told_also_where_lower_is_better(tmp_path):
    a, b = write_run(tmp_path, "a", 1, 0.5), write_run(tmp_path, "b", 2, 2.0)
    verdicts = {(d.part, d.metric): d.verdict for d in compare_runs(a, b).differences}
    for metric in ("auc", "log_loss", "gauc"):
        assert verdicts["clicks", metric] == "b is better"
    turned = {(d.part, d.metric): d.verdict for d in compare_runs(b, a).differences}
    assert turned["clicks", "log_loss"] == turned["retrieval", "mrr"] == "a is better"


def test_a_run_does_not_differ_from_itself(tmp_path):
    a = write_run(tmp_path, "a", 1, 1.0)
    comparison = compare_runs(a, a)
    assert comparison.a != comparison.b or comparison.a == str(a)
    for d in comparison.differences:
        assert (d.difference, d.low, d.high, d.p, d.p_adjusted) == (0, 0, 0, 1, 1)
        assert d.verdict == "no difference shown"


def test_runs_without_a_real_difference_are_seldom_told_apart(tmp_path):
    told = []
    for seed in range(20):
        folder = tmp_path / str(seed)
        a, b = (write_run(folder, n, 50 + 2 * seed + i, 1.0) for i, n in enumerate("ab"))
        told += [any(d.verdict != "no difference shown" for d in compare_runs(a, b).differences)]
    assert sum(told) <= 4


def test_a_run_without_towers_is_compared_by_its_clicks_alone(tmp_path):
    a, b = write_run(tmp_path, "a", 1, 1.0), write_run(tmp_path, "b", 2, 1.0, towers=False)
    comparison = compare_runs(a, b)
    assert {d.part for d in comparison.differences} == {"clicks"}
    assert comparison.targets == 0
    assert comparison.notes == ["retrieval: not both runs have towers"]


def test_runs_with_other_test_rows_are_refused(tmp_path):
    a, b = write_run(tmp_path, "a", 1, 1.0), write_run(tmp_path, "b", 2, 1.0, requests=90)
    with pytest.raises(ConfigError, match=r"b: wanted the test targets of .*a, got others: 480"):
        compare_runs(a, b)


def test_a_folder_that_is_no_evaluated_run_is_named(tmp_path):
    a = write_run(tmp_path, "a", 1, 1.0)
    with pytest.raises(ArtefactError, match=r"nothing.*report\.json: wanted an evaluated run"):
        compare_runs(a, tmp_path / "nothing")


def test_page_table_and_picture_are_written(tmp_path):
    a, b = write_run(tmp_path, "a", 1, 1.0), write_run(tmp_path, "b", 2, 1.5)
    comparison = compare_runs(a, b, resamples=200)
    write_comparison(tmp_path, comparison)
    page = (tmp_path / "comparison.md").read_text()
    assert page.count("| clicks |") == 8
    assert "Lower is better for log_loss and ece" in page
    numbers = json.loads((tmp_path / "comparison.json").read_text())
    assert numbers["differences"][0]["metric"] == comparison.differences[0].metric
    assert (tmp_path / "comparison.png").stat().st_size > 5000


def test_command_prints_and_writes(tmp_path, capsys):
    a, b = write_run(tmp_path, "a", 1, 1.0), write_run(tmp_path, "b", 2, 1.5)
    app(["compare", str(a), str(b), "--resamples", "200"], standalone_mode=False)
    assert "recall_at_3" in capsys.readouterr().out
    assert (tmp_path / "b-against-a" / "comparison.md").is_file()
