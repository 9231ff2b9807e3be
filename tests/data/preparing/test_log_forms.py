"""Logs that lack something: a time, an order, a catalogue."""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest

from tfrec.errors import DataError

ITEMS = pl.DataFrame({"item_id": [f"i{n}" for n in range(30)], "title": ["t"] * 30})
LAST = {"kind": "leave_one_out"}


def log_of(orders: dict[str, list[int]], **columns: list) -> pl.DataFrame:
    """Returns each user's items, users one after the other."""
    rows = [(user, f"i{item}") for user, items in orders.items() for item in items]
    return pl.DataFrame(rows, schema=["user_id", "item_id"], orient="row").with_columns(
        pl.Series(name, values) for name, values in columns.items()
    )


def interleaved(log: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Mixes the rows of users; each user's own stay in order."""
    draw = np.random.default_rng(seed)
    users = draw.permutation(log["user_id"].to_numpy())
    own = {
        user: iter(part.rows()) for (user,), part in log.group_by("user_id", maintain_order=True)
    }
    return pl.DataFrame([next(own[user]) for user in users], schema=log.schema, orient="row")


def orders_of(prepared: Any) -> dict[str, list[str]]:
    """Returns each user's items in the order that the prepared data have."""
    orders: dict[str, list[str]] = defaultdict(list)
    for row in sorted(prepared.examples(), key=lambda row: row["time"]):
        orders[row["user"]].append(row["item"])
    return dict(orders)


def random_orders(seed: int, users: int = 20, length: int = 6) -> dict[str, list[int]]:
    draw = np.random.default_rng(seed)
    return {f"u{n}": draw.permutation(30)[:length].tolist() for n in range(users)}


def named(orders: dict[str, list[int]]) -> dict[str, list[str]]:
    return {user: [f"i{item}" for item in items] for user, items in orders.items()}


# Without time


@pytest.mark.parametrize("shard_rows", [None, 15])
def test_order_of_rows_orders_a_log_without_time(prepare_tables: Callable, shard_rows: int | None):
    orders = random_orders(1)
    log = interleaved(log_of(orders), seed=2)
    prepared = prepare_tables(
        {"events": log, "items": ITEMS},
        events={"time": None},
        split=LAST,
        batches=[7, 50],
        shard_rows=shard_rows,
    )
    assert orders_of(prepared) == named(orders)
    for row in prepared.examples():
        items = named(orders)[row["user"]]
        place = items.index(row["item"])
        assert row["split"] == {5: "test", 4: "validation"}.get(place, "train")
    for row in prepared.requests():
        items = named(orders)[row["user"]]
        assert row["history"] == items[: items.index(row["examples"][0][0])]
    assert "first_time" not in prepared.report["split"]  # there is none to tell


def test_repeats_in_a_log_in_order_are_no_duplicates(prepare_tables: Callable):
    """Where only the place of a row says when, two equal rows are two events."""
    log = log_of({f"u{n}": [1, 2, 1, 1, 3, 4] for n in range(5)})
    settings = {"events": {"time": None}, "split": LAST}
    prepared = prepare_tables({"events": log, "items": ITEMS}, **settings)
    assert orders_of(prepared)["u0"] == ["i1", "i2", "i1", "i1", "i3", "i4"]
    assert prepared.report["cleaning"]["duplicate_events_dropped"] == 0


def shuffled(prepare_tables: Callable, log: pl.DataFrame, **more: Any) -> dict[str, list[str]]:
    events = {"time": None, "order": "shuffled"}
    return orders_of(
        prepare_tables({"events": log, "items": ITEMS}, events=events, split=LAST, **more)
    )


def test_drawn_order_depends_on_the_seed_alone(prepare_tables: Callable):
    log = log_of(random_orders(3))
    once = shuffled(prepare_tables, log, seed=5)
    assert shuffled(prepare_tables, log, seed=5) == once
    assert shuffled(prepare_tables, log, seed=5, batches=[1, 40, 41], shard_rows=20) == once
    other = shuffled(prepare_tables, log, seed=6)
    assert other != once
    assert {user: sorted(items) for user, items in other.items()} == {
        user: sorted(items) for user, items in once.items()
    }


@pytest.mark.parametrize("seed", [0, 42])
def test_drawn_order_of_a_pair_is_either_with_equal_chance(prepare_tables: Callable, seed: int):
    """Neither the rows nor another seed tell which of two rows comes first."""
    log = log_of({f"u{n}": [*range(4)] for n in range(300)})
    orders, other = (shuffled(prepare_tables, log, seed=s) for s in (seed, seed + 1))
    for first in range(3):
        pair = f"i{first}", f"i{first + 1}"
        is_kept = np.array([o.index(pair[0]) < o.index(pair[1]) for o in orders.values()])
        is_same = is_kept == [
            other[user].index(pair[0]) < other[user].index(pair[1]) for user in orders
        ]
        # Of 300 fair draws the share is within 0.5 +- 5 * 0.5 / sqrt(300) but once in a million.
        assert abs(is_kept.mean() - 0.5) < 0.145
        assert abs(is_same.mean() - 0.5) < 0.145


def test_duplicates_of_a_log_in_no_order_are_dropped(prepare_tables: Callable):
    log = log_of(random_orders(4))
    twice = pl.concat([log, log[10:30]])
    found = shuffled(prepare_tables, twice)
    assert {user: sorted(items) for user, items in found.items()} == {
        user: sorted(items) for user, items in named(random_orders(4)).items()
    }


def test_sequence_orders_a_log_without_time(prepare_tables: Callable):
    orders = random_orders(5)
    numbers = np.random.default_rng(5).choice(10**12, 120, replace=False) - 10**11
    ordered = np.concatenate([np.sort(part) for part in numbers.reshape(20, 6)])
    log = log_of(orders, step=ordered.tolist()).sample(fraction=1, shuffle=True, seed=1)
    events = {"time": None, "sequence": "step"}
    prepared = prepare_tables({"events": log, "items": ITEMS}, events=events, split=LAST)
    assert orders_of(prepared) == named(orders)


def test_events_of_one_number_in_the_sequence_do_not_see_each_other(prepare_tables: Callable):
    log = log_of({f"u{n}": [1, 2, 3, 4, 5] for n in range(4)}, step=[1, 2, 2, 3, 4] * 4)
    events = {"time": None, "sequence": "step"}
    prepared = prepare_tables({"events": log, "items": ITEMS}, events=events, split=LAST)
    found = {
        tuple(example[0] for example in row["examples"]): row["history"]
        for row in prepared.requests()
        if row["user"] == "u0"
    }
    assert found == {
        ("i1",): [],
        ("i2", "i3"): ["i1"],
        ("i4",): ["i1", "i2", "i3"],
        ("i5",): ["i1", "i2", "i3", "i4"],
    }


# Time and sequence


def test_sequence_orders_events_of_one_time(prepare_tables: Callable):
    log = log_of(
        {f"u{n}": [1, 2, 3, 4, 5] for n in range(4)},
        time=[0, 7, 7, 7, 9] * 4,
        step=[9, 1, 2, 3, 0] * 4,
    ).sample(fraction=1, shuffle=True, seed=3)
    events = {"sequence": "step"}
    prepared = prepare_tables({"events": log, "items": ITEMS}, events=events, split=LAST)
    assert orders_of(prepared) == {f"u{n}": ["i1", "i2", "i3", "i4", "i5"] for n in range(4)}
    histories = {row["examples"][0][0]: row["history"] for row in prepared.requests()}
    assert histories["i4"] == ["i1", "i2", "i3"]


@pytest.mark.parametrize("first", [0, 5_000_000, 2**62, -(2**62)])
def test_large_sequences_do_not_pass_a_later_time(prepare_tables: Callable, first: int):
    """A number that counts the rows of a large log must not move an event by seconds."""
    steps = [first + step for step in (3, 1, 2, 0)]
    log = log_of(
        {f"u{n}": [1, 2, 3, 4] for n in range(4)}, time=[100, 101, 101, 102] * 4, step=steps * 4
    )
    prepared = prepare_tables(
        {"events": log, "items": ITEMS}, events={"sequence": "step"}, split=LAST
    )
    assert orders_of(prepared) == {f"u{n}": ["i1", "i2", "i3", "i4"] for n in range(4)}
    assert {row["time"] // 1_000_000 for row in prepared.requests()} == {100, 101, 102}


# Without catalogue


def test_items_of_a_log_without_catalogue_are_those_of_its_events(prepare_tables: Callable):
    orders = random_orders(6)
    log = interleaved(log_of(orders), seed=7).with_columns(time=pl.int_range(pl.len()))
    prepared = prepare_tables({"events": log}, batches=[3, 30], shard_rows=30)
    assert prepared.data.items.to_dict(as_series=False) == {
        "item_id": log["item_id"].unique(maintain_order=True).to_list(),
        "title": log["item_id"].unique(maintain_order=True).to_list(),
        "text": [""] * log["item_id"].n_unique(),
    }
    assert orders_of(prepared) == named(orders)
    assert prepared.report["rows"]["items"] == log["item_id"].n_unique()
    with_catalogue = prepare_tables({"events": log, "items": ITEMS}, shard_rows=30)
    assert orders_of(with_catalogue) == orders_of(prepared)


def test_event_that_cannot_be_used_adds_no_item(prepare_tables: Callable):
    log = log_of(random_orders(8)).with_columns(time=pl.int_range(pl.len()).cast(pl.String))
    odd = pl.DataFrame({"user_id": ["u0", None], "item_id": ["odd", "odder"], "time": ["?", "9"]})
    prepared = prepare_tables(
        {"events": pl.concat([odd, log])}, cleaning={"bad_cells": "repair"}, batches=[1]
    )
    assert set(prepared.data.items["item_id"]) == set(log["item_id"])
    assert prepared.report["cleaning"]["events_that_do_not_fit_dropped"] == 2


@pytest.mark.parametrize("declared", [{"text": ["brand"]}, {"features": {"price": "number"}}])
def test_attributes_of_items_need_a_catalogue(prepare_tables: Callable, declared: dict[str, Any]):
    log = log_of(random_orders(8)).with_columns(time=pl.int_range(pl.len()))
    with pytest.raises(DataError, match=r"data\.items: attributes are declared, but there is no"):
        prepare_tables({"events": log}, items=declared)
