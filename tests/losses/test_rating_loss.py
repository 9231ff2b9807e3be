import numpy as np
import pytest
import tensorflow as tf

from tfrec.losses.rating import rating_loss


def test_loss_golden_number():
    # Errors 1, -2 and 100; weights 1, 3 and 0: (1 * 1 + 3 * 4) / 4 = 3.25.
    loss = rating_loss(
        tf.constant([3.0, 1.0, 0.0]), tf.constant([2.0, 3.0, 100.0]), tf.constant([1.0, 3.0, 0.0])
    )
    assert float(loss) == pytest.approx(3.25)


def test_loss_equals_numpy_average():
    rng = np.random.default_rng(0)
    predictions, ratings = rng.normal(size=(2, 20)).astype(np.float32)
    weight = rng.uniform(0, 2, 20).astype(np.float32)
    wanted = np.average((predictions - ratings) ** 2, weights=weight)
    loss = rating_loss(*map(tf.constant, (predictions, ratings, weight)))
    assert float(loss) == pytest.approx(wanted, rel=1e-5)


def test_loss_without_weight_is_zero():
    assert float(rating_loss(tf.ones(2), tf.zeros(2), tf.zeros(2))) == 0
    assert float(rating_loss(tf.ones(0), tf.zeros(0), tf.zeros(0))) == 0
