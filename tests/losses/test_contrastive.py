import math

import numpy as np
import pytest
import tensorflow as tf

from tfrec.losses.contrastive import contrastive_loss

ROWS, DIM = 7, 5


def draw(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    first, second = rng.normal(size=(2, ROWS, DIM)).astype(np.float32)
    return (
        first,
        second,
        rng.uniform(0.5, 2, ROWS).astype(np.float32),
        rng.random((ROWS, ROWS)) < 0.6,
    )


def compute(first, second, weight, is_negative=None, temperature=0.2) -> float:
    loss = contrastive_loss(
        tf.constant(first),
        tf.constant(second),
        temperature=temperature,
        weight=tf.constant(weight),
        is_negative=None if is_negative is None else tf.constant(is_negative),
    )
    return float(loss)


def loop(first, second, weight, is_negative=None, temperature=0.2) -> float:
    def cosine(a: np.ndarray, b: np.ndarray) -> float:
        return float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))

    total = 0.0
    for row in range(len(first)):
        for picker, picked, swap in ((first, second, False), (second, first, True)):
            exponentials = {}
            for other in range(len(first)):
                pair = (other, row) if swap else (row, other)
                if other == row or is_negative is None or is_negative[pair]:
                    score = cosine(picker[row].astype(float), picked[other].astype(float))
                    exponentials[other] = math.exp(score / temperature)
            share = exponentials[row] / sum(exponentials.values())
            total -= 0.5 * weight[row] * math.log(share)
    return total / float(weight.sum())


@pytest.mark.parametrize("temperature", [0.05, 1.0])
@pytest.mark.parametrize("masked", [False, True])
def test_loss_equals_plain_loop(masked, temperature):
    for seed in range(3):
        first, second, weight, is_negative = draw(seed)
        mask = is_negative if masked else None
        wanted = loop(first, second, weight, mask, temperature)
        assert compute(first, second, weight, mask, temperature) == pytest.approx(wanted, abs=1e-4)


def test_loss_of_swapped_views_stays_equal():
    first, second, weight, is_negative = draw(3)
    swapped = compute(second, first, weight, is_negative.T)
    assert swapped == pytest.approx(compute(first, second, weight, is_negative), abs=1e-5)


def test_loss_of_permuted_rows_and_scaled_views_stays_equal():
    first, second, weight, is_negative = draw(4)
    order = np.random.default_rng(0).permutation(ROWS)
    permuted = compute(3 * first[order], second[order], weight[order], is_negative[order][:, order])
    assert permuted == pytest.approx(compute(first, second, weight, is_negative), abs=1e-5)


def test_masked_rows_of_weight_zero_change_nothing():
    first, second, weight, _ = draw(5)
    is_negative = np.ones((ROWS, ROWS), bool)
    is_negative[5:] = is_negative[:, 5:] = False
    weight[5:] = 0
    wanted = compute(first[:5], second[:5], weight[:5])
    assert compute(first, second, weight, is_negative) == pytest.approx(wanted, abs=1e-5)


def test_loss_of_a_single_row_is_zero():
    first, second, weight, _ = draw(6)
    assert compute(first[:1], second[:1], weight[:1]) == 0
