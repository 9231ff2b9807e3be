"""What the prepared data set holds: labels, texts, users, requests, histories and splits."""

import json
import math
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest

from tfrec.data.parsing.checks import Findings
from tfrec.errors import DataError
from tfrec.schema import SPLITS

KINDS = {
    "view": {"label": 0},
    "click": {"label": 1},
    "buy": {"label": 1, "weight": 3.0, "ranked": False, "target": False},
}
SECOND = 1_000_000


def events(*rows: tuple, columns: str = "user_id item_id time") -> pl.DataFrame:
    """Returns an event table from rows."""
    return pl.DataFrame(list(rows), schema=columns.split(), orient="row")


def items(*ids: str, **columns: list) -> pl.DataFrame:
    return pl.DataFrame({"item_id": list(ids), "title": [f"Item {i}" for i in ids], **columns})


LOG = events(*((f"u{n}", "ab"[n % 2], n) for n in range(10)))  # ten users, one positive each


@pytest.fixture
def run(prepare_tables: Callable) -> Callable:
    """Returns what prepares hand-made tables; by default `LOG` and items a to e."""

    def run(
        log: pl.DataFrame = LOG,
        catalogue: pl.DataFrame | None = None,
        people: pl.DataFrame | None = None,
        **data: Any,
    ) -> Any:
        tables = {"events": log, "items": items(*"abcde") if catalogue is None else catalogue}
        return prepare_tables(tables if people is None else tables | {"users": people}, **data)

    return run


@pytest.fixture
def refusal(run: Callable) -> Callable[..., str]:
    """Returns what answers with the line that refuses tables."""

    def refusal(*args: Any, **kwargs: Any) -> str:
        with pytest.raises(DataError) as caught:
            run(*args, **kwargs)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return refusal


# Labels, weights, targets


def test_labels_from_kinds_follow_the_declaration(run: Callable):
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
        (row["user"], row["item"], row["time"] // SECOND, row["label"], row["weight"],
         row["is_target"], row["is_ranked"])
        for row in prepared.examples()
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


def test_weights_of_kinds_reach_targets(run: Callable):
    kinds = {"click": {"label": 1}, "buy": {"label": 1, "weight": 2.5, "ranked": False}}
    log = LOG.with_columns(kind=pl.Series(["click", "buy"] * 5))
    prepared = run(log, events={"kind": "kind", "kinds": kinds})
    assert [(row["weight"], row["is_ranked"]) for row in prepared.examples()] == [
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
def test_labels_from_ratings_start_at_the_threshold(
    run: Callable, ratings: list, labels: list[int]
):
    log = LOG.with_columns(stars=pl.Series(ratings))
    examples = run(log, events={"rating": "stars", "positive_rating": 4.0}).data.examples
    assert examples["label"].to_list() == labels
    assert examples["is_target"].to_list() == [label == 1 for label in labels]
    assert examples["rating"].to_list() == pytest.approx([float(rating) for rating in ratings])
    assert examples["rating"].dtype == pl.Float32


def test_labels_without_declaration_are_all_positive(run: Callable):
    examples = run().data.examples
    assert set(examples["label"]) == {1}
    assert set(examples["weight"]) == {1.0}
    assert examples["is_target"].all()


def test_position_truth_and_watch_time_are_kept_and_default_to_unknown(run: Callable):
    log = LOG.with_columns(
        place=pl.Series([1, None, 3, 2000, -1, 6, 7, 8, 9, 10]),
        truth=pl.Series([0.25] * 9 + [None]),
        seconds=pl.Series([1.5] * 8 + [None, 0.0]),
    )
    roles = {"position": "place", "true_probability": "truth", "watch_time": "seconds"}
    examples = run(log, events=roles).data.examples
    assert examples["position"].to_list() == [1, 0, 3, 1000, 0, 6, 7, 8, 9, 10]
    assert examples["true_probability"].to_list()[0] == 0.25
    assert examples["true_probability"].is_nan().to_list() == [False] * 9 + [True]
    assert examples["watch_time"].to_list()[:8] == [1.5] * 8
    assert examples["watch_time"].is_nan().to_list() == [False] * 8 + [True, False]
    examples = run().data.examples
    assert examples["position"].to_list() == [0] * 10
    assert examples["true_probability"].is_nan().all()
    assert examples["watch_time"].is_nan().all()


# Counting and refusing


def test_rows_and_steps_are_counted(run: Callable):
    log = pl.concat([LOG, LOG[2:4], LOG[2:3], events(("u3", "zz", 3))])
    report = run(log, unknown_items="drop").report
    assert report["rows"] == {"events": {"read": 14, "kept": 10}, "items": 5, "users": 10}
    assert {step: count for step, count in report["cleaning"].items() if count} == {
        "duplicate_events_dropped": 3,
        "events_of_unknown_items_dropped": 1,
    }
    assert report["findings"] == []


def test_duplicate_events_are_dropped(run: Callable):
    log = pl.concat([LOG, LOG[2:4], LOG[2:3]])
    assert run(log).data.examples.equals(run().data.examples)
    assert run(log, cleaning={"duplicates": "keep"}).data.examples.height == 13


UNKNOWN = pl.concat([LOG[:3], LOG[:1], events(("u3", "zz", 3), ("u4", "zz", 4)), LOG[5:]])


@pytest.mark.parametrize("bad_cells", ["error", "repair"])
def test_unknown_item_is_refused_by_row_of_the_file(refusal: Callable, bad_cells: str):
    assert refusal(UNKNOWN, cleaning={"bad_cells": bad_cells}) == (
        "events.csv: row 5, column 'item_id': wanted an item of the catalogue, got 'zz'. "
        "(1 more row like it) Add the item or set data.unknown_items: drop."
    )


def test_unknown_items_are_collected_by_validation(run: Callable):
    findings = Findings("collect")
    prepared = run(UNKNOWN, findings=findings)
    (found,) = findings
    assert (found.count, found.is_refused) == (2, True)
    assert [(place.row, place.got) for place in found.places] == [(5, "'zz'"), (6, "'zz'")]
    assert prepared.report["rows"]["events"] == {"read": 11, "kept": 8}


@pytest.mark.parametrize("findings", [None, Findings("repair"), Findings("collect")])
def test_unknown_items_are_dropped_and_counted_on_demand(run: Callable, findings: Findings | None):
    log = pl.concat([LOG, events(("u3", "zz", 3), ("u4", "yy", 4), ("u5", "zz", 4))])
    prepared = run(log, unknown_items="drop", findings=findings)
    assert prepared.report["cleaning"]["events_of_unknown_items_dropped"] == 3
    assert prepared.report["findings"] == []
    assert prepared.data.examples.equals(run().data.examples)
    assert run().report["cleaning"]["events_of_unknown_items_dropped"] == 0


def test_no_event_of_a_known_item_is_refused(refusal: Callable):
    assert refusal(events(("u", "zz", 1)), unknown_items="drop") == (
        "data.events: none of the 1 events read can be used (events_of_unknown_items_dropped: 1). "
        "Look at them with `tfrec validate`."
    )


def test_no_event_that_fits_is_refused(refusal: Callable):
    log = LOG.with_columns(time=pl.lit("soon"))
    assert refusal(log, cleaning={"bad_cells": "repair"}) == (
        "data.events: none of the 10 events read can be used (events_that_do_not_fit_dropped: 10). "
        "Look at them with `tfrec validate`."
    )


def test_report_survives_an_error(run: Callable, tmp_path: Any):
    """What was measured before the error is what its reader needs."""
    from tfrec.config import parse_config
    from tfrec.data.preparing.prepare import prepare
    from tfrec.data.reading.sources import read_source

    log = LOG.with_columns(device=pl.lit("p"), user_id=pl.Series([None, *["u"] * 9]))
    data = {"source": "tables", "events": {"context": {"device": "category"}}}
    config = parse_config({"name": "x", "data": data})
    raw = read_source(config.data, 42, {"events": log, "items": items("a", "b")})
    report: dict[str, Any] = {}
    with pytest.raises(DataError, match="wanted an id, got nothing"):
        prepare(raw, config, tmp_path, report=report)
    assert [finding["column"] for finding in report["findings"]] == ["user_id"]
    assert set(report) == {"columns", "findings", "cleaning"}


@pytest.mark.parametrize(
    ("kind", "came"),
    [("clik", "'clik'"), (None, "nothing"), ("", "nothing"), ("Click", "'Click'")],
)
def test_unknown_kind_names_row_and_known_ones(refusal: Callable, kind: str | None, came: str):
    log = LOG.with_columns(kind=pl.Series(["click", "view", kind] + ["click"] * 7))
    assert refusal(log, events={"kind": "kind", "kinds": KINDS}) == (
        f"events.csv: row 3, column 'kind': wanted one of view, click, buy, got {came}."
    )


@pytest.mark.parametrize(("missing", "came"), [(None, "nothing"), (float("nan"), "nan")])
def test_missing_rating_names_row(refusal: Callable, missing: float | None, came: str):
    log = LOG.with_columns(stars=pl.Series([5.0, missing, *[5.0] * 8]))
    assert refusal(log, events={"rating": "stars", "positive_rating": 4.0}) == (
        f"events.csv: row 2, column 'stars': wanted a number, got {came}."
    )


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            {"catalogue": items("a", "b").clear()},
            "items.csv: wanted at least one row of items, the table is empty.",
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
            "items.csv: row 4, column 'item_id': wanted each id once, got 'b'. Row 2 of items.csv "
            "has it too. To keep one of them set data.items.duplicates: first or last.",
        ),
        (
            {"people": pl.DataFrame({"user_id": ["u1", "u1"]})},
            "users.csv: row 2, column 'user_id': wanted each id once, got 'u1'. Row 1 of users.csv "
            "has it too. To keep one of them set data.users.duplicates: first or last.",
        ),
        (
            {"users": {"features": {"age": "number"}}},
            "data.users: attributes are declared, but there is no user table. Give "
            "data.tables.users or declare none.",
        ),
        (
            {"log": LOG.with_columns(user_id=pl.Series(["u"] * 4 + [None] + ["u"] * 5))},
            "events.csv: row 5, column 'user_id': wanted an id, got nothing.",
        ),
    ],
)
def test_tables_that_do_not_fit_are_refused(
    refusal: Callable, change: dict[str, Any], expected: str
):
    assert refusal(**change) == expected


@pytest.mark.parametrize(
    ("positive", "split"),
    [(range(6, 10), "train"), ([*range(6), 8, 9], "validation"), (range(8), "test")],
)
def test_split_without_positives_is_refused_by_name(refusal: Callable, positive: Any, split: str):
    log = LOG.with_columns(stars=pl.Series([5 if n in positive else 1 for n in range(10)]))
    assert refusal(log, events={"rating": "stars", "positive_rating": 4.0}) == (
        f"data.split: no positive event falls into {split!r}; the log has 10 requests. "
        "Give more events or other split sizes."
    )


def test_split_without_test_users_is_refused_by_name(refusal: Callable):
    # Nobody has three targets, so nobody is tested.
    assert refusal(split={"kind": "leave_one_out"}).startswith(
        "data.split: no positive event falls into 'validation'; the log has 10 requests."
    )


def test_split_without_positives_in_train_is_refused_with_any_feature(refusal: Callable):
    log = LOG.with_columns(stars=pl.Series([1] * 6 + [5] * 4))
    catalogue = items("a", "b", n=[1, 2], v=[[1.0], None], c=["x", None], m=["x|y", ""])
    features = {"n": "number", "v": "vector", "c": "category", "m": "category_list"}
    text = refusal(
        log,
        catalogue,
        events={"rating": "stars", "positive_rating": 4.0},
        items={"features": features},
    )
    assert "falls into 'train'" in text


def test_log_without_ranked_events_is_refused_by_the_key_to_change(refusal: Callable):
    log = LOG.with_columns(kind=pl.lit("order"))
    kinds = {"order": {"label": 1, "ranked": False}}
    assert refusal(log, events={"kind": "kind", "kinds": kinds}).startswith(
        "data.events.kinds: no event with `ranked: true` falls into 'train'"
    )


# Text


def test_html_entities_and_white_space_are_cleaned(run: Callable):
    catalogue = pl.DataFrame(
        {
            "item_id": ["a", "b", "c"],
            "title": ["Tom &amp; Jerry&#39;s  ", "AT&T", None],
            "more": [" x&nbsp;y\n\tz ", None, "&lt;b&gt;"],
        }
    )
    before = catalogue.clone()
    prepared = run(catalogue=catalogue, items={"text": ["title", "more"]})
    assert prepared.data.items["title"].to_list() == ["Tom & Jerry's", "AT&T", "c"]
    assert prepared.data.items["text"].to_list() == ["Tom & Jerry's x y z", "AT&T", "<b>"]
    assert prepared.report["cleaning"]["texts_with_html_entities"] == 3
    assert catalogue.equals(before)  # the raw table is the caller's


def test_request_text_is_user_text_then_query(run: Callable):
    log = LOG.with_columns(
        search=pl.Series(["red  shoes", None, "red shoes", "hat &amp; coat"] + [""] * 6)
    )
    people = pl.DataFrame({"user_id": ["u0", "u2"], "bio": ["likes red", None]})
    prepared = run(log, people=people, events={"query": "search"}, users={"text": ["bio"]})
    found = {row["user"]: (row["query"], row["text"]) for row in prepared.requests()}
    assert [found[f"u{n}"] for n in range(4)] == [
        ("red shoes", "likes red red shoes"),
        ("", ""),
        ("red shoes", "red shoes"),
        ("hat & coat", "hat & coat"),
    ]
    assert prepared.data.texts[0] == ""
    assert len(set(prepared.data.texts)) == len(prepared.data.texts) == 4
    assert prepared.report["distinct_texts"] == 3


# Users


def test_users_only_in_events_follow_with_unknown_attributes(run: Callable):
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
    prepared = run(LOG.reverse(), people=people, users={"features": features}).data
    known = ["u9", "alone", "u1"]
    others = [f"u{n}" for n in (8, 7, 6, 5, 4, 3, 2, 0)]  # as they appear
    assert prepared.users["user_id"].to_list() == [*known, *others]
    inputs = prepared.user_inputs
    for name in features:
        assert len(inputs[name]) == 1 + len(known) + len(others)
        for row in range(4, 12):  # strangers are as unknown as nobody
            np.testing.assert_array_equal(inputs[name][row], inputs[name][0])
    np.testing.assert_array_equal(inputs["vector"][1:4], [[1, 2], [3, 4], [5, 6]])
    # "c" and "a|b" belong to users without training events, so nothing was learned about them.
    (tags,) = [f for f in prepared.user_features if f.name == "tags"]
    assert tags.vocabulary == []


def test_features_are_learned_from_training_rows_only(run: Callable):
    catalogue = items("a", "b", "c", n=[1.0, 3.0, 100.0], kind=["x", "y", "z"])
    log = pl.concat([LOG[:9], events(("u9", "c", 9))])  # c appears in the test part alone
    log = log.with_columns(device=pl.Series(["p"] * 6 + ["q"] * 4))
    prepared = run(
        log,
        catalogue,
        items={"features": {"n": "number", "kind": "category"}},
        events={"context": {"device": "category"}},
    ).data
    number, kind = prepared.item_features
    assert (number.mean, number.std) == (2.0, 1.0)  # of 1 and 3
    assert kind.vocabulary == ["x", "y"]
    assert prepared.context_features[0].vocabulary == ["p"]
    assert prepared.context_inputs["device"].tolist() == [1] * 6 + [0] * 4


# Missing numbers that preparation fills


def test_nearest_fills_items_and_is_recorded(run: Callable):
    # c is like b in size, so b's price stands in; d is known to nobody, so it gives nothing.
    catalogue = items("a", "b", "c", "d", size=[1.0, 9.0, 9.1, None], price=[10.0, 30.0, None, 1.0])
    features = {
        "size": "number",
        "price": {"type": "number", "missing": {"method": "nearest", "neighbours": 1}},
    }
    prepared = run(catalogue=catalogue, items={"features": features})
    data = prepared.data
    assert data.items["price"].to_list() == [10.0, 30.0, None, 1.0]
    filled = data.items["price__filled"].to_list()
    assert (filled[:2], filled[3]) == ([None, None], None)
    assert filled[2] == pytest.approx(30.0)
    # Learned on a and b: mean 20, deviation 10.
    np.testing.assert_allclose(
        data.item_inputs["price"], [[0, 1], [-1, 0], [1, 0], [1, 1], [-1.9, 0]], atol=1e-6
    )
    changes = pl.read_parquet(prepared.folder / "changes.parquet")
    assert changes.select("table", "row", "column", "old").rows() == [("items", 2, "price", None)]
    assert changes["new"][0] == filled[2]


@pytest.mark.parametrize("shard_rows", [None, 1])
def test_interpolation_fills_requests_and_is_recorded(run: Callable, shard_rows: int | None):
    # u asks at 0, 1 and 4 with 10, nothing and 50: a quarter of the way is 20.
    log = events(("u", "a", 0), ("u", "b", 1), ("v", "c", 2), ("u", "c", 4)).with_columns(
        heat=pl.Series([10.0, None, None, 50.0])
    )
    log = pl.concat([log, LOG.with_columns(pl.col("time") + 5, heat=pl.lit(30.0))])
    heat = {"type": "number", "missing": "interpolate"}
    prepared = run(log, events={"context": {"heat": heat}}, shard_rows=shard_rows)
    contexts = prepared.data.contexts
    found = [
        (row["user"], row["heat"], row["heat__filled"])
        for row in prepared.requests()
        if row["user"] in "uv"
    ]
    assert sorted(found, key=str) == [
        ("u", 10.0, None), ("u", 50.0, None), ("u", None, 20.0), ("v", None, None),
    ]  # fmt: skip
    (change,) = pl.read_parquet(prepared.folder / "changes.parquet").rows()
    row = contexts["heat__filled"].is_not_null().arg_true()[0]
    assert change == ("contexts", row, "heat", None, 20.0)
    (encoder,) = prepared.data.context_features
    assert prepared.data.context_inputs["heat"][row].tolist() == pytest.approx(
        [(20.0 - encoder.mean) / encoder.std, 1.0]
    )


# Relations


def test_relations_become_features_of_items(prepare_tables: Callable):
    triples = pl.DataFrame(
        [
            ("a", "genre", "crime"),
            ("b", "genre", "love"),
            ("a", "genre", "love"),
            ("a", "genre", "crime"),
            ("a", "actor", "Kim"),
            ("zz", "genre", "war"),
        ],
        schema=["head", "relation", "tail"],
        orient="row",
    )
    tables = {"events": LOG, "items": items("a", "b", "c"), "relations": triples}
    prepared = prepare_tables(tables, relations={"features": {"genre": "category_list"}})
    data = prepared.data
    assert data.items["genre"].to_list() == [["crime", "love"], ["love"], []]
    assert data.item_features[0].vocabulary == ["crime", "love"]
    assert data.item_inputs["genre"].tolist() == [[0, 0], [1, 2], [2, 0], [0, 0]]
    assert prepared.report["cleaning"]["relations_of_unknown_items_dropped"] == 1


# Requests


def test_events_of_one_user_instant_text_and_context_share_a_request(run: Callable):
    log = pl.concat([LOG, events(("u0", "c", 0), ("u0", "d", 0), ("u1", "c", 0))]).with_columns(
        device=pl.Series([None] * 10 + [None, "phone", None])
    )
    prepared = run(log, events={"context": {"device": "category"}})
    found = defaultdict(list)
    for row in prepared.examples():
        found[row["context"]].append((row["user"], row["item"]))
    assert [("u0", "a"), ("u0", "c")] in found.values()
    assert [("u0", "d")] in found.values()  # another device
    assert [("u1", "c")] in found.values()  # another user
    assert prepared.data.contexts.height == 12


def test_lists_that_were_shown_are_requests_of_their_own(run: Callable):
    log = pl.concat([LOG, events(("u0", "c", 0), ("u0", "d", 0))])
    log = log.with_columns(shown=pl.Series(["x"] * 10 + ["x", "y"]))
    prepared = run(log, events={"impression": "shown"})
    of_u0 = [row["examples"] for row in prepared.requests() if row["user"] == "u0"]
    assert [[example[0] for example in asked] for asked in of_u0] == [["a", "c"], ["d"]]


def test_order_of_rows_in_the_log_does_not_matter_across_instants(run: Callable):
    shuffled = LOG.sample(fraction=1.0, shuffle=True, seed=5)
    assert canonical(run(shuffled)) == canonical(run())


def canonical(prepared: Any) -> list[dict[str, Any]]:
    """Returns the requests in an order that does not depend on shards."""
    return sorted(prepared.requests(), key=lambda row: (row["user"], row["time"], str(row)))


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
            "heat": draw.choice([None, 1.5, 2.5, 4.0], n).tolist(),
        }
    )


CATALOGUE = items(*(f"i{n}" for n in range(15)))
ROLES = {"kind": "kind", "kinds": KINDS, "query": "search"}
SPLITTINGS: dict[str, dict[str, Any]] = {
    "time": {"kind": "time"},
    "leave_one_out": {"kind": "leave_one_out"},
    "user_ratio": {"kind": "user_ratio", "validation": 0.2, "test": 0.2},
    "random": {"kind": "random", "validation": 0.2, "test": 0.2},
    "folds": {"kind": "k_fold", "folds": 4},
    "folds of users": {"kind": "k_fold", "folds": 3, "by": "users"},
    "users": {"kind": "users", "validation": 0.3, "test": 0.3},
    "given": {"kind": "given"},
}


def batches_of(seed: int, log: pl.DataFrame) -> list[int]:
    """Returns where batches begin; some are of one row, some empty."""
    draw = np.random.default_rng(seed + 1000)
    return sorted(draw.integers(0, log.height + 1, draw.integers(1, 12)).tolist())


@pytest.mark.parametrize("seed", range(12))
def test_prepare_agrees_with_a_loop_over_rows(run: Callable, seed: int):
    max_history = 1 + seed % 5
    log = random_log(seed).drop("heat")
    prepared = run(
        log,
        CATALOGUE,
        events=ROLES,
        max_history=max_history,
        batches=batches_of(seed, log),
        shard_rows=[None, 50, 10, 1][seed % 4],
    )

    # The log in the order of time, equal times as the rows stand.
    done: list[tuple] = []
    for row in log.rows():
        if row not in done:
            done.append(row)
    done.sort(key=lambda row: row[2])

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
            expected.append((user, time, item, query, int(kind == "click"), is_target))
    found = [
        (row["user"], row["time"] // SECOND, row["item"], row["query"], row["label"],
         row["is_target"])
        for row in prepared.examples()
    ]  # fmt: skip
    by_request = lambda row: row[:2]  # noqa: E731  sorting is stable: the order of rows stays
    assert sorted(found, key=by_request) == sorted(expected, key=by_request)

    # Every request: its history, and everything seen.
    requests = prepared.requests()
    for row in requests:
        full = history(row["user"], row["time"] // SECOND)
        assert row["history"] == full[-max_history:]
        assert row["seen"] == full
        for item, *values in row["examples"]:
            if values[3] == "True":  # a target
                assert item not in row["seen"]
    assert {(row["user"], row["time"] // SECOND, row["query"]) for row in requests} == {
        (user, time, query) for user, _, time, _, query in done
    }
    assert len(requests) == len({(user, time, query) for user, _, time, _, query in done})

    # The same requests in another order and selection give the same rows.
    data = prepared.data
    every = np.arange(data.contexts.height)
    histories, (at, seen) = data.histories(every), data.seen_pairs(every)
    some = np.random.default_rng(seed).permutation(every)[: len(every) // 2]
    np.testing.assert_array_equal(data.histories(some), histories[some])
    at_some, seen_some = data.seen_pairs(some)
    for position, row in enumerate(some):
        np.testing.assert_array_equal(seen_some[at_some == position], seen[at == row])

    # Train ends before validation, and that before test, with about the wanted shares.
    times = [[row["time"] for row in requests if row["split"] == part] for part in SPLITS]
    assert max(times[0]) < min(times[1])
    assert max(times[1]) < min(times[2])
    largest_tie = max(np.bincount([row[2] for row in done]))
    in_test = sum(row[2] * SECOND >= min(times[2]) for row in done)
    assert 0.2 * len(done) <= in_test <= 0.2 * len(done) + largest_tie
    total = sum(data.split_mask(split).astype(int) for split in SPLITS)
    np.testing.assert_array_equal(total, np.ones(len(expected)))


@pytest.mark.parametrize("kind", SPLITTINGS)
@pytest.mark.parametrize("seed", [3, 8])
def test_every_split_keeps_its_word_on_requests(run: Callable, kind: str, seed: int):
    log = marked_log(seed).drop("heat")
    prepared = run(
        log,
        CATALOGUE,
        events=ROLES | {"split": "part"},
        split=SPLITTINGS[kind],
        max_history=100,
        batches=batches_of(seed, log),
        shard_rows=40,
    )
    assert prepared.report["warnings"] == [] or kind in ("random", "folds", "given")
    requests = prepared.requests()
    split_of = {
        (row["user"], row["time"] // SECOND): SPLITS.index(row["split"]) for row in requests
    }
    out = {row - 1 for _, row, _ in prepared.removed()}
    kept = [row for number, row in enumerate(log.rows()) if number not in out]
    kept.sort(key=lambda row: row[2])
    assert {(row[0], row[2]) for row in kept} == set(split_of)
    assert len(kept) == prepared.report["rows"]["events"]["kept"]

    # A request sees the positives from strictly before it, of its own split and earlier ones.
    for request in requests:
        user, time = request["user"], request["time"] // SECOND
        allowed: list[str] = []
        for other, item, at, action, *_ in kept:
            may_see = other == user and at < time and action != "view"
            if may_see and split_of[user, at] <= split_of[user, time] and allowed[-1:] != [item]:
                allowed.append(item)
        assert request["history"] == allowed

    # Of what is kept, a pair's first positive is its only target, and every shown row is ranked.
    firsts, targets = set(), set()
    for user, item, time, action, *_ in kept:
        if action != "view" and (user, item) not in firsts:
            firsts.add((user, item))
            if action == "click":
                targets.add((user, item, time))
    examples = prepared.examples()
    found = {(row["user"], row["item"], row["time"] // SECOND) for row in examples
             if row["is_target"]}  # fmt: skip
    assert found == targets if kind != "leave_one_out" else found <= targets
    assert len(examples) == sum(row[3] != "buy" for row in kept)
    if kind in ("random", "folds"):
        asked = defaultdict(set)
        for row in examples:
            if row["label"]:
                asked[row["user"], row["item"]].add(row["split"])
        assert all(len(parts) == 1 for parts in asked.values())


# However the log is cut


@pytest.mark.parametrize("kind", ["time", "random", "given"])
def test_batches_of_any_size_give_the_same_bytes(run: Callable, kind: str):
    log = marked_log(11)
    people = pl.DataFrame({"user_id": ["u3", "u1"], "bio": ["likes red", "likes blue"]})
    settings = cut_settings(kind) | {"users": {"text": ["bio"]}, "shard_rows": 60}
    whole = run(log, CATALOGUE[:12], people, **settings)
    for batches in ([*range(1, 40), 150], batches_of(0, log), batches_of(1, log)):
        parts = run(log, CATALOGUE[:12], people, batches=batches, **settings)
        assert file_bytes(parts.folder) == file_bytes(whole.folder)
        assert rounded(parts.report) == rounded(whole.report)


def marked_log(seed: int) -> pl.DataFrame:
    """Returns a larger random log that says for itself what trains and tests."""
    parts = [random_log(seed + number) for number in range(3)]
    log = pl.concat(part.with_columns(pl.col("user_id") + f"_{n}") for n, part in enumerate(parts))
    draw = np.random.default_rng(seed)
    marks = draw.choice(SPLITS, log.height, p=[0.6, 0.2, 0.2]).tolist()
    return log.with_columns(part=pl.Series(marks))


def cut_settings(kind: str) -> dict[str, Any]:
    return {
        "events": ROLES | {"split": "part", "context": {"heat": INTERPOLATED}},
        "split": SPLITTINGS[kind],
        "cleaning": {"k_core": {"users": 2, "items": 2}},
        "unknown_items": "drop",
    }


INTERPOLATED = {"type": "number", "missing": "interpolate"}


def file_bytes(folder: Any) -> dict[str, bytes]:
    """Returns all files but the one with means of columns, which round as batches come."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    assert len(files) >= 9
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in files
        if path.name != "prepared.json"
    }


def rounded(report: dict[str, Any]) -> Any:
    return json.loads(json.dumps(report), parse_float=lambda text: round(float(text), 9))


@pytest.mark.parametrize("kind", SPLITTINGS)
def test_shards_of_any_size_give_the_same_requests(run: Callable, kind: str):
    log = marked_log(21)
    settings = cut_settings(kind) | {"batches": [40, 41]}
    whole = run(log, CATALOGUE[:12], **settings)
    for shard_rows in (4, 50):
        parts = run(log, CATALOGUE[:12], shard_rows=shard_rows, **settings)
        assert len(list((parts.folder / "contexts").iterdir())) > 1
        assert canonical(parts) == canonical(whole)
        assert sorted(parts.removed()) == sorted(whole.removed())
        assert rounded(parts.report) == rounded(whole.report)
        for name in ("items", "users"):
            assert getattr(parts.data, name).equals(getattr(whole.data, name))


def test_report_is_json_without_infinities(run: Callable):
    catalogue = items("a", "b", n=[None, None], c=[None, ""])
    features = {"n": {"type": "number", "missing": "median"}, "c": "category"}
    prepared = run(catalogue=catalogue, items={"features": features})
    text = (prepared.folder / "prepared.json").read_text()
    report = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in prepared.json"))
    assert report["report"] == json.loads(json.dumps(prepared.report))
    assert math.isfinite(prepared.data.item_features[0].mean)
