"""Changes of a finished run's catalogue without training: add, update, remove, rebuild."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfrec.config import TableFile
from tfrec.data.parsing.catalogue import type_items
from tfrec.data.parsing.checks import Findings
from tfrec.data.reading.files import read_batches
from tfrec.errors import ConfigError
from tfrec.files import lock_folder, write_folder
from tfrec.pipeline import Pipeline
from tfrec.recommender.changes import Changes

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

    Raises:
        ConfigError: The model has no towers, or the run is not finished.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        if not pipeline.has_towers:
            raise ConfigError(
                "ranking.towers: `none` has no item tower that could embed new items; train again."
            )
        pipeline.check_is_finished()
        self._pipeline = pipeline
        self._ids = pipeline.data.items["item_id"]

    def add(self, path: Path, *, update: bool = False) -> list[str]:
        """Adds the items of a file, or, with `update`, changes them; returns the new versions.

        The file has the columns that `data.items` declares, in any of the forms that are read.

        Raises:
            DataError: A row does not fit, an added id is there already or an updated one is not.
        """
        pipeline, config = self._pipeline, self._pipeline.config
        repair = config.data.cleaning.bad_cells == "repair"
        hidden = config.data.privacy.never_write
        tables = config.data.tables
        table = TableFile(path=[str(path)])
        if tables and tables.items:  # in the form of the items that trained
            table = tables.items[0].model_copy(update={"path": [str(path)], "tfds": None})
        batches = list(read_batches([table], None, hidden, repair=repair))
        findings = Findings("repair" if repair else "raise")
        items = type_items(batches, config.data, findings, Counter())
        changes = pipeline.changes()
        embeddings, ranked = pipeline.embed_items(items)
        changed = changes.with_items(items, embeddings, ranked, self._ids, update=update)
        return self._publish(changed)

    def remove(self, ids: Sequence[str]) -> list[str]:
        """Removes items; returns the new versions."""
        return self._publish(self._pipeline.changes().without(list(ids), self._ids))

    def rebuild(self) -> list[str]:
        """Builds the index over all items that there are; returns the new versions."""
        return self._publish(self._pipeline.changes(), rebuild=True)

    def stats(self) -> CatalogueStats:
        """Counts."""
        changes, report = self._pipeline.changes(), self._pipeline.index_report()
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

    def _publish(self, changes: Changes, rebuild: bool = False) -> list[str]:
        pipeline = self._pipeline
        num_rows = len(self._ids) + changes.items.height
        in_index = pipeline.index_report()["num_items"]
        rebuild = rebuild or num_rows - in_index > _COMPACT_ABOVE * in_index

        def write(folder: Path) -> None:
            changes.save(folder)
            if rebuild:
                pipeline.build_indexes(folder / "index", changes)
            else:
                pipeline.keep_rebuilt_index(folder / "index")

        with lock_folder(pipeline.folder):
            write_folder(pipeline.changes_folder, write)
            return pipeline.export_changed()
