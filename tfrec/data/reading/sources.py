"""Where raw tables come from. Each source answers with the same four tables."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import polars as pl

from tfrec.config import Data, TableFile, TableFiles
from tfrec.data.reading import movielens
from tfrec.data.reading.batch import RawBatch
from tfrec.data.reading.files import BATCH_ROWS, find_files, frame_batches, read_batches
from tfrec.errors import DataError, did_you_mean
from tfrec.shop import Shop

_TABLES = tuple(TableFiles.model_fields)


class Oracle(Protocol):
    """What a generator knows and a log does not: the true click behaviour."""

    def expected_clicks(
        self, user_ids: list[str], times: list[datetime], queries: list[str]
    ) -> np.ndarray:
        """Returns float32 [n, num_items]: how often each item would be shown and clicked."""
        ...


@dataclass(frozen=True)
class RawTables:
    """Raw tables as read; columns are still named and typed as in the source.

    Attributes:
        read_events: Reads all events, in batches, from the beginning each time it is called.
        items: The catalogue, None where there is none.
        users: The users, None where there is no table of them.
        relations: Triples about items.
        dropped: How many rows conditions of `steps` dropped so far, by table and condition.
    """

    read_events: Callable[[], Iterator[RawBatch]]
    items: list[RawBatch] | None = None
    users: list[RawBatch] | None = None
    relations: list[RawBatch] | None = None
    dropped: Counter[str] = field(default_factory=Counter)


def read_source(data: Data, seed: int, frames: Mapping[str, Any] | None = None) -> RawTables:
    """Reads the tables that `data` declares, except the events, which are read when asked for.

    Args:
        data: The declaration.
        seed: Drives generated tables.
        frames: For the source `tables`: data frames of polars, pandas or pyarrow, named events
            and, as there are, items, users and relations.

    Raises:
        DataError: A file is missing or cannot be read, or the frames are not what was declared.
    """
    if (frames is None) == (data.source == "tables"):
        problem = "needs data frames" if frames is None else "takes no data frames"
        raise DataError(f"data.source: {data.source} {problem}.")
    if data.source == "shop":
        return _read_shop(data, seed)
    if data.source == "movielens":
        return _read_movielens(data)
    if data.source == "files":
        return _read_files(data)
    return _read_frames(data, frames or {})


def source_files(data: Data) -> list[Path]:
    """Lists the files that `read_source` reads, so that a change of one is noticed.

    Files that are missing are listed too, as they are declared.
    """
    if data.source == "movielens" and data.path:
        return [Path(data.path) / str(table.path) for table in movielens.FILES.values()]
    if data.source != "files" or data.tables is None:
        return []
    found: dict[Path, None] = {}
    for name in _TABLES:
        for table in getattr(data.tables, name) or []:
            found |= dict.fromkeys(_files_of(table, data.path))
    return list(found)


def table_stamps(frames: Mapping[str, Any] | None) -> list[list[Any]]:
    """Returns name, rows and a hash of the content of each frame, for change detection."""
    stamps: list[list[Any]] = []
    for name, frame in sorted((frames or {}).items()):
        content, num_rows = hashlib.sha256(), 0
        for batch in frame_batches(frame, name):
            content.update(str(dict(batch.frame.schema)).encode())
            content.update(batch.frame.hash_rows().to_numpy().tobytes())
            num_rows += batch.frame.height
        stamps.append([name, num_rows, content.hexdigest()])
    return stamps


def read_oracle(data: Data, seed: int) -> Oracle | None:
    """Returns the source's oracle, or None for data whose truth nobody knows."""
    return Shop(scale=data.scale, seed=seed) if data.source == "shop" else None


def _read_shop(data: Data, seed: int) -> RawTables:
    shop = Shop(scale=data.scale, seed=seed)
    hidden = data.privacy.never_write

    def read_events() -> Iterator[RawBatch]:
        return _join_blocks(shop.event_blocks(), "generated shop, events", hidden)

    items = frame_batches(shop.items(), "generated shop, items", hidden)
    users = frame_batches(shop.users(), "generated shop, users", hidden)
    return RawTables(read_events, list(items), list(users))


def _join_blocks(
    blocks: Iterable[pl.DataFrame], origin: str, hidden: list[str]
) -> Iterator[RawBatch]:
    """Joins blocks until they are a batch; rows are numbered through."""
    waiting: list[pl.DataFrame] = []
    first = num_waiting = 0
    for block in blocks:
        waiting.append(block.drop(hidden, strict=False))
        num_waiting += block.height
        if num_waiting >= BATCH_ROWS:
            yield RawBatch(pl.concat(waiting), origin, np.arange(first, first + num_waiting) + 1)
            first, num_waiting, waiting = first + num_waiting, 0, []
    if num_waiting:
        yield RawBatch(pl.concat(waiting), origin, np.arange(first, first + num_waiting) + 1)


def _read_movielens(data: Data) -> RawTables:
    if data.path and not Path(data.path).is_dir():
        raise DataError(f"data.path: {data.path}: no such folder.")
    hidden = data.privacy.never_write

    def read(table: movielens.Table) -> Iterator[RawBatch]:
        if data.path:
            batches = movielens.read_folder(data.path, table)
        else:
            batches = movielens.read_datasets(data.tfds_name, table)
        for batch in batches:
            yield replace(batch, frame=batch.frame.drop(hidden, strict=False))

    return RawTables(lambda: read("events"), list(read("items")), list(read("users")))


def _read_files(data: Data) -> RawTables:
    assert data.tables is not None  # checked by the configuration
    tables, hidden = data.tables, data.privacy.never_write
    repair = data.cleaning.bad_cells == "repair"
    for table in tables.events:  # a missing file is told before others are read
        find_files(table, data.path)
    dropped: Counter[str] = Counter()

    def read(name: str, parts: list[TableFile]) -> Iterator[RawBatch]:
        counts: Counter[str] = Counter()
        yield from read_batches(parts, data.path, hidden, dropped=counts, repair=repair)
        dropped.update({f"{name}: {condition}": count for condition, count in counts.items()})

    def read_whole(name: str) -> list[RawBatch] | None:
        parts = getattr(tables, name)
        return None if parts is None else list(read(name, parts))

    def read_events() -> Iterator[RawBatch]:
        for key in [key for key in dropped if key.startswith("events: ")]:
            del dropped[key]
        return read("events", tables.events)

    return RawTables(
        read_events, read_whole("items"), read_whole("users"), read_whole("relations"), dropped
    )


def _read_frames(data: Data, frames: Mapping[str, Any]) -> RawTables:
    for name in frames:
        if name not in _TABLES:
            hint = did_you_mean(name, _TABLES)
            raise DataError(f"tables: wanted {', '.join(_TABLES)}, got {name!r}.{hint}")
    if "events" not in frames:
        raise DataError("tables: wanted a data frame of events, got none.")
    hidden = data.privacy.never_write

    def read_whole(name: str) -> list[RawBatch] | None:
        frame = frames.get(name)
        return None if frame is None else list(frame_batches(frame, name, hidden))

    return RawTables(
        lambda: frame_batches(frames["events"], "events", hidden),
        read_whole("items"),
        read_whole("users"),
        read_whole("relations"),
    )


def _files_of(table: TableFile, folder: str | None) -> Iterator[Path]:
    try:
        yield from find_files(table, folder)
    except DataError:
        entries = [table.path] if isinstance(table.path, str) else table.path or []
        yield from (Path(folder or ".") / entry for entry in entries)
    for step in table.steps:
        if step.join is not None:
            yield from _files_of(step.join.table, folder)
