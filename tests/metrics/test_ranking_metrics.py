import math

import numpy as np
import pytest

from tfrec.metrics.ranking import (
    expected_calibration_error,
    ranking_metrics,
    reliability_curve,
)


def pairwise_auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Share of (positive, negative) pairs in the right order; a tie is half a pair."""
    won = 0.0
    positives, negatives = scores[labels == 1], scores[labels == 0]
    for positive in positives:
        for negative in negatives:
            won += 1.0 if positive > negative else 0.5 if positive == negative else 0.0
    return won / (len(positives) * len(negatives))


def mean_precision_at_positives(labels: np.ndarray, scores: np.ndarray) -> float:
    """Area under the precision-recall steps: precision at each distinct score, by recall gained."""
    total, before = 0.0, 0
    for threshold in sorted(set(scores.tolist()), reverse=True):
        chosen = labels[scores >= threshold]
        total += (chosen.sum() - before) * chosen.mean()
        before = chosen.sum()
    return total / labels.sum()


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("decimals", [1, 6])  # with many ties, and with none
def test_ranking_metrics_agree_with_loops(seed: int, decimals: int):
    draw = np.random.default_rng(seed)
    probabilities = np.clip(np.round(draw.random(120), decimals), 0.05, 0.95)
    labels = (draw.random(120) < probabilities).astype(np.int8)
    metrics = ranking_metrics(labels, probabilities)
    assert metrics["auc"] == pytest.approx(pairwise_auc(labels, probabilities))
    assert metrics["pr_auc"] == pytest.approx(mean_precision_at_positives(labels, probabilities))
    loss = -sum(
        math.log(p) if label else math.log(1 - p)
        for label, p in zip(labels, probabilities, strict=True)
    )
    assert metrics["log_loss"] == pytest.approx(loss / 120)

    order = draw.permutation(120)
    again = ranking_metrics(labels[order], probabilities[order])
    for name in ("auc", "pr_auc", "log_loss"):
        assert again[name] == pytest.approx(metrics[name])


def test_ranking_metrics_by_hand():
    labels, probabilities = np.array([1, 0, 1, 0]), np.array([0.8, 0.6, 0.4, 0.2], np.float32)
    metrics = ranking_metrics(labels, probabilities)
    # Pairs: 0.8 beats 0.6 and 0.2, 0.4 beats 0.2 only: 3 of 4.
    assert metrics["auc"] == pytest.approx(3 / 4)
    # Precision at the positives is 1/1 and 2/3.
    assert metrics["pr_auc"] == pytest.approx((1 + 2 / 3) / 2)
    expected = -(math.log(0.8) + math.log(0.4) + math.log(0.4) + math.log(0.8)) / 4
    assert metrics["log_loss"] == pytest.approx(expected, abs=1e-6)
    # Four rows in 15 bins are four bins of one: |0.8-1|, |0.6-0|, |0.4-1|, |0.2-0|.
    assert metrics["ece"] == pytest.approx((0.2 + 0.6 + 0.6 + 0.2) / 4)


@pytest.mark.parametrize("label", [0, 1])
def test_ranking_metrics_of_one_class_have_no_auc(label: int):
    metrics = ranking_metrics(np.full(5, label), np.full(5, 0.25))
    assert math.isnan(metrics["auc"])
    assert math.isnan(metrics["pr_auc"])
    assert metrics["log_loss"] == pytest.approx(-math.log(0.25 if label else 0.75))
    assert metrics["ece"] == pytest.approx(0.75 if label else 0.25)


def test_log_loss_of_certain_and_wrong_is_large_and_finite():
    metrics = ranking_metrics(np.array([0, 1]), np.array([1.0, 0.0]))
    assert metrics["log_loss"] == pytest.approx(-math.log(1e-7))  # probabilities are clipped there
    assert metrics["auc"] == 0.0


# Calibration


def test_reliability_curve_has_bins_of_equal_counts():
    probabilities = np.array([0.9, 0.1, 0.2, 0.8, 0.3, 0.7])
    labels = np.array([1, 0, 1, 1, 0, 0])
    predicted, observed, rows = reliability_curve(labels, probabilities, num_bins=3)
    # Sorted: 0.1 0.2 | 0.3 0.7 | 0.8 0.9 with labels 0 1 | 0 0 | 1 1.
    np.testing.assert_allclose(predicted, [0.15, 0.5, 0.85])
    np.testing.assert_allclose(observed, [0.5, 0.0, 1.0])
    np.testing.assert_allclose(rows, [2, 2, 2])


@pytest.mark.parametrize(("num_rows", "expected"), [(1, [1]), (2, [1, 1]), (7, [3, 2, 2])])
def test_reliability_curve_of_few_rows_has_no_empty_bin(num_rows: int, expected: list[int]):
    curve = reliability_curve(np.zeros(num_rows), np.linspace(0, 1, num_rows), num_bins=3)
    assert curve[2].tolist() == expected


def test_calibration_error_by_hand():
    # Bins of three: mean prediction 0.2, clicks 1/3; mean 0.6, clicks 1/3; weights 3 and 3.
    probabilities = np.array([0.1, 0.2, 0.3, 0.5, 0.6, 0.7])
    labels = np.array([0, 1, 0, 1, 0, 0])
    expected = (3 * abs(0.2 - 1 / 3) + 3 * abs(0.6 - 1 / 3)) / 6
    assert expected_calibration_error(labels, probabilities, 2) == pytest.approx(expected)


def test_calibration_error_weights_bins_by_rows():
    # array_split gives bins of 2 and 1: |0.15 - 0.5| and |0.9 - 0|.
    probabilities, labels = np.array([0.1, 0.2, 0.9]), np.array([0, 1, 0])
    expected = (2 * 0.35 + 1 * 0.9) / 3
    assert expected_calibration_error(labels, probabilities, 2) == pytest.approx(expected)


def test_calibration_error_of_true_probabilities_is_small():
    draw = np.random.default_rng(0)
    probabilities = draw.random(30_000)
    labels = (draw.random(30_000) < probabilities).astype(int)
    # A bin of 2,000 clicks strays by about sqrt(0.25 / 2000) = 0.011 at most.
    assert 0 < expected_calibration_error(labels, probabilities) < 0.011
    overconfident = np.clip(probabilities * 1.5, 0, 1)
    assert expected_calibration_error(labels, overconfident) > 0.15
