"""What cleaning removes, against loops over rows, and that every removed row can be told."""

from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest

from tfrec.config import KCore, Sessions
from tfrec.data.preparing.cleaning import (
    find_duplicates,
    find_odd_sessions,
    find_outside_core,
    separate_ties,
)
from tfrec.errors import DataError

MINUTE = 60_000_000


def random_events(seed: int, rows: int = 200, users: int = 12, items: int = 15) -> pl.DataFrame:
    """Returns events sorted by user and time, times in whole minutes."""
    draw = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "user_index": draw.integers(1, users + 1, rows),
            "item_index": draw.integers(1, items + 1, rows).astype(np.int32),
            "time": draw.integers(0, 600, rows) * MINUTE,
        }
    ).sort("user_index", "time", maintain_order=True)


# Duplicates


def test_duplicates_are_events_equal_to_an_earlier_one():
    nan = float("nan")
    frame = pl.DataFrame(
        {
            "user_index": [1, 1, 1, 2, 1, 1],
            "query": ["a", "a", None, "a", None, "a"],
            "watch_time": [nan, nan, nan, nan, nan, 2.0],
            "row": range(6),
        }
    )
    found = find_duplicates(frame, ["user_index", "query", "watch_time"])
    assert found.tolist() == [False, True, False, False, True, False]


def test_duplicates_of_no_events_are_none():
    assert find_duplicates(pl.DataFrame({"a": []}), ["a"]).shape == (0,)


# Sessions


@pytest.mark.parametrize("seed", range(8))
def test_odd_sessions_agree_with_a_loop(seed: int):
    events = random_events(seed)
    rules = Sessions(
        gap_minutes=[5.0, 30.0, 12.5, 60.0][seed % 4],
        min_events=1 + seed % 3,
        max_events=[None, 4, 6][seed % 3],
    )
    sessions: list[list[int]] = []
    before: tuple[int, int] | None = None
    for row, (user, _, time) in enumerate(events.rows()):
        if before is None or before[0] != user or time - before[1] > rules.gap_minutes * MINUTE:
            sessions.append([])
        sessions[-1].append(row)
        before = (user, time)
    expected = np.zeros(events.height, bool)
    for session in sessions:
        is_long = rules.max_events is not None and len(session) > rules.max_events
        expected[session] = is_long or len(session) < rules.min_events
    np.testing.assert_array_equal(find_odd_sessions(events, rules), expected)
    assert find_odd_sessions(events.clear(), rules).shape == (0,)


def test_session_lasts_while_pauses_are_no_longer_than_the_gap():
    times = pl.DataFrame({"user_index": [1] * 4, "time": [0, 30, 60, 91]}).with_columns(
        pl.col("time") * MINUTE
    )
    rules = Sessions(gap_minutes=30.0, min_events=2)
    assert find_odd_sessions(times, rules).tolist() == [False, False, False, True]


# k-core


def core_by_hand(pairs: list[tuple[int, int]], core: KCore, seed: int) -> set[int]:
    """Returns the rows that stay, taking one offender after the other in any order."""
    rows = set(range(len(pairs)))
    draw = np.random.default_rng(seed)
    while True:
        users = Counter(pairs[row][0] for row in rows)
        items = Counter(pairs[row][1] for row in rows)
        offenders = [
            row
            for row in sorted(rows)
            if users[pairs[row][0]] < core.users or items[pairs[row][1]] < core.items
        ]
        if not offenders:
            return rows
        rows.remove(offenders[draw.integers(len(offenders))])


@pytest.mark.parametrize("seed", range(10))
def test_core_agrees_with_a_loop_in_any_order(seed: int):
    events = random_events(seed, rows=80, users=20, items=20)
    core = KCore(users=[1, 3, 4, 5][seed % 4], items=[4, 1, 3, 5][seed % 4])
    user, item = (events[name].to_numpy() for name in ("user_index", "item_index"))
    outside = find_outside_core(user, item, core)
    pairs = list(zip(user.tolist(), item.tolist(), strict=True))
    assert set(np.flatnonzero(~outside)) == core_by_hand(pairs, core, seed)
    # A fixpoint: cleaning again takes nothing.
    assert not find_outside_core(user[~outside], item[~outside], core).any()


def test_core_falls_like_a_row_of_dominoes():
    # User n has items n and n + 1: the last item has one event, so all fall, one by one.
    user = np.repeat(np.arange(1, 51), 2)
    item = np.ravel(np.stack([np.arange(1, 51), np.arange(2, 52)], axis=1))
    assert find_outside_core(user, item, KCore(users=2, items=2)).all()
    closed = np.where(item == 51, 1, item)  # a ring has no end
    assert not find_outside_core(user, closed, KCore(users=2, items=2)).any()


def test_core_of_no_events_is_empty():
    none = np.zeros(0, np.int64)
    assert find_outside_core(none, none, KCore(users=2, items=2)).shape == (0,)


# Ties in time


def test_ties_are_told_apart_by_a_microsecond_a_step():
    events = pl.DataFrame(
        {
            "user_index": [1, 1, 1, 1, 2, 2],
            "time": [10, 10, 10, 500, 10, 10],
            "sequence": [-7, 4, 4, 0, 9_000_000_000, 9_000_000_001],
            "row": range(6),
        }
    )
    moved = separate_ties(events)
    assert moved["time"].to_list() == [10, 11, 11, 500, 10, 11]
    assert moved.columns == ["user_index", "time", "row"]


@pytest.mark.parametrize("seed", range(5))
def test_ties_that_are_told_apart_keep_the_order(seed: int):
    draw = np.random.default_rng(seed)
    events = pl.DataFrame(
        {
            "user_index": draw.integers(1, 6, 300),
            "time": draw.integers(0, 25, 300),  # so close that later events must move
            "sequence": draw.integers(-(2**62), 2**62, 300) // 2**60,
        }
    ).sort("user_index", "time", "sequence")
    moved = separate_ties(events)["time"].to_list()
    rows = events.rows()
    for number in range(1, len(rows)):
        if rows[number][0] == rows[number - 1][0]:
            is_same = rows[number] == rows[number - 1]
            assert (moved[number] == moved[number - 1]) == is_same
            assert moved[number] >= moved[number - 1]
    assert all(after >= before for after, (_, before, _) in zip(moved, rows, strict=True))


# As a whole: what was removed, where it was, and that nothing is lost


def log_with_everything(seed: int) -> pl.DataFrame:
    """Returns events of which some do not fit, name no item, stand twice or are lonely."""
    draw = np.random.default_rng(seed)
    rows = 240
    log = pl.DataFrame(
        {
            "user_id": [f"u{number}" for number in draw.integers(0, 18, rows)],
            "item_id": [f"i{number}" for number in np.minimum(*draw.integers(0, 24, (2, rows)))],
            "time": draw.integers(0, 900, rows) * 60,
            "label": draw.choice(["0", "1", "1", "1", "maybe"], rows).tolist(),
        }
    )
    return pl.concat([log, log.sample(30, seed=seed)]).sample(fraction=1, shuffle=True, seed=seed)


CATALOGUE = pl.DataFrame({"item_id": [f"i{n}" for n in range(20)], "title": ["t"] * 20})
RULES: dict[str, Any] = {
    "events": {"label": "label"},
    "unknown_items": "drop",
    "cleaning": {
        "bad_cells": "repair",
        "sessions": {"gap_minutes": 100.0, "min_events": 2, "max_events": 7},
        "k_core": {"users": 3, "items": 3},
    },
}
STEPS = [
    "events_that_do_not_fit_dropped",
    "events_of_unknown_items_dropped",
    "duplicate_events_dropped",
    "events_of_odd_sessions_dropped",
    "events_outside_core_dropped",
]


def cleaned_by_hand(log: pl.DataFrame) -> dict[int, str]:
    """Returns the step that removes each row; rows count from 1."""
    out: dict[int, str] = {}
    kept: list[tuple[int, tuple]] = []
    seen: set[tuple] = set()
    known = set(CATALOGUE["item_id"])
    for row, event in enumerate(log.rows(), start=1):
        if event[3] == "maybe":
            out[row] = STEPS[0]
        elif event[1] not in known:
            out[row] = STEPS[1]
        elif event in seen:
            out[row] = STEPS[2]
        else:
            seen.add(event)
            kept.append((row, event))
    kept.sort(key=lambda pair: (pair[1][0], pair[1][2]))
    sessions: list[list[int]] = []
    for number, (_, event) in enumerate(kept):
        last = kept[number - 1][1]
        if not number or last[0] != event[0] or event[2] - last[2] > 100 * 60:
            sessions.append([])
        sessions[-1].append(number)
    stays = [number for session in sessions if 2 <= len(session) <= 7 for number in session]
    for number in set(range(len(kept))) - set(stays):
        out[kept[number][0]] = STEPS[3]
    kept = [kept[number] for number in sorted(stays)]
    users = {name: n for n, name in enumerate(log["user_id"].unique())}
    items = {name: n for n, name in enumerate(log["item_id"].unique())}
    pairs = [(users[event[0]], items[event[1]]) for _, event in kept]
    core = core_by_hand(pairs, KCore(users=3, items=3), 0)
    return out | {row: STEPS[4] for n, (row, _) in enumerate(kept) if n not in core}


@pytest.mark.parametrize("seed", range(4))
def test_every_removed_row_is_told_with_its_step(prepare_tables: Callable, seed: int):
    log = log_with_everything(seed)
    tables = {"events": log, "items": CATALOGUE}
    prepared = prepare_tables(
        tables, batches=[50, 60, 200], shard_rows=[None, 40][seed % 2], **RULES
    )
    expected = cleaned_by_hand(log)
    assert {row: step for _, row, step in prepared.removed()} == expected
    assert len(prepared.removed()) == len(expected)
    assert {file for file, _, _ in prepared.removed()} == {"events.csv"}
    assert set(expected.values()) == set(STEPS)  # the log has something for each

    # What was removed and what was kept are all that was read.
    kept = [event for row, event in enumerate(log.rows(), start=1) if row not in expected]
    found = [
        (row["user"], row["item"], row["time"] // 1_000_000, str(row["label"]))
        for row in prepared.examples()
    ]
    assert sorted(found) == sorted(kept)
    report = prepared.report
    assert report["rows"]["events"] == {"read": log.height, "kept": len(kept)}
    counts = Counter(expected.values())
    assert {step: report["cleaning"][step] for step in STEPS} == {s: counts[s] for s in STEPS}


def test_rows_are_told_with_their_file_whatever_the_batches(prepare_tables: Callable):
    log = log_with_everything(0)
    tables = {"events": log, "items": CATALOGUE}
    whole = prepare_tables(tables, **RULES)
    parts = prepare_tables(tables, batches=[1, 2, 100], **RULES)
    assert parts.removed() == whole.removed()
    assert [row for _, row, _ in whole.removed()] == sorted(row for _, row, _ in whole.removed())


def test_pairs_dropped_by_the_split_are_told_too(prepare_tables: Callable):
    log = log_with_everything(1)
    settings = RULES | {"split": {"kind": "random", "validation": 0.2, "test": 0.2}}
    prepared = prepare_tables({"events": log, "items": CATALOGUE}, **settings)
    steps = Counter(step for _, _, step in prepared.removed())
    assert steps["repeated_pairs_dropped"] > 0
    assert steps == Counter(
        {step: count for step, count in prepared.report["cleaning"].items() if count}
    )
    rows = prepared.report["rows"]["events"]
    assert rows["kept"] == log.height - steps.total() == prepared.data.examples.height


def test_nothing_is_removed_without_reason(prepare_tables: Callable):
    log = pl.DataFrame(
        {"user_id": [f"u{n}" for n in range(10)], "item_id": ["i1"] * 10, "time": range(10)}
    )
    prepared = prepare_tables({"events": log, "items": CATALOGUE})
    removed = pl.read_parquet(prepared.folder / "removed.parquet")
    assert removed.schema == {"file": pl.String, "row": pl.Int64, "step": pl.String}
    assert removed.height == 0


@pytest.mark.parametrize("shard_rows", [None, 20])
def test_core_that_leaves_nothing_is_refused_by_name(
    prepare_tables: Callable, shard_rows: int | None
):
    log = pl.DataFrame(
        {"user_id": [f"u{n % 30}" for n in range(90)], "item_id": ["i1"] * 90, "time": range(90)}
    )
    with pytest.raises(DataError) as caught:
        prepare_tables(
            {"events": log, "items": CATALOGUE},
            shard_rows=shard_rows,
            cleaning={"k_core": {"users": 4, "items": 2}},
        )
    assert str(caught.value) == (
        "data.cleaning: of 90 events none is left (events_outside_core_dropped: 90). "
        "Loosen k_core or sessions."
    )


def test_sessions_that_leave_nothing_are_refused_by_name(prepare_tables: Callable):
    log = pl.DataFrame(
        {"user_id": [f"u{n}" for n in range(9)], "item_id": ["i1"] * 9, "time": range(9)}
    )
    with pytest.raises(DataError, match=r"none is left \(events_of_odd_sessions_dropped: 9\)"):
        prepare_tables(
            {"events": log, "items": CATALOGUE}, cleaning={"sessions": {"min_events": 2}}
        )


def test_core_counts_what_other_steps_leave(prepare_tables: Callable):
    """Duplicates do not help a user over the bar."""
    rows = [(f"u{n}", f"i{n % 3}", n) for n in range(12)] * 2
    log = pl.DataFrame(rows, schema=["user_id", "item_id", "time"], orient="row")
    with pytest.raises(DataError, match="none is left"):
        prepare_tables(
            {"events": log, "items": CATALOGUE}, cleaning={"k_core": {"users": 2, "items": 1}}
        )


def test_sessions_do_not_cross_users(prepare_tables: Callable):
    # Each user acts twice within a minute; two users in turn are no longer session.
    rows = [(f"u{n}", f"i{n}", 100 * n + k) for n in range(10) for k in range(2)]
    log = pl.DataFrame(rows, schema=["user_id", "item_id", "time"], orient="row")
    prepared = prepare_tables(
        {"events": log, "items": CATALOGUE},
        cleaning={"sessions": {"min_events": 2, "max_events": 2}},
    )
    per_user: dict[str, int] = defaultdict(int)
    for request in prepared.requests():
        per_user[request["user"]] += 1
    assert set(per_user.values()) == {2}


def test_shares_of_the_split_are_of_the_events_that_stay(prepare_tables: Callable):
    # Twenty events of four users, then a hundred later ones of people who come once.
    good = [(f"u{n % 4}", f"i{n % 5}", n) for n in range(20)]
    lonely = [(f"once {n}", f"i{n % 5}", 1000 + n) for n in range(100)]
    log = pl.DataFrame(good + lonely, schema=["user_id", "item_id", "time"], orient="row")
    prepared = prepare_tables(
        {"events": log, "items": CATALOGUE}, cleaning={"k_core": {"users": 2, "items": 1}}
    )
    assert prepared.report["split"]["requests"] == {"train": 12, "validation": 4, "test": 4}
