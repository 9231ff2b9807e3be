import dataclasses
import math
from typing import Any

import numpy as np
import polars as pl
import pytest
import tensorflow as tf
from small_lists import SmallRecommender, draw_embeddings

from tfrec.config import Config, Filters
from tfrec.data.dataset import PreparedData
from tfrec.evaluation.requests import read_requests
from tfrec.evaluation.retrieval import TwoStages, evaluate_retrieval
from tfrec.evaluation.tables import markdown_table
from tfrec.evaluation.two_stages import rank_candidates
from tfrec.export.replay import raw_requests
from tfrec.index.item_index import ItemIndex, filled
from tfrec.inference.embeddings import Embeddings
from tfrec.metrics.request_metric import RequestMetric
from tfrec.recommender.prepared_requests import PreparedRequests


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


def two_stages(data: PreparedData, config: Config) -> TwoStages:
    """Candidates of the towers alone, sorted by log-odds + 1.5 * score."""
    small = SmallRecommender(data, config)
    return TwoStages(small.lists(), small.lists(is_exported=True))


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
        data, draw_embeddings(data), Truth(data), config, two_stages(data, config)
    )
    return data, config, report


def test_report_measures_every_model_in_every_part(measured):
    _, _, report = measured
    names = ["ours", "ours, re-ranked", "ours, as exported", "popularity", "recent_popularity"]
    names += ["item_knn", "ease"]
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
        data, draw_embeddings(data), Truth(data), config, two_stages(data, config)
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
        nothing, draw_embeddings(data), None, config, two_stages(data, config)
    )
    assert report.targets["ours"]["targets"] == 0
    assert math.isnan(report.targets["ours"]["recall_at_3"])
    assert math.isnan(report.targets["content"]["mrr"])
    assert report.intervals == report.slices == {}


class AllFound(RequestMetric):
    """Whether all targets are found."""

    name = "all_found"

    def measure(self, ranks, k):
        return float(ranks[-1] <= k)


def test_metric_of_somebody_else_is_a_column_beside_ours(prepare_log):
    own = {"metrics": [{"kind": f"{__name__}:AllFound"}]}
    data, config = prepare_log(evaluation=own)
    report, ranked = evaluate_retrieval(data, draw_embeddings(data), None, config)
    tests = ranked.tests
    for model, ranks in ranked.ranks.items():
        for k in (3, 10):
            found = [max(ranks[tests.request == n]) <= k for n in range(len(tests.contexts))]
            assert report.requests[model][f"all_found_at_{k}"] == pytest.approx(np.mean(found))
    low, high = report.intervals["requests"]["ours"]["all_found_at_3"]
    assert low <= report.requests["ours"]["all_found_at_3"] <= high
    heads = markdown_table(report.requests)[0]
    assert "| all_found_at_3 |" in heads


# The whole recommender


class EvenRows(ItemIndex):
    """An approximate index: it finds only every other row."""

    def __init__(self, tensors, num_items, parameters):
        super().__init__(num_items, parameters)
        self._rows = tf.Variable(tensors[0], trainable=False)

    @classmethod
    def build(cls, embeddings, k, precision="float32"):
        return cls([embeddings[::2]], len(embeddings), {})

    def tensors(self):
        return [self._rows.numpy()]

    def search(self, queries, k):
        k = tf.minimum(k, self.num_items)
        scores = tf.linalg.matmul(queries, self._rows, transpose_b=True)
        best = tf.math.top_k(scores, tf.minimum(k, tf.shape(self._rows)[0]))
        return filled(2 * best.indices, best.values, k)


def in_plain_python(
    small: SmallRecommender, context: int, *, filters: Filters, rows: int = 1, k: int = 0
) -> list[int]:
    """What a request is answered with, best first, by the definitions; `rows`: every how manieth
    row of the catalogue the index finds."""
    data, items = small.data, small.data.items
    scores = small.embeddings.items @ small.embeddings.requests[context]
    log_odds = small.log_odds(context)
    seen = set(data.seen_pairs(np.array([context]))[1].tolist())

    def is_left(item: int) -> bool:
        is_available = all(items[name][item - 1] != 0 for name in filters.available)
        return item not in seen and is_available

    every = [item for item in range(1, data.num_items + 1) if is_left(item)]
    found = [item for item in every if (item - 1) % rows == 0]
    number = small.config.index.candidates
    # An index that finds too few is helped out by scoring everything.
    found = found if len(found) >= number else every
    candidates = sorted(found, key=lambda item: -scores[item])[:number]

    def within_caps(ordered: list[int]) -> list[int]:
        taken: dict[tuple[str, str], int] = {}
        kept = []
        for item in ordered:
            values = [(name, items[name][item - 1]) for name in filters.caps]
            if all(taken.get(value, 0) < filters.caps[value[0]] for value in values):
                kept.append(item)
                for value in values:
                    taken[value] = taken.get(value, 0) + 1
        return kept

    if filters.caps and len(within_caps(candidates)) < k:  # filled up from the whole catalogue
        by_score = within_caps(sorted(every, key=lambda item: -scores[item]))[:k]
        candidates += [item for item in by_score if item not in candidates]
    return within_caps(sorted(candidates, key=lambda item: -(log_odds[item] + 1.5 * scores[item])))


DECLARED = {
    "items": {
        "title": "title",
        "text": ["title"],
        "features": {"brand": "category", "in_stock": "number"},
    }
}


@pytest.mark.parametrize(
    ("filters", "index", "is_changed"),
    [
        ({}, None, False),
        ({"available": ["in_stock"]}, None, True),
        ({"caps": {"brand": 1}}, None, True),
        ({"available": ["in_stock"], "caps": {"brand": 2}}, None, True),
        ({}, EvenRows, True),
    ],
    ids=["nothing", "available", "caps", "available and caps", "approximate index"],
)
def test_what_an_export_does_changes_the_exported_row_and_no_other(
    prepare_log, filters: dict, index: type[ItemIndex] | None, is_changed: bool
):
    data, config = prepare_log(evaluation={"max_contexts": 12, "baselines": []}, **DECLARED)
    config = config.model_copy(
        update={
            "index": config.index.model_copy(update={"candidates": 8}),
            "export": config.export.model_copy(update={"k": 5}),
            "filters": Filters.model_validate(filters),
        }
    )
    small, tests = SmallRecommender(data, config), read_requests(data, config)
    built = index.build(small.embeddings.items[1:], 8) if index else None
    exact, exported = small.lists(), small.lists(is_exported=True, index=built)
    report, ranked = evaluate_retrieval(
        data, small.embeddings, None, config, TwoStages(exact, exported)
    )
    expected: dict[str, list[int]] = {"ours, re-ranked": [], "ours, as exported": []}
    for row, context in enumerate(tests.contexts.tolist()):
        lists = {
            "ours, re-ranked": in_plain_python(small, context, filters=Filters()),
            "ours, as exported": in_plain_python(
                small, context, filters=config.filters, rows=2 if index else 1, k=5
            ),
        }
        for item in tests.target[tests.request == row].tolist():
            for name, listed in lists.items():
                rank = 1 + listed.index(item) if item in listed else data.num_items
                expected[name].append(rank)
    for name, ranks in expected.items():
        assert ranked.ranks[name].tolist() == ranks
    assert (expected["ours, re-ranked"] != expected["ours, as exported"]) is is_changed
    assert (report.lists["ours, re-ranked"] != report.lists["ours, as exported"]) is is_changed


def test_ranker_without_numbers_does_not_look_good(prepare_log):
    data, config = prepare_log()
    small, tests = SmallRecommender(data, config), read_requests(data, config)
    _, ranked = rank_candidates(
        small.lists(weights=(math.nan, 1.5)),
        contexts=tests.contexts,
        request=tests.request,
        target=tests.target,
        num_items=data.num_items,
        k=4,
    )
    assert ranked.ranks.mean() > data.num_items / 2


def test_prepared_requests_are_decoded_as_raw_ones_are(prepare_log):
    data, config = prepare_log(**DECLARED)
    small, contexts = SmallRecommender(data, config), read_requests(data, config).contexts
    raw = {
        name: tf.constant(values, tf.string if values.dtype == object else None)
        for name, values in raw_requests(data, config, contexts).items()
    }
    reader = small.recommender().reader
    wanted = reader.decode(raw)
    got = PreparedRequests(data, small.tables()).decode(contexts)
    np.testing.assert_array_equal(got.user, wanted.user)
    np.testing.assert_array_equal(got.recent, wanted.recent[:, -got.recent.shape[1] :])
    assert not wanted.recent[:, : -got.recent.shape[1]].numpy().any()
    width = wanted.text.shape[1]
    np.testing.assert_array_equal(got.text[:, :width], wanted.text)
    assert not got.text[:, width:].numpy().any()
    assert got.features.keys() == wanted.features.keys()
    for row, barred in enumerate(got.barred.items.numpy()):
        assert set(wanted.barred.items[row].numpy()) <= {0, *barred}
    embedded = [small.recommender().core.embed(request).embedding for request in (got, wanted)]
    np.testing.assert_allclose(*embedded, atol=1e-5)
