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
from typing import Any, NoReturn

import polars as pl

from tfrec.config import Config, Data
from tfrec.data.parsing.catalogue import (
    add_relations,
    add_strangers,
    items_of_ids,
    type_items,
    type_users,
)
from tfrec.data.parsing.checks import Findings
from tfrec.data.parsing.privacy import hidden_columns, pseudonymiser
from tfrec.data.parsing.profile import TableProfile
from tfrec.data.preparing.cleaned import CleanShards
from tfrec.data.preparing.scan import EventScan, RemovedRows
from tfrec.data.preparing.shards import ShardBuilder
from tfrec.data.preparing.spill import Spill
from tfrec.data.preparing.splits import time_cuts
from tfrec.data.preparing.writer import PreparedWriter
from tfrec.data.reading.sources import RawTables
from tfrec.errors import DataError
from tfrec.progress import progress_bar

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
    spill_folder = _empty_spill_folder(folder)
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
        _refuse_empty(shards, scan.num_read, removed, report)
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


def _empty_spill_folder(folder: Path) -> Path:
    """Removes what a run that was killed left, and makes the folder of the spilled events."""
    spill_folder = folder / "spill"
    for leftover in (spill_folder, folder / "contexts", folder / "examples"):
        shutil.rmtree(leftover, ignore_errors=True)
    (folder / "prepared.json").unlink(missing_ok=True)
    spill_folder.mkdir()
    return spill_folder


def _refuse_empty(
    shards: CleanShards, num_read: int, removed: RemovedRows, report: Report
) -> NoReturn:
    """Says which steps of the cleaning left no event.

    Raises:
        DataError: Always.
    """
    for number in range(shards.num_shards):
        shards.read(number)  # records what lies outside the core
    report["cleaning"] |= removed.counts()
    raise DataError(
        f"data.cleaning: of {num_read} events none is left ({removed}). Loosen k_core or sessions."
    )


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
