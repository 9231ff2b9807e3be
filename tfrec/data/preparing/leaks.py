"""The proof that nothing leaks between the splits, measured on finished shards by its own means."""

from __future__ import annotations

import itertools

import numpy as np
import polars as pl

from tfrec.config import Split
from tfrec.data.preparing.histories import pair_keys, starts_run
from tfrec.data.preparing.splits import is_ordered, is_positive_example
from tfrec.errors import DataError
from tfrec.schema import SPLITS, Batch, Columns

_TRAIN, _VALIDATION, _TEST = range(len(SPLITS))
_FIRST, _LAST = "_first_time", "_last_time"


def measure_leaks(
    events: pl.DataFrame,
    contexts: pl.DataFrame,
    history_items: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
) -> dict[str, int]:
    """Counts on a finished shard what must not be, and how much the splits share.

    Args:
        events: The shard with splits, marked targets and ``context``.
        contexts: Its requests.
        history_items: int32 [num_stored], see `build_histories`.
        starts: int64 [num_contexts], where each history begins.
        ends: int64 [num_contexts], behind its last item.

    Returns:
        train_events_not_before_test: training events no older than the user's first validation or
        test event. validation_events_not_before_test: likewise. labels_in_history: positive
        examples whose item stands in their own history though no earlier event of an allowed split
        brings it there. pairs_in_train_and_test: pairs of a user and an item that are positive
        examples of both. users_in_test, users_in_train_and_test. For each split with events
        <split>_first_time and <split>_last_time. `merge_leaks` adds shards up.
    """
    user, time = events[Batch.USER_INDEX].to_numpy(), events[Columns.TIME].to_numpy()
    split = events[Columns.SPLIT].to_numpy()
    first_of = {
        later: (
            events.filter(pl.col(Columns.SPLIT) >= later)
            .group_by(Batch.USER_INDEX)
            .agg(pl.col(Columns.TIME).min())
        )
        for later in (_VALIDATION, _TEST)
    }

    def count_not_before(part: int) -> int:
        own = events.filter(pl.col(Columns.SPLIT) == part).select(Batch.USER_INDEX, Columns.TIME)
        met = own.join(first_of[part + 1], on=Batch.USER_INDEX, suffix="_first")
        return int((met[Columns.TIME] >= met[f"{Columns.TIME}_first"]).sum())

    pairs = pair_keys(events)
    is_asked = is_positive_example(events).to_numpy()
    asked = {
        part: pairs.filter(pl.Series(is_asked & (split == part))).unique()
        for part in (_TRAIN, _TEST)
    }
    users = {part: np.unique(user[split == part]) for part in (_TRAIN, _TEST)}
    counts = {
        "train_events_not_before_test": count_not_before(_TRAIN),
        "validation_events_not_before_test": count_not_before(_VALIDATION),
        "labels_in_history": _count_labels_in_history(
            events, contexts, history_items, starts, ends
        ),
        "pairs_in_train_and_test": int(asked[_TEST].is_in(asked[_TRAIN].implode()).sum()),
        "users_in_test": len(users[_TEST]),
        "users_in_train_and_test": len(np.intersect1d(users[_TRAIN], users[_TEST])),
    }
    for part, name in enumerate(SPLITS):
        times = time[split == part]
        if times.size:
            counts[f"{name}{_FIRST}"] = int(times.min())
            counts[f"{name}{_LAST}"] = int(times.max())
    return counts


def merge_leaks(total: dict[str, int], added: dict[str, int]) -> dict[str, int]:
    """Sums up two results of `measure_leaks`, for different users; either may be empty."""
    merged = dict(total)
    for name, value in added.items():
        if name not in merged:
            merged[name] = value
        elif name.endswith(_FIRST):
            merged[name] = min(merged[name], value)
        elif name.endswith(_LAST):
            merged[name] = max(merged[name], value)
        else:
            merged[name] += value
    return merged


def check_leaks(total: dict[str, int], split: Split) -> list[str]:
    """Refuses what the split promises not to be, and tells what it does not promise.

    Args:
        total: What `measure_leaks` found in all shards.
        split: The rule.

    Returns:
        One line for each thing that makes results look better than tomorrow's will be.

    Raises:
        DataError: A history shows its own label, or an ordered split is not ordered. Neither can
            come from the data.
    """
    broken = ["labels_in_history"]
    if is_ordered(split):
        broken += ["train_events_not_before_test", "validation_events_not_before_test"]
    if split.kind in ("users", "k_fold") and is_ordered(split):
        broken += ["users_in_train_and_test"]
    found = [f"{name}: {total[name]}" for name in broken if total.get(name)]
    if split.kind == "time":
        found += _overlaps(total)
    if found:
        raise DataError(
            f"data.split: wanted no leak with kind {split.kind!r}, got {', '.join(found)}. "
            "This is an error in tfrec: please report it."
        )
    lines = []
    late = total.get("train_events_not_before_test", 0)
    if late:
        lines.append(
            f"split.kind {split.kind}: {late} training events are not older than a validation or "
            "test event of the same user; histories hold only earlier training events. Use time, "
            "leave_one_out or user_ratio for an honest estimate of tomorrow."
        )
    repeated = total.get("pairs_in_train_and_test", 0)
    if repeated and not is_ordered(split):
        lines.append(
            f"split.kind {split.kind}: {repeated} pairs of a user and an item are positive in "
            "train and in test; a model may know them by heart."
        )
    return lines


def _overlaps(total: dict[str, int]) -> list[str]:
    """Lists splits that do not end before each later one begins, for all users together."""
    return [
        f"{earlier}{_LAST} {total[earlier + _LAST]} not before {later}{_FIRST} "
        f"{total[later + _FIRST]}"
        for earlier, later in itertools.combinations(SPLITS, 2)
        if earlier + _LAST in total
        and later + _FIRST in total
        and total[earlier + _LAST] >= total[later + _FIRST]
    ]


def _count_labels_in_history(
    events: pl.DataFrame,
    contexts: pl.DataFrame,
    history_items: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
) -> int:
    """Counts positive examples whose item their history holds more often than it may.

    Looks the item up in the finished arrays, and counts by its own means how often the allowed
    earlier events bring it there.
    """
    item = events[Batch.ITEM_INDEX].to_numpy().astype(np.int64)
    context = events["context"].to_numpy()
    asked = np.flatnonzero(is_positive_example(events).to_numpy())
    width = len(history_items) + 1
    places = np.sort(history_items.astype(np.int64) * width + np.arange(len(history_items)))
    wanted = item[asked] * width
    num_held = np.searchsorted(places, wanted + ends[context[asked]])
    num_held -= np.searchsorted(places, wanted + starts[context[asked]])
    asked, num_held = asked[num_held > 0], num_held[num_held > 0]

    user = events[Batch.USER_INDEX].to_numpy()
    starts_instant = starts_run(user, events[Columns.TIME].to_numpy())
    instant = np.cumsum(starts_instant)  # numbers the users' instants in order
    first_instant = instant[np.searchsorted(user, user[asked])]
    split = events[Columns.SPLIT].to_numpy()
    of_request = contexts[Columns.SPLIT].to_numpy()[context[asked]]
    num_leaks = 0
    for part in range(len(SPLITS)):
        own = of_request == part
        allowed = np.flatnonzero((events[Columns.LABEL].to_numpy() == 1) & (split <= part))
        allowed = allowed[starts_run(user[allowed], item[allowed])]
        visits = np.sort(item[allowed] * (len(user) + 1) + instant[allowed])
        wanted = item[asked[own]] * (len(user) + 1)
        num_earlier = np.searchsorted(visits, wanted + instant[asked[own]])
        num_earlier -= np.searchsorted(visits, wanted + first_instant[own])
        num_leaks += int((num_held[own] > num_earlier).sum())
    return num_leaks
