"""First pass over the events: typed, checked, numbered, and spilled by user."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl

from tfrec.config import Data
from tfrec.data.parsing.checks import Findings, RowChecks
from tfrec.data.parsing.convert import without
from tfrec.data.parsing.events import type_events
from tfrec.data.parsing.profile import TableProfile
from tfrec.data.preparing.spill import Spill, disk_errors
from tfrec.data.preparing.splits import scramble
from tfrec.data.reading.batch import RawBatch
from tfrec.data.reading.sources import RawTables
from tfrec.errors import DataError
from tfrec.progress import progress_bar
from tfrec.schema import Batch, Columns

FILE, SOURCE_ROW = "file", "source_row"
_SHUFFLED_TIME_BITS = 44  # as microseconds half a year: any number that orders one user's events


class IdNumbers:
    """Numbers outside ids (or texts) in order of appearance.

    Args:
        ids: Distinct values that are known from the start.
        first: Number of the first of them.
    """

    def __init__(self, ids: pl.Series, first: int) -> None:
        self._first = first
        self._known = _numbered(ids, first)

    def __len__(self) -> int:
        return self._known.height

    @property
    def ids(self) -> pl.Series:
        """All values, in the order of their numbers."""
        return self._known["id"]

    def number(self, ids: pl.Series, grow: bool) -> pl.Series:
        """Returns Int32 [n]; values not yet known get the next numbers, or null without `grow`."""
        wanted = pl.DataFrame({"id": ids})
        found = wanted.join(self._known, on="id", how="left", maintain_order="left")["number"]
        if not grow or not found.null_count():
            return found
        new = ids.filter(found.is_null()).drop_nulls().unique(maintain_order=True)
        numbered = _numbered(new, self._first + len(self))
        self._known = pl.concat([self._known, numbered])
        return self.number(ids, grow=False)


def _numbered(ids: pl.Series, first: int) -> pl.DataFrame:
    numbers = np.arange(first, first + len(ids), dtype=np.int32)
    return pl.DataFrame({"id": ids.cast(pl.String), "number": numbers})


class RemovedRows:
    """Which row of which file was removed by which step, so that nothing is lost silently."""

    def __init__(self) -> None:
        self.files: list[str] = []
        self._parts: list[pl.DataFrame] = []
        self._counts: Counter[str] = Counter()

    def file_number(self, name: str) -> int:
        """Returns the number that stands for a file in the column `FILE`."""
        if not self.files or self.files[-1] != name:
            self.files.append(name)
        return len(self.files) - 1

    def take(self, events: pl.DataFrame, removed: np.ndarray, step: str) -> pl.DataFrame:
        """Returns the events that stay and records the others.

        Args:
            events: With the columns `FILE` and `SOURCE_ROW`.
            removed: bool [n].
            step: What removes them.
        """
        self._counts[step] += int(removed.sum())
        if not removed.any():
            return events
        gone = events.filter(pl.Series(removed)).select(FILE, SOURCE_ROW)
        self._parts.append(gone.with_columns(pl.lit(step).alias("step")))
        return events.filter(pl.Series(~removed))

    def counts(self) -> dict[str, int]:
        """Returns how many rows each step removed."""
        return dict(self._counts)

    def __str__(self) -> str:
        return ", ".join(f"{step}: {count}" for step, count in self._counts.items() if count)

    def write(self, path: Path) -> None:
        """Writes file, row and step of each removed row, in the order of files and rows."""
        schema = {FILE: pl.Int32, SOURCE_ROW: pl.Int64, "step": pl.String}
        rows = pl.concat([pl.DataFrame(schema=schema), *self._parts])
        rows = rows.sort(FILE, SOURCE_ROW, maintain_order=True)
        names = pl.Series(self.files, dtype=pl.String)
        file = names.gather(rows[FILE]) if rows.height else names.clear()
        with disk_errors(path.parent):
            rows.select(
                file.alias(FILE), pl.col(SOURCE_ROW).alias("row"), pl.col("step")
            ).write_parquet(path)


class EventScan:
    """Reads all events once.

    Args:
        data: The declaration.
        seed: Of the run; orders events of logs without order.
        items: The typed catalogue, None to take the items that events name.
        users: The typed user table, maybe empty.
        spill: Where events go.
        findings: Where problems are counted.
        pseudonymise: Replaces user ids, or None.
        now: The moment of reading.

    Attributes:
        item_ids, user_ids: All ids, numbered from 1.
        profile: Statistics of the columns.
        counts: What cleaning changed.
        num_read: Rows read.
    """

    def __init__(
        self,
        data: Data,
        seed: int,
        items: pl.DataFrame | None,
        users: pl.DataFrame,
        spill: Spill,
        removed: RemovedRows,
        findings: Findings,
        pseudonymise: Callable[[pl.Series], pl.Series] | None,
        now: datetime,
    ) -> None:
        self._data = data
        self._seed = seed
        self._has_catalogue = items is not None
        self._spill = spill
        self._removed = removed
        self._findings = findings
        self._pseudonymise = pseudonymise
        self._now = now
        no_ids = pl.Series([], dtype=pl.String)
        self.item_ids = IdNumbers(no_ids if items is None else items[Columns.ITEM_ID], first=1)
        self.user_ids = IdNumbers(users[Columns.USER_ID], first=1)
        self.profile = TableProfile()
        self.counts: Counter[str] = Counter()
        self.num_read = 0

    def run(self, raw: RawTables) -> None:
        """Reads, checks and spills every event.

        Raises:
            DataError: A cell does not fit and is not to be repaired, or no event remains.
        """
        with progress_bar(desc="reading events", unit="row", unit_scale=True) as bar:
            for batch in raw.read_events():
                self._add(batch)
                bar.update(batch.frame.height)
        if not self._spill.num_rows:
            raise DataError(
                f"data.events: none of the {self.num_read} events read can be used "
                f"({self._removed}). Look at them with `tfrec validate`."
            )

    def _add(self, batch: RawBatch) -> None:
        data, removed = self._data, self._removed
        checks = RowChecks(batch, "events", self._findings)
        events = type_events(checks, data.events, data.cleaning, self._now, self.counts)
        if self._pseudonymise:
            events = events.with_columns(self._pseudonymise(events[Columns.USER_ID]))
        # An event that cannot be used adds no item to a log without catalogue.
        item_ids = without(events[Columns.ITEM_ID], pl.Series(checks.dropped))
        items = self.item_ids.number(item_ids, grow=not self._has_catalogue)
        is_unknown = items.is_null() & pl.Series(~checks.dropped)
        if data.unknown_items == "error":
            checks.refuse(
                is_unknown,
                data.events.item_id,
                "an item of the catalogue",
                "Add the item or set data.unknown_items: drop.",
            )
        self.profile.add(events.drop(Columns.EVENT_KIND, strict=False))  # numbers of no meaning
        numbers = np.arange(self.num_read, self.num_read + events.height)
        self.num_read += events.height
        events = events.with_columns(
            items.alias(Batch.ITEM_INDEX),
            self._order(events, numbers).alias(Columns.TIME),
            pl.Series(Columns.ROW, numbers, dtype=pl.Int64),
            pl.lit(removed.file_number(batch.origin), dtype=pl.Int32).alias(FILE),
            pl.Series(SOURCE_ROW, batch.rows, dtype=pl.Int64),
        )
        is_unknown = is_unknown & pl.Series(~checks.dropped)
        keep_known = ~is_unknown.to_numpy()[~checks.dropped]
        events = removed.take(events, checks.dropped, "events_that_do_not_fit_dropped")
        events = removed.take(events, ~keep_known, "events_of_unknown_items_dropped")
        users = self.user_ids.number(events[Columns.USER_ID], grow=True)
        events = events.drop(Columns.USER_ID, Columns.ITEM_ID).with_columns(
            users.alias(Batch.USER_INDEX)
        )
        if not (data.events.time and data.events.sequence):  # else it tells ties in time apart
            events = events.drop("sequence")
        if events.height:
            self._spill.write(events)

    def _order(self, events: pl.DataFrame, numbers: np.ndarray) -> pl.Series:
        """Returns int64 [n]: microseconds since 1970, or for logs without time what orders them."""
        declared = self._data.events
        if declared.time:
            return events[Columns.TIME].to_physical()
        if declared.sequence:
            return events["sequence"]
        if declared.order == "shuffled":
            seed = scramble(np.array([self._seed], np.uint64))
            drawn = scramble(numbers.astype(np.uint64) ^ seed)
            numbers = (drawn >> np.uint64(64 - _SHUFFLED_TIME_BITS)).astype(np.int64)
        return pl.Series(numbers, dtype=pl.Int64)
