"""The events that stay, shard by shard."""

from __future__ import annotations

import numpy as np
import polars as pl

from tfrec.config import Data
from tfrec.data.preparing.cleaning import (
    find_duplicates,
    find_odd_sessions,
    find_outside_core,
    separate_ties,
)
from tfrec.data.preparing.scan import FILE, SOURCE_ROW, RemovedRows
from tfrec.data.preparing.spill import Spill
from tfrec.schema import Batch, Columns


class CleanShards:
    """Removes duplicates, odd sessions and what lies outside the k-core, shard by shard.

    Args:
        spill: All events; its files are removed as they are read.
        data: The declaration.
        removed: Where removed rows are recorded.

    Attributes:
        num_shards, num_rows: What is left.
        times: int64 [num_rows], the times of all events where the split cuts by time, else None.
        has_validation: Whether the log marks validation events itself.
    """

    def __init__(self, spill: Spill, data: Data, removed: RemovedRows) -> None:
        self._spill = spill
        self._data = data
        self._removed = removed
        self.num_shards = spill.num_shards
        self.num_rows = 0
        self.has_validation = False
        self._outside: list[np.ndarray] = []
        cuts_by_time = data.split.kind == "time"
        lengths: list[int] = []
        times, users, items = [], [], []
        for shard in range(self.num_shards):
            events = self._clean(shard, record=True)
            self.num_rows += events.height
            self.has_validation |= bool((events[Columns.SPLIT] == 1).any())
            lengths.append(events.height)
            if cuts_by_time:
                times.append(events[Columns.TIME].to_numpy())
            if data.cleaning.k_core:
                users.append(events[Batch.USER_INDEX].to_numpy())
                items.append(events[Batch.ITEM_INDEX].to_numpy())
        self.times = np.concatenate(times) if cuts_by_time else None
        if data.cleaning.k_core:
            outside = find_outside_core(
                np.concatenate(users), np.concatenate(items), data.cleaning.k_core
            )
            self._outside = np.split(outside, np.cumsum(lengths)[:-1])
            self.num_rows -= int(outside.sum())
            if self.times is not None:
                self.times = self.times[~outside]

    def read(self, shard: int) -> pl.DataFrame:
        """Returns the events of a shard that stay, sorted by user, time and row."""
        events = self._clean(shard, record=False)
        if self._outside:
            outside = self._outside[shard]
            events = self._removed.take(events, outside, "events_outside_core_dropped")
        return events

    def remove(self) -> None:
        """Removes the files."""
        self._spill.remove()

    def _clean(self, shard: int, record: bool) -> pl.DataFrame:
        cleaning = self._data.cleaning
        events = self._spill.read(shard)
        ties = ["sequence"] if "sequence" in events.columns else []
        events = events.sort(Batch.USER_INDEX, Columns.TIME, *ties, Columns.ROW)
        take = self._removed.take if record else _take
        if cleaning.duplicates == "drop":
            place = [Columns.ROW, FILE, SOURCE_ROW]
            declared = self._data.events
            if declared.time is None and declared.order == "shuffled":
                place.append(Columns.TIME)
            columns = [name for name in events.columns if name not in place]
            events = take(events, find_duplicates(events, columns), "duplicate_events_dropped")
        if cleaning.sessions:
            odd = find_odd_sessions(events, cleaning.sessions)
            events = take(events, odd, "events_of_odd_sessions_dropped")
        return separate_ties(events) if ties else events


def _take(events: pl.DataFrame, removed: np.ndarray, step: str) -> pl.DataFrame:
    del step
    return events.filter(pl.Series(~removed))
