import math

import numpy as np
import pytest

from tfrec.metrics.calibration import (
    equal_weight_bins,
    expected_calibration_error,
    reliability_curve,
)


def test_reliability_curve_has_bins_of_equal_counts():
    probabilities = np.array([0.9, 0.1, 0.2, 0.8, 0.3, 0.7])
    labels = np.array([1, 0, 1, 1, 0, 0])
    predicted, observed, rows = reliability_curve(labels, probabilities, num_bins=3)
    # Sorted: 0.1 0.2 | 0.3 0.7 | 0.8 0.9 with labels 0 1 | 0 0 | 1 1.
    np.testing.assert_allclose(predicted, [0.15, 0.5, 0.85])
    np.testing.assert_allclose(observed, [0.5, 0.0, 1.0])
    np.testing.assert_allclose(rows, [2, 2, 2])


@pytest.mark.parametrize(("num_rows", "expected"), [(0, []), (1, [1]), (2, [1, 1]), (7, [3, 2, 2])])
def test_reliability_curve_of_few_rows_has_no_empty_bin(num_rows: int, expected: list[int]):
    curve = reliability_curve(np.zeros(num_rows), np.linspace(0, 1, num_rows), num_bins=3)
    assert curve[2].tolist() == expected


def test_bins_have_equal_weight_not_equal_counts():
    # Below the third row lie 2 of 4: it opens the second half.
    bins = equal_weight_bins(np.array([1, 2, 3, 4, 5]), 2, np.array([1, 1, 1, 0.5, 0.5]))
    assert bins.tolist() == [0, 0, 1, 1, 1]


@pytest.mark.parametrize("seed", range(4))
def test_bins_keep_equal_values_together_in_order(seed: int):
    draw = np.random.default_rng(seed)
    values, weights = draw.integers(0, 30, 200), draw.random(200)
    bins = equal_weight_bins(values, 7, weights)
    assert set(bins) <= set(range(7))
    order = np.argsort(values)
    assert (np.diff(bins[order]) >= 0).all()
    for value in values:
        assert len(set(bins[values == value])) == 1


def test_calibration_error_by_hand():
    # Bins of three: mean prediction 0.2, clicks 1/3; mean 0.6, clicks 1/3; weights 3 and 3.
    probabilities = np.array([0.1, 0.2, 0.3, 0.5, 0.6, 0.7])
    labels = np.array([0, 1, 0, 1, 0, 0])
    expected = (3 * abs(0.2 - 1 / 3) + 3 * abs(0.6 - 1 / 3)) / 6
    assert expected_calibration_error(labels, probabilities, num_bins=2) == pytest.approx(expected)


def test_calibration_error_weights_bins_by_rows():
    # Bins of 2 and 1: |0.15 - 0.5| and |0.9 - 0|.
    probabilities, labels = np.array([0.1, 0.2, 0.9]), np.array([0, 1, 0])
    expected = (2 * 0.35 + 1 * 0.9) / 3
    assert expected_calibration_error(labels, probabilities, num_bins=2) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("decimals", [1, 6])
def test_calibration_error_agrees_with_a_loop(seed: int, decimals: int):
    draw = np.random.default_rng(seed)
    probabilities = np.round(draw.random(150), decimals)
    labels, weights = draw.integers(0, 2, 150), draw.integers(1, 5, 150).astype(float)
    sums: dict[int, list[float]] = {}
    for p, label, weight in zip(probabilities, labels, weights, strict=True):
        below = sum(w for q, w in zip(probabilities, weights, strict=True) if q < p)
        found = sums.setdefault(int(below * 10 / weights.sum()), [0.0, 0.0])
        found[0] += weight * p
        found[1] += weight * label
    expected = sum(abs(p - y) for p, y in sums.values()) / weights.sum()
    found = expected_calibration_error(labels, probabilities, weights, num_bins=10)
    assert found == pytest.approx(expected)


def test_calibration_error_does_not_depend_on_the_order_of_equal_predictions():
    labels = np.arange(100) % 4 == 0
    constant = np.full(100, 0.25)
    assert expected_calibration_error(labels, constant) == pytest.approx(0.0)
    assert expected_calibration_error(np.sort(labels), constant) == pytest.approx(0.0)


def test_calibration_error_of_true_probabilities_is_small():
    draw = np.random.default_rng(0)
    probabilities = draw.random(30_000)
    labels = (draw.random(30_000) < probabilities).astype(int)
    # A bin of 2,000 clicks strays by about sqrt(0.25 / 2000) = 0.011 at most.
    assert 0 < expected_calibration_error(labels, probabilities) < 0.011
    overconfident = np.clip(probabilities * 1.5, 0, 1)
    assert expected_calibration_error(labels, overconfident) > 0.15


def test_calibration_error_of_no_row_is_no_number():
    assert math.isnan(expected_calibration_error(np.zeros(0), np.zeros(0)))
