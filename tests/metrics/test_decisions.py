import math

import numpy as np
import pytest
from sklearn.metrics import auc, confusion_matrix, f1_score, precision_score, recall_score

from tfrec.metrics.decisions import (
    NEUTRAL_THRESHOLD,
    best_threshold,
    confuse,
    precision_recall_points,
    roc_points,
)
from tfrec.metrics.ranking import ranking_metrics


def draw_rows(seed: int):
    draw = np.random.default_rng(seed)
    probabilities = np.round(draw.random(200), 2)
    labels = (draw.random(200) < probabilities).astype(int)
    return labels, probabilities, draw.random(200)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("threshold", [0.0, 0.37, 1.0])
def test_confusion_agrees_with_scikit_learn(seed: int, threshold: float):
    labels, probabilities, weights = draw_rows(seed)
    found = confuse(labels, probabilities, threshold, weights)
    decisions = (probabilities >= threshold).astype(int)
    expected = confusion_matrix(labels, decisions, sample_weight=weights)
    assert found.true_negatives == pytest.approx(expected[0, 0])
    assert found.false_positives == pytest.approx(expected[0, 1])
    assert found.false_negatives == pytest.approx(expected[1, 0])
    assert found.true_positives == pytest.approx(expected[1, 1])
    for value, of_sklearn in (
        (found.precision, precision_score),
        (found.recall, recall_score),
        (found.f1, f1_score),
    ):
        expected_value = of_sklearn(labels, decisions, sample_weight=weights, zero_division=np.nan)
        assert value == pytest.approx(expected_value, nan_ok=True)


def test_decisions_without_clicks_have_no_recall():
    found = confuse(np.zeros(4), np.full(4, 0.1), 0.5)
    assert found.true_negatives == 4
    assert math.isnan(found.precision)
    assert math.isnan(found.recall)
    assert math.isnan(found.f1)


@pytest.mark.parametrize("seed", range(4))
def test_best_threshold_is_the_best_of_all(seed: int):
    labels, probabilities, weights = draw_rows(seed)
    threshold = best_threshold(labels, probabilities, weights)
    best = confuse(labels, probabilities, threshold, weights).f1
    for other in np.unique(probabilities):
        f1 = f1_score(labels, probabilities >= other, sample_weight=weights)
        assert f1 < best + 1e-12
        assert other <= threshold or f1 < best  # of equal ones the highest


def test_best_threshold_without_clicks_is_neutral():
    assert best_threshold(np.zeros(3), np.array([0.1, 0.2, 0.3])) == NEUTRAL_THRESHOLD
    assert best_threshold(np.zeros(0), np.zeros(0)) == NEUTRAL_THRESHOLD


def test_area_under_the_roc_points_is_the_auc():
    labels, probabilities, weights = draw_rows(0)
    false_rate, true_rate = roc_points(labels, probabilities, weights)
    expected = ranking_metrics(labels, probabilities, weights)["auc"]
    assert auc(false_rate, true_rate) == pytest.approx(expected)


def test_steps_under_the_precision_recall_points_are_the_average_precision():
    labels, probabilities, weights = draw_rows(0)
    recall, precision = precision_recall_points(labels, probabilities, weights)
    assert (np.diff(recall) >= 0).all()
    expected = ranking_metrics(labels, probabilities, weights)["pr_auc"]
    assert (np.diff(recall) * precision[1:]).sum() == pytest.approx(expected)
