"""Users' histories cut into windows that train all targets in them.

One causal pass over a window gives the state after each of its events. A target is predicted from
the state after the last event that its request may see, so a pass trains many targets at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tfrec.data.dataset import PreparedData
from tfrec.schema import Batch


@dataclass(frozen=True)
class Sequences:
    """Windows of histories, and the training targets that each of them predicts.

    Attributes:
        first: int64 [num_windows], position of the window in `PreparedData.history_items`.
        last: int64 [num_windows], behind its last event; equal to `first` where nothing precedes
            the targets.
        offsets: int64 [num_windows + 1]; the targets of window w stand at `offsets[w]` up to
            `offsets[w + 1]`.
        rows: int64 [num_targets], rows of `PreparedData.examples`.
        positions: int32 [num_targets], how many events of the window the target sees: its first
            ones.
        max_length: Most events in a window.
    """

    first: np.ndarray
    last: np.ndarray
    offsets: np.ndarray
    rows: np.ndarray
    positions: np.ndarray
    max_length: int

    def __len__(self) -> int:
        return len(self.first)


def cut_sequences(data: PreparedData, rows: np.ndarray, max_length: int) -> Sequences:
    """Cuts the histories before some targets into windows.

    Windows of a user end half a window apart, counted from the last target, and each target belongs
    to the earliest one that reaches it. So it sees at least the last ``max_length - max_length //
    2`` events of its own history, or all there are, and no later one. A user with at most
    `max_length` events has one window.

    The kinds of events in a window are those that each target's request knows, since targets are
    stored events themselves; see `PreparedData.slice_history`.

    Args:
        data: The prepared data set.
        rows: int [num_targets], rows of `examples` that are targets, each once.
        max_length: Most events in a window.
    """
    contexts = data.examples["context"].to_numpy()[rows]
    start, end = data.history_ranges(contexts)
    user = data.contexts[Batch.USER_INDEX].to_numpy()[contexts]
    order = np.lexsort((rows, -end, start, user))  # of a user, the last target first
    rows, start, end, user = rows[order], start[order], end[order], user[order]

    is_new = _differs(user) | _differs(start)
    last_end = end[np.maximum.accumulate(np.where(is_new, np.arange(len(rows)), 0))]
    stride = max(1, max_length // 2)
    # The first window that reaches the beginning takes all targets from there on.
    num_before = -(-np.maximum(last_end - start - max_length, 0) // stride)
    number = np.minimum((last_end - end) // stride, num_before)

    begins = np.flatnonzero(is_new | _differs(number))
    last = end[begins]
    first = np.maximum(start[begins], last - max_length)
    offsets = np.append(begins, len(rows))
    positions = end - np.repeat(first, np.diff(offsets))
    return Sequences(
        first=first,
        last=last,
        offsets=offsets.astype(np.int64),
        rows=rows.astype(np.int64),
        positions=positions.astype(np.int32),
        max_length=max_length,
    )


def _differs(values: np.ndarray) -> np.ndarray:
    """Marks the values that differ from the one before; the first is marked."""
    marks = np.ones(len(values), bool)
    marks[1:] = values[1:] != values[:-1]
    return marks
