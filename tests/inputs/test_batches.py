import gc
import itertools
import threading
import weakref
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

from tfrec.data.dataset import PreparedData
from tfrec.environment import start_tensorflow
from tfrec.inputs.batches import InputTables, epoch_batches, num_batches

NUM_ROWS, BATCH, SEED = 53, 10, 4


class Table:
    """Columns of several types and shapes, and a record of what was read."""

    def __init__(self, num_rows: int = NUM_ROWS) -> None:
        draw = np.random.default_rng(0)
        self.columns = {
            "row": np.arange(num_rows, dtype=np.int32),
            "weight": draw.random(num_rows).astype(np.float32),
            "history": draw.integers(0, 9, (num_rows, 6)).astype(np.int32),
            "label": draw.integers(0, 2, num_rows).astype(np.int8),
            "is_new": draw.random(num_rows) < 0.5,
        }
        self.reads: list[list[int]] = []

    def gather(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        if len(rows):
            self.reads.append(rows.tolist())
        return {name: values[rows] for name, values in self.columns.items()}


def taken(rows: np.ndarray, batch_size: int, seed: int, epoch: int, first: int = 0) -> list[list]:
    """Returns the rows of each batch that the dataset gives."""
    table = Table(int(rows.max(initial=0)) + 1)
    dataset = epoch_batches(table.gather, rows, batch_size, seed, epoch, first)
    return [batch["row"].numpy().tolist() for batch in dataset]


def wanted_order(rows: np.ndarray, batch_size: int, seed: int, epoch: int) -> list[list]:
    """Cuts the permutation that seed and epoch determine into batches, one row at a time."""
    order = np.random.default_rng([seed, epoch]).permutation(rows).tolist()
    batches: list[list] = [[]]
    for row in order:
        if len(batches[-1]) == batch_size:
            batches.append([])
        batches[-1].append(row)
    if len(batches) > 1 and len(batches[-1]) < batch_size:
        batches.pop()
    return batches


@pytest.mark.parametrize("num_rows", [1, 9, 10, 11, 20, 53, 100])
@pytest.mark.parametrize(("seed", "epoch"), [(0, 0), (4, 0), (4, 3)])
def test_batches_are_the_cut_permutation(num_rows: int, seed: int, epoch: int):
    rows = np.arange(num_rows) * 2 + 7
    wanted = wanted_order(rows, BATCH, seed, epoch)
    assert taken(rows, BATCH, seed, epoch) == wanted
    assert num_batches(num_rows, BATCH) == len(wanted)


def test_batches_hold_no_row_twice_and_leave_out_less_than_a_batch():
    rows = np.arange(100, 203)
    batches = taken(rows, 10, seed=1, epoch=0)
    assert [len(batch) for batch in batches] == [10] * 10
    flat = np.concatenate(batches)
    assert len(np.unique(flat)) == 100
    assert np.isin(flat, rows).all()
    assert (np.sort(flat) != flat).any()


def test_batches_depend_on_seed_and_epoch_alone():
    rows = np.arange(50)
    orders = {
        (seed, epoch): tuple(map(tuple, taken(rows, 10, seed, epoch)))
        for seed in range(3)
        for epoch in range(3)
    }
    assert len(set(orders.values())) == 9
    assert tuple(map(tuple, taken(rows, 10, 1, 0))) == orders[1, 0]
    assert rows.tolist() == list(range(50))


def test_every_row_is_seen_over_epochs():
    seen = [np.concatenate(taken(np.arange(19), 10, 0, epoch)) for epoch in range(9)]
    assert len(np.unique(np.concatenate(seen))) == 19


@pytest.mark.parametrize("first_step", range(7))
def test_epoch_from_a_step_on_is_the_tail_of_the_epoch(first_step: int):
    whole, tail = Table(), Table()
    rows = np.arange(NUM_ROWS)
    wanted = list(epoch_batches(whole.gather, rows, BATCH, SEED, 2))[first_step:]
    got = list(epoch_batches(tail.gather, rows, BATCH, SEED, 2, first_step))
    assert len(got) == max(5 - first_step, 0)
    for one, other in zip(got, wanted, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])
    # Nothing of what came before was read. (Several threads may read, in any order.)
    assert sorted(tail.reads) == sorted(batch["row"].numpy().tolist() for batch in wanted)


def test_types_are_those_of_the_arrays_and_only_the_batch_is_open():
    table = Table()
    dataset = epoch_batches(table.gather, np.arange(NUM_ROWS), BATCH, SEED, 0)
    assert dataset.element_spec == {
        "row": tf.TensorSpec([None], tf.int32),
        "weight": tf.TensorSpec([None], tf.float32),
        "history": tf.TensorSpec([None, 6], tf.int32),
        "label": tf.TensorSpec([None], tf.int8),
        "is_new": tf.TensorSpec([None], tf.bool),
    }
    assert table.reads == []  # types are known before anything is read
    for batch in dataset:
        rows = batch["row"].numpy()
        for name, values in table.columns.items():
            assert batch[name].dtype == values.dtype
            np.testing.assert_array_equal(batch[name], values[rows])


@pytest.mark.parametrize("is_deterministic", [False, True])
def test_next_batch_is_gathered_while_the_first_is_in_use(is_deterministic: bool):
    # Deterministic TensorFlow, which training asks for, quietly turns off prefetching behind
    # stateful functions.
    if is_deterministic:
        start_tensorflow(0)
    table, second = Table(), threading.Event()

    def gather(rows: np.ndarray) -> dict[str, np.ndarray]:
        arrays = table.gather(rows)
        if len(table.reads) >= 2:
            second.set()
        return arrays

    batches = iter(epoch_batches(gather, np.arange(NUM_ROWS), BATCH, SEED, 0))
    next(batches)
    assert second.wait(timeout=30)  # without another next()


def test_dataset_keeps_its_source_alive_and_no_longer_than_itself():
    table = Table()
    reference = weakref.ref(table)
    dataset = epoch_batches(table.gather, np.arange(NUM_ROWS), BATCH, SEED, 0).take(2)
    batches = iter(dataset)
    del table, dataset
    gc.collect()
    assert len(list(batches)) == 2
    del batches
    gc.collect()
    assert reference() is None


def test_dataset_read_twice_gives_the_same():
    dataset = epoch_batches(Table().gather, np.arange(NUM_ROWS), BATCH, SEED, 0)
    first, second = ([batch["row"].numpy().tolist() for batch in dataset] for _ in range(2))
    assert first == second
    assert len(first) == 5


def test_error_while_gathering_is_told():
    def gather(rows: np.ndarray) -> dict[str, np.ndarray]:
        if len(rows):
            raise ValueError("row 3 cannot be read")
        return {"row": rows}

    with pytest.raises(tf.errors.OpError, match="row 3 cannot be read"):
        list(epoch_batches(gather, np.arange(NUM_ROWS), BATCH, SEED, 0))


# Requests

NO_TOKENS = np.zeros((1, 1), np.int32)


def test_requests_hold_kinds_and_gaps_only_if_asked_for(data: PreparedData):
    rows = np.arange(data.contexts.height)
    plain = InputTables(data, NO_TOKENS, NO_TOKENS).requests(rows)
    assert set(plain) == {"user_index", "text_index", "history", "heat"}
    with_kinds = InputTables(data, NO_TOKENS, NO_TOKENS, event_kinds=True).requests(rows)
    assert set(with_kinds) - set(plain) == {"history_kind"}
    with_gaps = InputTables(data, NO_TOKENS, NO_TOKENS, time_gaps=True).requests(rows)
    assert set(with_gaps) - set(plain) == {"history_gap", "last_gap"}
    for name, values in plain.items():
        np.testing.assert_array_equal(with_kinds[name], values)
        np.testing.assert_array_equal(with_gaps[name], values)
    assert InputTables(data, NO_TOKENS, NO_TOKENS).history_lengths(rows).tolist() == [
        int(number) for number in (plain["history"] > 0).sum(axis=1)
    ]


def expected_bucket(earlier: int, later: int) -> int:
    """The number of binary digits of the seconds between two moments in microseconds."""
    return max(later // 10**6 - earlier // 10**6, 1).bit_length()


def test_gaps_of_requests_are_those_of_the_log(data: PreparedData):
    rows = np.arange(data.contexts.height)
    tables = InputTables(data, NO_TOKENS, NO_TOKENS, time_gaps=True, event_kinds=True)
    requests = tables.requests(rows)
    asked = data.contexts["time"].to_physical().to_list()
    num_known = 0
    for row in rows:
        start, end = data.contexts.select("history_start", "history_end").row(int(row))
        times = data.history_times[max(start, end - 6) : end].tolist()
        gaps = [0, *(expected_bucket(a, b) for a, b in itertools.pairwise(times))][: len(times)]
        assert requests["history_gap"][row].tolist() == [0] * (6 - len(gaps)) + gaps
        last = expected_bucket(times[-1], asked[row]) if times else 0
        assert requests["last_gap"][row] == last
        kinds = data.history_events(np.array([row])).kinds[0]
        assert requests["history_kind"][row].tolist() == kinds.tolist()
        num_known += bool(times)
    assert num_known > 50
    assert {requests[f"history_{name}"].dtype.name for name in ("gap", "kind")} == {"int32"}
    assert requests["last_gap"].dtype == np.int32


def test_gaps_of_a_log_without_times_are_unknown(prepare_log: Callable, make_log: Callable):
    data = prepare_log(make_log(0), time=False)
    tables = InputTables(data, NO_TOKENS, NO_TOKENS, time_gaps=True)
    requests = tables.requests(np.arange(data.contexts.height))
    assert requests["history"].any()
    assert not requests["history_gap"].any()
    assert not requests["last_gap"].any()
