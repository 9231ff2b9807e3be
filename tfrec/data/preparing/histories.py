"""Requests, the history each may see, and the examples they ask about.

Pure functions of one shard: all events of some users, sorted by (user_index, time, row). The order
is what makes them quick: a user's events, and those of one instant, are runs of rows.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import polars as pl

from tfrec.schema import SPLITS, Batch, Columns

_EXAMPLE_COLUMNS = (
    Columns.LABEL, Columns.WEIGHT, Columns.POSITION, Columns.IS_TARGET, Columns.IS_RANKED,
    Columns.WATCH_TIME, Columns.TRUE_PROBABILITY,
)  # fmt: skip


def starts_run(*columns: np.ndarray) -> np.ndarray:
    """Marks the rows that differ from the row before in any of the columns.

    Args:
        columns: At least one, [n] each.

    Returns:
        bool [n]; the first row is marked.
    """
    starts = np.zeros(len(columns[0]), bool)
    starts[:1] = True
    for column in columns:
        starts[1:] |= column[1:] != column[:-1]
    return starts


def pair_keys(events: pl.DataFrame) -> pl.Series:
    """Returns int64 [n], one number for each pair of a user and an item."""
    user = events[Batch.USER_INDEX].cast(pl.Int64)
    return (user * 2**32 + events[Batch.ITEM_INDEX].cast(pl.Int64)).alias("pair")


def mark_targets(events: pl.DataFrame) -> pl.DataFrame:
    """Lets only a user's first positive event with an item be a target.

    What was found before need not be retrieved again. A first positive event that may not be a
    target leaves its item without one.

    Returns:
        The events with fewer rows where ``is_target`` holds.
    """
    is_positive = events[Columns.LABEL] == 1
    rows = is_positive.arg_true()
    is_first = np.zeros(events.height, bool)
    is_first[rows.to_numpy()] = pair_keys(events).gather(rows).is_first_distinct().to_numpy()
    return events.with_columns(
        (events[Columns.IS_TARGET] & pl.Series(is_first)).alias(Columns.IS_TARGET)
    )


def build_contexts(
    events: pl.DataFrame, features: Iterable[str]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Finds the distinct requests: user, time, text, query, impression, split and features.

    Args:
        events: One shard with its splits.
        features: Names of the context features.

    Returns:
        The contexts in order of first appearance, and the events with ``context`` (int32), the
        row of each in the contexts.
    """
    keys = [
        Batch.USER_INDEX, Columns.TIME, Columns.TEXT, Columns.QUERY, Columns.IMPRESSION,
        *features, Columns.SPLIT,
    ]  # fmt: skip
    requests = events.select(keys)
    starts = starts_run(*(events[name].to_numpy() for name in keys[:2]))
    rows = np.arange(events.height)
    # Requests can only be equal at one instant of a user; most instants have a single event.
    together = np.flatnonzero(~starts | ~np.append(starts[1:], True)[: len(rows)])
    compared = requests[together]
    firsts = compared.with_columns(pl.Series("context", together)).unique(
        subset=keys, keep="first", maintain_order=True
    )
    found = compared.join(firsts, on=keys, how="left", nulls_equal=True, maintain_order="left")
    first_row = rows.copy()
    first_row[together] = found["context"].to_numpy()
    is_first = first_row == rows
    context = (np.cumsum(is_first) - 1)[first_row]
    return (
        requests.filter(pl.Series(is_first)),
        events.with_columns(pl.Series("context", context, dtype=pl.Int32)),
    )


def build_histories(
    events: pl.DataFrame, contexts: pl.DataFrame, ordered: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Stores each user's positive items and gives every request the range it may see.

    The history of a request of split s holds the user's positive items from strictly before the
    request's time and from no split later than s, so a label never sits in its own history and no
    training history shows what is tested. An item that directly follows itself (click, then cart)
    is stored once.

    Args:
        events: One shard with column ``context``.
        contexts: The requests of the shard, as `build_contexts` gives them.
        ordered: Whether no event of a user is followed by one of an earlier split. Then what came
            before a request is of no later split, and one sequence a user serves all requests.
            Otherwise there is one for each split, so that ranges have no holes.

    Returns:
        history_items int32 [num_stored], item indices by user in the order of events; start and
        end int64 [num_contexts], positions in history_items.
    """
    user = events[Batch.USER_INDEX].to_numpy()
    rows = np.arange(events.height)
    user_start = np.maximum.accumulate(np.where(starts_run(user), rows, 0))
    is_instant_start = starts_run(user, events[Columns.TIME].to_numpy())
    instant_start = np.maximum.accumulate(np.where(is_instant_start, rows, 0))
    # Contexts are numbered as they appear, so their first events stand in their order.
    first_event = events["context"].is_first_distinct().arg_true().to_numpy()

    item = events[Batch.ITEM_INDEX].to_numpy()
    split = events[Columns.SPLIT].to_numpy()
    is_positive = events[Columns.LABEL].to_numpy() == 1
    of_context = contexts[Columns.SPLIT].to_numpy()
    stored: list[np.ndarray] = []
    num_stored = 0
    starts, ends = np.zeros((2, contexts.height), np.int64)
    for level in [len(SPLITS) - 1] if ordered else range(len(SPLITS)):
        served = np.full(len(of_context), True) if ordered else of_context == level
        kept = np.flatnonzero(is_positive & (split <= level))
        kept = kept[starts_run(user[kept], item[kept])]
        # Stored items that lie before each row: those before its instant end the history.
        num_before = num_stored + np.searchsorted(kept, rows)
        starts[served] = num_before[user_start[first_event[served]]]
        ends[served] = num_before[instant_start[first_event[served]]]
        stored.append(item[kept].astype(np.int32))
        num_stored += len(kept)
    return np.concatenate(stored), starts, ends


def build_examples(events: pl.DataFrame) -> pl.DataFrame:
    """Keeps the events that train or test a model.

    Args:
        events: One shard with marked targets and column ``context``.

    Returns:
        context and item_index (int32), label, weight, position, is_target, is_ranked, watch_time
        and true_probability.
    """
    return events.filter(pl.col(Columns.IS_TARGET) | pl.col(Columns.IS_RANKED)).select(
        pl.col("context").cast(pl.Int32),
        pl.col(Batch.ITEM_INDEX).cast(pl.Int32),
        *_EXAMPLE_COLUMNS,
    )
