from collections.abc import Callable

import numpy as np
import pytest

from tfrec.data.dataset import PreparedData
from tfrec.inputs.sequences import cut_sequences


@pytest.fixture(scope="module")
def logs(prepare_log: Callable, make_log: Callable) -> list[PreparedData]:
    """Returns prepared logs, of ordered and of other splits."""
    return [
        prepare_log(make_log(seed), split)
        for seed, split in ((0, "leave_one_out"), (1, "leave_one_out"), (2, "random"), (3, "users"))
    ]


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
