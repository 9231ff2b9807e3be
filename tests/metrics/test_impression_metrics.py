import math

import numpy as np
import pytest
from sklearn.metrics import ndcg_score, roc_auc_score

from tfrec.metrics.impressions import impression_values


def test_impression_values_by_hand():
    labels = np.array([0, 1, 0, 1, 0, 0, 1, 1])
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.3, 0.2, 0.5, 0.4])
    groups = np.array([3, 3, 3, 3, 8, 8, 9, 9])  # 8 has no click, 9 nothing else
    values = impression_values(labels, scores, groups)
    assert all(np.isnan(value[1:]).all() for value in values.values())
    metrics = {name: value[0] for name, value in values.items()}
    # Clicks at positions 2 and 4 of four: (1/2 + 1/4) / 2; one pair of four in the right order.
    assert metrics["mrr"] == pytest.approx(0.375)
    assert metrics["auc"] == pytest.approx(0.25)
    ideal = 1 / math.log2(2) + 1 / math.log2(3)
    found = 1 / math.log2(3) + 1 / math.log2(5)
    assert metrics["ndcg_at_5"] == metrics["ndcg_at_10"] == pytest.approx(found / ideal)


@pytest.mark.parametrize("seed", range(5))
def test_impression_values_agree_with_loops_and_scikit_learn(seed: int):
    draw = np.random.default_rng(seed)
    groups = draw.integers(0, 25, 400)
    labels, scores = draw.random(400) < 0.2, draw.random(400)
    values = impression_values(labels, scores, groups)
    for number, group in enumerate(np.unique(groups)):
        y, s = labels[groups == group].astype(int), scores[groups == group]
        if y.min() == y.max():
            assert all(math.isnan(value[number]) for value in values.values())
            continue
        assert values["auc"][number] == pytest.approx(roc_auc_score(y, s))
        for depth in (5, 10):
            expected = ndcg_score([y], [s], k=depth)
            assert values[f"ndcg_at_{depth}"][number] == pytest.approx(expected)
        in_order = y[np.argsort(-s)]
        reciprocal = [1 / place for place, clicked in enumerate(in_order, 1) if clicked]
        assert values["mrr"][number] == pytest.approx(np.mean(reciprocal))


def test_ties_count_against_the_model():
    values = impression_values(np.array([1, 0, 0]), np.full(3, 0.5), np.zeros(3, int))
    assert values["mrr"][0] == pytest.approx(1 / 3)
    assert values["ndcg_at_5"][0] == pytest.approx(1 / math.log2(4))
    assert values["auc"][0] == 0.5


def test_a_click_below_the_depth_gains_nothing():
    scores = -np.arange(12.0)
    labels = (np.arange(12) == 7).astype(int)
    values = impression_values(labels, scores, np.zeros(12, int))
    assert values["ndcg_at_5"][0] == 0.0
    assert values["ndcg_at_10"][0] == pytest.approx(1 / math.log2(9))


def test_without_impressions_of_both_classes_nothing_is_a_number():
    values = impression_values(np.zeros(3), np.arange(3.0), np.array([0, 0, 1]))
    assert np.isnan(values["auc"]).tolist() == [True, True]
    assert len(impression_values(np.zeros(0), np.zeros(0), np.zeros(0, int))["mrr"]) == 0
