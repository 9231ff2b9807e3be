import numpy as np
import pytest
import tensorflow as tf

from tfrec.features.clock import clock_features

HOUR, DAY, WEEK = 3600, 86_400, 604_800


def clock(*seconds: int) -> np.ndarray:
    return clock_features(tf.constant(seconds, tf.int64)).numpy()


def test_six_in_the_morning_is_a_quarter_of_the_day():
    # Day: angle pi / 2. 1970-01-01 06:00 is 1/28 of a week: angle 2 pi / 28.
    week = 2 * np.pi / 28
    np.testing.assert_allclose(clock(6 * HOUR), [[1, 0, np.sin(week), np.cos(week), 1]], atol=1e-6)


def test_unknown_time_is_zeros():
    assert not clock(0).any()


@pytest.mark.parametrize("period", [WEEK, 1000 * WEEK])
def test_clock_repeats_each_week_far_from_1970_too(period):
    np.testing.assert_allclose(clock(12_345), clock(12_345 + period), atol=1e-5)
    assert np.abs(clock(12_345) - clock(12_345 + DAY))[:, :2].max() < 1e-5
    assert np.abs(clock(12_345) - clock(12_345 + DAY))[:, 2:4].max() > 0.1
