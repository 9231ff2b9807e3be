import math

import numpy as np
import pytest
import tensorflow as tf

from tfrec.losses.log_q import log_expected_counts
from tfrec.losses.masks import accidental_hits
from tfrec.losses.retrieval import Pairs
from tfrec.losses.sampled_softmax import sampled_softmax
from tfrec.losses.tfrs import TfrsRetrieval


def draw(seed: int, rows: int = 6, n: int = 9) -> dict[str, np.ndarray]:
    """Draws arguments of the loss, all of them switched on."""
    rng = np.random.default_rng(seed)
    return {
        "positive_logits": rng.normal(0, 2, rows).astype(np.float32),
        "negative_logits": rng.normal(0, 2, (rows, n)).astype(np.float32),
        "weight": rng.uniform(0.5, 3, rows).astype(np.float32),
        "is_negative": rng.random((rows, n)) < 0.7,
        "log_expected": rng.normal(0, 1, (rows, n)).astype(np.float32),
        "positive_log_expected": rng.normal(0, 1, rows).astype(np.float32),
    }


def compute(arguments: dict[str, np.ndarray], label_smoothing: float = 0.0) -> float:
    tensors = {name: tf.constant(value) for name, value in arguments.items()}
    return float(sampled_softmax(**tensors, label_smoothing=label_smoothing))


def loop(arguments: dict[str, np.ndarray], label_smoothing: float = 0.0) -> float:
    """Cross-entropy of smoothed labels, row by row, over the candidates that are left."""
    total = 0.0
    negatives = arguments["negative_logits"].astype(float)
    expected = np.broadcast_to(arguments.get("log_expected", np.float32(0)), negatives.shape)
    is_negative = arguments.get("is_negative", np.ones(negatives.shape, bool))
    for row, positive in enumerate(arguments["positive_logits"].astype(float)):
        if "positive_log_expected" in arguments:
            positive = positive - arguments["positive_log_expected"][row]
        logits = [positive]
        for slot in range(negatives.shape[1]):
            if is_negative[row, slot]:
                logits.append(negatives[row, slot] - expected[row, slot])
        labels = [label_smoothing / len(logits)] * len(logits)
        labels[0] += 1 - label_smoothing
        normaliser = sum(math.exp(logit) for logit in logits)
        for label, logit in zip(labels, logits, strict=True):
            total -= arguments["weight"][row] * label * math.log(math.exp(logit) / normaliser)
    return total / float(arguments["weight"].sum())


def full_softmax_loss(logits: np.ndarray, positive: int) -> float:
    return math.log(np.exp(logits.astype(float)).sum()) - float(logits[positive])


def share(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits.astype(float))
    return exponentials / exponentials.sum()


def test_corrected_loss_with_exact_slot_counts_equals_full_softmax():
    # Item j fills c_j slots, its expected count is c_j: the sum over slots of e^(f_j - log c_j) is
    # the sum over items of e^f_j. Slots of the positive are masked; it stands for itself.
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, 7).astype(np.float32)
    counts = rng.integers(1, 9, 7)
    slots = rng.permutation(np.repeat(np.arange(7), counts))
    for positive in range(7):
        arguments = {
            "positive_logits": logits[[positive]],
            "negative_logits": logits[slots][None],
            "weight": np.ones(1, np.float32),
            "is_negative": (slots != positive)[None],
        }
        corrected = arguments | {"log_expected": np.log(counts[slots]).astype(np.float32)}
        wanted = full_softmax_loss(logits, positive)
        assert compute(corrected) == pytest.approx(wanted, abs=1e-5)
        assert compute(arguments) != pytest.approx(wanted, abs=1e-2)
        both = corrected | {"positive_log_expected": np.log(counts[[positive]]).astype(np.float32)}
        if counts[positive] > 1:
            assert compute(both) != pytest.approx(wanted, abs=1e-2)


NUM_ITEMS, NUM_DRAWS, NUM_TRIALS = 30, 64, 4000


def mean_gradients(logits: np.ndarray, q: np.ndarray, positive: int) -> dict[str, np.ndarray]:
    """Averages, over draws of the negatives, the gradient of each item's logit, for each form."""
    slots = np.random.default_rng(1).choice(NUM_ITEMS, (NUM_TRIALS, NUM_DRAWS), p=q)
    log_expected = np.log(NUM_DRAWS * q).astype(np.float32)
    forms = {
        "none": {},
        "negatives": {"log_expected": log_expected[slots]},
        "all": {
            "log_expected": log_expected[slots],
            "positive_log_expected": np.full(NUM_TRIALS, log_expected[positive]),
        },
    }
    means = {}
    for name, form in forms.items():
        of_items = tf.Variable(logits)
        with tf.GradientTape() as tape:
            loss = sampled_softmax(
                tf.repeat(of_items[positive], NUM_TRIALS),
                tf.gather(of_items, slots),
                weight=tf.ones(NUM_TRIALS),
                is_negative=tf.constant(slots != positive),
                **form,
            )
        means[name] = tf.convert_to_tensor(tape.gradient(loss, of_items)).numpy()
    return means


@pytest.mark.parametrize("positive", [0, 20])
def test_mean_gradient_over_draws_is_near_that_of_full_softmax_where_corrected(positive):
    # Item 0 is the most popular one, item 20 is rare.
    q = share(np.log(1 / np.arange(1, NUM_ITEMS + 1)))
    logits = np.random.default_rng(0).normal(0, 1, NUM_ITEMS).astype(np.float32)
    logits[positive] = 3.0
    wanted = share(logits) - np.eye(NUM_ITEMS)[positive]
    error = {
        name: np.abs(gradient - wanted).sum() / np.abs(wanted).sum()
        for name, gradient in mean_gradients(logits, q, positive).items()
    }
    assert error["negatives"] < 0.05
    assert error["none"] > 5 * error["negatives"]
    assert error["all"] > 5 * error["negatives"]


def test_sum_over_many_draws_estimates_sum_over_other_items():
    q = share(np.log(1 / np.arange(1, NUM_ITEMS + 1)))
    logits = np.random.default_rng(2).normal(0, 1, NUM_ITEMS).astype(np.float32)
    gaps = []
    for number in (100, 10_000, 1_000_000):
        slots = np.random.default_rng(3).choice(NUM_ITEMS, number, p=q)
        arguments = {
            "positive_logits": logits[[4]],
            "negative_logits": logits[slots][None],
            "weight": np.ones(1, np.float32),
            "is_negative": (slots != 4)[None],
            "log_expected": np.log(number * q[slots]).astype(np.float32),
        }
        gaps.append(abs(compute(arguments) - full_softmax_loss(logits, 4)))
    assert gaps[2] < 0.005
    assert gaps[2] < gaps[0]


@pytest.mark.parametrize("log_q", ["none", "all", "negatives"])
def test_in_batch_loss_equals_tensorflow_recommenders(log_q):
    rng = np.random.default_rng(5)
    slots = tf.constant([3, 1, 1, 2, 7, 3, 3, 5])
    users = tf.constant(rng.normal(size=(8, 4)).astype(np.float32))
    items = tf.gather(tf.constant(rng.normal(size=(8, 4)).astype(np.float32)), slots)
    q = tf.gather(tf.constant(rng.uniform(0.01, 0.5, 8).astype(np.float32)), slots)
    weight = tf.constant(rng.uniform(0.5, 3, 8).astype(np.float32))
    log_expected = None if log_q == "none" else log_expected_counts([(8, q)])
    known = accidental_hits(slots, slots) | tf.constant(rng.random((8, 8)) < 0.2)

    with tf.GradientTape(persistent=True) as tape:
        tape.watch([users, items])
        logits = tf.matmul(users, items, transpose_b=True) / 0.2
        ours = sampled_softmax(
            tf.linalg.diag_part(logits),
            logits,
            weight=weight,
            is_negative=~known,
            log_expected=log_expected,
            positive_log_expected=log_expected if log_q == "all" else None,
        )
        pairs = Pairs(
            users,
            items,
            item_index=slots,
            weight=weight,
            temperature=tf.constant(0.2),
            is_negative=~known,
            probability=tf.ones([8]) if log_q == "none" else q,
            log_expected=tf.zeros([8]) if log_q == "none" else log_expected,
        )
        theirs = TfrsRetrieval(corrects_target=log_q == "all")(pairs)
    assert float(ours) == pytest.approx(float(theirs), rel=1e-6)
    for ours_gradient, theirs_gradient in zip(
        tape.gradient(ours, [users, items]), tape.gradient(theirs, [users, items]), strict=True
    ):
        np.testing.assert_allclose(ours_gradient, theirs_gradient, atol=1e-6)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize(
    "left_out",
    [
        (),
        ("is_negative",),
        ("positive_log_expected",),
        ("log_expected", "positive_log_expected"),
    ],
)
def test_loss_equals_plain_loop(left_out, label_smoothing):
    for seed in range(3):
        drawn = draw(seed)
        arguments = {name: value for name, value in drawn.items() if name not in left_out}
        wanted = loop(arguments, label_smoothing)
        assert compute(arguments, label_smoothing) == pytest.approx(wanted, abs=1e-5)


def test_log_expected_shared_by_rows_equals_one_for_each_row():
    arguments = draw(1)
    shared = arguments["log_expected"][0]
    repeated = np.tile(shared, (6, 1))
    assert compute(arguments | {"log_expected": shared}) == pytest.approx(
        compute(arguments | {"log_expected": repeated}), abs=1e-6
    )


def test_loss_golden_numbers():
    # Positive logit ln 2; negatives ln 3 and ln 8, expected 3 and 4 times: e^f / c = 1 and 2.
    # Share of the positive 2 / (2 + 1 + 2): loss ln 2.5 = 0.916291. With the positive, expected
    # twice, corrected too: 1 / (1 + 1 + 2), ln 4 = 1.386294. Uncorrected: 2 / 13, 1.871802.
    arguments = {
        "positive_logits": np.log([2.0]).astype(np.float32),
        "negative_logits": np.log([[3.0, 8.0]]).astype(np.float32),
        "weight": np.ones(1, np.float32),
    }
    assert compute(arguments) == pytest.approx(1.871802, abs=1e-5)
    arguments["log_expected"] = np.log([3.0, 4.0]).astype(np.float32)
    assert compute(arguments) == pytest.approx(0.916291, abs=1e-5)
    arguments["positive_log_expected"] = np.log([2.0]).astype(np.float32)
    assert compute(arguments) == pytest.approx(1.386294, abs=1e-5)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
def test_loss_of_permuted_rows_and_candidates_stays_equal(label_smoothing):
    for seed in range(4):
        rng = np.random.default_rng(seed)
        arguments = draw(seed)
        rows, columns = rng.permutation(6), rng.permutation(9)
        permuted = {
            name: value[rows][:, columns] if value.ndim == 2 else value[rows]
            for name, value in arguments.items()
        }
        assert compute(permuted, label_smoothing) == pytest.approx(
            compute(arguments, label_smoothing), abs=1e-5
        )


@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
def test_loss_with_masked_candidates_and_rows_of_weight_zero_stays_equal(label_smoothing):
    for seed in range(4):
        arguments, padding = draw(seed), draw(seed + 100, rows=10, n=14)
        padded = {name: value.copy() for name, value in padding.items()}
        padded["is_negative"][:6, 9:] = False
        padded["weight"][6:] = 0
        for name, value in arguments.items():
            padded[name][tuple(slice(0, size) for size in value.shape)] = value
        assert compute(padded, label_smoothing) == pytest.approx(
            compute(arguments, label_smoothing), abs=1e-5
        )


def test_mean_of_replicas_by_their_weight_equals_whole_batch():
    arguments = draw(9)
    losses, weights = [], []
    for rows in (slice(0, 2), slice(2, 6)):
        losses.append(compute({name: value[rows] for name, value in arguments.items()}))
        weights.append(arguments["weight"][rows].sum())
    mean = np.average(losses, weights=weights)
    assert compute(arguments) == pytest.approx(mean, abs=1e-5)


@pytest.mark.parametrize("scale", [1.0, 200.0])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
def test_gradient_is_finite_and_zero_without_negatives(scale, label_smoothing):
    arguments = draw(3)
    arguments["is_negative"][0] = False
    positive = tf.constant(scale * arguments["positive_logits"])
    negatives = tf.constant(scale * arguments["negative_logits"])
    with tf.GradientTape() as tape:
        tape.watch([positive, negatives])
        loss = sampled_softmax(
            positive,
            negatives,
            weight=tf.constant(arguments["weight"]),
            is_negative=tf.constant(arguments["is_negative"]),
            label_smoothing=label_smoothing,
        )
    of_positive, of_negatives = tape.gradient(loss, [positive, negatives])
    assert np.isfinite(of_positive.numpy()).all()
    assert np.isfinite(of_negatives.numpy()).all()
    assert of_positive[0] == 0
    assert (of_negatives.numpy()[~arguments["is_negative"]] == 0).all()
    # A softmax does not change when all logits of a row rise together.
    np.testing.assert_allclose(of_positive + tf.reduce_sum(of_negatives, axis=1), 0, atol=1e-6)


def test_loss_without_candidates_and_without_rows_is_zero():
    empty = draw(0, n=0)
    assert compute(empty) == 0
    assert compute(empty, label_smoothing=0.1) == 0
    assert compute(draw(0, rows=0)) == 0
    assert compute(draw(0) | {"weight": np.zeros(6, np.float32)}) == 0
