from collections import deque

import numpy as np
import pytest
import tensorflow as tf

from tfrec.losses.queue import EmbeddingQueue

SIZE, DIM = 6, 3


def batch(seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, DIM)).astype(np.float32), rng.integers(1, 99, n).astype(np.int32)


def test_new_queue_is_empty():
    embeddings, item_index = EmbeddingQueue(SIZE, DIM).read()
    assert embeddings.shape == (SIZE, DIM)
    assert item_index.numpy().tolist() == [0] * SIZE


@pytest.mark.parametrize("in_graph", [False, True])
def test_queue_after_batches_of_any_size_holds_the_latest(in_graph):
    queue = EmbeddingQueue(SIZE, DIM)
    enqueue, read = queue.enqueue, queue.read
    if in_graph:
        signature = [tf.TensorSpec([None, DIM]), tf.TensorSpec([None], tf.int32)]
        enqueue = tf.function(queue.enqueue, input_signature=signature, autograph=False)
        read = tf.function(queue.read, autograph=False)
    latest: deque[tuple[int, list[float]]] = deque([(0, [0.0] * DIM)] * SIZE, maxlen=SIZE)
    for step, n in enumerate((2, 0, 3, 4, 1, 6, 20, 5)):
        embeddings, item_index = batch(step, n)
        enqueue(tf.constant(embeddings), tf.constant(item_index))
        latest.extend(zip(item_index.tolist(), embeddings.tolist(), strict=True))
        held, held_index = read()
        assert held_index.numpy().tolist() == [item for item, _ in latest]
        np.testing.assert_array_equal(held, np.float32([vector for _, vector in latest]))


def test_entries_carry_no_gradient():
    queue = EmbeddingQueue(SIZE, DIM)
    embeddings, item_index = map(tf.constant, batch(0, 4))
    with tf.GradientTape() as tape:
        tape.watch(embeddings)
        queue.enqueue(embeddings, item_index)
        held, _ = queue.read()
        total = tf.reduce_sum(held)
    assert tape.gradient(total, [embeddings, queue.embeddings.value]) == [None, None]


def test_queue_from_values_of_another_goes_on_equally():
    first, second = EmbeddingQueue(SIZE, DIM), EmbeddingQueue(SIZE, DIM)
    first.enqueue(*map(tf.constant, batch(0, 4)))
    for to, source in zip(second.variables, first.variables, strict=True):
        to.assign(source)
    for queue in (first, second):
        queue.enqueue(*map(tf.constant, batch(1, 4)))
    for one, other in zip(first.read(), second.read(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_read_before_enqueue_in_one_function_sees_earlier_steps_only():
    queue = EmbeddingQueue(SIZE, DIM)

    @tf.function(autograph=False)
    def step(embeddings: tf.Tensor, item_index: tf.Tensor) -> tf.Tensor:
        _, held = queue.read()
        queue.enqueue(embeddings, item_index)
        return held

    assert step(*batch(0, 2)).numpy().max() == 0
    assert step(*batch(1, 2)).numpy()[-2:].tolist() == batch(0, 2)[1].tolist()
