"""The prepared data set: what every later stage reads, as columns on disk.

Four tables and flat arrays:

* ``items.parquet``: the catalogue; row r is item index r + 1 (index 0 is "none or unknown").
* ``users.parquet``: likewise for users.
* ``contexts/``: one row per request (user, time, text, context features) with its split and the
  range of the user's history that lies strictly before it.
* ``examples/``: one row per event that trains or tests: context row, item index, label, weight.
* ``history_items.npy``: every user's positive items in time order; contexts slice it. Beside it
  ``history_kinds.npy`` for logs with kinds of events, and ``history_times.npy`` for those with
  times.

Two more tell what preparation did: ``removed.parquet`` (file and row of each event that was left
out, and by which step) and ``changes.parquet`` (each missing number that was filled: table, row
from 0 there, column, old and new).

``prepared.json`` holds the format version, the fitted features and the report; it is written last.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from tfrec.errors import ArtefactError, reason_of
from tfrec.features import FeatureType, encode_frame, load_feature
from tfrec.schema import SPLITS, UNKNOWN_INDEX, UNKNOWN_TIME, Columns

FORMAT_VERSION = 5


@dataclass(frozen=True)
class HistoryEvents:
    """Histories as arrays [n, length], oldest event first, padded with 0 in front.

    Attributes:
        items: int32, item indices.
        kinds: int32, position in `PreparedData.event_kinds` from 1; 0 for unknown.
        times: int64, microseconds since 1970; `UNKNOWN_TIME` where the log has none.
    """

    items: np.ndarray
    kinds: np.ndarray
    times: np.ndarray


@dataclass(frozen=True)
class PreparedData:
    """The prepared data set in memory.

    Attributes:
        items: item_id, title, text and typed feature columns; one row per catalogue item.
        users: user_id, text and typed feature columns; one row per user.
        texts: Distinct request texts; row 0 is the empty text.
        contexts: user_index (int32), time (Datetime), text_index (int32), query (text),
            history_start and history_end (int64), split (int8, position in `SPLITS`) and typed
            context features. In a log without time, `time` only orders. With kinds of events also
            history_last_kind (int16): the kind of the last item of the history, as of `time`.
        examples: context (int32, row of `contexts`), item_index (int32), label (int8),
            weight (float32), position (int16, 0 for none), is_target and is_ranked (bool),
            watch_time (float32, NaN where unknown) and true_probability (likewise). Where the log
            has ratings also rating (float32); where it has kinds of events also outcomes (int64):
            of a ranked row, bit k - 1 says that an event of kind k belongs to it, see
            `tfrec.data.preparing.outcomes`.
        history_items: int32, item indices by user and time.
        history_kinds: int16, the kind of each; None for logs without kinds.
        history_times: int64, when each was chosen, microseconds since 1970; None for logs without
            time.
        event_kinds: Names of the declared kinds; kind k is the one at k - 1.
        item_features, user_features, context_features: Fitted.
        max_history: Last positive items that a tower sees.
        report: What reading and cleaning counted.
    """

    items: pl.DataFrame
    users: pl.DataFrame
    texts: list[str]
    contexts: pl.DataFrame
    examples: pl.DataFrame
    history_items: np.ndarray
    history_kinds: np.ndarray | None
    history_times: np.ndarray | None
    event_kinds: list[str]
    item_features: list[FeatureType]
    user_features: list[FeatureType]
    context_features: list[FeatureType]
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
        start, end = self.history_ranges(contexts)
        return _last_of(self.history_items, start, end, self.max_history, np.int32)

    def history_events(self, contexts: np.ndarray) -> HistoryEvents:
        """Slices the last `max_history` events before each request, with their kinds and times.

        Args:
            contexts: int [n], rows of `contexts`.

        Returns:
            [n, max_history] each.
        """
        events = self.slice_history(*self.history_ranges(contexts), self.max_history)
        if self.history_kinds is not None:
            last_kind = self.contexts[Columns.HISTORY_LAST_KIND].to_numpy()[contexts]
            events.kinds[:, -1] = last_kind
        return events

    def slice_history(self, start: np.ndarray, end: np.ndarray, length: int) -> HistoryEvents:
        """Slices ranges of the stored histories.

        The kind of each event is the one known when the next stored item is chosen. A request at
        that moment may see it; for requests before it, `history_events` knows the kind.

        Args:
            start: int64 [n], positions in `history_items`.
            end: int64 [n], behind the last of each range.
            length: Last events to take.

        Returns:
            [n, length] each.
        """

        def last_of(values: np.ndarray | None, dtype: type) -> np.ndarray:
            if values is None:
                return np.zeros((len(start), length), dtype)
            return _last_of(values, start, end, length, dtype)

        return HistoryEvents(
            items=last_of(self.history_items, np.int32),
            kinds=last_of(self.history_kinds, np.int32),
            times=last_of(self.history_times, np.int64),
        )

    def history_ranges(self, contexts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns where the full histories of requests lie in `history_items`.

        Args:
            contexts: int [n], rows of `contexts`.

        Returns:
            int64 [n], the first position, and int64 [n], behind the last one.
        """
        start, end = (
            self.contexts[name].to_numpy()[contexts] for name in ("history_start", "history_end")
        )
        return start, end

    def request_times(self, contexts: np.ndarray) -> np.ndarray:
        """Returns int64 [n], microseconds since 1970; `UNKNOWN_TIME` in logs without time."""
        if self.history_times is None:
            return np.full(len(contexts), UNKNOWN_TIME, np.int64)
        return self.contexts[Columns.TIME].to_physical().to_numpy()[contexts]

    def seen_pairs(self, contexts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Lists all items in the full histories of requests.

        Args:
            contexts: int [n], rows of `contexts`.

        Returns:
            Pairs as two int64 arrays: position in `contexts`, and item index.
        """
        start, end = self.history_ranges(contexts)
        lengths = end - start
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
            return _read(folder, meta)
        except (OSError, EOFError, ValueError, pl.exceptions.ComputeError) as error:
            reason = reason_of(error)
            raise ArtefactError(
                f"{folder}: the prepared data are damaged ({reason}); prepare them again."
            ) from None


def history_arrays(has_kinds: bool, has_times: bool) -> Iterator[tuple[str, str]]:
    """Lists the flat arrays of a data set: name and type of each, the items first."""
    yield "items", "<i4"
    if has_kinds:
        yield "kinds", "<i2"
    if has_times:
        yield "times", "<i8"


def part_paths(folder: Path) -> list[Path]:
    """Lists the parts of a table in the order of its rows."""
    return sorted(folder.glob("part-*.parquet"))


def _read(folder: Path, meta: dict[str, Any]) -> PreparedData:
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
        name: [load_feature(saved) for saved in meta[f"{name}_features"]]
        for name in ("items", "users", "context")
    }
    histories: dict[str, Any] = {"kinds": None, "times": None}
    for name, _ in history_arrays(bool(meta["event_kinds"]), meta["has_times"]):
        histories[name] = np.load(folder / f"history_{name}.npy")
        if len(histories[name]) != len(histories["items"]):
            raise ValueError(f"history_{name}: wanted as many as history_items")
    return PreparedData(
        **frames,
        item_features=encoders["items"],
        user_features=encoders["users"],
        context_features=encoders["context"],
        texts=texts,
        history_items=histories["items"],
        history_kinds=histories["kinds"],
        history_times=histories["times"],
        event_kinds=meta["event_kinds"],
        max_history=meta["max_history"],
        report=meta["report"],
    )


def _last_of(
    values: np.ndarray, start: np.ndarray, end: np.ndarray, length: int, dtype: type
) -> np.ndarray:
    """Returns the last `length` values of each range, [n, length], padded with 0 in front."""
    at = end[:, None] + np.arange(-length, 0, dtype=np.int64)
    if not values.size:
        return np.zeros(at.shape, dtype)
    return np.where(at >= start[:, None], values[np.maximum(at, 0)], 0).astype(dtype)


def _number_rows(has_row: np.ndarray) -> np.ndarray:
    has_row = has_row.copy()
    has_row[UNKNOWN_INDEX] = False
    return np.where(has_row, np.cumsum(has_row), 0).astype(np.int32)
