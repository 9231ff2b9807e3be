"""The task of TensorFlow Recommenders as a loss, against the definition."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

from tfrec.losses.retrieval import Pairs
from tfrec.losses.tfrs import TfrsRetrieval

TEMPERATURE = 0.2

LOSS = TfrsRetrieval(corrects_target=True)


def loss_at(temperature: float) -> Callable[..., tf.Tensor]:
    def loss(users, items, item_index, probability, weight) -> tf.Tensor:
        size = len(item_index)
        return LOSS(
            Pairs(
                tf.convert_to_tensor(users),
                tf.convert_to_tensor(items),
                item_index=tf.convert_to_tensor(item_index),
                weight=tf.convert_to_tensor(weight),
                temperature=tf.constant(temperature),
                is_negative=tf.ones([size, size], tf.bool),
                probability=tf.ones([size]) if probability is None else tf.constant(probability),
                log_expected=tf.zeros([size]),
            )
        )

    return loss


def make_batch(seed: int, slots: list[int], dim: int = 5) -> dict[str, np.ndarray]:
    """Draws unit vectors; slots with the same item hold the same vector."""
    rng = np.random.default_rng(seed)

    def unit(count: int) -> np.ndarray:
        drawn = rng.normal(size=(count, dim)).astype(np.float32)
        return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)

    of_item = unit(max(slots) + 1)
    item_index = np.array(slots, np.int32)
    return {
        "users": unit(len(slots)),
        "items": of_item[item_index],
        "item_index": item_index,
        "probability": rng.uniform(0.01, 0.5, max(slots) + 1).astype(np.float32)[item_index],
        "weight": rng.uniform(0.5, 3, len(slots)).astype(np.float32),
    }


def compute_loss(
    batch: dict[str, np.ndarray], temperature: float = TEMPERATURE, with_log_q: bool = True
) -> float:
    loss = loss_at(temperature)(
        tf.constant(batch["users"]),
        tf.constant(batch["items"]),
        tf.constant(batch["item_index"]),
        batch["probability"] if with_log_q else None,
        tf.constant(batch["weight"]),
    )
    return float(loss)


def loop_loss(batch: dict[str, np.ndarray], temperature: float, with_log_q: bool) -> float:
    """The definition, row by row: -log of the share of the positive among positive and rivals."""
    total = 0.0
    for row, user in enumerate(batch["users"].astype(float)):
        exponentials = []
        for slot, item in enumerate(batch["items"].astype(float)):
            if slot != row and batch["item_index"][slot] == batch["item_index"][row]:
                continue
            logit = float(user @ item) / temperature
            if with_log_q:
                logit -= math.log(batch["probability"][slot])
            exponentials.append(math.exp(logit))
            if slot == row:
                positive = exponentials[-1]
        total -= batch["weight"][row] * math.log(positive / sum(exponentials))
    return total / float(batch["weight"].sum())


def test_corrected_loss_with_exact_slot_shares_equals_softmax_over_distinct_items():
    # Item j fills n_j of the B slots and q_j = n_j / B. Then the sum over slots of
    # exp(s_j - log q_j) is B times the sum over distinct items of exp(s_j). Copies of a row's own
    # item are masked, so the claim is made for rows whose item fills one slot: rows 0 and 1.
    batch = make_batch(0, [0, 1, 2, 2, 3, 3, 3, 3])
    slots = len(batch["item_index"])
    counts = np.bincount(batch["item_index"])
    batch["probability"] = (counts[batch["item_index"]] / slots).astype(np.float32)
    batch["weight"] = np.array([1, 1, 0, 0, 0, 0, 0, 0], np.float32)

    _, first = np.unique(batch["item_index"], return_index=True)
    distinct = batch["users"][:2].astype(float) @ batch["items"][first].astype(float).T
    distinct /= TEMPERATURE
    wanted = np.mean(np.log(np.exp(distinct).sum(axis=1)) - distinct[[0, 1], [0, 1]])

    assert compute_loss(batch) == pytest.approx(wanted, abs=1e-5)
    assert compute_loss(batch, with_log_q=False) != pytest.approx(wanted, abs=1e-2)


@pytest.mark.parametrize("with_log_q", [False, True])
@pytest.mark.parametrize("temperature", [0.05, 0.2, 1.0])
@pytest.mark.parametrize("slots", [[0, 1, 2, 3], [0, 0, 1, 2, 1, 3, 0], [0]])
def test_loss_of_random_batches_equals_plain_loop(slots, temperature, with_log_q):
    for seed in range(2):
        batch = make_batch(seed, slots)
        wanted = loop_loss(batch, temperature, with_log_q)
        assert compute_loss(batch, temperature, with_log_q) == pytest.approx(wanted, abs=1e-4)


# Two users (1, 0); items (1, 0) and (0, 1); temperature 0.5: logits 2 and 0 for both.
TWO = {
    "users": np.array([[1, 0], [1, 0]], np.float32),
    "items": np.array([[1, 0], [0, 1]], np.float32),
    "item_index": np.array([7, 9], np.int32),
    "probability": np.array([0.8, 0.2], np.float32),
    "weight": np.array([1, 1], np.float32),
}


def test_loss_without_correction_golden_numbers():
    # Row 0: ln(1 + e^-2) = 0.126928. Row 1: ln(1 + e^2) = 2.126928. Mean 1.126928.
    assert compute_loss(TWO, 0.5, False) == pytest.approx(1.126928, abs=1e-5)


def test_loss_with_weights_is_weighted_mean():
    # (1 * 0.126928 + 3 * 2.126928) / 4 = 1.626928.
    weighted = TWO | {"weight": np.array([1, 3], np.float32)}
    assert compute_loss(weighted, 0.5, False) == pytest.approx(1.626928, abs=1e-5)


def test_loss_with_correction_golden_numbers():
    # Corrected logits: 2 - ln 0.8 = 2.223144 and 0 - ln 0.2 = 1.609438, 0.613706 apart.
    # Row 0: ln(1 + e^-0.613706) = 0.432653. Row 1: 0.432653 + 0.613706 = 1.046359. Mean 0.739506.
    # (With the wrong sign the logits would be 1.776856 and -1.609438 and the mean 1.726.)
    assert compute_loss(TWO, 0.5, True) == pytest.approx(0.739506, abs=1e-5)


def test_loss_with_scaled_weights_stays_equal():
    batch = make_batch(3, [0, 1, 2, 1, 4])
    scaled = batch | {"weight": 10 * batch["weight"]}
    assert compute_loss(scaled) == pytest.approx(compute_loss(batch), abs=1e-5)


def test_loss_with_weight_zero_ignores_the_row_as_positive_only():
    batch = make_batch(4, [0, 1, 2])
    batch["weight"] = np.array([1, 0, 0], np.float32)
    alone = loop_loss(batch, TEMPERATURE, True)
    assert compute_loss(batch) == pytest.approx(alone, abs=1e-5)
    moved = batch | {"items": batch["items"][[0, 2, 1]]}
    moved["probability"] = batch["probability"][[0, 2, 1]]
    assert compute_loss(moved) == pytest.approx(alone, abs=1e-5)  # still rivals of row 0


def test_loss_of_permuted_rows_stays_equal():
    batch = make_batch(5, [0, 1, 1, 2, 3, 0, 4])
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(len(batch["item_index"]))
        permuted = {name: values[order] for name, values in batch.items()}
        assert compute_loss(permuted) == pytest.approx(compute_loss(batch), abs=1e-5)


def test_loss_of_a_single_item_everywhere_is_zero():
    batch = make_batch(6, [0, 0, 0, 0])
    assert compute_loss(batch) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("temperature", [0.005, 0.07])
@pytest.mark.parametrize("slots", [[0, 1, 1, 2], [0, 0, 0], [0]])
def test_gradient_is_finite_and_zero_where_there_is_no_rival(slots, temperature):
    batch = make_batch(7, slots)
    users, items = tf.constant(batch["users"]), tf.constant(batch["items"])
    with tf.GradientTape() as tape:
        tape.watch([users, items])
        loss = loss_at(temperature)(
            users,
            items,
            tf.constant(batch["item_index"]),
            batch["probability"],
            tf.constant(batch["weight"]),
        )
    gradients = tape.gradient(loss, [users, items])
    for gradient in gradients:
        assert np.isfinite(gradient.numpy()).all()
        assert (np.abs(gradient.numpy()).max() > 1e-6) == (len(set(slots)) > 1)


def test_loss_inside_function_without_autograph_equals_eager_loss():
    batch = make_batch(8, [0, 1, 1, 2, 3])
    loss_function = loss_at(TEMPERATURE)

    @tf.function(autograph=False)
    def step(users: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(users)
            loss = loss_function(
                users, batch["items"], batch["item_index"], batch["probability"], batch["weight"]
            )
        return loss, tape.gradient(loss, users)

    loss, gradient = step(tf.constant(batch["users"]))
    assert float(loss) == pytest.approx(loop_loss(batch, TEMPERATURE, True), abs=1e-4)
    assert np.abs(gradient.numpy()).max() > 1e-3
