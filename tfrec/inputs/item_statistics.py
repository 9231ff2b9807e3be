"""What is known of an item's past at a moment: how often it was shown and chosen, and its age.

Only what happened strictly before a request counts for it, as a counter in production would know:
neither the request's own list nor anything else of the same microsecond. A choice counts from the
moment at which the item was shown.

In a log without times nothing is before anything else. There the training rows count, in ten parts
by request: a training request is told what the nine other parts know, since with its own answer
among the counts a model would read it off them. (Leaving out the answer alone does not help: an
item's rate without a chosen row is lower than without a row that was passed over.)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import logit

from tfrec.config import Config
from tfrec.data.dataset import PreparedData
from tfrec.schema import SPLITS, Columns

WINDOWS_HOURS = (1.0, 24.0)
"""Windows before the request that are counted beside the whole past."""

NUM_PARTS = 10
"""Parts of the training requests in a log without times."""

_PRIOR_ROWS = 20.0
_HOUR = 3_600_000_000
_NEVER = np.iinfo(np.int64).max


class ItemStatistics:
    """Counts of all ranked rows, ready to be asked about pairs of a request and an item.

    Each period (the whole past, then each window) gives three numbers:

    * ``log_odds``: how far the log odds of being chosen where shown lie above those of all training
      rows, as if the item had been shown 20 times more at the overall rate. 0 where all training
      rows have the same answer.
    * ``log_shown``, ``log_chosen``: log(1 + count).

    The last number is ``log_age``: log(1 + hours since the item first appeared, shown or in a
    history); 0 where it has not.

    Args:
        data: The prepared data set.
        windows_hours: Lengths of the windows. A window of h hours holds what happened at most h
            hours ago. Logs without times have no windows and no age.

    Attributes:
        names: Names of the numbers, in order.
    """

    def __init__(self, data: PreparedData, windows_hours: Sequence[float] = WINDOWS_HOURS) -> None:
        self._data = data
        self._has_times = data.history_times is not None
        self._windows = [round(hours * _HOUR) for hours in windows_hours if self._has_times]
        periods = ["all", *(f"{hours:g}h" for hours in windows_hours if self._has_times)]
        kinds = ("log_odds", "log_shown", "log_chosen")
        self.names = [f"{kind}_{period}" for period in periods for kind in kinds]
        self.names += ["log_age"] if self._has_times else []

        train = data.ranked_rows("train")
        label = data.examples[Columns.LABEL].to_numpy()
        self._overall = float(label[train].mean()) if len(train) else 0.0
        rows = np.flatnonzero(data.examples[Columns.IS_RANKED].to_numpy())
        rows = rows if self._has_times else train
        context = data.examples["context"].to_numpy()[rows]
        item = data.examples["item_index"].to_numpy()[rows].astype(np.int64)
        # Rows are sorted by item, then by moment (or part), and counted by their place.
        moment = data.request_times(context) if self._has_times else _parts(context)
        self._moments = np.unique(moment) if self._has_times else np.arange(NUM_PARTS)
        self._width = len(self._moments) + 1
        keys = item * self._width + np.searchsorted(self._moments, moment)
        order = np.argsort(keys, kind="stable")
        self._keys = keys[order]
        self._chosen = np.concatenate([[0], np.cumsum(label[rows][order] == 1)])
        self._first_time = np.full(data.num_items + 1, _NEVER)
        if data.history_times is not None:
            np.minimum.at(self._first_time, item, moment)
            np.minimum.at(self._first_time, data.history_items, data.history_times)

    def live(self, context: np.ndarray, item_index: np.ndarray) -> np.ndarray:
        """Tells what was known of items before requests.

        Args:
            context: int [n], rows of `PreparedData.contexts`.
            item_index: int [n].

        Returns:
            float32 [n, len(names)].
        """
        if self._has_times:
            return self._at(self._data.request_times(context), item_index)
        item = item_index.astype(np.int64)
        split = self._data.contexts[Columns.SPLIT].to_numpy()[context]
        part = _parts(context)
        shown, chosen = self._count(item, 0, NUM_PARTS)
        own_shown, own_chosen = self._count(item, part, part + 1)
        is_train = split == SPLITS.index("train")
        return self._encode([(shown - is_train * own_shown, chosen - is_train * own_chosen)])

    def table(self, time: int | None = None) -> np.ndarray:
        """Tells what is known of all items at one moment.

        Args:
            time: Microseconds since 1970; by default the end of the log. Of no matter in a log
                without times.

        Returns:
            float32 [num_items + 1, len(names)], by item index.
        """
        items = np.arange(self._data.num_items + 1)
        if not self._has_times:
            return self._encode([self._count(items, 0, NUM_PARTS)])
        if time is None:
            seen = self._first_time[self._first_time != _NEVER]
            time = 1 + int(max(np.max(self._moments, initial=0), np.max(seen, initial=0)))
        return self._at(np.full(len(items), time), items)

    def _at(self, time: np.ndarray, item_index: np.ndarray) -> np.ndarray:
        item = item_index.astype(np.int64)
        now = np.searchsorted(self._moments, time)
        counts = [self._count(item, 0, now)]
        for window in self._windows:
            counts.append(self._count(item, np.searchsorted(self._moments, time - window), now))
        hours = np.maximum(time - self._first_time[item], 0) / _HOUR
        return self._encode(counts, np.log1p(hours))

    def _count(
        self, item: np.ndarray, start: np.ndarray | int, end: np.ndarray | int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Counts rows of items, and those chosen, from one place among the moments to another."""
        first = np.searchsorted(self._keys, item * self._width + start)
        last = np.searchsorted(self._keys, item * self._width + end)
        return last - first, self._chosen[last] - self._chosen[first]

    def _encode(
        self, counts: list[tuple[np.ndarray, np.ndarray]], *further: np.ndarray
    ) -> np.ndarray:
        columns: list[np.ndarray] = []
        for shown, chosen in counts:
            odds = np.zeros(len(shown))
            if 0 < self._overall < 1:
                rate = (chosen + _PRIOR_ROWS * self._overall) / (shown + _PRIOR_ROWS)
                odds = logit(rate) - logit(self._overall)
            columns += [odds, np.log1p(shown), np.log1p(chosen)]
        return np.stack([*columns, *further], axis=1).astype(np.float32)


def _parts(context: np.ndarray) -> np.ndarray:
    """Deals requests out to parts, int [n]; neighbours come from one user and are kept apart."""
    return context.astype(np.int64) % NUM_PARTS


def live_statistics(data: PreparedData, config: Config) -> ItemStatistics | None:
    """Returns the counters of `ranking.item_statistics: live`; None for its other values."""
    return ItemStatistics(data) if config.ranking.item_statistics == "live" else None
