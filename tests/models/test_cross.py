import numpy as np
import pytest
import tensorflow as tf
import tensorflow_recommenders as tfrs

from tfrec.models.cross import Cross


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("rank", [0, 2])
def test_cross_equals_the_layer_of_tensorflow_recommenders(rank):
    first, current = draw(7, 5), draw(7, 5, seed=1)
    theirs = tfrs.layers.dcn.Cross(projection_dim=rank or None)
    theirs(first, current)
    weights = [draw(*w.shape, seed=n) for n, w in enumerate(theirs.get_weights())]
    theirs.set_weights(weights)
    ours = Cross(5, rank)
    for variable, value in zip(ours.weights, weights, strict=True):
        variable.assign(value)
    np.testing.assert_allclose(ours(first, current), theirs(first, current), atol=1e-5)


def test_cross_of_hand_made_numbers():
    layer = Cross(2)
    layer.expand.kernel.assign([[1.0, 0.0], [2.0, -1.0]])
    layer.expand.bias.assign([0.5, 1.0])
    # x W = [1 * 3 + 2 * 4, -1 * 4] = [11, -4]; + b = [11.5, -3]; x0 * that = [23, -15]; + x
    crossed = layer(tf.constant([[2.0, 5.0]]), tf.constant([[3.0, 4.0]]))
    np.testing.assert_allclose(crossed, [[26.0, -11.0]])
