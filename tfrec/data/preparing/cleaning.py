"""Which events stay (duplicates, sessions, k-core) and how ties in time are told apart."""

from __future__ import annotations

import numpy as np
import polars as pl

from tfrec.config import KCore, Sessions
from tfrec.data.preparing.histories import starts_run
from tfrec.schema import Batch, Columns

_MICROSECONDS_PER_MINUTE = 60_000_000


def find_duplicates(events: pl.DataFrame, columns: list[str]) -> np.ndarray:
    """Finds events that equal an earlier one in all of `columns`.

    Returns:
        bool [n].
    """
    if not events.height:
        return np.zeros(0, bool)
    return ~events.select(pl.struct(columns).is_first_distinct()).to_series().to_numpy()


def separate_ties(events: pl.DataFrame) -> pl.DataFrame:
    """Moves a user's events of one time apart, a microsecond for each step of their sequence.

    No event passes a later one, whatever the numbers of the sequence are. Where no microsecond is
    free, later events move as well.

    Args:
        events: Sorted by user_index, time and sequence.

    Returns:
        The events with other times and without the column ``sequence``.
    """
    user, time = events[Batch.USER_INDEX].to_numpy(), events[Columns.TIME].to_numpy()
    step = np.cumsum(starts_run(user, time, events["sequence"].to_numpy()))
    # Times less their steps never decrease where each step has a microsecond of its own.
    late = pl.DataFrame({"user": user, "late": time - step}).select(
        pl.col("late").cum_max().over("user")
    )
    return events.with_columns((late["late"] + pl.Series(step)).alias(Columns.TIME)).drop(
        "sequence"
    )


def find_odd_sessions(events: pl.DataFrame, rules: Sessions) -> np.ndarray:
    """Finds events of sessions that are too short or too long.

    A session is a run of one user's events with no pause above `rules.gap_minutes`.

    Args:
        events: Sorted by user_index and time.
        rules: Gap and bounds.

    Returns:
        bool [n].
    """
    user = events[Batch.USER_INDEX].to_numpy()
    time = events[Columns.TIME].to_numpy()
    if not len(user):
        return np.zeros(0, bool)
    gap = rules.gap_minutes * _MICROSECONDS_PER_MINUTE
    begins = np.ones(len(user), bool)
    begins[1:] = (user[1:] != user[:-1]) | (np.diff(time) > gap)
    session = np.cumsum(begins) - 1
    length = np.bincount(session)[session]
    too_long = length > rules.max_events if rules.max_events else np.zeros(len(user), bool)
    return (length < rules.min_events) | too_long


def find_outside_core(user: np.ndarray, item: np.ndarray, core: KCore) -> np.ndarray:
    """Finds events of users or items with too few events, until all that remain have enough.

    Args:
        user: int [n], user indices.
        item: int [n], item indices.
        core: The least numbers of events.

    Returns:
        bool [n].
    """
    kept = np.arange(len(user))
    while len(kept):
        per_user = np.bincount(user[kept])
        per_item = np.bincount(item[kept])
        stays = (per_user[user[kept]] >= core.users) & (per_item[item[kept]] >= core.items)
        if stays.all():
            break
        kept = kept[stays]
    outside = np.ones(len(user), bool)
    outside[kept] = False
    return outside
