"""Requests, the history each may see, and the examples they ask about.

Pure functions of one shard: all events of some users, sorted by (user_index, time, row). The order
is what makes them quick: a user's events, and those of one instant, are runs of rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import polars as pl

from tfrec.schema import SPLITS, Batch, Columns

_EXAMPLE_COLUMNS = (
    Columns.LABEL, Columns.WEIGHT, Columns.POSITION, Columns.IS_TARGET, Columns.IS_RANKED,
    Columns.WATCH_TIME, Columns.TRUE_PROBABILITY,
)  # fmt: skip


@dataclass(frozen=True)
class Histories:
    """The histories of one shard: n stored events and, for each request, the range it may see.

    Attributes:
        items: int32 [n], item indices by user in the order of events.
        kinds: int16 [n], position in the declared kinds from 1; 0 without kinds.
        times: int64 [n], when the item was chosen, in the unit of the events' times.
        start, end: int64 [num_contexts], positions in `items`.
        last_kind: int16 [num_contexts], the kind of the last visible item as the request knows it;
            0 for an empty history.
    """

    items: np.ndarray
    kinds: np.ndarray
    times: np.ndarray
    start: np.ndarray
    end: np.ndarray
    last_kind: np.ndarray


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


def build_histories(events: pl.DataFrame, contexts: pl.DataFrame, ordered: bool) -> Histories:
    """Stores each user's positive items and gives every request the range it may see.

    The history of a request of split s holds the user's positive items from strictly before the
    request's time and from no split later than s, so a label never sits in its own history and no
    training history shows what is tested.

    An item that directly follows itself (click, then cart) is stored once, with the time of the
    first of these events. Its kind is that of the last of them before the next stored item (of the
    first, where all of them share that item's instant). A request that sees the next item too, or
    asks for it, comes late enough to know that kind. A request between a click and a cart does not:
    so the kind of the last item that it sees is kept with each request, as of its time.

    Args:
        events: One shard with column ``context``.
        contexts: The requests of the shard, as `build_contexts` gives them.
        ordered: Whether no event of a user is followed by one of an earlier split. Then what came
            before a request is of no later split, and one sequence a user serves all requests.
            Otherwise there is one for each split, so that ranges have no holes.

    """
    user, time = events[Batch.USER_INDEX].to_numpy(), events[Columns.TIME].to_numpy()
    rows = np.arange(events.height)
    user_start = np.maximum.accumulate(np.where(starts_run(user), rows, 0))
    is_instant_start = starts_run(user, time)
    instant_start = np.maximum.accumulate(np.where(is_instant_start, rows, 0))
    # Contexts are numbered as they appear, so their first events stand in their order.
    first_event = events["context"].is_first_distinct().arg_true().to_numpy()
    begins, asked_at = user_start[first_event], instant_start[first_event]

    item, kind = events[Batch.ITEM_INDEX].to_numpy(), _kinds(events)
    split = events[Columns.SPLIT].to_numpy()
    is_positive = events[Columns.LABEL].to_numpy() == 1
    of_context = contexts[Columns.SPLIT].to_numpy()
    stored: list[np.ndarray] = []
    kinds: list[np.ndarray] = []
    num_stored = 0
    start, end = np.zeros((2, contexts.height), np.int64)
    last_kind = np.zeros(contexts.height, np.int16)
    for level in [len(SPLITS) - 1] if ordered else range(len(SPLITS)):
        served = np.full(len(of_context), True) if ordered else of_context == level
        allowed = np.flatnonzero(is_positive & (split <= level))
        first = np.flatnonzero(starts_run(user[allowed], item[allowed]))
        kept = allowed[first]
        # Stored items that lie before each row: those before its instant end the history.
        num_before = num_stored + np.searchsorted(kept, rows)
        start[served] = num_before[begins[served]]
        end[served] = num_before[asked_at[served]]
        # Of each stored item, the last event before the instant of the next one.
        last = np.searchsorted(allowed, np.append(instant_start[kept[1:]], len(rows))) - 1
        stored.append(kept)
        kinds.append(kind[allowed[np.maximum(first, last)]])
        if len(allowed):
            known = kind[allowed[np.searchsorted(allowed, asked_at) - 1]]
            last_kind = np.where(served & (end > start), known, last_kind)
        num_stored += len(kept)
    events_stored = np.concatenate(stored)
    return Histories(
        items=item[events_stored].astype(np.int32),
        kinds=np.concatenate(kinds),
        times=time[events_stored].astype(np.int64),
        start=start,
        end=end,
        last_kind=last_kind,
    )


def _kinds(events: pl.DataFrame) -> np.ndarray:
    """Returns int16 [n], 0 for logs without kinds."""
    if Columns.EVENT_KIND not in events.columns:
        return np.zeros(events.height, np.int16)
    return events[Columns.EVENT_KIND].cast(pl.Int16).to_numpy()


def build_examples(events: pl.DataFrame) -> pl.DataFrame:
    """Keeps the events that train or test a model.

    Args:
        events: One shard with marked targets and column ``context``.

    Returns:
        context and item_index (int32), label, weight, position, is_target, is_ranked, watch_time
        and true_probability; rating and outcomes, where the events have them.
    """
    optional = [n for n in (Columns.RATING, Columns.OUTCOMES) if n in events.columns]
    return events.filter(pl.col(Columns.IS_TARGET) | pl.col(Columns.IS_RANKED)).select(
        pl.col("context").cast(pl.Int32),
        pl.col(Batch.ITEM_INDEX).cast(pl.Int32),
        *_EXAMPLE_COLUMNS,
        *optional,
    )
