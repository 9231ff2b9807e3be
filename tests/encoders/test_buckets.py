import numpy as np
import pytest
import tensorflow as tf

from tfrec.encoders.buckets import encode_by_length, rows_by_length


def make_tokens(num_texts: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    tokens = rng.integers(1, 50, (num_texts, 9), np.int32)
    return np.where(np.arange(9) < rng.integers(0, 10, num_texts)[:, None], tokens, 0)


@pytest.mark.parametrize("num_texts", [0, 1, 3, 4, 37])
@pytest.mark.parametrize("num_buckets", [1, 4])
def test_buckets_hold_every_row_once_and_shorter_texts_first(num_texts, num_buckets):
    tokens = make_tokens(num_texts, seed=num_texts)
    buckets = [rows.numpy() for rows in rows_by_length(tf.constant(tokens), num_buckets)]
    assert len(buckets) == num_buckets
    sizes = [len(rows) for rows in buckets]
    assert max(sizes) - min(sizes) <= 1
    rows = np.concatenate(buckets)
    assert sorted(rows) == list(range(num_texts))
    lengths = (tokens[rows] != 0).sum(axis=1)
    assert (np.diff(lengths) >= 0).all()


@pytest.mark.parametrize("num_texts", [0, 1, 5, 64])
def test_encoding_by_length_answers_as_without_and_hands_on_less_padding(num_texts):
    tokens = make_tokens(num_texts, seed=7)
    seen = []

    def encode(part: tf.Tensor) -> tf.Tensor:
        seen.append(part.shape)
        part = tf.cast(part, tf.float32)
        return tf.stack([tf.reduce_sum(part, axis=1), tf.reduce_max(part, axis=1)], axis=1)

    wanted = encode(tf.constant(tokens)).numpy()
    seen.clear()
    np.testing.assert_array_equal(encode_by_length(encode, tf.constant(tokens)), wanted)
    if num_texts == 64:
        assert sum(rows * width for rows, width in seen) < 0.8 * tokens.size
