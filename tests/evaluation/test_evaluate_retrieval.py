import dataclasses
import math
from typing import Any

import numpy as np
import polars as pl
import pytest

from tfrec.candidates.order import given_order
from tfrec.candidates.sources import CandidateSources
from tfrec.config import Candidates, Config
from tfrec.data.dataset import PreparedData
from tfrec.evaluation.retrieval import TwoStages, evaluate_retrieval, read_requests
from tfrec.evaluation.two_stages import rank_candidates
from tfrec.inference.embeddings import Embeddings
from tfrec.inputs.ranked_rows import RankedRows
from tfrec.training.candidate_lists import CandidateLists


def draw_embeddings(data: PreparedData, seed: int = 0) -> Embeddings:
    draw = np.random.default_rng(seed)
    items = draw.normal(size=(data.num_items + 1, 8)).astype(np.float32)
    items[0] = 0
    requests = draw.normal(size=(data.contexts.height, 8)).astype(np.float32)
    return Embeddings(items, requests)


class Truth:
    """An oracle that knows what is going to be chosen: by user and time."""

    def __init__(self, data: PreparedData) -> None:
        self._num_items = data.num_items
        self._wanted: dict[Any, list[int]] = {}
        for context, item in data.examples.select("context", "item_index").iter_rows():
            request = data.contexts[context].row(0, named=True)
            user = data.users["user_id"][request["user_index"] - 1]
            self._wanted.setdefault((user, request["time"]), []).append(item)

    def expected_clicks(self, users: list, times: list, queries: list) -> np.ndarray:
        clicks = np.zeros((len(users), self._num_items), np.float32)
        for row, key in enumerate(zip(users, times, strict=True)):
            clicks[row, np.array(self._wanted[key]) - 1] = 1
        return clicks


class FakeScorer:
    """A ranking model that likes items with a high index."""

    def __init__(self, sign: float = 1.0) -> None:
        self.sign = sign

    def click_order(self, rows: RankedRows) -> np.ndarray:
        return self.sign * rows.item_index.astype(np.float32)


def two_stages(data: PreparedData, config: Config, scorer: FakeScorer) -> TwoStages:
    """Candidates of the towers alone, sorted by log-odds + 1.5 * score."""
    lists = CandidateLists(
        data,
        draw_embeddings(data),
        CandidateSources({}, Candidates(), min(config.index.candidates, data.num_items)),
        lambda texts: texts,
        scorer,
        remove_seen=config.evaluation.remove_seen,
    )
    return TwoStages(lists, given_order(lists.names, 1.5))


def loop(data: PreparedData, embeddings: Embeddings, k: int, remove_seen: bool) -> dict:
    """Measures by the definitions, one request after the other."""
    targets = data.examples[data.target_rows("test")].select("context", "item_index").rows()
    recall, ndcg, found_of_request = [], [], []
    for context in sorted({context for context, _ in targets}):
        wanted = {item for other, item in targets if other == context}
        seen = set(data.seen_pairs(np.array([context]))[1].tolist()) if remove_seen else set()
        scores = embeddings.items @ embeddings.requests[context]
        left = [item for item in range(1, data.num_items + 1) if item not in seen]
        order = sorted(left, key=lambda item: -scores[item])
        ranks = [1 + order.index(item) for item in wanted]
        recall += [rank <= k for rank in ranks]
        ndcg += [1 / math.log2(rank + 1) if rank <= k else 0 for rank in ranks]
        found_of_request.append(sum(rank <= k for rank in ranks) / k)
    return {
        "targets": len(targets),
        "requests": len(found_of_request),
        "recall": np.mean(recall),
        "ndcg": np.mean(ndcg),
        "precision": np.mean(found_of_request),
    }


@pytest.mark.parametrize("remove_seen", [True, False])
@pytest.mark.parametrize("seed", range(2))
def test_ours_agrees_with_a_loop_over_requests(prepare_log, seed: int, remove_seen: bool):
    data, config = prepare_log(seed, {"remove_seen": remove_seen, "baselines": []})
    embeddings = draw_embeddings(data, seed)
    report, _ = evaluate_retrieval(data, embeddings, None, config)
    for k in (3, 10):
        expected = loop(data, embeddings, k, remove_seen)
        assert expected["requests"] < expected["targets"]  # some requests want several items
        ours, of_request = report.targets["ours"], report.requests["ours"]
        assert ours["targets"] == expected["targets"]
        assert of_request["requests"] == expected["requests"]
        assert ours[f"recall_at_{k}"] == pytest.approx(expected["recall"])
        assert ours[f"ndcg_at_{k}"] == pytest.approx(expected["ndcg"])
        assert of_request[f"precision_at_{k}"] == pytest.approx(expected["precision"])


@pytest.fixture
def measured(prepare_log) -> tuple[PreparedData, Config, Any]:
    data, config = prepare_log(evaluation={"bootstrap": 200})
    report, _ = evaluate_retrieval(
        data, draw_embeddings(data), Truth(data), config, two_stages(data, config, FakeScorer())
    )
    return data, config, report


def test_report_measures_every_model_in_every_part(measured):
    _, _, report = measured
    names = ["ours", "ours, re-ranked", "popularity", "recent_popularity", "item_knn", "ease"]
    names += ["ials", "content", "random", "oracle"]
    assert list(report.targets) == list(report.requests) == list(report.lists) == names
    assert list(report.intervals["targets"]) == list(report.intervals["requests"]) == names
    assert list(report.differences) == names[1:]
    assert report.notes == []
    assert report.k == 3
    for facts in report.slices.values():
        assert set(facts) == {"targets", "interval", *names}


def test_truth_beats_popularity_and_popularity_beats_chance(measured):
    _, _, report = measured
    recall = {model: metrics["recall_at_10"] for model, metrics in report.targets.items()}
    assert recall["oracle"] > 0.95
    assert recall["random"] < recall["popularity"] < recall["oracle"]
    assert report.requests["oracle"]["map_at_10"] > 0.9
    assert report.lists["popularity"]["coverage"] < report.lists["random"]["coverage"]
    assert report.lists["popularity"]["novelty"] < report.lists["random"]["novelty"]


def test_intervals_hold_their_values_and_differences_the_difference(measured):
    _, _, report = measured
    for part, values in (("targets", report.targets), ("requests", report.requests)):
        for model, bounds in report.intervals[part].items():
            for name, (low, high) in bounds.items():
                assert low - 1e-9 <= values[model][name] <= high + 1e-9
    for model, metrics in report.differences.items():
        for name, facts in metrics.items():
            difference = report.targets["ours"][name] - report.targets[model][name]
            assert facts["difference"] == pytest.approx(difference)
            assert facts["low"] - 1e-9 <= facts["difference"] <= facts["high"] + 1e-9
    assert report.differences["oracle"]["ndcg_at_3"]["high"] < 0


def test_slices_of_users_make_up_the_whole(measured):
    _, _, report = measured
    parts = [report.slices[name] for name in report.slices if name.endswith("users")]
    total = sum(part["targets"] for part in parts)
    assert total == report.targets["ours"]["targets"]
    found = sum(part["targets"] * part["ours"]["recall_at_3"] for part in parts)
    assert found / total == pytest.approx(report.targets["ours"]["recall_at_3"])


def test_report_is_the_same_each_time(measured):
    data, config, report = measured
    again, _ = evaluate_retrieval(
        data, draw_embeddings(data), Truth(data), config, two_stages(data, config, FakeScorer())
    )
    assert again == report


def test_no_bootstrap_leaves_intervals_out(prepare_log):
    data, config = prepare_log(evaluation={"bootstrap": 0, "baselines": []})
    report, _ = evaluate_retrieval(data, draw_embeddings(data), None, config)
    assert report.intervals == report.differences == {}
    assert "interval" not in report.slices["warm users"]


def test_left_out_baseline_leaves_a_note(prepare_log):
    data, config = prepare_log(evaluation={"baselines": ["ease"], "ease": {"max_items": 2}})
    report, _ = evaluate_retrieval(data, draw_embeddings(data), None, config)
    assert "ease" not in report.targets
    assert report.notes[0].startswith("ease: left out")


def test_sample_of_requests_keeps_all_their_targets(prepare_log):
    data, config = prepare_log(evaluation={"max_contexts": 20})
    tests = read_requests(data, config)
    assert len(tests.contexts) == 20 < len(tests.target)
    rows = data.examples[data.target_rows("test")].select("context", "item_index").rows()
    expected = sorted(row for row in rows if row[0] in set(tests.contexts.tolist()))
    got = zip(tests.contexts[tests.request].tolist(), tests.target.tolist(), strict=True)
    assert sorted(got) == expected
    assert (np.diff(tests.request) >= 0).all()


def test_validation_split_measures_its_own_targets(prepare_log):
    data, config = prepare_log(evaluation={"baselines": []})
    report, _ = evaluate_retrieval(data, draw_embeddings(data), None, config, split="validation")
    assert report.targets["ours"]["targets"] == len(data.target_rows("validation"))


def test_split_without_targets_has_no_numbers(prepare_log):
    data, config = prepare_log()
    nothing = dataclasses.replace(
        data, examples=data.examples.with_columns(is_target=pl.lit(False))
    )
    report, _ = evaluate_retrieval(
        nothing, draw_embeddings(data), None, config, two_stages(data, config, FakeScorer())
    )
    assert report.targets["ours"]["targets"] == 0
    assert math.isnan(report.targets["ours"]["recall_at_3"])
    assert math.isnan(report.targets["content"]["mrr"])
    assert report.intervals == report.slices == {}


# Two stages


def rank_both(data: PreparedData, config: Config, scorer: FakeScorer) -> tuple[Any, Any]:
    tests, stages = read_requests(data, config), two_stages(data, config, scorer)
    _, ranked = rank_candidates(
        stages.lists,
        stages.order,
        contexts=tests.contexts,
        request=tests.request,
        target=tests.target,
        num_items=data.num_items,
        k=4,
    )
    return tests, ranked


def test_two_stages_agree_with_a_loop_over_requests(prepare_log):
    data, config = prepare_log()
    config = config.model_copy(update={"index": config.index.model_copy(update={"candidates": 8})})
    tests, ranked = rank_both(data, config, FakeScorer())
    embeddings, weight = draw_embeddings(data), 1.5
    missed = 0
    for row, context in enumerate(tests.contexts.tolist()):
        seen = set(data.seen_pairs(np.array([context]))[1].tolist())
        scores = embeddings.items @ embeddings.requests[context]
        left = [item for item in range(1, data.num_items + 1) if item not in seen]
        candidates = sorted(left, key=lambda item: -scores[item])[:8]
        order = sorted(candidates, key=lambda item: -(item + weight * scores[item]))
        assert ranked.top[row].tolist() == (order + [0] * 4)[:4]
        for item, rank in zip(
            tests.target[tests.request == row], ranked.ranks[tests.request == row], strict=True
        ):
            missed += item not in order
            assert rank == (1 + order.index(item) if item in order else data.num_items)
    assert 0 < missed < len(tests.target)


def test_ranker_without_numbers_does_not_look_good(prepare_log):
    data, config = prepare_log()
    _, ranked = rank_both(data, config, FakeScorer(sign=math.nan))
    assert ranked.ranks.mean() > data.num_items / 2
