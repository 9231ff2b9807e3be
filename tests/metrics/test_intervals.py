import numpy as np
import pytest

from tfrec.metrics.intervals import paired_difference, percentile_interval, resample_means


def interval(values: np.ndarray, counts: np.ndarray | None = None, **settings: int) -> np.ndarray:
    return percentile_interval(resample_means(values, counts, **settings))


def test_interval_of_a_mean_agrees_with_scipy():
    from scipy.stats import bootstrap

    values = np.random.default_rng(0).exponential(size=200)
    found = interval(values[:, None], resamples=9999)[0]
    expected = bootstrap((values,), np.mean, method="percentile", rng=1).confidence_interval
    width = expected.high - expected.low
    assert found == pytest.approx([expected.low, expected.high], abs=0.05 * width)


def test_interval_of_a_ratio_agrees_with_a_loop():
    draw = np.random.default_rng(0)
    counts = draw.integers(1, 6, 80)
    sums = draw.binomial(counts, 0.3)
    ratios = []
    for _ in range(4000):
        drawn = draw.integers(0, 80, 80)
        ratios.append(sums[drawn].sum() / counts[drawn].sum())
    expected = np.quantile(ratios, [0.025, 0.975])
    found = interval(sums[:, None], counts, resamples=4000)[0]
    assert found == pytest.approx(expected, abs=0.006)


def test_intervals_hold_the_truth_nineteen_times_in_twenty():
    draw = np.random.default_rng(0)
    held = []
    for seed in range(300):
        low, high = interval(draw.random((60, 1)) < 0.4, resamples=400, seed=seed)[0]
        held.append(low <= 0.4 <= high)
    assert 0.90 < np.mean(held) < 0.99


def test_seed_decides_the_draws_and_blocks_do_not(monkeypatch: pytest.MonkeyPatch):
    values = np.random.default_rng(0).random((50, 3))
    whole = resample_means(values, resamples=100, seed=3)
    assert not np.array_equal(whole, resample_means(values, resamples=100, seed=4))
    monkeypatch.setattr("tfrec.metrics.intervals._BLOCK_WEIGHTS", 50 * 7)
    np.testing.assert_allclose(resample_means(values, resamples=100, seed=3), whole)


def test_constant_has_an_interval_without_width():
    np.testing.assert_allclose(interval(np.full((9, 1), 0.25)), [[0.25, 0.25]])


def test_nothing_to_draw_has_no_interval():
    assert np.isnan(interval(np.zeros((0, 2)))).all()
    assert np.isnan(interval(np.zeros((3, 1)), np.zeros(3))).all()


def test_paired_interval_tells_apart_what_separate_intervals_do_not():
    draw = np.random.default_rng(0)
    hard = draw.random((300, 1))
    better = hard + 0.02 + 0.05 * draw.random((300, 1))
    (low_a, high_a), (low_b, high_b) = interval(hard)[0], interval(better)[0]
    assert max(low_a, low_b) < min(high_a, high_b)
    difference, bounds = paired_difference(better, hard)
    assert 0.03 < bounds[0, 0] < difference[0] < bounds[0, 1] < 0.06
    assert difference == pytest.approx((better - hard).mean(axis=0))


def test_paired_difference_of_a_model_with_itself_is_zero():
    values = np.random.default_rng(0).random((30, 2))
    difference, bounds = paired_difference(values, values, np.full(30, 2.0))
    assert not difference.any()
    assert not bounds.any()


def test_paired_difference_divides_by_the_number_of_targets():
    counts = np.array([1.0, 3.0])
    difference, _ = paired_difference(np.array([[1.0], [3.0]]), np.zeros((2, 1)), counts)
    assert difference == pytest.approx([1.0])
