"""Users' histories cut into windows that train all targets in them, and batches of such windows.

One causal pass over a window gives the state after each of its events. A target is predicted from
the state after the last event that its request may see, so a pass trains many targets at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from tfrec.data.dataset import PreparedData
from tfrec.features.batches import InputTables, dataset_of_steps, num_batches
from tfrec.schema import Batch, Columns

_SHORTEST = 4
_TARGET_MULTIPLE = 256


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


def sequence_batches(
    sequences: Sequences,
    data: PreparedData,
    tables: InputTables,
    batch_size: int,
    seed: int,
    epoch: int,
    first_step: int = 0,
) -> tf.data.Dataset:
    """Returns the shuffled batches of one epoch, from any step on.

    As `epoch_batches`, it depends on the arguments alone and needs no reading of earlier steps.
    `num_batches(len(sequences), batch_size)` says how many batches there are. Windows of similar
    length stand in one batch; what is left over of an epoch is drawn anew each time.

    Args:
        sequences: The windows.
        data: What they were cut from.
        tables: What a tower reads of it; decides whether kinds and gaps are given along.
        batch_size: Windows of a batch.
        seed: Of the run.
        epoch: Number of the epoch, from 0.
        first_step: Batches to leave out at the beginning.

    Returns:
        For windows ``history`` int32 [batch_size, length], and ``history_kind`` and ``history_gap``
        likewise; length is one more than a power of two, or than the longest window, so that there
        is always padding in front. For targets, [num_targets] each: ``target_window`` int32, row of
        the batch; ``target_place`` int32, column of the event after which the target is predicted,
        one of padding where it sees none; ``item_index`` int32; ``weight`` float32; ``user_index``,
        ``text_index``, ``last_gap`` and the request features. num_targets is a multiple of 256:
        at the end stand targets of weight 0 and item 0 that are to be passed over.
    """
    source = _SequenceSource(sequences, data, tables, batch_size, seed, epoch)
    return dataset_of_steps(source, first_step, num_batches(len(sequences), batch_size))


class _SequenceSource:
    """The order of an epoch's windows, and the arrays of its steps."""

    def __init__(
        self,
        sequences: Sequences,
        data: PreparedData,
        tables: InputTables,
        batch_size: int,
        seed: int,
        epoch: int,
    ) -> None:
        self._sequences = sequences
        self._tables = tables
        self._item_index = data.examples[Batch.ITEM_INDEX].to_numpy()
        self._weight = data.examples[Columns.WEIGHT].to_numpy()
        self._context = data.examples["context"].to_numpy()
        self._widths = window_widths(sequences.max_length)
        draw = np.random.default_rng([seed, epoch])
        count = num_batches(len(sequences), batch_size)
        chosen = draw.permutation(len(sequences))[: count * batch_size]
        bucket = np.searchsorted(self._widths, self._lengths(chosen) + 1)
        chosen = chosen[np.argsort(bucket, kind="stable")]
        steps = np.split(chosen, np.arange(1, count) * batch_size)
        self._steps = [steps[number] for number in draw.permutation(count)]

    def signature(self) -> dict[str, tf.TensorSpec]:
        of_windows = (Batch.HISTORY, Batch.HISTORY_KIND, Batch.HISTORY_GAP)
        return {
            name: tf.TensorSpec(
                [None, None] if name in of_windows else [None, *values.shape[1:]], values.dtype
            )
            for name, values in self._gather(np.zeros(0, np.int64)).items()
        }

    def arrays(self, step: int) -> list[np.ndarray]:
        return list(self._gather(self._steps[step]).values())

    def _lengths(self, windows: np.ndarray) -> np.ndarray:
        return self._sequences.last[windows] - self._sequences.first[windows]

    def _gather(self, windows: np.ndarray) -> Mapping[str, np.ndarray]:
        sequences, lengths = self._sequences, self._lengths(windows)
        width = self._widths[np.searchsorted(self._widths, lengths.max(initial=0) + 1)]
        begin = sequences.offsets[windows]
        counts = sequences.offsets[windows + 1] - begin
        window = np.repeat(np.arange(len(windows), dtype=np.int32), counts)
        skipped = np.cumsum(counts) - counts
        at = np.arange(len(window)) + (begin - skipped)[window]
        place = width - lengths[window] + sequences.positions[at] - 1
        rows = sequences.rows[at]
        of_targets = {
            Batch.TARGET_WINDOW: window,
            Batch.TARGET_PLACE: place.astype(np.int32),
            Batch.ITEM_INDEX: self._item_index[rows],
            Batch.WEIGHT: self._weight[rows],
            **self._tables.request_fields(self._context[rows]),
        }
        num_padding = -len(rows) % _TARGET_MULTIPLE
        return {
            **self._tables.windows(sequences.first[windows], sequences.last[windows], int(width)),
            **{name: _pad(values, num_padding) for name, values in of_targets.items()},
        }


def window_widths(max_length: int) -> np.ndarray:
    """Returns the widths that batches of windows have, ascending; one column is for padding."""
    widths = [min(_SHORTEST, max_length)]
    while widths[-1] < max_length:
        widths.append(min(2 * widths[-1], max_length))
    return np.array(widths) + 1


def _pad(values: np.ndarray, count: int) -> np.ndarray:
    return np.concatenate([values, np.zeros((count, *values.shape[1:]), values.dtype)])


def _differs(values: np.ndarray) -> np.ndarray:
    """Marks the values that differ from the one before; the first is marked."""
    marks = np.ones(len(values), bool)
    marks[1:] = values[1:] != values[:-1]
    return marks
