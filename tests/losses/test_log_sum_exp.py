import numpy as np
import pytest
import tensorflow as tf

from tfrec.losses.log_sum_exp import MASKED, log_sum_exp


@pytest.mark.parametrize("shift", [-500.0, 0.0, 500.0])
def test_value_and_gradient_equal_those_of_tensorflow(shift):
    logits = tf.constant(np.random.default_rng(0).normal(shift, 3, (5, 8)).astype(np.float32))
    upstream = tf.constant([1.0, -2.0, 0.5, 0.0, 3.0])
    results = []
    for function in (log_sum_exp, lambda x: tf.reduce_logsumexp(x, axis=1)):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = function(logits)
        results.append((value, tape.gradient(value, logits, output_gradients=upstream)))
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_masked_logits_count_for_nothing_and_rows_of_them_stay_finite():
    logits = tf.constant([[MASKED, MASKED], [0.5, MASKED]])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = log_sum_exp(logits)
    assert value[0] < -1e37
    assert value[1] == 0.5
    assert np.isfinite(tape.gradient(value, logits)).all()


def test_row_without_logits_is_minus_infinity():
    assert log_sum_exp(tf.zeros([2, 0])).numpy().tolist() == [-np.inf, -np.inf]
