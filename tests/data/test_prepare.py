from collections import defaultdict
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from tfrec.config import parse_config
from tfrec.data.dataset import PreparedData
from tfrec.data.prepare import prepare, split_by_time
from tfrec.data.sources import RawTables
from tfrec.errors import DataError
from tfrec.schema import SPLITS

ORIGINS = {"events": "events.csv", "items": "items.csv", "users": "users.csv"}
KINDS = {
    "view": {"label": 0},
    "click": {"label": 1},
    "buy": {"label": 1, "weight": 3.0, "ranked": False, "target": False},
}


def events(*rows: tuple, columns: str = "user_id item_id time") -> pl.DataFrame:
    """Returns an event table from rows."""
    return pl.DataFrame(list(rows), schema=columns.split(), orient="row")


def items(*ids: str, **columns: list) -> pl.DataFrame:
    return pl.DataFrame({"item_id": list(ids), "title": [f"Item {i}" for i in ids], **columns})


LOG = events(*((f"u{n}", "ab"[n % 2], n) for n in range(10)))  # ten users, one positive each


def run(
    log: pl.DataFrame = LOG,
    catalogue: pl.DataFrame | None = None,
    people: pl.DataFrame | None = None,
    **data: Any,
) -> PreparedData:
    """Prepares hand-made tables; by default items a to e and 60:20:20 in time."""
    config = parse_config(
        {
            "name": "x",
            "data": {"source": "shop", "split": {"validation": 0.2, "test": 0.2}, **data},
        }
    )
    catalogue = items("a", "b", "c", "d", "e") if catalogue is None else catalogue
    return prepare(RawTables(log, catalogue, people, ORIGINS), config)


def refusal(*args: Any, **kwargs: Any) -> str:
    with pytest.raises(DataError) as caught:
        run(*args, **kwargs)
    return str(caught.value)


def rows(prepared: PreparedData) -> list[dict[str, Any]]:
    """Returns the examples with outside ids in place of indices."""
    contexts = prepared.contexts
    return [
        row
        | {
            "item": prepared.items["item_id"][row["item_index"] - 1],
            "user": prepared.users["user_id"][contexts["user_index"][row["context"]] - 1],
            "time": contexts["time"][row["context"]],
            "split": SPLITS[contexts["split"][row["context"]]],
        }
        for row in prepared.examples.iter_rows(named=True)
    ]


# Labels, weights, targets


def test_labels_from_kinds_follow_the_declaration():
    # Users 0 to 9 look, u0 also clicks and buys what they saw; the rest keep the splits filled.
    log = pl.concat(
        [
            LOG.with_columns(pl.lit("click").alias("kind")),
            events(
                ("u0", "c", 0, "view"),
                ("u0", "c", 1, "click"),
                ("u0", "c", 2, "buy"),
                ("u0", "c", 3, "click"),
                ("u1", "d", 2, "buy"),
                ("u1", "d", 3, "click"),
                columns="user_id item_id time kind",
            ),
        ]
    )
    prepared = run(log, events={"kind": "kind", "kinds": KINDS})
    found = [
        (row["user"], row["item"], row["time"].second, row["label"], row["weight"],
         row["is_target"], row["is_ranked"])
        for row in rows(prepared)
        if row["item"] in "cd"
    ]  # fmt: skip
    assert found == [
        ("u0", "c", 0, 0, 1.0, False, True),  # a view is ranked and no target
        ("u0", "c", 1, 1, 1.0, True, True),  # the first positive is the target
        # The purchase at 2 is neither ranked nor a target, so no example.
        ("u0", "c", 3, 1, 1.0, False, True),  # a second click is no target again
        # A purchase came first, so the click on d is not the first positive.
        ("u1", "d", 3, 1, 1.0, False, True),
    ]


def test_weights_of_kinds_reach_targets():
    kinds = {"click": {"label": 1}, "buy": {"label": 1, "weight": 2.5, "ranked": False}}
    log = LOG.with_columns(kind=pl.Series(["click", "buy"] * 5))
    prepared = run(log, events={"kind": "kind", "kinds": kinds})
    assert [(r["weight"], r["is_ranked"]) for r in rows(prepared)] == [
        (1.0, True),
        (2.5, False),
    ] * 5


@pytest.mark.parametrize(
    ("ratings", "labels"),
    [
        ([1, 2, 3, 4, 5, 1, 4, 1, 5, 3], [0, 0, 0, 1, 1, 0, 1, 0, 1, 0]),
        (["3.9", "4", "4.0", "4.5", " 5 "] * 2, [0, 1, 1, 1, 1] * 2),
    ],
)
def test_labels_from_ratings_start_at_the_threshold(ratings: list, labels: list[int]):
    log = LOG.with_columns(stars=pl.Series(ratings))
    prepared = run(log, events={"rating": "stars", "positive_rating": 4})
    assert prepared.examples["label"].to_list() == labels
    assert prepared.examples["is_target"].to_list() == [label == 1 for label in labels]


def test_labels_without_declaration_are_all_positive():
    examples = run().examples
    assert set(examples["label"]) == {1}
    assert set(examples["weight"]) == {1.0}
    assert examples["is_target"].all()


def test_position_and_true_probability_are_kept_and_default_to_unknown():
    log = LOG.with_columns(
        place=pl.Series([1, None, 3, 2000, -1, 6, 7, 8, 9, 10]),
        truth=pl.Series([0.25] * 9 + [None]),
    )
    examples = run(log, events={"position": "place", "true_probability": "truth"}).examples
    assert examples["position"].to_list() == [1, 0, 3, 1000, 0, 6, 7, 8, 9, 10]
    assert examples["true_probability"].to_list()[0] == 0.25
    assert examples["true_probability"].is_nan().to_list() == [False] * 9 + [True]
    assert run().examples["position"].to_list() == [0] * 10
    assert run().examples["true_probability"].is_nan().all()


# Counting and refusing


def test_duplicate_events_are_dropped_and_counted():
    log = pl.concat([LOG, LOG[2:4], LOG[2:3]])
    prepared = run(log)
    assert prepared.report["events_read"] == 13
    assert prepared.report["duplicate_events_dropped"] == 3
    assert prepared.examples.equals(run().examples)


def test_unknown_item_is_refused_by_row_of_the_file():
    log = pl.concat([LOG[:3], LOG[:1], events(("u3", "zz", 3), ("u4", "zz", 4)), LOG[5:]])
    assert refusal(log) == (
        "events.csv: row 5, column 'item_id': wanted an item of items.csv, got 'zz' "
        "(2 events like it). Add the item or set data.unknown_items: drop."
    )


def test_unknown_items_are_dropped_and_counted_on_demand():
    log = pl.concat([LOG, events(("u3", "zz", 3), ("u4", "yy", 4), ("u5", "zz", 4))])
    prepared = run(log, unknown_items="drop")
    assert prepared.report["events_of_unknown_items_dropped"] == 3
    assert prepared.examples.equals(run().examples)
    assert run().report["events_of_unknown_items_dropped"] == 0


def test_no_event_of_a_known_item_is_refused():
    assert refusal(events(("u", "zz", 1)), unknown_items="drop") == (
        "events.csv: no event names an item of items.csv."
    )


@pytest.mark.parametrize(
    ("kind", "came"), [("clik", "'clik'"), (None, "None"), ("", "''"), ("Click", "'Click'")]
)
def test_unknown_kind_names_row_and_known_ones(kind: str | None, came: str):
    log = LOG.with_columns(kind=pl.Series(["click", "view", kind] + ["click"] * 7))
    assert refusal(log, events={"kind": "kind", "kinds": KINDS}) == (
        f"events.csv: row 3, column 'kind': wanted one of view, click, buy, got {came}."
    )


@pytest.mark.parametrize(("missing", "came"), [(None, "nothing"), (float("nan"), "nan")])
def test_missing_rating_names_row(missing: float | None, came: str):
    log = LOG.with_columns(stars=pl.Series([5.0, missing, *[5.0] * 8]))
    assert refusal(log, events={"rating": "stars", "positive_rating": 4}) == (
        f"events.csv: row 2, column 'stars': wanted a rating, got {came}."
    )


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"log": LOG.clear()}, "events.csv: wanted at least one event, the table is empty."),
        (
            {"catalogue": items("a", "b").clear()},
            "items.csv: wanted at least one item, the table is empty.",
        ),
        (
            {"log": LOG.rename({"time": "times"})},
            "events.csv: column 'time' is missing. Did you mean 'times'? Columns there: user_id, "
            "item_id, times.",
        ),
        (
            {"catalogue": items("a").rename({"title": "titel"})},
            "items.csv: column 'title' is missing. Did you mean 'titel'? Columns there: item_id, "
            "titel.",
        ),
        (
            {"events": {"query": "search"}},
            "events.csv: column 'search' is missing. Columns there: user_id, item_id, time.",
        ),
        (
            {"people": pl.DataFrame({"id": ["u1"]}), "users": {"user_id": "uid"}},
            "users.csv: column 'uid' is missing. Did you mean 'id'? Columns there: id.",
        ),
        (
            {"catalogue": items("a", "b", "c", "b")},
            "items.csv: column 'item_id': wanted each id once, got 'b' in rows 2 and 4.",
        ),
        (
            {"people": pl.DataFrame({"user_id": ["u1", "u1"]})},
            "users.csv: column 'user_id': wanted each id once, got 'u1' in rows 1 and 2.",
        ),
        (
            {"users": {"features": {"age": "number"}}},
            "data.users: attributes are declared but there is no user table.",
        ),
        (
            {"log": LOG.with_columns(user_id=pl.Series(["u"] * 4 + [None] + ["u"] * 5))},
            "events.csv: row 5, column 'user_id': wanted an id, got nothing.",
        ),
        (
            {"catalogue": items("a", "b", price=["1", "x"]),
             "items": {"features": {"price": "number"}}},
            "items.csv: row 2, column 'price': wanted a number, got 'x'.",
        ),
    ],
)  # fmt: skip
def test_tables_that_do_not_fit_are_refused(change: dict[str, Any], expected: str):
    assert refusal(**change) == expected


@pytest.mark.parametrize(
    ("positive", "split"),
    [(range(6, 10), "train"), ([*range(6), 8, 9], "validation"), (range(8), "test")],
)
def test_split_without_positives_is_refused_by_name(positive: Any, split: str):
    log = LOG.with_columns(stars=pl.Series([5 if n in positive else 1 for n in range(10)]))
    assert refusal(log, events={"rating": "stars", "positive_rating": 4}) == (
        f"data.split: no positive event falls into {split!r}; the log has 10 requests. "
        "Give more events or other split sizes."
    )


def test_split_without_positives_in_train_is_refused_with_any_feature():
    log = LOG.with_columns(stars=pl.Series([1] * 6 + [5] * 4))
    catalogue = items("a", "b", n=[1, 2], v=[[1.0], None], c=["x", None], m=["x|y", ""])
    features = {"n": "number", "v": "vector", "c": "category", "m": "category_list"}
    text = refusal(
        log,
        catalogue,
        events={"rating": "stars", "positive_rating": 4},
        items={"features": features},
    )
    assert "falls into 'train'" in text


# Text


def test_html_entities_and_white_space_are_cleaned():
    catalogue = pl.DataFrame(
        {
            "item_id": ["a", "b", "c"],
            "title": ["Tom &amp; Jerry&#39;s  ", "AT&T", None],
            "more": [" x&nbsp;y\n\tz ", None, "&lt;b&gt;"],
        }
    )
    before = catalogue.clone()
    prepared = run(catalogue=catalogue, items={"text": ["title", "more"]})
    assert prepared.items["title"].to_list() == ["Tom & Jerry's", "AT&T", ""]
    assert prepared.items["text"].to_list() == ["Tom & Jerry's x y z", "AT&T", "<b>"]
    assert catalogue.equals(before)  # the raw table is the caller's


def test_request_text_is_user_text_then_query():
    log = LOG.with_columns(
        search=pl.Series(["red  shoes", None, "red shoes", "hat &amp; coat"] + [""] * 6)
    )
    people = pl.DataFrame({"user_id": ["u0", "u2"], "bio": ["likes red", None]})
    prepared = run(log, people=people, events={"query": "search"}, users={"text": ["bio"]})
    of_context = [prepared.texts[i] for i in prepared.contexts["text_index"]]
    assert of_context[:4] == ["likes red red shoes", "", "red shoes", "hat & coat"]
    assert prepared.texts[0] == ""
    assert len(set(prepared.texts)) == len(prepared.texts) == 4
    assert prepared.contexts["query"].to_list()[:4] == [
        "red  shoes",
        "",
        "red shoes",
        "hat &amp; coat",
    ]


# Users


def test_users_only_in_events_follow_with_unknown_attributes():
    people = pl.DataFrame(
        {
            "user_id": ["u9", "alone", "u1"],
            "age": [30, 40, 50],
            "place": ["x", "y", "x"],
            "tags": ["a|b", "c", ""],
            "vector": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]],
        }
    )
    features = {"age": "number", "place": "category", "tags": "category_list", "vector": "vector"}
    prepared = run(people=people, users={"features": features})
    known = ["u9", "alone", "u1"]
    others = sorted({f"u{n}" for n in range(10)} - set(known))
    assert prepared.users["user_id"].to_list() == [*known, *others]
    inputs = prepared.user_inputs
    for name in features:
        assert len(inputs[name]) == 1 + len(known) + len(others)
        for row in range(4, 12):  # strangers are as unknown as nobody
            np.testing.assert_array_equal(inputs[name][row], inputs[name][0])
    np.testing.assert_array_equal(inputs["vector"][1:4], [[1, 2], [3, 4], [5, 6]])
    # "c" belongs to a user without training events, so nothing was learned about it.
    assert {e.name: e.vocabulary for e in prepared.user_features}["tags"] in ([], ["a", "b"])


def test_features_are_learned_from_training_rows_only():
    catalogue = items("a", "b", "c", n=[1.0, 3.0, 100.0], kind=["x", "y", "z"])
    log = pl.concat([LOG[:9], events(("u9", "c", 9))])  # c appears in the test part alone
    log = log.with_columns(device=pl.Series(["p"] * 6 + ["q"] * 4))
    prepared = run(
        log,
        catalogue,
        items={"features": {"n": "number", "kind": "category"}},
        events={"context": {"device": "category"}},
    )
    number, kind = prepared.item_features
    assert (number.mean, number.std) == (2.0, 1.0)  # of 1 and 3
    assert kind.vocabulary == ["x", "y"]
    assert prepared.context_features[0].vocabulary == ["p"]
    assert prepared.context_inputs["device"].tolist() == [1] * 6 + [0] * 4


# Requests


def test_events_of_one_user_instant_text_and_context_share_a_request():
    log = pl.concat([LOG, events(("u0", "c", 0), ("u0", "d", 0), ("u1", "c", 0))]).with_columns(
        device=pl.Series([None] * 10 + [None, "phone", None])
    )
    prepared = run(log, events={"context": {"device": "category"}})
    found = defaultdict(list)
    for row in rows(prepared):
        found[row["context"]].append((row["user"], row["item"]))
    assert [("u0", "a"), ("u0", "c")] in found.values()
    assert [("u0", "d")] in found.values()  # another device
    assert [("u1", "c")] in found.values()  # another user
    assert prepared.contexts.height == 12


def test_order_of_rows_in_the_log_does_not_matter_across_instants():
    shuffled = LOG.sample(fraction=1.0, shuffle=True, seed=5)
    assert run(shuffled).contexts.equals(run().contexts)
    assert run(shuffled).examples.equals(run().examples)


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        # Ten events, 20 % each: rows 8 and 9 are the test, 6 and 7 the validation.
        (list(range(10)), [0] * 6 + [1] * 2 + [2] * 2),
        # Row 8 lies in an instant that begins at row 5, so all of it is the test.
        ([0, 1, 2, 3, 4, 5, 5, 5, 5, 9], [0] * 5 + [2] * 5),
        ([0, 0, 0, 0, 0, 0, 0, 7, 8, 9], [1] * 7 + [1] + [2] * 2),
        ([3] * 10, [2] * 10),
    ],
)
def test_split_by_time_never_tears_an_instant_apart(times: list[int], expected: list[int]):
    start = datetime(2026, 1, 1)
    series = pl.Series([start + timedelta(seconds=time) for time in times])
    assert split_by_time(series, 0.2, 0.2).to_list() == expected
    backwards = split_by_time(series.reverse(), 0.2, 0.2)
    assert backwards.to_list() == expected[::-1]


# Against a plain loop


def random_log(seed: int) -> pl.DataFrame:
    """Returns events with many ties in time, repeats and duplicates."""
    draw = np.random.default_rng(seed)
    n = int(draw.integers(60, 140))
    return pl.DataFrame(
        {
            "user_id": [f"u{u}" for u in draw.integers(0, draw.integers(3, 9), n)],
            "item_id": [f"i{i}" for i in np.minimum(*draw.integers(0, 15, (2, n)))],
            "time": draw.integers(0, draw.integers(15, 60), n),
            "kind": draw.choice(["view", "click", "buy"], n, p=[0.4, 0.4, 0.2]).tolist(),
            "search": draw.choice(["", "red", "blue"], n).tolist(),
        }
    )


@pytest.mark.parametrize("seed", range(20))
def test_prepare_agrees_with_a_loop_over_rows(seed: int):
    max_history = 1 + seed % 5
    log = random_log(seed)
    prepared = run(
        log,
        items(*(f"i{n}" for n in range(15))),
        events={"kind": "kind", "kinds": KINDS, "query": "search"},
        max_history=max_history,
    )

    # The log in time order, equal times by user id as text, then as the rows stand.
    done: list[tuple] = []
    for row in log.rows():
        if row not in done:
            done.append(row)
    done.sort(key=lambda row: (row[2], row[0]))

    def history(user: str, time: int) -> list[str]:
        """All positives strictly before, consecutive repeats once."""
        found: list[str] = []
        for other, item, at, kind, _ in done:
            if other == user and at < time and kind != "view" and found[-1:] != [item]:
                found.append(item)
        return found

    expected = []
    for number, (user, item, time, kind, query) in enumerate(done):
        earlier = [row for row in done[:number] if row[:2] == (user, item)]
        is_target = kind == "click" and not any(row[3] in ("click", "buy") for row in earlier)
        if kind != "buy":
            expected.append((user, item, time, query, int(kind == "click"), is_target))
    contexts = prepared.contexts
    seconds = contexts["time"].dt.epoch("s").to_list()
    users = [prepared.users["user_id"][int(u) - 1] for u in contexts["user_index"]]
    found_rows = [
        (row["user"], row["item"], seconds[row["context"]], contexts["query"][row["context"]],
         row["label"], row["is_target"])
        for row in rows(prepared)
    ]  # fmt: skip
    assert found_rows == expected

    # Every request: its history, padded in front, and the pairs of everything seen.
    ids = ["", *prepared.items["item_id"]]
    every = np.arange(contexts.height)
    histories = prepared.histories(every)
    at, seen = prepared.seen_pairs(every)
    assert histories.shape == (contexts.height, max_history)
    for row in every:
        full = history(users[row], seconds[row])
        last = full[-max_history:]
        padding = [""] * (max_history - len(last))
        assert [ids[i] for i in histories[row]] == padding + last
        assert [ids[i] for i in seen[at == row]] == full
    for split in SPLITS:
        for row in prepared.target_rows(split):
            context, item = prepared.examples.select("context", "item_index").row(int(row))
            assert item not in seen[at == context]

    # The same requests in another order and selection give the same rows.
    some = np.random.default_rng(seed).permutation(every)[: len(every) // 2]
    np.testing.assert_array_equal(prepared.histories(some), histories[some])
    at_some, seen_some = prepared.seen_pairs(some)
    for position, row in enumerate(some):
        np.testing.assert_array_equal(seen_some[at_some == position], seen[at == row])

    # Train ends before validation, and that before test, with about the wanted shares.
    split_of = contexts["split"].to_list()
    times = [[t for t, s in zip(seconds, split_of, strict=True) if s == part] for part in range(3)]
    assert max(times[0]) < min(times[1])
    assert max(times[1]) < min(times[2])
    largest_tie = max(np.bincount([row[2] for row in done]))
    in_test = sum(row[2] >= min(times[2]) for row in done)
    assert 0.2 * len(done) <= in_test <= 0.2 * len(done) + largest_tie
    assert len(prepared.split_mask("train")) == len(expected)
    total = sum(prepared.split_mask(split).astype(int) for split in SPLITS)
    np.testing.assert_array_equal(total, np.ones(len(expected)))


def test_prepare_without_ranked_events_says_which_key_to_change():
    data = {
        "source": "files",
        "tables": {"events": {"path": "e.csv"}, "items": {"path": "i.csv"}},
        "events": {"kind": "kind", "kinds": {"order": {"label": 1, "ranked": False}}},
    }
    config = parse_config({"name": "x", "data": data})
    events = pl.DataFrame(
        {
            "user_id": ["a", "b"] * 10,
            "item_id": [f"i{n}" for n in range(20)],
            "time": list(range(20)),
            "kind": ["order"] * 20,
        }
    )
    items = pl.DataFrame({"item_id": [f"i{n}" for n in range(20)], "title": ["t"] * 20})
    raw = RawTables(events, items, None, {"events": "e.csv", "items": "i.csv"})
    with pytest.raises(DataError, match=r"data\.events\.kinds: no event with `ranked: true`"):
        prepare(raw, config)
