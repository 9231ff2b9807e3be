"""Windows of histories packed into rows of one length, and the targets that they train.

Most histories are short. Packed, several of them share a row, so that hardly any place of a batch
is padding and all batches have one shape.
"""

from __future__ import annotations

import numpy as np

from tfrec.inputs.batches import InputTables
from tfrec.inputs.sequences import Sequences
from tfrec.schema import Batch


class PackedSequences:
    """Windows side by side in rows; which ones share a row is drawn once.

    Args:
        sequences: The windows.
        tables: Gives their events.
        seed: Of the run.

    Attributes:
        num_rows: Rows.
        width: Places of a row. The first is padding, from which targets without any history are
            predicted.
    """

    def __init__(self, sequences: Sequences, tables: InputTables, seed: int) -> None:
        self._sequences = sequences
        self._tables = tables
        self.width = sequences.max_length + 1
        self._windows = np.random.default_rng(seed).permutation(len(sequences))
        lengths = (sequences.last - sequences.first)[self._windows]
        self._row_starts = fill_rows(np.maximum(lengths, 1), sequences.max_length)
        self.num_rows = len(self._row_starts) - 1

    def gather(self, rows: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Gathers n rows.

        Args:
            rows: int [n], from 0 to num_rows - 1.

        Returns:
            ``history`` int32 [n, width], ``history_segment`` int32 [n, width], and
            ``history_kind`` and ``history_gap`` likewise where the tables give them;
            ``target_window`` int32 [targets], the target's row; ``target_place`` int32 [targets],
            the place after which it is predicted. And int64 [targets], rows of
            `PreparedData.examples`.
        """
        sequences = self._sequences
        first_of_row = self._row_starts[rows]
        num_windows = self._row_starts[rows + 1] - first_of_row
        row = np.repeat(np.arange(len(rows)), num_windows)
        number = _count_up(num_windows)  # of a window within its row
        window = self._windows[first_of_row[row] + number]
        length = sequences.last[window] - sequences.first[window]
        before = np.cumsum(np.maximum(length, 1)) - np.maximum(length, 1)
        of_row = before[np.cumsum(num_windows) - num_windows] if len(rows) else before
        start = 1 + before - of_row[row]  # the window's first place in its row

        places = np.repeat(row * self.width + start, length) + _count_up(length)
        longest = int(length.max(initial=1))
        events = self._tables.windows(sequences.first[window], sequences.last[window], longest)
        is_event = np.arange(longest) >= longest - length[:, None]
        events[Batch.HISTORY_SEGMENT] = np.where(is_event, 1 + number[:, None], 0)
        packed: dict[str, np.ndarray] = {}
        for name, values in events.items():
            flat = np.zeros(len(rows) * self.width, np.int32)
            flat[places] = values[is_event]
            packed[name] = flat.reshape(len(rows), self.width)

        begin = sequences.offsets[window]
        counts = sequences.offsets[window + 1] - begin
        at = np.repeat(begin, counts) + _count_up(counts)
        seen = sequences.positions[at]
        place = np.where(seen > 0, np.repeat(start, counts) + seen - 1, 0)
        packed[Batch.TARGET_WINDOW] = np.repeat(row, counts).astype(np.int32)
        packed[Batch.TARGET_PLACE] = place.astype(np.int32)
        return packed, sequences.rows[at]


def fill_rows(sizes: np.ndarray, capacity: int) -> np.ndarray:
    """Puts pieces into rows in their order: a piece that does not fit begins the next row.

    Args:
        sizes: int [n], at most `capacity` each.
        capacity: Places of a row.

    Returns:
        int64 [num_rows + 1]; row r holds the pieces from entry r up to entry r + 1.
    """
    ends = np.concatenate([[0], np.cumsum(sizes)])
    starts = [0]
    while starts[-1] < len(sizes):
        limit = ends[starts[-1]] + capacity
        starts.append(int(np.searchsorted(ends, limit, side="right")) - 1)
    return np.array(starts)


def _count_up(counts: np.ndarray) -> np.ndarray:
    """Returns 0 up to c - 1 for each count c, one after the other."""
    return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
