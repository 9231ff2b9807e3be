import numpy as np
import pytest
import tensorflow as tf

from tfrec.features.time_gaps import (
    NUM_GAP_BUCKETS,
    gap_bucket_tensor,
    gap_buckets,
    history_gap_tensor,
    history_gaps,
)


def expected_bucket(earlier: int, later: int) -> int:
    """The number of binary digits of the gap, at least 1."""
    if earlier == 0 or later == 0:
        return 0
    return min(max(later - earlier, 1).bit_length(), NUM_GAP_BUCKETS)


def pairs() -> tuple[np.ndarray, np.ndarray]:
    powers = [2**n + d for n in range(33) for d in (-1, 0, 1)]
    gaps = np.array([-5, 0, *powers, 0, 7, 0])
    earlier = np.full(len(gaps), 1_500_000_000)
    later = earlier + gaps
    earlier[-3:-1] = 0
    later[-1] = 0
    return earlier, later


def test_buckets_double_and_zero_says_unknown():
    earlier, later = pairs()
    expected = [expected_bucket(int(a), int(b)) for a, b in zip(earlier, later, strict=True)]
    found = gap_buckets(earlier, later)
    assert found.tolist() == expected
    assert found.dtype == np.int32
    assert set(expected) == set(range(NUM_GAP_BUCKETS + 1))
    assert expected_bucket(1, 1 + 3600) == 12  # an hour: 2^11 = 2048 <= 3600 < 4096 = 2^12


def test_buckets_of_tensors_are_those_of_arrays():
    earlier, later = pairs()
    found = gap_bucket_tensor(tf.constant(earlier), tf.constant(later))
    assert found.dtype == tf.int32
    np.testing.assert_array_equal(found, gap_buckets(earlier, later))


@pytest.mark.parametrize("shape", [(0, 4), (3, 1), (5, 6)])
def test_gaps_of_histories_are_those_of_neighbours(shape: tuple[int, int]):
    draw = np.random.default_rng(0)
    times = np.sort(draw.integers(1, 2**30, shape), axis=1)
    times[draw.random(shape) < 0.3] = 0
    expected = [
        [0, *(expected_bucket(int(row[n - 1]), int(row[n])) for n in range(1, shape[1]))]
        for row in times
    ]
    found = history_gaps(times)
    assert found.tolist() == expected
    assert found.shape == shape
    graph = tf.function(history_gap_tensor, input_signature=[tf.TensorSpec([None, None], tf.int64)])
    np.testing.assert_array_equal(graph(tf.constant(times)), found)
    assert graph(tf.constant(times)).dtype == tf.int32
