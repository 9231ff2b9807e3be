import numpy as np
import pytest
import tensorflow as tf

from tfrec.models.target_attention import HistoryAttention

DIM, LENGTH, HEADS, UNITS = 5, 4, 2, 3
ROWS = np.array([0, 0, 1, 3, 3, 3], np.int32)  # request 2 asks nothing


@pytest.fixture(scope="module")
def layer() -> HistoryAttention:
    attention = HistoryAttention(DIM, LENGTH, HEADS, UNITS)
    rng = np.random.default_rng(0)
    for weight in attention.trainable_variables:
        weight.assign(rng.normal(0, 0.8, weight.shape))
    return attention


def inputs(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    items = rng.normal(size=(4, LENGTH, DIM)).astype(np.float32)
    is_event = np.array([[0, 0, 1, 1], [0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 1, 1]], bool)
    return rng.normal(size=(len(ROWS), DIM)).astype(np.float32), items, is_event


def ask(layer, candidates, items, is_event, rows=ROWS) -> np.ndarray:
    history = layer.read(tf.constant(items), tf.constant(is_event))
    return layer(tf.constant(candidates), tf.constant(rows), history).numpy()


def test_attention_equals_a_plain_loop(layer):
    candidates, items, is_event = inputs()
    project = {name: dense.kernel.numpy() for name, dense in layer.projections.items()}
    bias, recency = layer.projections["value"].bias.numpy(), layer.recency.numpy()
    wanted = np.zeros((len(ROWS), HEADS, UNITS))
    for row, request in enumerate(ROWS):
        events = np.flatnonzero(is_event[request])
        for head in range(HEADS):
            part = slice(head * UNITS, (head + 1) * UNITS)
            query = candidates[row] @ project["query"][:, part]
            keys = items[request, events] @ project["key"][:, part]
            values = items[request, events] @ project["value"][:, part] + bias[part]
            weights = np.exp(keys @ query / np.sqrt(UNITS) + recency[head, events])
            if len(events):
                wanted[row, head] = weights @ values / weights.sum()
    got = ask(layer, candidates, items, is_event)
    np.testing.assert_allclose(got, wanted.reshape(len(ROWS), -1), atol=1e-5)


def test_what_stands_on_padding_is_not_read_and_an_empty_history_says_nothing(layer):
    candidates, items, is_event = inputs()
    littered = np.where(is_event[..., None], items, 1e3).astype(np.float32)
    got = ask(layer, candidates, littered, is_event)
    np.testing.assert_allclose(got, ask(layer, candidates, items, is_event), atol=1e-5)
    assert not got[2].any()


def test_history_without_its_padding_in_front_gives_the_same(layer):
    candidates, items, is_event = inputs()
    is_event[:, :2] = False
    whole = ask(layer, candidates, items, is_event)
    short = ask(layer, candidates, items[:, 2:], is_event[:, 2:])
    np.testing.assert_allclose(whole, short, atol=1e-6)


def test_no_candidates_and_no_requests_are_answered(layer):
    _, items, is_event = inputs()
    none = np.zeros((0, DIM), np.float32)
    rows = np.zeros(0, np.int32)
    for count in (4, 0):
        found = ask(layer, none, items[:count], is_event[:count], rows)
        assert found.shape == (0, HEADS * UNITS)
