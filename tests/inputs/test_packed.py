import numpy as np
import pytest

from tfrec.data.dataset import PreparedData
from tfrec.inputs.batches import InputTables
from tfrec.inputs.packed import PackedSequences, fill_rows
from tfrec.inputs.sequences import Sequences, cut_sequences
from tfrec.schema import Batch

HISTORY = np.arange(100, 200, dtype=np.int32)
WIDEST = 5


class Tables:
    """Stands for the tables that give a window's events."""

    def windows(self, first, last, length):
        at = last[:, None] + np.arange(-length, 0)
        is_event = at >= first[:, None]
        return {Batch.HISTORY: np.where(is_event, HISTORY[np.maximum(at, 0)], 0).astype(np.int32)}


def make_sequences(seed: int, count: int = 40) -> Sequences:
    rng = np.random.default_rng(seed)
    length = rng.integers(0, WIDEST + 1, count)
    first = rng.integers(0, 90, count)
    num_targets = rng.integers(1, 4, count)
    window = np.repeat(np.arange(count), num_targets)
    return Sequences(
        first=first,
        last=first + length,
        offsets=np.concatenate([[0], np.cumsum(num_targets)]),
        rows=rng.permutation(len(window)),
        positions=rng.integers(0, length[window] + 1).astype(np.int32),
        max_length=WIDEST,
    )


@pytest.mark.parametrize("seed", range(5))
def test_every_target_stands_once_behind_the_events_it_may_see(seed):
    sequences = make_sequences(seed)
    packed = PackedSequences(sequences, Tables(), seed)
    arrays, rows = packed.gather(np.random.default_rng(seed).permutation(packed.num_rows))
    assert sorted(rows) == sorted(sequences.rows)
    window_of = np.repeat(np.arange(len(sequences)), np.diff(sequences.offsets))
    for target, example in enumerate(rows):
        at = int(np.flatnonzero(sequences.rows == example)[0])
        window, seen = window_of[at], sequences.positions[at]
        row, place = arrays[Batch.TARGET_WINDOW][target], arrays[Batch.TARGET_PLACE][target]
        history, segment = arrays[Batch.HISTORY][row], arrays[Batch.HISTORY_SEGMENT][row]
        if seen == 0:
            assert segment[place] == 0
            continue
        visible = [history[p] for p in range(place + 1) if segment[p] == segment[place]]
        first = sequences.first[window]
        assert visible == HISTORY[first : first + seen].tolist()


def test_chosen_rows_are_gathered_in_their_order():
    packed = PackedSequences(make_sequences(1), Tables(), 1)
    every, _ = packed.gather(np.arange(packed.num_rows))
    some, _ = packed.gather(np.array([3, 0, 2]))
    np.testing.assert_array_equal(some[Batch.HISTORY], every[Batch.HISTORY][[3, 0, 2]])


def test_no_rows_give_arrays_without_rows():
    packed = PackedSequences(make_sequences(2), Tables(), 2)
    arrays, rows = packed.gather(np.zeros(0, np.int64))
    assert arrays[Batch.HISTORY].shape == (0, WIDEST + 1)
    assert not len(rows)
    assert all(values.dtype == np.int32 for values in arrays.values())


def test_rows_are_filled_as_far_as_the_next_piece_fits():
    # 3 + 2 fill a row of 5; 4 leaves no room for 2; 2 + 1 + 1 leave none for 5.
    starts = fill_rows(np.array([3, 2, 4, 2, 1, 1, 5]), 5)
    np.testing.assert_array_equal(starts, [0, 2, 3, 6, 7])


def test_no_pieces_fill_no_rows():
    np.testing.assert_array_equal(fill_rows(np.zeros(0, int), 5), [0])


def test_kinds_and_gaps_stand_beside_their_events(data: PreparedData):
    none = np.zeros((1, 1), np.int32)
    tables = InputTables(data, none, none, event_kinds=True, time_gaps=True)
    sequences = cut_sequences(data, data.target_rows("train"), 10)
    packed = PackedSequences(sequences, tables, 0)
    arrays, _ = packed.gather(np.arange(packed.num_rows))
    segment = arrays[Batch.HISTORY_SEGMENT]
    is_event = segment > 0
    assert ((arrays[Batch.HISTORY_KIND] > 0) == is_event).all()
    follows = is_event & (segment == np.pad(segment[:, :-1], [(0, 0), (1, 0)]))
    assert ((arrays[Batch.HISTORY_GAP] > 0) == follows).all()
