"""Writes the prepared data set part by part; memory holds one part at a time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

import tfrec
from tfrec.config import Data, Features
from tfrec.data.dataset import FORMAT_VERSION, history_arrays, part_paths
from tfrec.data.preparing.impute import fill_nearest, list_filled
from tfrec.data.preparing.shards import ShardParts
from tfrec.data.preparing.spill import disk_errors
from tfrec.features.feature_type import FeatureType
from tfrec.features.frame import declare, describe_frame, filled_column, fit_features
from tfrec.features.trial import check_foreign
from tfrec.schema import SPLITS, Batch, Columns

_TRAIN = SPLITS.index("train")
_TRIED = 10  # rows on which feature types of somebody else are tried


class PreparedWriter:
    """Writes parts, then what was learned from all of them.

    Args:
        folder: Existing folder.
        data: The declaration.
        items: The typed catalogue, in the order of item indices.
        users: The typed users, likewise.
    """

    def __init__(self, folder: Path, data: Data, items: pl.DataFrame, users: pl.DataFrame) -> None:
        self._folder = folder
        self._data = data
        self._items = items
        self._users = users
        self._num_contexts = 0
        self._num_examples = 0
        self._num_parts = 0
        arrays = history_arrays(bool(data.events.kind), bool(data.events.time))
        self._histories: dict[tuple[str, str], list[np.ndarray]] = {array: [] for array in arrays}
        self._history_length = 0
        self._changes: list[pl.DataFrame] = []
        self._is_train_item = np.zeros(items.height, bool)
        self._is_train_user = np.zeros(users.height, bool)
        for table in ("contexts", "examples"):
            (folder / table).mkdir()

    def add(self, parts: ShardParts) -> None:
        """Writes the requests and examples of one shard."""
        contexts, examples = parts.contexts, parts.examples
        is_train = (contexts[Columns.SPLIT] == _TRAIN).to_numpy()
        in_train = is_train[examples["context"].to_numpy()]
        self._is_train_item[examples[Batch.ITEM_INDEX].to_numpy()[in_train] - 1] = True
        self._is_train_user[contexts[Batch.USER_INDEX].to_numpy()[is_train] - 1] = True
        contexts = contexts.with_columns(
            pl.col("history_start", "history_end") + self._history_length
        )
        examples = examples.with_columns((pl.col("context") + self._num_contexts).cast(pl.Int32))
        name = f"part-{self._num_parts:05d}.parquet"
        with disk_errors(self._folder):
            contexts.write_parquet(self._folder / "contexts" / name)
            examples.write_parquet(self._folder / "examples" / name)
        filled = list_filled(contexts, self._data.events.context)
        self._note_changes("contexts", filled, first_row=self._num_contexts)
        self._num_parts += 1
        self._num_contexts += contexts.height
        self._num_examples += examples.height
        for (name, _), kept in self._histories.items():
            kept.append(getattr(parts.histories, name))
        self._history_length += len(parts.histories.items)

    def finish(self, texts: pl.Series, report: dict[str, Any]) -> dict[str, Any]:
        """Learns the features on train, writes the rest and last of all ``prepared.json``.

        Args:
            texts: Distinct request texts.
            report: Written as it is, with what is returned as its part ``features``.

        Returns:
            For items, users and context, what was learned about each feature and how often values
            were missing, clipped or out of the vocabulary.
        """
        with disk_errors(self._folder):
            return self._finish(texts, report)

    def _finish(self, texts: pl.Series, report: dict[str, Any]) -> dict[str, Any]:
        declared = self._data
        items, filled = fill_nearest(self._items, declared.item_features, self._is_train_item)
        self._note_changes("items", filled)
        users, filled = fill_nearest(self._users, declared.users.features, self._is_train_user)
        self._note_changes("users", filled)
        items.write_parquet(self._folder / "items.parquet")
        users.write_parquet(self._folder / "users.parquet")
        pl.DataFrame({"text": texts}).write_parquet(self._folder / "texts.parquet")
        pl.concat(self._changes).write_parquet(self._folder / "changes.parquet")
        for (name, dtype), arrays in self._histories.items():
            _save_parts(self._folder / f"history_{name}.npy", arrays, dtype)
        learned = {
            "items": fit_features(declared.item_features, items.filter(self._is_train_item)),
            "users": fit_features(declared.users.features, users.filter(self._is_train_user)),
            "context": self._fit_context(declared.events.context),
        }
        tried = self._contexts.head(_TRIED).collect()
        check_foreign(learned["items"], items, "data.items.features")
        check_foreign(learned["users"], users, "data.users.features")
        check_foreign(learned["context"], tried, "data.events.context")
        described = {
            "items": describe_frame(learned["items"], items),
            "users": describe_frame(learned["users"], users),
            "context": self._describe_context(learned["context"]),
        }
        meta = {
            "format_version": FORMAT_VERSION,
            "tfrec": tfrec.__version__,
            "max_history": declared.max_history,
            "event_kinds": list(declared.events.kinds),
            "has_times": declared.events.time is not None,
            "rows": {"contexts": self._num_contexts, "examples": self._num_examples},
            **{
                f"{table}_features": [feature.to_dict() for feature in features]
                for table, features in learned.items()
            },
            "report": {**report, "features": described},
        }
        path = self._folder / "prepared.json"
        path.write_text(json.dumps(meta, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        return described

    def _note_changes(self, table: str, filled: pl.DataFrame, first_row: int = 0) -> None:
        row = pl.col("row").cast(pl.Int64) + first_row
        self._changes.append(
            filled.select(pl.lit(table).alias("table"), row, "column", "old", "new")
        )

    def _fit_context(self, features: Features) -> list[FeatureType]:
        """Fits one column after the other, so that memory holds one column of the requests."""
        of_train = self._contexts.filter(pl.col(Columns.SPLIT) == _TRAIN)
        return [
            feature.fit(of_train.select(feature.name).collect()[feature.name])
            for feature in declare(features)
        ]

    def _describe_context(self, features: list[FeatureType]) -> dict[str, Any]:
        described: dict[str, Any] = {}
        known = self._contexts.collect_schema().names()
        for feature in features:
            columns = [feature.name, filled_column(feature.name)]
            frame = self._contexts.select([name for name in columns if name in known]).collect()
            described |= describe_frame([feature], frame)
        return described

    @property
    def _contexts(self) -> pl.LazyFrame:
        return pl.scan_parquet(part_paths(self._folder / "contexts"), glob=False)


def _save_parts(path: Path, parts: list[np.ndarray], dtype: str) -> None:
    """Writes flat arrays as one; unlike `np.save` it keeps the reason of an error."""
    shape = (sum(map(len, parts)),)
    with path.open("wb") as file:
        header = {"descr": dtype, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for part in parts:
            file.write(part.astype(dtype).data)
