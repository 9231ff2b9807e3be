"""An index of somebody else: built, measured, stored, and refused where it breaks the contract."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tfrec.errors import ArtefactError, ConfigError
from tfrec.index import ItemIndex, build_index
from tfrec.index.build import load_index, save_index, try_index
from tfrec.index.item_index import filled

ITEMS = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
QUERIES = np.random.default_rng(1).normal(size=(30, 8)).astype(np.float32)


class SomeRows(ItemIndex):
    """Searches every `step`-th row; all of them once it is strengthened."""

    def __init__(self, tensors, num_items, parameters):
        super().__init__(num_items, parameters)
        self._table = tf.Variable(tensors[0], trainable=False)

    @classmethod
    def build(cls, embeddings, k, precision="float32", *, step=2):
        return cls([embeddings], len(embeddings), {"step": step})

    def strengthen(self):
        is_weak = self.parameters["step"] > 1
        self.parameters["step"] = 1
        return is_weak

    def tensors(self):
        return [self._table.numpy()]

    def search(self, queries, k):
        step, k = self.parameters["step"], tf.minimum(k, self.num_items)
        rows = self._table[::step]
        scores = tf.linalg.matmul(queries, rows, transpose_b=True)
        best = tf.math.top_k(scores, tf.minimum(k, tf.shape(rows)[0]))
        return filled(step * best.indices, best.values, k)


class Never(SomeRows):
    def strengthen(self):
        return False


class WrongType(SomeRows):
    def search(self, queries, k):
        rows, scores = super().search(queries, k)
        return tf.cast(rows, tf.int64), scores


class WrongWidth(SomeRows):
    def search(self, queries, k):
        rows, scores = super().search(queries, k)
        return rows[:, :-1], scores[:, :-1]


class NoSuchRow(SomeRows):
    def search(self, queries, k):
        rows, scores = super().search(queries, k)
        return rows + 1, scores


class InPython(SomeRows):
    def search(self, queries, k):
        return super().search(tf.constant(queries.numpy()), k)


class NoSearch(ItemIndex):
    @classmethod
    def build(cls, embeddings, k, precision="float32"):
        return cls(len(embeddings), {})

    def tensors(self):
        return []


class NoIndex:
    pass


def place(part: type) -> str:
    return f"{__name__}:{part.__name__}"


def test_own_index_is_strengthened_measured_stored_and_read_back(tmp_path: Path):
    index, report = build_index(
        place(SomeRows), ITEMS, QUERIES, k=5, min_recall=0.9, options={"step": 3}
    )
    assert (report.kind, report.recall_at_k) == (place(SomeRows), 1.0)
    assert report.parameters == {"step": 1}
    save_index(tmp_path, index, report)
    again = load_index(tmp_path)
    assert isinstance(again, SomeRows)
    wanted = np.argsort(-(QUERIES @ ITEMS.T), axis=1)[:, :5]
    np.testing.assert_array_equal(again.search(tf.constant(QUERIES), 5)[0], wanted)


def test_own_index_that_stays_weak_is_refused():
    with pytest.raises(ArtefactError, match=r"index: recall@5 is 0\.\d+ with the strongest"):
        build_index(place(Never), ITEMS, QUERIES, k=5, min_recall=0.95)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (NoIndex, "NoIndex: wanted .*ItemIndex"),
        (NoSearch, "NoSearch"),
        (WrongType, r"WrongType\.search: wanted rows, int32 \[2, 7\], .* got int64 \[2, 7\]"),
        (WrongWidth, r"WrongWidth\.search: wanted rows, int32 \[2, 7\], .* got int32 \[2, 6\]"),
        (NoSuchRow, r"NoSuchRow\.search: wanted rows from -1 to 6, got 1 to 7"),
        (InPython, r"InPython\.search cannot run in a graph"),
    ],
)
def test_broken_index_is_refused_in_one_line(part: type, message: str):
    with pytest.raises(ConfigError, match=rf"^index\.kind: .*{message}") as caught:
        try_index(place(part), {"step": 1} if issubclass(part, SomeRows) else {})
    assert "\n" not in str(caught.value)


def test_unknown_option_of_own_index_is_refused():
    with pytest.raises(ConfigError, match=r"index\.kind: .*'steps'"):
        try_index(place(SomeRows), {"steps": 1})
