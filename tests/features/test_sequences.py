from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfrec.data.dataset import PreparedData
from tfrec.features.batches import InputTables, num_batches
from tfrec.features.sequences import Sequences, cut_sequences, sequence_batches, window_widths

NO_TOKENS = np.zeros((1, 1), np.int32)


@pytest.fixture(scope="module")
def logs(prepare_log: Callable, make_log: Callable) -> list[PreparedData]:
    """Returns prepared logs, of ordered and of other splits."""
    return [
        prepare_log(make_log(seed), split)
        for seed, split in ((0, "leave_one_out"), (1, "leave_one_out"), (2, "random"), (3, "users"))
    ]


def tables(data: PreparedData) -> InputTables:
    return InputTables(data, NO_TOKENS, NO_TOKENS, event_kinds=True, time_gaps=True)


def full_history(data: PreparedData, row: int) -> list[int]:
    """What the request of an example has seen, oldest first."""
    context = data.contexts.row(data.examples["context"][row], named=True)
    return data.history_items[context["history_start"] : context["history_end"]].tolist()


# Windows


@pytest.mark.parametrize("length", [1, 2, 3, 6, 7, 50])
def test_windows_show_each_target_its_own_past_and_no_more(logs: list, length: int):
    num_cut = 0
    for data in logs:
        rows = data.target_rows("train")
        sequences = cut_sequences(data, rows[::-1], length)
        assert sorted(sequences.rows) == rows.tolist()
        assert sequences.offsets[0] == 0
        assert sequences.offsets[-1] == len(rows)
        for window in range(len(sequences)):
            first, last = int(sequences.first[window]), int(sequences.last[window])
            targets = range(sequences.offsets[window], sequences.offsets[window + 1])
            ends = []
            for target in targets:
                row, position = int(sequences.rows[target]), int(sequences.positions[target])
                history = full_history(data, row)
                visible = data.history_items[first : first + position].tolist()
                assert visible == history[len(history) - position :]
                assert position >= min(length - length // 2, len(history))
                ends.append(data.contexts["history_end"][data.examples["context"][row]])
                num_cut += position < len(history)
            assert last == max(ends)  # nothing stands at or after the last target's end
            assert 0 <= last - first <= length
    assert num_cut > 0 or length == 50


def test_user_with_a_short_history_has_one_window(logs: list):
    kinds: set[bool] = set()
    for data in logs:
        rows = data.target_rows("train")
        sequences = cut_sequences(data, rows, 8)
        windows: dict[int, set[int]] = {}
        lengths: dict[int, int] = {}
        for window in range(len(sequences)):
            for row in sequences.rows[sequences.offsets[window] : sequences.offsets[window + 1]]:
                user = data.contexts["user_index"][data.examples["context"][int(row)]]
                windows.setdefault(user, set()).add(window)
                lengths[user] = max(lengths.get(user, 0), len(full_history(data, int(row))))
        kinds |= {lengths[user] <= 8 for user in windows}
        for user, found in windows.items():
            assert len(found) == 1 or lengths[user] > 8
            # Windows end half a window apart, so there are few of them.
            assert len(found) <= 1 + max(0, lengths[user] - 8 + 3) // 4
    assert kinds == {True, False}


def test_kinds_in_a_window_are_those_that_each_target_knows(logs: list):
    for data in logs:
        sequences = cut_sequences(data, data.target_rows("train"), 6)
        events = data.slice_history(sequences.first, sequences.last, 6)
        length = sequences.last - sequences.first
        for window in range(len(sequences)):
            for at in range(sequences.offsets[window], sequences.offsets[window + 1]):
                position = int(sequences.positions[at])
                context = data.examples["context"].to_numpy()[sequences.rows[at : at + 1]]
                wanted = data.history_events(context)
                behind = 6 - int(length[window]) + position
                shown = slice(behind - position, behind)
                for name in ("items", "kinds", "times"):
                    found = getattr(events, name)[window, shown].tolist()
                    assert found == getattr(wanted, name)[0, 6 - position :].tolist()


def test_windows_of_no_target_are_none(data: PreparedData):
    sequences = cut_sequences(data, np.zeros(0, np.int64), 6)
    assert (len(sequences), sequences.offsets.tolist()) == (0, [0])


# Batches


def batches(
    data: PreparedData,
    sequences: Sequences,
    size: int,
    seed: int = 1,
    epoch: int = 0,
    first: int = 0,
) -> list[dict[str, np.ndarray]]:
    dataset = sequence_batches(sequences, data, tables(data), size, seed, epoch, first)
    return [{name: value.numpy() for name, value in batch.items()} for batch in dataset]


def test_widths_are_few_and_hold_the_longest_window():
    assert window_widths(50).tolist() == [5, 9, 17, 33, 51]
    assert window_widths(8).tolist() == [5, 9]
    assert window_widths(1).tolist() == [2]


@pytest.mark.parametrize("size", [1, 3, 5, 100])
def test_batches_say_for_each_target_what_it_sees(logs: list, size: int):
    for data in logs[:2]:
        rows = data.target_rows("train")
        sequences = cut_sequences(data, rows, 10)
        position_of = dict(zip(sequences.rows, sequences.positions, strict=True))
        # What was asked tells an example from all others here: user, item and when.
        row_of = {}
        for row in rows.tolist():
            example = data.examples.row(row, named=True)
            user = data.contexts["user_index"][example["context"]]
            row_of[user, example["item_index"]] = row
        assert len(row_of) == len(rows)
        found = batches(data, sequences, size)
        assert len(found) == num_batches(len(sequences), size)
        seen: list[int] = []
        for batch in found:
            assert len(batch["history"]) == min(size, len(sequences))
            assert batch["history"].shape[1] in window_widths(10)
            assert len(batch["item_index"]) % 256 == 0
            is_real = batch["weight"] > 0
            num_real = int(is_real.sum())
            assert is_real[:num_real].all()  # padding stands at the end
            assert not batch["item_index"][num_real:].any()
            for at in range(num_real):
                row = row_of[batch["user_index"][at], batch["item_index"][at]]
                window, place = batch["target_window"][at], batch["target_place"][at]
                before = batch["history"][window, : place + 1]
                visible = before[before > 0].tolist()
                history = full_history(data, row)
                assert len(visible) == position_of[row]
                assert visible == history[len(history) - len(visible) :]
                assert (batch["history"][window, place] > 0) == bool(visible)
                assert place >= 0
                example = data.examples.row(row, named=True)
                context = np.array([example["context"]])
                assert batch["weight"][at] == example["weight"]
                for name, values in tables(data).request_fields(context).items():
                    np.testing.assert_array_equal(batch[name][at], values[0])
                seen.append(row)
        assert len(set(seen)) == len(seen)
        if len(sequences) % size == 0 or size > len(sequences):
            assert sorted(seen) == rows.tolist()


def test_batches_hold_windows_of_similar_length(data: PreparedData):
    sequences = cut_sequences(data, data.target_rows("train"), 10)
    found = batches(data, sequences, 1)
    for batch in found:
        length = int((batch["history"] > 0).sum())
        wanted = min(width for width in window_widths(10) if width > length)
        assert batch["history"].shape[1] == wanted
    widths = [batch["history"].shape[1] for batch in found]
    assert len(set(widths)) > 1
    assert widths != sorted(widths)  # long and short ones take turns


def test_kinds_and_gaps_stand_beside_their_events(data: PreparedData):
    sequences = cut_sequences(data, data.target_rows("train"), 10)
    for batch in batches(data, sequences, 4):
        is_item = batch["history"] > 0
        assert (batch["history_kind"] > 0).tolist() == is_item.tolist()
        has_one_before = is_item & np.pad(is_item[:, :-1], [(0, 0), (1, 0)])
        assert (batch["history_gap"] > 0).tolist() == has_one_before.tolist()


@pytest.mark.parametrize("first", [0, 1, 4, 99])
def test_epoch_from_a_step_on_is_the_tail_of_the_epoch(data: PreparedData, first: int):
    sequences = cut_sequences(data, data.target_rows("train"), 5)
    whole, tail = batches(data, sequences, 3), batches(data, sequences, 3, first=first)
    assert len(tail) == max(len(whole) - first, 0)
    for one, other in zip(tail, whole[first:], strict=True):
        for name in other:
            np.testing.assert_array_equal(one[name], other[name])


def test_batches_depend_on_seed_and_epoch(data: PreparedData):
    sequences = cut_sequences(data, data.target_rows("train"), 5)

    def order(**draw: Any) -> list:
        return [batch["history"].tolist() for batch in batches(data, sequences, 3, **draw)]

    orders = [order(seed=seed, epoch=epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert all(one != other for n, one in enumerate(orders) for other in orders[:n])
    assert order(seed=0, epoch=0) == orders[0]


def test_types_are_known_before_anything_is_read(data: PreparedData):
    sequences = cut_sequences(data, data.target_rows("train"), 5)
    plain = InputTables(data, NO_TOKENS, NO_TOKENS)
    spec = sequence_batches(sequences, data, plain, 3, 0, 0).element_spec
    of_targets = {
        name: tf.TensorSpec([None], kind)
        for name, kind in (
            ("target_window", tf.int32), ("target_place", tf.int32), ("item_index", tf.int32),
            ("weight", tf.float32), ("user_index", tf.int32), ("text_index", tf.int32),
        )
    }  # fmt: skip
    heat = spec.pop("heat")
    assert heat.shape.as_list() == [None, *data.context_inputs["heat"].shape[1:]]
    assert spec == of_targets | {"history": tf.TensorSpec([None, None], tf.int32)}
