"""The prepared data as tensors in memory, and the batches of an epoch gathered from them by row."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf

from tfrec.data.dataset import HistoryEvents, PreparedData
from tfrec.features.time_gaps import gap_buckets, history_gaps
from tfrec.schema import Batch

Gather = Callable[[np.ndarray], Mapping[str, np.ndarray]]
"""From int [n], rows, to arrays by name, [n, ...] each; gives the same for the same rows."""

_PREFETCH = 2
_MICROSECONDS = 1_000_000


class InputTables:
    """Everything a tower reads, indexed by item, user or text; row 0 is unknown or empty.

    Args:
        data: The prepared data set.
        item_tokens: int32 [num_items + 1, length].
        text_tokens: int32 [num_texts, length], row 0 the empty text.
        event_kinds: Whether requests and windows have the kinds of events.
        time_gaps: Whether they have the times between events, in the buckets of `time_gaps`.

    Attributes:
        item_tokens, text_tokens: As given, as tensors.
        item_id_rows: int32 [num_items + 1], row of the id table; 0 for items without training
            targets.
        user_id_rows: int32 [num_users + 1], likewise.
        item_features: Feature name to [num_items + 1, ...].
        user_features: Feature name to [num_users + 1, ...].
    """

    def __init__(
        self,
        data: PreparedData,
        item_tokens: np.ndarray,
        text_tokens: np.ndarray,
        *,
        event_kinds: bool = False,
        time_gaps: bool = False,
    ) -> None:
        self._data = data
        self._has_kinds = event_kinds
        self._has_gaps = time_gaps
        self._context_features = data.context_inputs
        self.item_tokens = tf.constant(item_tokens)
        self.text_tokens = tf.constant(text_tokens)
        self.item_id_rows = tf.constant(data.item_id_rows)
        self.user_id_rows = tf.constant(data.user_id_rows)
        self.item_features = {name: tf.constant(v) for name, v in data.item_inputs.items()}
        self.user_features = {name: tf.constant(v) for name, v in data.user_inputs.items()}

    def requests(self, contexts: np.ndarray) -> dict[str, np.ndarray]:
        """Gathers n requests.

        Args:
            contexts: int [n], rows of the prepared contexts.

        Returns:
            ``history``, int32 [n, max_history], padded with 0 in front; if asked for, also
            ``history_kind`` and ``history_gap``, likewise; and the `request_fields`.
        """
        if self._has_kinds or self._has_gaps:
            histories = self._history_arrays(self._data.history_events(contexts))
        else:
            histories = {Batch.HISTORY: self._data.histories(contexts)}
        return {**self.request_fields(contexts), **histories}

    def request_fields(self, contexts: np.ndarray) -> dict[str, np.ndarray]:
        """Gathers what n requests are beside their histories.

        Args:
            contexts: int [n], rows of the prepared contexts.

        Returns:
            ``user_index`` and ``text_index``, int32 [n]; the request features under their names; if
            asked for, ``last_gap``, int32 [n], bucket of the time since the last event, 0 without.
        """
        fields = {
            **self.request_rows(contexts),
            Batch.TEXT_INDEX: self._data.contexts["text_index"].to_numpy()[contexts],
        }
        if self._has_gaps:
            last = self._data.slice_history(*self._data.history_ranges(contexts), 1).times[:, 0]
            asked = self._data.request_times(contexts)
            fields[Batch.LAST_GAP] = gap_buckets(last // _MICROSECONDS, asked // _MICROSECONDS)
        return fields

    def windows(self, first: np.ndarray, last: np.ndarray, length: int) -> dict[str, np.ndarray]:
        """Gathers n ranges of the stored histories.

        Args:
            first: int64 [n], positions in `PreparedData.history_items`.
            last: int64 [n], behind the last event.
            length: Last events to take.

        Returns:
            ``history`` int32 [n, length], padded with 0 in front; if asked for, also
            ``history_kind`` and ``history_gap``.
        """
        return self._history_arrays(self._data.slice_history(first, last, length))

    def history_lengths(self, contexts: np.ndarray) -> np.ndarray:
        """Returns int64 [n], the items in ``history``: at most `max_history`."""
        start, end = self._data.history_ranges(contexts)
        return np.minimum(end - start, self._data.max_history)

    def item_histories(self, contexts: np.ndarray) -> np.ndarray:
        """Returns int32 [n, max_history], the items of histories, padded with 0 in front."""
        return self._data.histories(contexts)

    def request_seconds(self, contexts: np.ndarray) -> np.ndarray:
        """Returns int64 [n], when is asked, in seconds since 1970; 0 in logs without times."""
        return self._data.request_times(contexts) // _MICROSECONDS

    def _history_arrays(self, events: HistoryEvents) -> dict[str, np.ndarray]:
        arrays = {Batch.HISTORY: events.items}
        if self._has_kinds:
            arrays[Batch.HISTORY_KIND] = events.kinds
        if self._has_gaps:
            arrays[Batch.HISTORY_GAP] = history_gaps(events.times // _MICROSECONDS)
        return arrays

    def request_rows(self, contexts: np.ndarray) -> dict[str, np.ndarray]:
        """Gathers what `request_features` needs: ``user_index`` and the request features."""
        return {
            Batch.USER_INDEX: self._data.contexts["user_index"].to_numpy()[contexts],
            **{name: values[contexts] for name, values in self._context_features.items()},
        }

    def request_features(self, batch: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Joins the attributes of a batch's users to its request features."""
        of_user = {
            name: tf.gather(values, batch[Batch.USER_INDEX])
            for name, values in self.user_features.items()
        }
        return of_user | {name: batch[name] for name in self._context_features}


def num_batches(num_rows: int, batch_size: int) -> int:
    """Returns how many batches an epoch over `num_rows` has.

    A last, shorter batch is dropped unless it is the only one.
    """
    return max(1, num_rows // max(1, batch_size))


def epoch_batches(
    gather: Gather,
    rows: np.ndarray,
    batch_size: int,
    seed: int,
    epoch: int,
    first_step: int = 0,
) -> tf.data.Dataset:
    """Returns the shuffled batches of one epoch, from any step on.

    The batches depend on the arguments alone: step s of an epoch is the same whether the epoch
    starts at 0 or at s, which needs no reading of the steps before.

    Args:
        gather: Makes a batch of chosen rows. It runs in the background while the batch before is
            trained on, and is called with no row first, for the names, types and shapes.
        rows: int [n], in any order; `num_batches` says how many batches they make.
        batch_size: Rows of a batch.
        seed: Of the run.
        epoch: Number of the epoch, from 0.
        first_step: Batches to leave out at the beginning.

    Returns:
        What `gather` gives, as tensors [batch, ...] by name with fixed types.
    """
    source = _EpochSource(gather, rows, batch_size, seed, epoch)
    signature = source.signature()
    # TensorFlow holds functions of Python that a graph may call for as long as the process lives.
    # A weak reference keeps it from holding the data set with them.
    source_reference = weakref.ref(source)

    def gather_step(step: np.ndarray) -> list[np.ndarray]:
        return source_reference().arrays(int(step))  # type: ignore[union-attr]

    @tf.autograph.experimental.do_not_convert
    def batch_at(step: tf.Tensor) -> dict[str, tf.Tensor]:
        # Stateful, it would not run in the background: deterministic TensorFlow turns that off.
        arrays = tf.numpy_function(
            gather_step, [step], [spec.dtype for spec in signature.values()], stateful=False
        )
        for array, spec in zip(arrays, signature.values(), strict=True):
            array.set_shape(spec.shape)
        return dict(zip(signature, arrays, strict=True))

    steps = tf.data.Dataset.range(first_step, num_batches(len(rows), batch_size))
    dataset = steps.map(batch_at).prefetch(_PREFETCH)
    dataset.source = source  # lives as long as the dataset, and as what is derived from it
    return dataset


class _EpochSource:
    """The order of an epoch's rows, and the arrays of its steps."""

    def __init__(
        self, gather: Gather, rows: np.ndarray, batch_size: int, seed: int, epoch: int
    ) -> None:
        self._gather = gather
        self._batch_size = batch_size
        self._order = np.random.default_rng([seed, epoch]).permutation(rows)

    def signature(self) -> dict[str, tf.TensorSpec]:
        return batch_signature(self._gather(self._order[:0]))

    def arrays(self, step: int) -> list[np.ndarray]:
        start = step * self._batch_size
        return list(self._gather(self._order[start : start + self._batch_size]).values())


def batch_signature(batch: Mapping[str, np.ndarray]) -> dict[str, tf.TensorSpec]:
    """Returns names, types and shapes of all batches like this one, of any number of rows.

    A function that is traced for them alone computes the same whichever batch it sees first. One
    that is traced anew for other sizes does not: each trace is optimised for its own shapes.
    """
    return {
        name: tf.TensorSpec([None, *values.shape[1:]], values.dtype)
        for name, values in batch.items()
    }


def trim_front(history: tf.Tensor) -> tf.Tensor:
    """Cuts leading padding columns that no row needs; int32 [n, length] to [n, shorter]."""
    lengths = tf.reduce_sum(tf.cast(history != 0, tf.int32), axis=1)
    return history[:, -tf.maximum(tf.reduce_max(lengths), 1) :]
