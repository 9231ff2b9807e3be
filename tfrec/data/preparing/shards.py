"""From the cleaned events of some users to requests, histories and examples, with their split."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from tfrec.config import Config
from tfrec.data.parsing.catalogue import join_text
from tfrec.data.preparing.histories import (
    Histories,
    build_contexts,
    build_examples,
    build_histories,
    mark_targets,
)
from tfrec.data.preparing.impute import fill_interpolated, interpolated_features
from tfrec.data.preparing.leaks import check_leaks, measure_leaks, merge_leaks
from tfrec.data.preparing.outcomes import find_outcomes
from tfrec.data.preparing.scan import IdNumbers, RemovedRows
from tfrec.data.preparing.splits import find_repeated_pairs, is_ordered, split_events, stable_hash
from tfrec.errors import DataError
from tfrec.features.frame import filled_column
from tfrec.schema import SPLITS, Batch, Columns

_SHORT_HISTORY = 5


@dataclass(frozen=True)
class ShardParts:
    """What a shard adds to the prepared data.

    Attributes:
        contexts: Requests; see `PreparedData.contexts`. Histories count from this shard's first.
        examples: See `PreparedData.examples`; ``context`` counts from this shard's first.
        histories: Positive items by user and time, with kinds and times.
    """

    contexts: pl.DataFrame
    examples: pl.DataFrame
    histories: Histories


class ShardBuilder:
    """Builds shard after shard and sums up what the report says of all.

    Args:
        config: The run.
        users: All users, with their text.
        cuts: First moments of validation and test, in microseconds, where the split cuts by time.
        has_validation: Whether the log marks validation events itself.
        removed: Where removed rows are recorded.
    """

    def __init__(
        self,
        config: Config,
        users: pl.DataFrame,
        cuts: tuple[int, int] | None,
        has_validation: bool,
        removed: RemovedRows,
    ) -> None:
        self._config = config
        self._cuts = cuts
        self._has_validation = has_validation
        self._removed = removed
        self._user_text = users[Columns.TEXT]
        keys = stable_hash(users[Columns.USER_ID])
        self._user_keys = np.concatenate([np.zeros(1, np.uint64), keys])  # user indices begin at 1
        self._texts = IdNumbers(pl.Series([""], dtype=pl.String), first=0)
        self._counts = {name: Counter[str]() for name in ("targets", "ranked", "requests")}
        self._positive: Counter[str] = Counter()
        self._no_history: Counter[str] = Counter()
        self._num_positives: Counter[int] = Counter()
        self._leaks: dict[str, int] = {}

    @property
    def texts(self) -> pl.Series:
        """Distinct request texts so far; row 0 is the empty text."""
        return self._texts.ids

    def build(self, events: pl.DataFrame) -> ShardParts:
        """Builds one shard.

        Args:
            events: All events of some users, sorted by user_index, time and row.
        """
        data = self._config.data
        ordered = is_ordered(data.split)
        events = events.with_columns(self._request_text(events))
        events = split_events(
            events,
            data.split,
            self._cuts,
            self._user_keys,
            self._config.seed,
            self._has_validation,
        )
        if not ordered and data.split.kind != "given":
            repeated = find_repeated_pairs(events)
            events = self._removed.take(events, repeated, "repeated_pairs_dropped")
        events = mark_targets(events)
        declared = data.events.context
        events = fill_interpolated(events, declared)
        features = [*declared, *map(filled_column, interpolated_features(declared))]
        contexts, events = build_contexts(events, features)
        histories = build_histories(events, contexts, ordered)
        if data.events.kind:
            outcomes = find_outcomes(events, data.events.time is not None)
            events = events.with_columns(
                pl.Series(Columns.OUTCOMES, outcomes.kinds),
                pl.Series(Columns.WATCH_TIME, outcomes.watch_time),
            )
        examples = build_examples(events)
        leaks = measure_leaks(events, contexts, histories.items, histories.start, histories.end)
        self._leaks = merge_leaks(self._leaks, leaks)
        last_kind = pl.Series(Columns.HISTORY_LAST_KIND, histories.last_kind)
        contexts = contexts.select(
            pl.col(Batch.USER_INDEX).cast(pl.Int32),
            pl.col(Columns.TIME).cast(pl.Datetime("us")),
            self._texts.number(contexts[Columns.TEXT], grow=True).alias(Batch.TEXT_INDEX),
            Columns.QUERY,
            *features,
            Columns.SPLIT,
            pl.Series("history_start", histories.start, dtype=pl.Int64),
            pl.Series("history_end", histories.end, dtype=pl.Int64),
            *([last_kind] if data.events.kind else []),
        )
        self._count(contexts, examples, events)
        return ShardParts(contexts, examples, histories)

    def report(self) -> dict[str, Any]:
        """Returns the parts ``split``, ``leaks``, ``histories`` and ``warnings``."""
        lengths = np.array(sorted(self._num_positives.elements()))
        counts = {
            name: {part: counted[part] for part in SPLITS} for name, counted in self._counts.items()
        }
        split: dict[str, Any] = {
            "kind": self._config.data.split.kind,
            **counts,
            "positive_rate": {
                part: self._positive[part] / max(self._counts["ranked"][part], 1) for part in SPLITS
            },
        }
        if self._config.data.events.time:
            for name in ("first_time", "last_time"):
                times = {part: self._leaks.get(f"{part}_{name}") for part in SPLITS}
                split[name] = {
                    part: str(np.datetime64(time, "us").astype("datetime64[s]"))
                    for part, time in times.items()
                    if time is not None
                }
        return {
            "split": split,
            "leaks": self._leaks,
            "warnings": check_leaks(self._leaks, self._config.data.split),
            "histories": {
                "users": len(lengths),
                "users_with_short_history": int((lengths < _SHORT_HISTORY).sum()),
                "users_without_positive": int((lengths == 0).sum()),
                "median_positives": float(np.median(lengths)) if len(lengths) else 0.0,
                "requests_without_history": {part: self._no_history[part] for part in SPLITS},
            },
            "distinct_texts": len(self._texts) - 1,
        }

    def check(self) -> None:
        """Raises `DataError` where a split has nothing to find or nothing to rank."""
        num_requests = self._counts["requests"].total()
        for split in SPLITS:
            if not self._counts["targets"][split]:
                raise DataError(
                    f"data.split: no positive event falls into {split!r}; the log has "
                    f"{num_requests} requests. Give more events or other split sizes."
                )
            if not self._counts["ranked"][split]:
                raise DataError(
                    f"data.events.kinds: no event with `ranked: true` falls into {split!r}; the "
                    "ranking model has nothing to learn from. Let at least one kind be ranked."
                )

    def _request_text(self, events: pl.DataFrame) -> pl.Series:
        """The text U of a request: the user's own text, then the query."""
        query = events[Columns.QUERY]
        if not self._config.data.users.text:
            return query.alias(Columns.TEXT)
        of_user = self._user_text.gather(events[Batch.USER_INDEX].cast(pl.Int64) - 1)
        return join_text([of_user, query]).alias(Columns.TEXT)

    def _count(self, contexts: pl.DataFrame, examples: pl.DataFrame, events: pl.DataFrame) -> None:
        split = contexts[Columns.SPLIT].to_numpy()
        of_example = split[examples["context"].to_numpy()]
        is_empty = (contexts["history_end"] == contexts["history_start"]).to_numpy()
        is_target = examples[Columns.IS_TARGET].to_numpy()
        is_ranked = examples[Columns.IS_RANKED].to_numpy()
        is_positive = (examples[Columns.LABEL] == 1).to_numpy()
        for number, name in enumerate(SPLITS):
            inside, requests = of_example == number, split == number
            self._counts["targets"][name] += int((is_target & inside).sum())
            self._counts["ranked"][name] += int((is_ranked & inside).sum())
            self._counts["requests"][name] += int(requests.sum())
            self._positive[name] += int((is_ranked & is_positive & inside).sum())
            self._no_history[name] += int((is_empty & requests).sum())
        per_user = events.group_by(Batch.USER_INDEX).agg((pl.col(Columns.LABEL) == 1).sum())
        self._num_positives.update(per_user[Columns.LABEL].to_list())
