"""Hand-made tables, prepared: what several tests of the data layer share."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tfrec.config import parse_config
from tfrec.data.dataset import PreparedData
from tfrec.data.parsing.checks import Findings
from tfrec.data.preparing import prepare as prepare_module
from tfrec.data.preparing.prepare import prepare
from tfrec.data.reading.batch import RawBatch
from tfrec.data.reading.sources import RawTables
from tfrec.schema import SPLITS


@dataclass(frozen=True)
class Prepared:
    """What one preparation left."""

    data: PreparedData
    report: dict[str, Any]
    folder: Path

    def requests(self) -> list[dict[str, Any]]:
        """Returns all requests with outside ids in place of indices, and what they may see."""
        data, contexts = self.data, self.data.contexts
        ids = ["", *data.items["item_id"]]
        rows = np.arange(contexts.height)
        histories = [[ids[item] for item in row if item] for row in data.histories(rows)]
        seen: list[list[str]] = [[] for _ in rows]
        for row, item in zip(*data.seen_pairs(rows), strict=True):
            seen[row].append(ids[item])
        examples: list[list[tuple]] = [[] for _ in rows]
        for context, item, *values in data.examples.iter_rows():
            examples[context].append((ids[item], *map(str, values)))
        return [
            {
                **{
                    name: value
                    for name, value in row.items()
                    if name not in ("user_index", "text_index", "history_start", "history_end")
                },
                "time": number,
                "split": SPLITS[row["split"]],
                "user": data.users["user_id"][row["user_index"] - 1],
                "text": data.texts[row["text_index"]],
                "history": history,
                "seen": seen_items,
                "examples": asked,
            }
            for row, number, history, seen_items, asked in zip(
                contexts.drop("time").iter_rows(named=True),
                contexts["time"].to_physical(),
                histories,
                seen,
                examples,
                strict=True,
            )
        ]

    def examples(self) -> list[dict[str, Any]]:
        """Returns the examples with outside ids in place of indices."""
        data, contexts = self.data, self.data.contexts
        return [
            row
            | {
                "item": data.items["item_id"][row["item_index"] - 1],
                "user": data.users["user_id"][contexts["user_index"][row["context"]] - 1],
                "time": contexts["time"].to_physical()[row["context"]],
                "query": contexts["query"][row["context"]],
                "split": SPLITS[contexts["split"][row["context"]]],
            }
            for row in data.examples.iter_rows(named=True)
        ]

    def removed(self) -> list[tuple[str, int, str]]:
        """Returns file, row and step of each event that was left out."""
        return pl.read_parquet(self.folder / "removed.parquet").rows()


PrepareTables = Callable[..., Prepared]


@pytest.fixture
def prepare_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PrepareTables:
    """Returns what prepares data frames, each time in a folder of its own."""
    folders = (tmp_path / f"prepared {number}" for number in range(1000))

    def run(
        tables: Mapping[str, pl.DataFrame],
        *,
        batches: list[int] | None = None,
        shard_rows: int | None = None,
        seed: int = 42,
        findings: Findings | None = None,
        **data: Any,
    ) -> Prepared:
        """Prepares tables; by default 60:20:20 in time.

        Args:
            tables: The events and, as there are, items, users and relations.
            batches: Rows at which a new batch of events begins.
            shard_rows: Events of a shard, about.
            seed: Of the run.
            findings: Where problems are counted.
            data: Declaration.
        """
        declared = {"source": "tables", "split": {"validation": 0.2, "test": 0.2}, **data}
        config = parse_config({"name": "x", "seed": seed, "data": declared})
        events = tables["events"]
        rows = np.arange(1, events.height + 1)
        bounds = [0, *(batches or []), events.height]

        def read_events() -> Iterator[RawBatch]:
            for start, end in itertools.pairwise(bounds):
                yield RawBatch(events[start:end], "events.csv", rows[start:end])

        whole = {
            name: [RawBatch(frame, f"{name}.csv", np.arange(1, frame.height + 1))]
            for name, frame in tables.items()
            if name != "events"
        }
        raw = RawTables(read_events, **whole)
        folder = next(folders)
        folder.mkdir()
        with monkeypatch.context() as patch:
            if shard_rows:
                patch.setattr(prepare_module, "_SHARD_ROWS", shard_rows)
            report = prepare(raw, config, folder, findings)
        return Prepared(PreparedData.load(folder), report, folder)

    return run
