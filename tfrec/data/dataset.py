"""The prepared data set: what every later stage reads, as columns on disk.

Four tables and one flat array:

* ``items.parquet``: the catalogue; row r is item index r + 1 (index 0 is "none or unknown").
* ``users.parquet``: likewise for users.
* ``contexts/``: one row per request (user, time, text, context features) with its split and the
  range of the user's history that lies strictly before it.
* ``examples/``: one row per event that trains or tests: context row, item index, label, weight.
* ``history_items.npy``: every user's positive items in time order; contexts slice it.

Two more tell what preparation did: ``removed.parquet`` (file and row of each event that was left
out, and by which step) and ``changes.parquet`` (each missing number that was filled: table, row
from 0 there, column, old and new).

``prepared.json`` holds the format version, the fitted features and the report; it is written last.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from tfrec.data.tabular import FeatureEncoder, encode_frame
from tfrec.errors import ArtefactError
from tfrec.schema import SPLITS, UNKNOWN_INDEX, Columns

FORMAT_VERSION = 2


@dataclass(frozen=True)
class PreparedData:
    """The prepared data set in memory.

    Attributes:
        items: item_id, title, text and typed feature columns; one row per catalogue item.
        users: user_id, text and typed feature columns; one row per user.
        texts: Distinct request texts; row 0 is the empty text.
        contexts: user_index (int32), time (Datetime), text_index (int32), query (text),
            history_start and history_end (int64), split (int8, position in `SPLITS`) and typed
            context features. In a log without time, `time` only orders.
        examples: context (int32, row of `contexts`), item_index (int32), label (int8),
            weight (float32), position (int16, 0 for none), is_target and is_ranked (bool),
            watch_time (float32, NaN where unknown) and true_probability (likewise).
        history_items: int32, item indices by user and time.
        item_features, user_features, context_features: Fitted encoders.
        max_history: Last positive items that a tower sees.
        report: What reading and cleaning counted.
    """

    items: pl.DataFrame
    users: pl.DataFrame
    texts: list[str]
    contexts: pl.DataFrame
    examples: pl.DataFrame
    history_items: np.ndarray
    item_features: list[FeatureEncoder]
    user_features: list[FeatureEncoder]
    context_features: list[FeatureEncoder]
    max_history: int
    report: dict[str, object]

    @property
    def num_items(self) -> int:
        """Catalogue items; item indices run from 1 to `num_items`."""
        return self.items.height

    @property
    def num_users(self) -> int:
        """Known users; user indices run from 1 to `num_users`."""
        return self.users.height

    @cached_property
    def item_inputs(self) -> dict[str, np.ndarray]:
        """Encoded item features, [num_items + 1, ...] each; row 0 is unknown."""
        return encode_frame(self.item_features, self.items, with_unknown_row=True)

    @cached_property
    def user_inputs(self) -> dict[str, np.ndarray]:
        """Encoded user features, [num_users + 1, ...] each; row 0 is unknown."""
        return encode_frame(self.user_features, self.users, with_unknown_row=True)

    @cached_property
    def context_inputs(self) -> dict[str, np.ndarray]:
        """Encoded context features, [num_contexts, ...] each."""
        return encode_frame(self.context_features, self.contexts, with_unknown_row=False)

    def split_mask(self, split: str) -> np.ndarray:
        """Returns bool [num_examples]: the examples whose request lies in `split`."""
        of_context = self.contexts[Columns.SPLIT].to_numpy() == SPLITS.index(split)
        return of_context[self.examples["context"].to_numpy()]

    def target_rows(self, split: str) -> np.ndarray:
        """Returns int64 rows of `examples`: what retrieval has to find in `split`."""
        return np.flatnonzero(self.examples[Columns.IS_TARGET].to_numpy() & self.split_mask(split))

    def ranked_rows(self, split: str) -> np.ndarray:
        """Returns int64 rows of `examples`: shown items with their answer in `split`."""
        return np.flatnonzero(self.examples[Columns.IS_RANKED].to_numpy() & self.split_mask(split))

    def train_texts(self) -> list[str]:
        """Returns the distinct texts of training requests."""
        of_context = self.contexts[Columns.SPLIT].to_numpy() == SPLITS.index("train")
        rows = np.unique(self.contexts["text_index"].to_numpy()[of_context])
        return [self.texts[row] for row in rows if self.texts[row]]

    def item_counts(self) -> np.ndarray:
        """Returns int64 [num_items + 1]: training targets of each item index."""
        items = self.examples["item_index"].to_numpy()[self.target_rows("train")]
        return np.bincount(items, minlength=self.num_items + 1)

    @cached_property
    def item_id_rows(self) -> np.ndarray:
        """Row of each item in an id table, int32 [num_items + 1]; 0 without training targets."""
        return _number_rows(self.item_counts() > 0)

    @cached_property
    def user_id_rows(self) -> np.ndarray:
        """Row of each user in an id table, int32 [num_users + 1]; 0 without training targets."""
        contexts = self.examples["context"].to_numpy()[self.target_rows("train")]
        users = self.contexts["user_index"].to_numpy()[contexts]
        return _number_rows(np.bincount(users, minlength=self.num_users + 1) > 0)

    def histories(self, contexts: np.ndarray) -> np.ndarray:
        """Slices the last `max_history` items before each request, oldest first.

        Args:
            contexts: int [n], rows of `contexts`.

        Returns:
            int32 [n, max_history], padded with 0 in front.
        """
        start = self.contexts["history_start"].to_numpy()[contexts]
        end = self.contexts["history_end"].to_numpy()[contexts]
        at = end[:, None] + np.arange(-self.max_history, 0, dtype=np.int64)
        if not self.history_items.size:
            return np.zeros(at.shape, np.int32)
        items = self.history_items[np.maximum(at, 0)]
        return np.where(at >= start[:, None], items, 0).astype(np.int32)

    def seen_pairs(self, contexts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Lists all items in the full histories of requests.

        Args:
            contexts: int [n], rows of `contexts`.

        Returns:
            Pairs as two int64 arrays: position in `contexts`, and item index.
        """
        start = self.contexts["history_start"].to_numpy()[contexts].astype(np.int64)
        lengths = self.contexts["history_end"].to_numpy()[contexts] - start
        rows = np.repeat(np.arange(len(contexts)), lengths)
        first = np.repeat(start - np.concatenate([[0], np.cumsum(lengths)[:-1]]), lengths)
        return rows, self.history_items[first + np.arange(len(rows))].astype(np.int64)

    @classmethod
    def load(cls, folder: str | Path) -> PreparedData:
        """Reads a prepared data set.

        Raises:
            ArtefactError: The folder holds no prepared data, not all of them, or another format
                version.
        """
        folder = Path(folder)
        try:
            meta = json.loads((folder / "prepared.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ArtefactError(f"{folder}: holds no prepared data; run `tfrec train`.") from None
        if meta["format_version"] != FORMAT_VERSION:
            raise ArtefactError(
                f"{folder}: wanted prepared data of format {FORMAT_VERSION}, "
                f"got {meta['format_version']}; prepare it again."
            )
        try:
            return cls._read(folder, meta)
        except (OSError, EOFError, ValueError, pl.exceptions.ComputeError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ArtefactError(
                f"{folder}: the prepared data are damaged ({reason}); prepare them again."
            ) from None

    @classmethod
    def _read(cls, folder: Path, meta: dict[str, Any]) -> PreparedData:
        frames = {
            name: pl.read_parquet(folder / f"{name}.parquet", glob=False)
            for name in ("items", "users", "texts")
        }
        texts = frames.pop("texts")["text"].to_list()
        for name, num_rows in meta["rows"].items():
            paths = part_paths(folder / name)
            frames[name] = pl.read_parquet(paths, glob=False) if paths else pl.DataFrame()
            if frames[name].height != num_rows:
                raise ValueError(f"{name}: wanted {num_rows} rows, got {frames[name].height}")
        encoders = {
            name: [FeatureEncoder(**saved) for saved in meta[f"{name}_features"]]
            for name in ("items", "users", "context")
        }
        return cls(
            **frames,
            item_features=encoders["items"],
            user_features=encoders["users"],
            context_features=encoders["context"],
            texts=texts,
            history_items=np.load(folder / "history_items.npy"),
            max_history=meta["max_history"],
            report=meta["report"],
        )


def part_paths(folder: Path) -> list[Path]:
    """Lists the parts of a table in the order of its rows."""
    return sorted(folder.glob("part-*.parquet"))


def _number_rows(has_row: np.ndarray) -> np.ndarray:
    has_row = has_row.copy()
    has_row[UNKNOWN_INDEX] = False
    return np.where(has_row, np.cumsum(has_row), 0).astype(np.int32)
