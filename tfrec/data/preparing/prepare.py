"""From raw tables to the prepared data set: scan, clean, split, cut into requests and examples.

The events are read once, typed and checked in batches, and spilled by user. Everything that follows
works on one shard (all events of some users) at a time, so memory does not grow with the log. What
is removed or changed is counted in the report and recorded beside the data.
"""

from __future__ import annotations

import shutil
from collections import Counter
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from tfrec.config import Config, Data
from tfrec.data.checking.catalogue import (
    add_relations,
    add_strangers,
    items_of_ids,
    type_items,
    type_users,
)
from tfrec.data.checking.checks import Findings
from tfrec.data.checking.privacy import hidden_columns, pseudonymiser
from tfrec.data.checking.profile import TableProfile
from tfrec.data.preparing.cleaning import (
    find_duplicates,
    find_odd_sessions,
    find_outside_core,
    separate_ties,
)
from tfrec.data.preparing.scan import FILE, SOURCE_ROW, EventScan, RemovedRows
from tfrec.data.preparing.shards import ShardBuilder
from tfrec.data.preparing.spill import Spill
from tfrec.data.preparing.splits import time_cuts
from tfrec.data.preparing.writer import PreparedWriter
from tfrec.data.reading.sources import RawTables
from tfrec.errors import DataError
from tfrec.progress import progress_bar
from tfrec.schema import Batch, Columns

_SHARD_ROWS = 250_000

Report = dict[str, Any]


def prepare(
    raw: RawTables,
    config: Config,
    folder: Path,
    findings: Findings | None = None,
    report: Report | None = None,
) -> Report:
    """Writes the prepared data set.

    Args:
        raw: The tables.
        config: `data` and `seed` count.
        folder: Existing folder; the data set's files go there.
        findings: Where problems of cells are counted; by default `cleaning.bad_cells` decides.
        report: Filled step by step, so that what was measured survives an error.

    Returns:
        The report.

    Raises:
        DataError: A column is missing, a cell does not fit its role, an item is unknown (with
            ``unknown_items: error``), nothing is left, or a split is left without events.
        ArtefactError: The folder cannot be written, as on a full disk.
    """
    data = config.data
    report = {} if report is None else report
    if findings is None:
        policy: Any = "raise" if data.cleaning.bad_cells == "error" else "repair"
        findings = Findings(policy, hidden=hidden_columns(data))
    counts: Counter[str] = Counter()
    removed = RemovedRows()
    spill_folder = folder / "spill"
    for leftover in (spill_folder, folder / "contexts", folder / "examples"):
        shutil.rmtree(leftover, ignore_errors=True)  # of a run that was killed
    (folder / "prepared.json").unlink(missing_ok=True)
    spill_folder.mkdir()
    spill = Spill(spill_folder, _SHARD_ROWS)
    pseudonymise = pseudonymiser(data.privacy)

    items = _type_catalogue(raw, data, findings, counts)
    users = type_users(raw.users, data, findings, counts, pseudonymise)
    # The end of the day, so that what is prepared twice a day is the same.
    now = datetime.combine(datetime.now(UTC), time.max).replace(microsecond=0)
    scan = EventScan(data, config.seed, items, users, spill, removed, findings, pseudonymise, now)
    try:
        scan.run(raw)
    finally:
        report["columns"] = {"events": scan.profile.to_dict()}
        report["findings"] = findings.to_list()
        skipped = {f"rows_skipped_of_{what}": number for what, number in raw.dropped.items()}
        report["cleaning"] = {**skipped, **counts, **scan.counts, **removed.counts()}
    if items is None:
        items = items_of_ids(scan.item_ids.ids, data)
    users = add_strangers(users, scan.user_ids.ids[len(users) :])
    report["columns"] |= {"items": _profile(items), "users": _profile(users)}

    shards = CleanShards(spill, data, removed)
    report["rows"] = {
        "events": {"read": scan.num_read, "kept": shards.num_rows},
        "items": items.height,
        "users": users.height,
    }
    report["cleaning"] |= removed.counts()
    if not shards.num_rows:
        for number in range(shards.num_shards):
            shards.read(number)  # records what lies outside the core
        report["cleaning"] |= removed.counts()
        raise DataError(
            f"data.cleaning: of {scan.num_read} events none is left ({removed}). "
            "Loosen k_core or sessions."
        )
    cuts = time_cuts(shards.times, data.split) if shards.times is not None else None
    writer = PreparedWriter(folder, data, items, users)
    builder = ShardBuilder(config, users, cuts, shards.has_validation, removed)
    for number in progress_bar(range(shards.num_shards), desc="preparing", unit="shard"):
        writer.add(builder.build(shards.read(number)))
    report["cleaning"] |= removed.counts()
    report["rows"]["events"]["kept"] = scan.num_read - sum(removed.counts().values())
    report |= builder.report()
    builder.check()
    removed.write(folder / "removed.parquet")
    report["features"] = writer.finish(builder.texts, report)
    shards.remove()
    spill_folder.rmdir()
    return report


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
        times, users, items = [], [], []
        for shard in range(self.num_shards):
            events = self._clean(shard, record=True)
            self.num_rows += events.height
            self.has_validation |= bool((events[Columns.SPLIT] == 1).any())
            times.append(events[Columns.TIME].to_numpy())
            if data.cleaning.k_core:
                users.append(events[Batch.USER_INDEX].to_numpy())
                items.append(events[Batch.ITEM_INDEX].to_numpy())
        all_times = np.concatenate(times)
        if data.cleaning.k_core:
            outside = find_outside_core(
                np.concatenate(users), np.concatenate(items), data.cleaning.k_core
            )
            ends = np.cumsum([len(part) for part in times])[:-1]
            self._outside = np.split(outside, ends)
            self.num_rows -= int(outside.sum())
            all_times = all_times[~outside]
        self.times = all_times if data.split.kind == "time" else None

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


def _type_catalogue(
    raw: RawTables, data: Data, findings: Findings, counts: Counter[str]
) -> pl.DataFrame | None:
    if raw.items is None:
        return None
    items = type_items(raw.items, data, findings, counts)
    return add_relations(items, raw.relations, data.relations, findings, counts)


def _profile(frame: pl.DataFrame) -> dict[str, Any]:
    profile = TableProfile()
    profile.add(frame)
    return profile.to_dict()
