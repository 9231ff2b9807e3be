import math

import numpy as np
import pytest
import tensorflow as tf

from tfrec.losses.full_softmax import full_softmax
from tfrec.losses.sampled_softmax import sampled_softmax

ROWS, NUM_ITEMS, DIM, TEMPERATURE = 6, 9, 4, 0.3


def draw(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "users": rng.normal(size=(ROWS, DIM)).astype(np.float32),
        "items": rng.normal(size=(NUM_ITEMS + 1, DIM)).astype(np.float32),
        "target_index": rng.integers(1, NUM_ITEMS + 1, ROWS).astype(np.int32),
        "weight": rng.uniform(0.5, 3, ROWS).astype(np.float32),
    }


def draw_shared(seed: int) -> dict[str, np.ndarray]:
    """Draws targets of four requests in no order; the second has none."""
    request = np.random.default_rng(seed + 50).integers(0, 3, ROWS).astype(np.int32)
    arguments = draw(seed)
    return arguments | {
        "users": arguments["users"][:4],
        "request": np.where(request == 1, 3, request),
    }


def compute(arguments: dict[str, np.ndarray], label_smoothing: float = 0.0) -> float:
    tensors = {name: tf.constant(value) for name, value in arguments.items()}
    return float(full_softmax(**tensors, temperature=TEMPERATURE, label_smoothing=label_smoothing))


def loop(arguments: dict[str, np.ndarray], label_smoothing: float = 0.0) -> float:
    """The definition: cross-entropy of smoothed labels over all items."""
    request = arguments.get("request", np.arange(ROWS))
    total = 0.0
    for row, target in enumerate(arguments["target_index"].tolist()):
        user = arguments["users"][request[row]].astype(float)
        scores = {
            item: float(user @ arguments["items"][item].astype(float)) / TEMPERATURE
            for item in range(1, NUM_ITEMS + 1)
        }
        normaliser = sum(math.exp(score) for score in scores.values())
        for item, score in scores.items():
            label = label_smoothing / len(scores) + (1 - label_smoothing) * (item == target)
            total -= arguments["weight"][row] * label * math.log(math.exp(score) / normaliser)
    return total / float(arguments["weight"].sum())


@pytest.mark.parametrize("label_smoothing", [0.0, 0.15, 1.0])
@pytest.mark.parametrize("drawn", [draw, draw_shared])
def test_loss_equals_plain_loop(drawn, label_smoothing):
    for seed in range(3):
        wanted = loop(drawn(seed), label_smoothing)
        assert compute(drawn(seed), label_smoothing) == pytest.approx(wanted, abs=1e-4)


def test_loss_golden_numbers():
    # Two items; scores of user (1, 0) over temperature 0.3: 0.6 / 0.3 = 2 and 0. Target is the
    # second: ln(1 + e^2) = 2.126928. The unknown item's huge score does not count.
    arguments = {
        "users": np.array([[1, 0]], np.float32),
        "items": np.array([[99, 0], [0.6, 0], [0, 1]], np.float32),
        "target_index": np.array([2], np.int32),
        "weight": np.ones(1, np.float32),
    }
    assert compute(arguments) == pytest.approx(2.126928, abs=1e-5)
    # The first item costs ln(1 + e^-2) = 0.126928, twice as much by its weight.
    both = {
        "target_index": np.array([2, 1], np.int32),
        "weight": np.array([1, 2], np.float32),
        "request": np.zeros(2, np.int32),
    }
    assert compute(arguments | both) == pytest.approx(0.793595, abs=1e-5)


def test_loss_equals_sampled_softmax_over_each_other_item_once():
    arguments = draw(4)
    logits = arguments["users"] @ arguments["items"].T / np.float32(TEMPERATURE)
    others = np.arange(NUM_ITEMS + 1)
    loss = sampled_softmax(
        tf.constant(logits[np.arange(ROWS), arguments["target_index"]]),
        tf.constant(logits),
        weight=tf.constant(arguments["weight"]),
        is_negative=tf.constant((others != arguments["target_index"][:, None]) & (others > 0)),
    )
    assert compute(arguments) == pytest.approx(float(loss), abs=1e-5)


def test_loss_of_permuted_rows_and_items_stays_equal():
    for seed in range(4):
        rng = np.random.default_rng(seed)
        arguments = draw(seed)
        rows = rng.permutation(ROWS)
        items = np.concatenate([[0], 1 + rng.permutation(NUM_ITEMS)])
        new_item = np.argsort(items)
        permuted = {
            "users": arguments["users"][rows],
            "items": arguments["items"][items],
            "target_index": new_item[arguments["target_index"][rows]].astype(np.int32),
            "weight": arguments["weight"][rows],
        }
        assert compute(permuted) == pytest.approx(compute(arguments), abs=1e-4)


def test_rows_of_padding_change_nothing():
    arguments = draw(5)
    padded = arguments | {
        "users": np.concatenate([arguments["users"], np.ones((2, DIM), np.float32)]),
        "target_index": np.append(arguments["target_index"], [0, 0]).astype(np.int32),
        "weight": np.append(arguments["weight"], [0, 0]).astype(np.float32),
    }
    assert compute(padded) == pytest.approx(compute(arguments), abs=1e-5)


def test_mean_of_replicas_by_their_weight_equals_whole_batch():
    arguments = draw(6)
    losses, weights = [], []
    for rows in (slice(0, 2), slice(2, ROWS)):
        part = {name: arguments[name][rows] for name in ("users", "target_index", "weight")}
        losses.append(compute(arguments | part))
        weights.append(part["weight"].sum())
    assert compute(arguments) == pytest.approx(np.average(losses, weights=weights), abs=1e-5)


def test_gradient_reaches_users_items_and_temperature_but_no_unknown_item():
    arguments = draw(7)
    users, items = tf.constant(arguments["users"]), tf.constant(arguments["items"])
    target_index = tf.constant([1, 2, 3, 1, 2, 3])
    temperature = tf.constant(TEMPERATURE)

    def loss_at(temperature: tf.Tensor) -> tf.Tensor:
        return full_softmax(
            users,
            items,
            target_index,
            weight=tf.constant(arguments["weight"]),
            temperature=temperature,
        )

    with tf.GradientTape() as tape:
        tape.watch([users, items, temperature])
        loss = loss_at(temperature)
    of_users, of_items, of_temperature = tape.gradient(loss, [users, items, temperature])
    of_items = tf.convert_to_tensor(of_items).numpy()
    assert (of_items[0] == 0).all()
    assert (np.abs(of_items[1:]).max(axis=1) > 0).all()
    assert (np.abs(of_users.numpy()).max(axis=1) > 0).all()
    slope = (loss_at(temperature + 1e-2) - loss_at(temperature - 1e-2)) / 2e-2
    assert float(of_temperature) == pytest.approx(float(slope), rel=1e-2)


def test_loss_inside_function_of_unknown_lengths_equals_eager_loss():
    arguments = draw_shared(8)

    @tf.function(
        autograph=False,
        input_signature=[
            tf.TensorSpec([None, DIM]),
            tf.TensorSpec([None], tf.int32),
            tf.TensorSpec([None], tf.int32),
        ],
    )
    def loss(users, target_index, request):
        return full_softmax(
            users,
            tf.constant(arguments["items"]),
            target_index,
            weight=tf.constant(arguments["weight"]),
            temperature=TEMPERATURE,
            request=request,
        )

    value = loss(arguments["users"], arguments["target_index"], arguments["request"])
    assert float(value) == pytest.approx(compute(arguments), rel=1e-6)
