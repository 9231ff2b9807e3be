import numpy as np
import pytest
import tensorflow as tf

from tfrec.losses.masks import accidental_hits, known_positives


def test_accidental_hits_are_candidates_with_the_rows_own_item():
    target = tf.constant([4, 7, 4])
    shared = accidental_hits(target, tf.constant([7, 4, 1, 4]))
    assert shared.numpy().astype(int).tolist() == [[0, 1, 0, 1], [1, 0, 0, 0], [0, 1, 0, 1]]
    own = accidental_hits(target, tf.constant([[4, 1], [4, 1], [1, 4]]))
    assert own.numpy().astype(int).tolist() == [[1, 0], [0, 0], [0, 1]]


def draw(seed: int, per_row: bool, pairs: int = 40, rows: int = 7, n: int = 15):
    rng = np.random.default_rng(seed)
    return (
        rng.integers(0, rows, pairs).astype(np.int32),
        rng.integers(0, 20, pairs).astype(np.int32),
        rng.integers(0, 20, (rows, n) if per_row else n).astype(np.int32),
        rows,
    )


def loop(pair_row, pair_item, candidate_index, num_rows) -> np.ndarray:
    known = {pair for pair in zip(pair_row.tolist(), pair_item.tolist(), strict=True) if pair[1]}
    candidates = np.broadcast_to(candidate_index, (num_rows, candidate_index.shape[-1]))
    return np.array(
        [[(row, item) in known for item in items] for row, items in enumerate(candidates.tolist())]
    ).reshape(candidates.shape)


@pytest.mark.parametrize("per_row", [False, True])
def test_known_positives_equal_plain_loop(per_row):
    for seed in range(5):
        arguments = draw(seed, per_row)
        found = known_positives(*map(tf.constant, arguments))
        np.testing.assert_array_equal(found, loop(*arguments))


@pytest.mark.parametrize("per_row", [False, True])
@pytest.mark.parametrize("empty", ["pairs", "n", "rows"])
def test_known_positives_of_nothing_are_none(per_row, empty):
    arguments = draw(0, per_row)
    if empty == "pairs":
        arguments = draw(0, per_row, pairs=0)
    elif empty == "n":
        arguments = draw(0, per_row, n=0)
    else:
        arguments = draw(0, per_row, pairs=0, rows=1)
    found = known_positives(*map(tf.constant, arguments))
    assert found.shape == (arguments[3], arguments[2].shape[-1])
    assert not tf.reduce_any(found)


@pytest.mark.parametrize("per_row", [False, True])
def test_known_positives_of_permuted_pairs_and_candidates_move_along(per_row):
    for seed in range(3):
        rng = np.random.default_rng(seed)
        pair_row, pair_item, candidates, rows = draw(seed, per_row)
        pairs, columns = rng.permutation(len(pair_row)), rng.permutation(candidates.shape[-1])
        found = known_positives(
            tf.constant(pair_row[pairs]),
            tf.constant(pair_item[pairs]),
            tf.constant(candidates[..., columns]),
            rows,
        )
        np.testing.assert_array_equal(
            found, loop(pair_row, pair_item, candidates, rows)[:, columns]
        )


@pytest.mark.parametrize("per_row", [False, True])
def test_known_positives_inside_function_of_unknown_lengths_equal_eager_ones(per_row):
    candidates = tf.TensorSpec([None, None] if per_row else [None], tf.int32)
    pairs = tf.TensorSpec([None], tf.int32)
    in_graph = tf.function(
        known_positives,
        autograph=False,
        input_signature=[pairs, pairs, candidates, tf.TensorSpec([], tf.int32)],
    )
    for pair_count in (0, 3, 40):
        arguments = draw(pair_count, per_row, pairs=pair_count)
        np.testing.assert_array_equal(in_graph(*arguments), loop(*arguments))
