from typing import Any

import numpy as np
import polars as pl
import pytest

from tfrec.data.preparing.histories import (
    Histories,
    build_contexts,
    build_examples,
    build_histories,
    mark_targets,
    pair_keys,
    starts_run,
)

NUM_LOGS = 200
DEFAULTS: dict[str, Any] = {
    "label": 1, "weight": 1.0, "is_ranked": True, "is_target": True, "text": "", "query": "",
    "position": 0, "watch_time": float("nan"), "impression": "",
    "true_probability": float("nan"), "split": 0, "event_kind": 0,
}  # fmt: skip
TYPES: dict[str, Any] = {
    "user_index": pl.UInt32, "item_index": pl.Int32, "time": pl.Int64, "row": pl.Int64,
    "label": pl.Int8, "weight": pl.Float32, "is_ranked": pl.Boolean, "is_target": pl.Boolean,
    "text": pl.String, "query": pl.String, "position": pl.Int16, "watch_time": pl.Float32,
    "impression": pl.String, "true_probability": pl.Float32, "split": pl.Int8,
    "age": pl.Float64, "device": pl.String, "event_kind": pl.Int16,
}  # fmt: skip
FEATURES = ["age", "device"]


def shard(rows: list[dict[str, Any]]) -> pl.DataFrame:
    """Returns a shard of the given rows, in their order."""
    full = [{"row": n, "age": None, "device": "pc"} | DEFAULTS | r for n, r in enumerate(rows)]
    return pl.DataFrame(full, schema=TYPES)


def events(*rows: tuple[int, int, int], **columns: list[Any]) -> pl.DataFrame:
    """Returns a shard from (user, time, item) and further columns."""
    return shard(
        [
            {"user_index": user, "time": time, "item_index": item}
            | {name: values[n] for name, values in columns.items()}
            for n, (user, time, item) in enumerate(rows)
        ]
    )


def random_shard(seed: int, ordered: bool) -> pl.DataFrame:
    """Returns a small log with ties in time, repeated items, negatives and any splits.

    Events of an instant share a split; with `ordered`, the splits of a user follow each other.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for user in rng.choice(9, rng.integers(1, 5), replace=False) + 1:
        count = rng.integers(1, 25)
        times = np.sort(rng.integers(0, rng.integers(1, 20), count))
        split_of = rng.integers(0, 3, 20)
        if ordered:
            split_of = np.sort(split_of)
        rows += [
            {
                "user_index": int(user),
                "time": int(time),
                "item_index": int(rng.integers(1, 6)),
                "label": int(rng.random() < 0.7),
                "is_target": bool(rng.random() < 0.8),
                "is_ranked": bool(rng.random() < 0.7),
                "query": str(rng.choice(["", "red", "blue"], p=[0.6, 0.2, 0.2])),
                "impression": str(rng.choice(["", "i1"])),
                "age": [None, 1.0, 2.0][rng.integers(3)],
                "split": int(split_of[time]),
                "event_kind": int(rng.integers(1, 5)),
            }
            for time in times
        ]
    rows.sort(key=lambda row: row["user_index"])
    return shard(rows)


def ranges(log: pl.DataFrame, contexts: pl.DataFrame, ordered: bool) -> tuple[np.ndarray, ...]:
    """Returns the stored items, and where each history starts and ends."""
    found = build_histories(log, contexts, ordered)
    return found.items, found.start, found.end


def expected_history(log: list[dict[str, Any]], user: int, time: int, split: int) -> list[int]:
    """What a request may see, by definition."""
    history: list[int] = []
    for event in log:
        is_own = event["user_index"] == user and event["label"] == 1
        is_allowed = event["time"] < time and event["split"] <= split
        if is_own and is_allowed and history[-1:] != [event["item_index"]]:
            history.append(event["item_index"])
    return history


# Targets


def test_targets_are_first_positives_of_each_user_and_item():
    log = events(
        (1, 1, 7), (1, 2, 7), (1, 3, 7), (1, 3, 8), (2, 1, 7), (2, 2, 9), (2, 3, 9),
        label=[0, 1, 1, 1, 1, 1, 1],
        is_target=[True, True, True, True, True, False, True],
    )  # fmt: skip
    # A negative finds nothing; user 2 found item 9 by an event that is no target itself.
    assert mark_targets(log)["is_target"].to_list() == [
        False, True, False, True, True, False, False,
    ]  # fmt: skip


def test_targets_marked_twice_stay_the_same():
    for seed in range(NUM_LOGS):
        once = mark_targets(random_shard(seed, ordered=False))
        assert mark_targets(once).equals(once)


def test_targets_of_random_logs_follow_the_definition():
    for seed in range(NUM_LOGS):
        log = random_shard(seed, ordered=False)
        found: set[tuple[int, int]] = set()
        expected = []
        for event in log.to_dicts():
            pair = (event["user_index"], event["item_index"])
            is_positive = event["label"] == 1
            expected.append(event["is_target"] and is_positive and pair not in found)
            if is_positive:
                found.add(pair)
        assert mark_targets(log)["is_target"].to_list() == expected, seed


# Requests


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("user_index", 2), ("time", 2), ("text", "x"), ("query", "x"), ("impression", "x"),
        ("age", 3.0), ("device", "phone"), ("split", 1),
    ],
)  # fmt: skip
def test_context_differs_by_every_part_of_a_request(column: str, value: Any):
    row = {"user_index": 1, "time": 1, "item_index": 1}
    contexts, found = build_contexts(shard([row, row | {column: value}]), FEATURES)
    assert contexts.height == 2
    assert found["context"].to_list() == [0, 1]


@pytest.mark.parametrize(
    "change", [{"item_index": 2}, {"label": 0}, {"position": 3}, {"row": 9}, {"weight": 2.0}]
)
def test_context_is_shared_by_the_rows_of_a_request(change: dict[str, Any]):
    row = {"user_index": 1, "time": 1, "item_index": 1}
    contexts, found = build_contexts(shard([row, row | change]), FEATURES)
    assert contexts.height == 1
    assert found["context"].to_list() == [0, 0]


def test_context_features_may_have_any_name():
    log = events((1, 1, 7), (1, 1, 8)).with_columns(first=pl.Series([1, 2]))
    contexts, found = build_contexts(log, ["first"])
    assert contexts["first"].to_list() == [1, 2]
    assert found["context"].to_list() == [0, 1]


def test_contexts_of_random_logs_are_distinct_requests_in_order_of_appearance():
    keys = ["user_index", "time", "text", "query", "impression", *FEATURES, "split"]
    for seed in range(NUM_LOGS):
        log = random_shard(seed, ordered=False)
        contexts, found = build_contexts(log, FEATURES)
        number_of: dict[tuple, int] = {}
        expected = [
            number_of.setdefault(tuple(row), len(number_of)) for row in log.select(keys).rows()
        ]
        assert contexts.columns == keys
        assert contexts.rows() == list(number_of), seed
        assert found["context"].to_list() == expected, seed
        assert found.drop("context").equals(log)
    assert found["context"].dtype == pl.Int32


# Histories


def test_histories_end_strictly_before_the_request():
    log = events(
        (1, 1, 7), (1, 2, 8), (1, 2, 9), (1, 3, 8), (2, 1, 5), (2, 4, 6),
        query=["", "", "red", "", "", ""],
    )  # fmt: skip
    contexts, log = build_contexts(log, FEATURES)
    items, starts, ends = ranges(log, contexts, ordered=True)
    histories = [items[start:end].tolist() for start, end in zip(starts, ends, strict=True)]
    # Two requests at instant 2 see neither their own item nor each other's.
    assert histories == [[], [7], [7], [7, 8, 9], [], [5]]
    assert (items.dtype, starts.dtype, ends.dtype) == (np.int32, np.int64, np.int64)


def test_item_that_follows_itself_is_stored_once():
    log = events(
        (1, 1, 7), (1, 2, 8), (1, 3, 7), (1, 4, 7), (1, 5, 9), (1, 6, 7), (2, 1, 7),
        label=[1, 0, 1, 1, 1, 1, 1],
    )  # fmt: skip
    contexts, log = build_contexts(log, FEATURES)
    items, _, ends = ranges(log, contexts, ordered=True)
    assert items.tolist() == [7, 9, 7, 7]  # the last is user 2's
    assert ends.tolist() == [0, 1, 1, 1, 1, 2, 3]


def test_history_of_unordered_splits_hides_later_splits():
    log = events(
        (1, 1, 7), (1, 2, 8), (1, 3, 9), (1, 4, 7), (1, 5, 7), split=[2, 0, 1, 0, 2]
    )  # fmt: skip
    contexts, log = build_contexts(log, FEATURES)
    items, starts, ends = ranges(log, contexts, ordered=False)
    histories = [items[start:end].tolist() for start, end in zip(starts, ends, strict=True)]
    # Validation (the third) sees no test item, train (the fourth) only train items, test sees all.
    assert histories == [[], [], [8], [8], [7, 8, 9, 7]]


@pytest.mark.parametrize("ordered", [True, False])
def test_histories_of_random_logs_are_what_a_request_may_see(ordered: bool):
    num_tied = 0
    for seed in range(NUM_LOGS):
        contexts, log = build_contexts(random_shard(seed, ordered), FEATURES)
        items, starts, ends = ranges(log, contexts, ordered)
        rows = log.to_dicts()
        for number, context in enumerate(contexts.to_dicts()):
            user, time, split = context["user_index"], context["time"], context["split"]
            expected = expected_history(rows, user, time, split)
            assert items[starts[number] : ends[number]].tolist() == expected, (seed, number)
            num_tied += expected != expected_history(rows, user, time + 1, split)
    assert num_tied > NUM_LOGS  # there were requests with a positive event of their own instant


def test_histories_of_ordered_splits_do_not_depend_on_the_way_they_are_stored():
    for seed in range(NUM_LOGS):
        contexts, log = build_contexts(random_shard(seed, ordered=True), FEATURES)
        one, three = (
            [items[start:end].tolist() for start, end in zip(starts, ends, strict=True)]
            for items, starts, ends in (ranges(log, contexts, ordered) for ordered in (True, False))
        )
        assert one == three, seed


# Kinds and times


def expected_events(
    log: list[dict[str, Any]], user: int, time: int, split: int
) -> list[tuple[int, int, int]]:
    """Item, kind and time of what a request may see, by definition: one event after the other."""
    history: list[list[dict[str, Any]]] = []
    for event in log:
        is_own = event["user_index"] == user and event["label"] == 1
        if not is_own or event["time"] >= time or event["split"] > split:
            continue
        if history and history[-1][0]["item_index"] == event["item_index"]:
            history[-1].append(event)
        else:
            history.append([event])
    found = []
    for number, visits in enumerate(history):
        until = history[number + 1][0]["time"] if number + 1 < len(history) else time
        known = [visit for visit in visits if visit["time"] < until] or visits[:1]
        found.append((visits[0]["item_index"], known[-1]["event_kind"], visits[0]["time"]))
    return found


def events_of(found: Histories, number: int) -> list[tuple[int, int, int]]:
    """Returns item, kind and time of what a request is given."""
    at = slice(found.start[number], found.end[number])
    kinds = found.kinds[at].tolist()
    kinds[-1:] = [int(found.last_kind[number])] * len(kinds[-1:])
    return list(zip(found.items[at].tolist(), kinds, found.times[at].tolist(), strict=True))


def test_request_between_click_and_cart_knows_the_click():
    log = events(
        (1, 1, 7), (1, 2, 3), (1, 3, 7), (1, 4, 3), (1, 5, 8), (1, 6, 3),
        label=[1, 0, 1, 0, 1, 0], event_kind=[1, 4, 2, 4, 1, 4],
    )  # fmt: skip
    contexts, log = build_contexts(log, FEATURES)
    found = build_histories(log, contexts, ordered=True)
    histories = [events_of(found, number) for number in range(contexts.height)]
    click, cart, other = (7, 1, 1), (7, 2, 1), (8, 1, 5)
    assert histories == [[], [click], [click], [cart], [cart], [cart, other]]
    assert (found.kinds.dtype, found.times.dtype, found.last_kind.dtype) == (
        np.int16, np.int64, np.int16,
    )  # fmt: skip


@pytest.mark.parametrize("ordered", [True, False])
def test_kinds_and_times_of_random_logs_are_what_a_request_may_know(ordered: bool):
    num_changed = 0
    for seed in range(NUM_LOGS):
        contexts, log = build_contexts(random_shard(seed, ordered), FEATURES)
        found = build_histories(log, contexts, ordered)
        rows = log.to_dicts()
        for number, context in enumerate(contexts.to_dicts()):
            user, time, split = context["user_index"], context["time"], context["split"]
            expected = expected_events(rows, user, time, split)
            assert events_of(found, number) == expected, (seed, number)
            at = slice(found.start[number], found.end[number])
            num_changed += found.kinds[at].tolist() != [kind for _, kind, _ in expected]
    assert num_changed > NUM_LOGS // 4  # some requests came before a later kind of the same item


@pytest.mark.parametrize("ordered", [True, False])
def test_stored_kinds_are_what_each_target_may_know(ordered: bool):
    """Sequences read the stored kinds, without those that a request keeps."""
    num_targets = 0
    for seed in range(NUM_LOGS):
        log = mark_targets(random_shard(seed, ordered))
        contexts, log = build_contexts(log, FEATURES)
        found = build_histories(log, contexts, ordered)
        rows = log.to_dicts()
        for event in rows:
            if event["is_target"]:
                number = event["context"]
                expected = expected_events(rows, event["user_index"], event["time"], event["split"])
                kinds = found.kinds[found.start[number] : found.end[number]].tolist()
                assert kinds == [kind for _, kind, _ in expected], (seed, number)
                num_targets += 1
    assert num_targets > NUM_LOGS


def test_log_without_kinds_has_kind_zero():
    contexts, log = build_contexts(random_shard(0, True).drop("event_kind"), FEATURES)
    found = build_histories(log, contexts, ordered=True)
    assert not found.kinds.any()
    assert not found.last_kind.any()


# Examples


def test_examples_are_targets_and_ranked_events():
    log = events(
        (1, 1, 7), (1, 2, 8), (1, 3, 9), (1, 4, 6),
        is_target=[True, False, False, True],
        is_ranked=[True, False, True, False],
        position=[1, 2, 3, 4],
        watch_time=[0.5, 1.5, 2.5, 3.5],
    )  # fmt: skip
    _, log = build_contexts(log, FEATURES)
    examples = build_examples(log)
    assert examples.columns == [
        "context", "item_index", "label", "weight", "position", "is_target", "is_ranked",
        "watch_time", "true_probability",
    ]  # fmt: skip
    assert examples["context"].to_list() == [0, 2, 3]
    assert examples["item_index"].to_list() == [7, 9, 6]
    assert examples["position"].to_list() == [1, 3, 4]
    assert examples["watch_time"].to_list() == [0.5, 2.5, 3.5]
    assert examples.schema["context"] == examples.schema["item_index"] == pl.Int32


def test_examples_have_ratings_where_the_log_has():
    _, log = build_contexts(events((1, 1, 7), (1, 2, 8)), FEATURES)
    log = log.with_columns(rating=pl.Series([4.5, 1.0], dtype=pl.Float32))
    assert build_examples(log)["rating"].to_list() == [4.5, 1.0]


# Pieces


def test_runs_start_where_any_column_changes():
    starts = starts_run(np.array([1, 1, 2, 2, 1]), np.array([5, 6, 6, 6, 6]))
    assert starts.tolist() == [True, True, True, False, True]
    assert starts_run(np.array([], int)).tolist() == []


def test_pair_keys_of_large_indices_do_not_meet():
    log = events((1, 1, 2**31 - 1), (2, 1, 1), (2**31, 1, 1), (2**31, 1, 2))
    assert pair_keys(log).n_unique() == 4


def test_shard_without_events_gives_empty_tables():
    log = mark_targets(shard([]))
    contexts, log = build_contexts(log, FEATURES)
    assert contexts.height == log.height == build_examples(log).height == 0
    for ordered in (True, False):
        assert [part.tolist() for part in ranges(log, contexts, ordered)] == [[], [], []]
