"""Changes of a finished run's catalogue without training: add, update, remove, rebuild."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from tfrec.config import Data, TableFile
from tfrec.data.parsing.catalogue import type_items
from tfrec.data.parsing.checks import Findings
from tfrec.data.reading.files import read_batches
from tfrec.errors import ConfigError
from tfrec.files import lock_folder, write_folder
from tfrec.log import tell
from tfrec.pipeline import Pipeline
from tfrec.pipeline.models import all_embeddings, load_recommender, start_tensorflow
from tfrec.pipeline.run import INDEX
from tfrec.pipeline.stages import Export
from tfrec.pipeline.stages.export import export_all
from tfrec.pipeline.stages.index import write_indexes
from tfrec.recommender.changes import Changes
from tfrec.schema import Columns

_COMPACT_ABOVE = 0.1
"""Part of the index that added rows may be before it is built anew."""


@dataclass(frozen=True)
class CatalogueStats:
    """How far a catalogue has gone from the index that was built.

    Attributes:
        trained: Items of the training.
        in_index: Rows of the index, gone ones among them.
        added: Rows beside it, which are searched exactly.
        gone: Rows that no answer holds any more.
        present: Items that answers may hold.
        changes: How many changes there were.
        index: Kind, recall and settings of the index.
    """

    trained: int
    in_index: int
    added: int
    gone: int
    present: int
    changes: int
    index: dict[str, Any]


class CatalogueEditor:
    """Changes the catalogue of a finished run and exports new versions of its model.

    Args:
        pipeline: The run.
        announce: Called with a line for people, for each kind of row that is repaired or dropped.

    Raises:
        ConfigError: The model has no towers, or the run is not finished.
    """

    def __init__(self, pipeline: Pipeline, announce: Callable[[str], None] = tell) -> None:
        if not pipeline.artefacts.has_towers:
            raise ConfigError(
                "ranking.towers: `none` has no item tower that could embed new items; train again."
            )
        pipeline.check_is_finished()
        self._run = pipeline.artefacts
        self._announce = announce
        self._model = pipeline.fingerprints()[Export.name]
        self._ids = self._run.data.items[Columns.ITEM_ID]

    def add(self, path: Path, *, update: bool = False) -> list[str]:
        """Adds the items of a file, or, with `update`, changes them; returns the new versions.

        The file has the columns that `data.items` declares, in any of the forms that are read.

        Raises:
            DataError: A row does not fit, an added id is there already or an updated one is not.
        """
        items = read_items(path, self._run.settings.data, self._announce)
        changes = self._changes()
        embeddings, ranked = self._embed(items, changes)
        changed = changes.with_items(items, embeddings, ranked, self._ids, update=update)
        return self._publish(changed)

    def remove(self, ids: Sequence[str]) -> list[str]:
        """Removes items; returns the new versions."""
        return self._publish(self._changes().without(list(ids), self._ids))

    def rebuild(self) -> list[str]:
        """Builds the index over all items that there are; returns the new versions."""
        return self._publish(self._changes(), rebuild=True)

    def stats(self) -> CatalogueStats:
        """Counts."""
        changes = self._changes()
        report = self._run.index_report(INDEX, changes)
        total = len(self._ids) + changes.items.height
        return CatalogueStats(
            trained=len(self._ids),
            in_index=report["num_items"],
            added=total - report["num_items"],
            gone=len(changes.gone),
            present=total - len(changes.gone),
            changes=changes.number,
            index={name: report[name] for name in ("kind", "recall_at_k", "k", "parameters")},
        )

    def _changes(self) -> Changes:
        return self._run.changes(self._model)

    def _embed(self, items: pl.DataFrame, changes: Changes) -> tuple[np.ndarray, np.ndarray | None]:
        """Embeds items that training may never have seen.

        Args:
            items: Typed as the prepared items.
            changes: Of the catalogue so far.

        Returns:
            float32 [n, embedding_dim] from the item tower, and the same from the ranking model's
            own towers, None where it has none.
        """
        from tfrec.export.replay import encode_in_blocks, raw_items

        run = self._run
        start_tensorflow(run)
        encode = load_recommender(run, changes).encode_item
        raw = raw_items(items, run.data.item_features, run.settings)
        found = encode_in_blocks(encode, raw)
        if run.ranking_towers == run.search_towers:
            return found, None
        return found, encode_in_blocks(partial(encode, for_ranking=True), raw)

    def _publish(self, changes: Changes, rebuild: bool = False) -> list[str]:
        run, before = self._run, self._changes()
        num_rows = len(self._ids) + changes.items.height
        in_index = run.index_report(INDEX, before)["num_items"]
        rebuild = rebuild or num_rows - in_index > _COMPACT_ABOVE * in_index
        built = run.changes_folder / INDEX

        def write(folder: Path) -> None:
            changes.save(folder)
            if rebuild:
                start_tensorflow(run)
                (folder / INDEX).mkdir()
                write_indexes(run, folder / INDEX, all_embeddings(run, changes)[1:])
            elif built.is_dir() and before.number:  # carried over
                shutil.copytree(built, folder / INDEX, copy_function=os.link)

        with lock_folder(run.folder):
            write_folder(run.changes_folder, write)
            start_tensorflow(run)
            written = self._changes()
            return list(export_all(run, written, self._stamp(written)).values())

    def _stamp(self, changes: Changes) -> str:
        """Tells a version with these changes, and its index, from others."""
        stamp = f"{self._model}-{changes.number}"
        if (self._run.changes_folder / INDEX).is_dir():
            stamp += f"-{self._run.index_report(INDEX, changes)['num_items']}"
        return stamp


def read_items(path: Path, data: Data, announce: Callable[[str], None]) -> pl.DataFrame:
    """Reads a table of items as that of the training was read.

    Args:
        path: The file.
        data: What `data.items` and `data.cleaning` declare.
        announce: Called with a line for each kind of cell that is repaired, for dropped rows, and
            with their number.

    Returns:
        Typed as the prepared items.

    Raises:
        DataError: A row does not fit, and is not to be repaired.
    """
    repair = data.cleaning.bad_cells == "repair"
    table = TableFile(path=[str(path)])
    if data.tables and data.tables.items:  # in the form of the items that trained
        table = data.tables.items[0].model_copy(update={"path": [str(path)], "tfds": None})
    batches = list(read_batches([table], None, data.privacy.never_write, repair=repair))
    findings = Findings("repair" if repair else "raise", data.privacy.never_write)
    counts: Counter[str] = Counter()
    items = type_items(batches, data, findings, counts)
    for finding in findings:
        announce(f"{finding.message()} What is done: {finding.repair}.")
    for what, number in counts.items():
        if number:
            announce(f"{path}: {what.replace('_', ' ')}: {number}")
    read = sum(batch.frame.height for batch in batches)
    if dropped := read - items.height:
        announce(f"{path}: {dropped} of {read} rows dropped")
    return items
