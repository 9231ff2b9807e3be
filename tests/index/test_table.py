import numpy as np
import pytest
import tensorflow as tf

from tfrec.index.table import EmbeddingTable

VALUES = np.random.default_rng(0).normal(size=(9, 5)).astype(np.float32)
VALUES[0] = 0
QUERIES = np.random.default_rng(1).normal(size=(3, 5)).astype(np.float32)


def test_int8_row_is_off_by_half_its_scale_at_most():
    got = EmbeddingTable(VALUES, "int8").numpy()
    scales = np.abs(VALUES).max(axis=1, keepdims=True) / 127
    assert (np.abs(got - VALUES) <= scales / 2 + 1e-7).all()
    assert (got != VALUES).any()
    np.testing.assert_array_equal(got[0], np.zeros(5))
    np.testing.assert_allclose(np.abs(got).max(axis=1), np.abs(VALUES).max(axis=1), rtol=1e-6)


def test_float16_rounds_and_float32_does_not():
    wanted = VALUES.astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(EmbeddingTable(VALUES, "float16").numpy(), wanted)
    np.testing.assert_array_equal(EmbeddingTable(VALUES).numpy(), VALUES)


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_scores_are_products_with_what_comes_out(precision):
    table = EmbeddingTable(VALUES, precision)
    kept = table.numpy()
    np.testing.assert_allclose(table.scores(tf.constant(QUERIES)), QUERIES @ kept.T, atol=1e-5)
    rows = np.array([[3, 0], [8, 3]])
    gathered = table.gather(tf.constant(rows))
    assert gathered.dtype == tf.float32
    np.testing.assert_array_equal(gathered, kept[rows])
    np.testing.assert_array_equal(EmbeddingTable(kept, precision).numpy(), kept)


def test_table_without_rows_scores_nothing():
    table = EmbeddingTable(VALUES[:0], "int8")
    assert table.scores(tf.constant(QUERIES)).shape == (3, 0)
