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


def draw_excluded(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws pairs with repetitions, padding and targets among them."""
    rng = np.random.default_rng(seed + 50)
    row = rng.integers(0, ROWS, 30).astype(np.int32)
    return row, rng.integers(0, NUM_ITEMS + 1, 30).astype(np.int32)


def compute(
    arguments: dict[str, np.ndarray],
    excluded: tuple[np.ndarray, np.ndarray] | None = None,
    label_smoothing: float = 0.0,
) -> float:
    tensors = {name: tf.constant(value) for name, value in arguments.items()}
    loss = full_softmax(
        **tensors,
        temperature=TEMPERATURE,
        excluded=None if excluded is None else tuple(map(tf.constant, excluded)),
        label_smoothing=label_smoothing,
    )
    return float(loss)


def loop(arguments, excluded=None, label_smoothing=0.0) -> float:
    """The definition: cross-entropy of smoothed labels over the items that count."""
    pairs = set() if excluded is None else set(zip(*map(np.ndarray.tolist, excluded), strict=True))
    total = 0.0
    for row, user in enumerate(arguments["users"].astype(float)):
        target = int(arguments["target_index"][row])
        scores = {
            item: float(user @ arguments["items"][item].astype(float)) / TEMPERATURE
            for item in range(1, NUM_ITEMS + 1)
            if item == target or (row, item) not in pairs
        }
        normaliser = sum(math.exp(score) for score in scores.values())
        for item, score in scores.items():
            label = label_smoothing / len(scores) + (1 - label_smoothing) * (item == target)
            total -= arguments["weight"][row] * label * math.log(math.exp(score) / normaliser)
    return total / float(arguments["weight"].sum())


@pytest.mark.parametrize("label_smoothing", [0.0, 0.15, 1.0])
@pytest.mark.parametrize("with_excluded", [False, True])
def test_loss_equals_plain_loop(with_excluded, label_smoothing):
    for seed in range(3):
        arguments = draw(seed)
        excluded = draw_excluded(seed) if with_excluded else None
        wanted = loop(arguments, excluded, label_smoothing)
        assert compute(arguments, excluded, label_smoothing) == pytest.approx(wanted, abs=1e-4)


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
    alone = (np.array([0, 0], np.int32), np.array([1, 2], np.int32))
    assert compute(arguments, alone) == pytest.approx(0, abs=1e-6)


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
        arguments, (row, item) = draw(seed), draw_excluded(seed)
        rows = rng.permutation(ROWS)
        items = np.concatenate([[0], 1 + rng.permutation(NUM_ITEMS)])
        new_row, new_item = np.argsort(rows), np.argsort(items)
        permuted = {
            "users": arguments["users"][rows],
            "items": arguments["items"][items],
            "target_index": new_item[arguments["target_index"][rows]].astype(np.int32),
            "weight": arguments["weight"][rows],
        }
        excluded = (new_row[row].astype(np.int32), new_item[item].astype(np.int32))
        wanted = compute(arguments, (row, item))
        assert compute(permuted, excluded) == pytest.approx(wanted, abs=1e-4)


def test_rows_of_padding_change_nothing():
    arguments = draw(5)
    padded = arguments | {
        "users": np.concatenate([arguments["users"], np.ones((2, DIM), np.float32)]),
        "target_index": np.append(arguments["target_index"], [0, 0]).astype(np.int32),
        "weight": np.append(arguments["weight"], [0, 0]).astype(np.float32),
    }
    excluded = draw_excluded(5)
    assert compute(padded, excluded) == pytest.approx(compute(arguments, excluded), abs=1e-5)


def test_mean_of_replicas_by_their_weight_equals_whole_batch():
    arguments = draw(6)
    losses, weights = [], []
    for rows in (slice(0, 2), slice(2, ROWS)):
        part = {name: arguments[name][rows] for name in ("users", "target_index", "weight")}
        losses.append(compute(arguments | part))
        weights.append(part["weight"].sum())
    assert compute(arguments) == pytest.approx(np.average(losses, weights=weights), abs=1e-5)


def test_gradient_reaches_users_items_and_temperature_but_no_excluded_or_unknown_item():
    arguments = draw(7)
    users, items = tf.constant(arguments["users"]), tf.constant(arguments["items"])
    target_index = tf.constant([1, 2, 3, 1, 2, 3])
    excluded = (tf.range(ROWS), tf.fill([ROWS], 9))
    temperature = tf.constant(TEMPERATURE)

    def loss_at(temperature: tf.Tensor) -> tf.Tensor:
        return full_softmax(
            users,
            items,
            target_index,
            weight=tf.constant(arguments["weight"]),
            temperature=temperature,
            excluded=excluded,
        )

    with tf.GradientTape() as tape:
        tape.watch([users, items, temperature])
        loss = loss_at(temperature)
    of_users, of_items, of_temperature = tape.gradient(loss, [users, items, temperature])
    of_items = tf.convert_to_tensor(of_items).numpy()
    assert (of_items[[0, 9]] == 0).all()
    assert (np.abs(of_items[1:9]).max(axis=1) > 0).all()
    assert (np.abs(of_users.numpy()).max(axis=1) > 0).all()
    slope = (loss_at(temperature + 1e-2) - loss_at(temperature - 1e-2)) / 2e-2
    assert float(of_temperature) == pytest.approx(float(slope), rel=1e-2)


def test_loss_inside_function_of_unknown_lengths_equals_eager_loss():
    arguments, excluded = draw(8), draw_excluded(8)

    @tf.function(
        autograph=False,
        input_signature=[
            tf.TensorSpec([None, DIM]),
            tf.TensorSpec([None], tf.int32),
            tf.TensorSpec([None], tf.int32),
            tf.TensorSpec([None], tf.int32),
        ],
    )
    def loss(users, target_index, row, item):
        return full_softmax(
            users,
            tf.constant(arguments["items"]),
            target_index,
            weight=tf.constant(arguments["weight"]),
            temperature=TEMPERATURE,
            excluded=(row, item),
        )

    value = loss(arguments["users"], arguments["target_index"], *excluded)
    assert float(value) == pytest.approx(compute(arguments, excluded), abs=1e-6)
