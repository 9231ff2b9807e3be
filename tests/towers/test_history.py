"""All readers of histories: causal, blind to padding, the same for a prefix as for the whole."""

import numpy as np
import pytest
import tensorflow as tf

from tfrec.registry import HISTORY_READERS
from tfrec.towers import AttentionReader, HistoryReader, NoHistory
from tfrec.towers.history import by_distance

DIM = 8
LENGTH = 6
KINDS = [kind for kind in HISTORY_READERS.ours if kind != "none"]


def make_reader(kind: str, seed: int = 0) -> HistoryReader:
    """Builds a reader whose every weight matters."""
    reader = HISTORY_READERS.load(kind, "kind")(DIM, LENGTH)
    rng = np.random.default_rng(seed)
    for weight in reader.trainable_variables:
        weight.assign(weight + rng.normal(0, 0.3, weight.shape))
    return reader


@pytest.fixture(scope="module", params=KINDS)
def reader(request) -> HistoryReader:
    return make_reader(request.param)


def make_events(lengths: list[int], width: int = LENGTH, seed: int = 0):
    """Draws histories of these lengths, padded in front."""
    rng = np.random.default_rng(seed)
    events = rng.normal(size=(len(lengths), width, DIM)).astype(np.float32)
    segment = np.arange(width) >= width - np.array(lengths)[:, None]
    return events, segment.astype(np.int32)


@pytest.mark.parametrize("length", range(1, LENGTH + 1))
def test_state_of_a_prefix_equals_state_of_the_prefix_alone(reader, length):
    events, segment = make_events([LENGTH] * 3)
    whole = reader(events, segment).numpy()
    alone = np.zeros_like(events)
    alone[:, LENGTH - length :] = events[:, :length]
    segment_alone = np.tile(np.arange(LENGTH) >= LENGTH - length, (3, 1)).astype(np.int32)
    np.testing.assert_allclose(
        reader(alone, segment_alone).numpy()[:, -1], whole[:, length - 1], atol=1e-5
    )


def test_state_does_not_change_with_later_events(reader):
    events, segment = make_events([LENGTH, 4])
    changed = events.copy()
    changed[:, -1] = make_events([1, 1], width=1, seed=7)[0][:, 0]
    before, after = reader(events, segment).numpy(), reader(changed, segment).numpy()
    np.testing.assert_allclose(after[:, :-1], before[:, :-1], atol=1e-6)
    assert np.abs(after[:, -1] - before[:, -1]).max() > 1e-3


def test_state_does_not_see_what_stands_on_padding(reader):
    events, segment = make_events([0, 1, 3, LENGTH])
    rubbish = np.where(segment[..., None] > 0, events, 7.0).astype(np.float32)
    wanted = np.where(segment[..., None] > 0, reader(events, segment), 0)
    got = np.where(segment[..., None] > 0, reader(rubbish, segment), 0)
    np.testing.assert_allclose(got, wanted, atol=1e-5)


def test_state_before_the_first_event_is_zeros(reader):
    events, segment = make_events([0, 2, LENGTH])
    states = reader(events, segment).numpy()
    assert not states[segment == 0].any()
    assert states[segment > 0].any(axis=-1).all()


def test_more_padding_in_front_changes_no_state(reader):
    events, segment = make_events([2, 4], width=4)
    padded = np.concatenate([np.ones((2, 3, DIM), np.float32), events], axis=1)
    segment_padded = np.concatenate([np.zeros((2, 3), np.int32), segment], axis=1)
    np.testing.assert_allclose(
        reader(padded, segment_padded).numpy()[:, 3:], reader(events, segment).numpy(), atol=1e-5
    )


def test_histories_packed_into_one_row_have_the_states_they_have_alone(reader):
    events, _ = make_events([LENGTH])
    packed = reader(events, np.array([[1, 1, 0, 2, 2, 2]], np.int32)).numpy()
    for part in (slice(0, 2), slice(3, 6)):
        alone = events[:, part]
        wanted = reader(alone, np.ones(alone.shape[:2], np.int32)).numpy()
        np.testing.assert_allclose(packed[:, part], wanted, atol=1e-5)
    assert not packed[0, 2].any()


def test_histories_in_other_order_give_states_in_other_order(reader):
    events, segment = make_events([1, 2, 5, LENGTH])
    order = np.random.default_rng(1).permutation(4)
    states = reader(events, segment).numpy()
    np.testing.assert_allclose(reader(events[order], segment[order]), states[order], atol=1e-5)


@pytest.mark.parametrize("kind", ["transformer", "attention"])
def test_reader_knows_the_order_of_events(kind):
    reader = make_reader(kind)
    events, segment = make_events([LENGTH])
    turned = np.concatenate([events[:, :-1][:, ::-1], events[:, -1:]], axis=1)
    difference = reader(turned, segment).numpy()[:, -1] - reader(events, segment).numpy()[:, -1]
    assert np.abs(difference).max() > 1e-3


def test_gradients_through_empty_and_full_histories_are_finite(reader):
    events, segment = make_events([0, LENGTH])
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(reader(events, segment, training=True)))
    for gradient in tape.gradient(loss, reader.trainable_variables):
        assert np.isfinite(tf.convert_to_tensor(gradient)).all()


def test_longer_histories_than_learned_share_the_farthest_distance(reader):
    events, segment = make_events([LENGTH + 4], width=LENGTH + 4)
    assert np.isfinite(reader(events, segment)).all()


def test_dropout_draws_in_training_only():
    reader = make_reader("transformer")
    events, segment = make_events([LENGTH])
    np.testing.assert_array_equal(reader(events, segment), reader(events, segment))
    first, second = (reader(events, segment, training=True).numpy() for _ in range(2))
    assert np.abs(first - second).max() > 1e-3


def test_no_history_reads_nothing():
    reader = NoHistory(DIM, LENGTH)
    assert not reader(*make_events([LENGTH])).numpy().any()
    assert not reader.variables


def test_mean_is_the_projected_mean_of_events_so_far():
    reader = make_reader("mean")
    events, segment = make_events([4])
    wanted = reader.output_projection(events[:, 2:5].mean(axis=1)).numpy()
    np.testing.assert_allclose(reader(events, segment).numpy()[:, 4], wanted, atol=1e-5)


def test_attention_weighs_events_with_shares_of_a_softmax():
    reader = make_reader("attention")
    assert isinstance(reader, AttentionReader)
    events, segment = make_events([4])
    place = 4  # sees the events at places 2, 3 and 4
    seen = events[0, 2:5]
    hidden = np.tanh(seen @ reader.hidden.kernel.numpy() + reader.hidden.bias.numpy())
    logits = (hidden @ reader.weight.kernel.numpy())[:, 0] + reader.recency.numpy()[[2, 1, 0]]
    shares = np.exp(logits) / np.exp(logits).sum()
    wanted = reader.output_projection((shares @ seen)[None]).numpy()[0]
    np.testing.assert_allclose(reader(events, segment).numpy()[0, place], wanted, atol=1e-5)


def test_distances_count_backwards_and_are_cut():
    laid_out = by_distance(tf.constant([10.0, 11.0, 12.0]), tf.constant(5)).numpy()
    for place in range(5):
        for earlier in range(place + 1):
            assert laid_out[place, earlier] == 10 + min(place - earlier, 2)
