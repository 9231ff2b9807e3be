"""What followed a shown item, against a plain loop over all pairs of events."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest

from tfrec.data.preparing.outcomes import find_outcomes

NUM_LOGS = 200
NAN = float("nan")


def shard(rows: list[dict[str, Any]]) -> pl.DataFrame:
    defaults = {"impression": "", "split": 0, "is_ranked": True, "watch_time": NAN}
    schema = {
        "user_index": pl.UInt32, "time": pl.Int64, "item_index": pl.Int32, "event_kind": pl.Int16,
        "impression": pl.String, "split": pl.Int8, "is_ranked": pl.Boolean,
        "watch_time": pl.Float32,
    }  # fmt: skip
    return pl.DataFrame([defaults | row for row in rows], schema=schema)


def random_shard(seed: int, unordered: bool) -> pl.DataFrame:
    """A few users and items, ties, rows with and without impression, watch time and rank."""
    rng = np.random.default_rng(seed)
    rows = [
        {
            "user_index": int(rng.integers(1, 4)),
            "time": int(rng.integers(0, 12)),
            "item_index": int(rng.integers(1, 4)),
            "event_kind": int(rng.integers(1, 5)),
            "impression": str(rng.choice(["", "a", "b"], p=[0.5, 0.25, 0.25])),
            "is_ranked": bool(rng.random() < 0.5),
            "watch_time": float(rng.integers(1, 100)) if rng.random() < 0.4 else NAN,
        }
        for _ in range(rng.integers(0, 60))
    ]
    rows.sort(key=lambda row: (row["user_index"], row["time"]))
    for row in rows:
        row["split"] = int(rng.integers(0, 3)) if unordered else min(row["time"] // 4, 2)
    return shard(rows)


def expected(events: pl.DataFrame, ordered: bool) -> list[tuple[int, float]]:
    """Asks of each ranked row and each event whether it belongs there."""
    log = events.to_dicts()
    found = []
    for row in log:
        if not row["is_ranked"]:
            found.append((0, row["watch_time"]))
            continue
        same = [
            event
            for event in log
            if (event["user_index"], event["item_index"]) == (row["user_index"], row["item_index"])
        ]
        later = [e["time"] for e in same if e["is_ranked"] and e["time"] > row["time"]]
        until = min(later, default=math.inf)
        following = []
        for event in same:
            if event["impression"]:
                belongs = event["impression"] == row["impression"]
            elif ordered:
                belongs = row["time"] <= event["time"] < until
            else:
                belongs = True
            if belongs and event["split"] <= row["split"]:
                following.append(event)
        bits = sum(1 << (kind - 1) for kind in {e["event_kind"] for e in following})
        known = [e["watch_time"] for e in [row, *following] if not math.isnan(e["watch_time"])]
        found.append((bits, known[0] if known else NAN))
    return found


@pytest.mark.parametrize(("unordered", "ordered"), list(itertools.product([False, True], repeat=2)))
def test_outcomes_are_those_of_a_plain_loop(unordered: bool, ordered: bool):
    some = 0
    for seed in range(NUM_LOGS):
        events = random_shard(seed, unordered)
        outcomes = find_outcomes(events, ordered)
        kinds, watch_time = (
            zip(*expected(events, ordered), strict=True) if len(events) else ([], [])
        )
        assert outcomes.kinds.tolist() == list(kinds)
        np.testing.assert_array_equal(outcomes.watch_time, np.array(watch_time, np.float32))
        assert outcomes.kinds.dtype == np.int64
        assert outcomes.watch_time.dtype == np.float32
        some += sum(bits.bit_count() > 1 for bits in kinds)
    assert some > NUM_LOGS


def test_a_cart_belongs_to_the_click_before_it_and_not_to_the_next_one():
    kinds = {"shown": 1, "click": 2, "cart": 3}
    log = [("click", 10), ("cart", 15), ("shown", 20), ("click", 30), ("cart", 35), ("cart", 36)]
    events = shard(
        [
            {
                "user_index": 1, "item_index": 5, "time": time, "event_kind": kinds[kind],
                "is_ranked": kind != "cart",
            }
            for kind, time in log
        ]
    )  # fmt: skip
    assert find_outcomes(events).kinds.tolist() == [0b110, 0, 0b001, 0b110, 0, 0]


def test_an_event_of_an_impression_belongs_to_it_however_late():
    events = shard(
        [
            {"user_index": 1, "item_index": 5, "time": 1, "event_kind": 1, "impression": "a"},
            {"user_index": 1, "item_index": 5, "time": 2, "event_kind": 1, "impression": "b"},
            {
                "user_index": 1, "item_index": 5, "time": 9, "event_kind": 2, "impression": "a",
                "is_ranked": False, "watch_time": 7.0,
            },
        ]
    )  # fmt: skip
    outcomes = find_outcomes(events)
    assert outcomes.kinds.tolist() == [0b11, 0b01, 0]
    np.testing.assert_array_equal(outcomes.watch_time, np.float32([7, NAN, 7]))


def test_a_training_row_is_not_told_what_followed_in_the_test():
    rows = [("1", 1, 0, True), ("2", 2, 2, False), ("3", 3, 2, True), ("4", 4, 2, False)]
    events = shard(
        [
            {
                "user_index": 1, "item_index": 5, "time": time, "split": split,
                "event_kind": int(kind), "is_ranked": ranked,
            }
            for kind, time, split, ranked in rows
        ]
    )  # fmt: skip
    assert find_outcomes(events).kinds.tolist() == [0b0001, 0, 0b1100, 0]


def test_outcomes_are_written_for_logs_with_kinds(prepare_tables: Callable[..., Any]):
    log = pl.DataFrame(
        {
            "user_id": [f"u{n % 3}" for n in range(60)],
            "item_id": [f"i{n // 6}" for n in range(60)],
            "time": 1_000_000_000 + np.arange(60) * 1000,
            "kind": ["click", "click", "click", "cart", "cart", "shown"] * 10,
        }
    )
    kinds = {
        "shown": {"label": 0},
        "click": {"label": 1},
        "cart": {"label": 1, "ranked": False, "target": False},
    }
    for shard_rows in (None, 7):
        prepared = prepare_tables(
            {"events": log},
            events={"time": "time", "kind": "kind", "kinds": kinds},
            shard_rows=shard_rows,
        )
        assert prepared.data.examples.schema["outcomes"] == pl.Int64
        first = [row for row in prepared.examples() if row["item"] == "i0" and row["is_ranked"]]
        followed = {(row["user"], row["label"]): row["outcomes"] for row in first}
        assert followed == {
            ("u0", 1): 0b110, ("u1", 1): 0b110, ("u2", 1): 0b010, ("u2", 0): 0b001,
        }  # fmt: skip
    plain = prepare_tables({"events": log}, events={"time": "time"})
    assert "outcomes" not in plain.data.examples.columns
