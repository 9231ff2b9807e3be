import math

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from tfrec.metrics.ranking import gauc, group_auc, log_losses, ranking_metrics


def pairwise_auc(
    labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None
) -> float:
    """Share of (positive, negative) pairs in the right order; a tie is half a pair."""
    weights = np.ones(len(labels)) if weights is None else weights
    won = total = 0.0
    for i in np.flatnonzero(labels == 1):
        for j in np.flatnonzero(labels == 0):
            pair = weights[i] * weights[j]
            total += pair
            won += pair * (1.0 if scores[i] > scores[j] else 0.5 if scores[i] == scores[j] else 0.0)
    return won / total if total else math.nan


def mean_precision_at_positives(labels: np.ndarray, scores: np.ndarray) -> float:
    """Area under the precision-recall steps: precision at each distinct score, by recall gained."""
    total, before = 0.0, 0
    for threshold in sorted(set(scores.tolist()), reverse=True):
        chosen = labels[scores >= threshold]
        total += (chosen.sum() - before) * chosen.mean()
        before = chosen.sum()
    return total / labels.sum()


def draw_rows(seed: int, decimals: int = 6, rows: int = 120):
    draw = np.random.default_rng(seed)
    probabilities = np.clip(np.round(draw.random(rows), decimals), 0.05, 0.95)
    labels = (draw.random(rows) < probabilities).astype(np.int8)
    return labels, probabilities, draw.integers(0, rows // 5, rows) * 7


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("decimals", [1, 6])  # with many ties, and with none
def test_ranking_metrics_agree_with_loops(seed: int, decimals: int):
    labels, probabilities, groups = draw_rows(seed, decimals)
    metrics = ranking_metrics(labels, probabilities, groups=groups)
    assert metrics["auc"] == pytest.approx(pairwise_auc(labels, probabilities))
    assert metrics["pr_auc"] == pytest.approx(mean_precision_at_positives(labels, probabilities))
    loss = -sum(
        math.log(p) if label else math.log(1 - p)
        for label, p in zip(labels, probabilities, strict=True)
    )
    assert metrics["log_loss"] == pytest.approx(loss / 120)
    of_group = [pairwise_auc(labels[groups == g], probabilities[groups == g]) for g in set(groups)]
    assert metrics["gauc"] == pytest.approx(np.nanmean(of_group))

    order = np.random.default_rng(seed).permutation(120)
    again = ranking_metrics(labels[order], probabilities[order], groups=groups[order])
    assert again == pytest.approx(metrics)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("decimals", [1, 6])
def test_a_weight_counts_a_row_as_often(seed: int, decimals: int):
    labels, probabilities, groups = draw_rows(seed, decimals)
    times = np.random.default_rng(seed).integers(0, 4, len(labels))
    repeated = [np.repeat(values, times) for values in (labels, probabilities, groups)]
    found = ranking_metrics(labels, probabilities, times.astype(float), groups)
    assert found == pytest.approx(ranking_metrics(*repeated[:2], groups=repeated[2]))
    assert found["log_loss"] == pytest.approx(
        log_loss(labels, probabilities, sample_weight=times), rel=1e-6
    )


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
    assert "gauc" not in metrics


@pytest.mark.parametrize("label", [0, 1])
def test_ranking_metrics_of_one_class_have_no_auc(label: int):
    metrics = ranking_metrics(np.full(5, label), np.full(5, 0.25), groups=np.arange(5))
    assert math.isnan(metrics["auc"])
    assert math.isnan(metrics["gauc"])
    assert math.isnan(metrics["pr_auc"])
    assert metrics["log_loss"] == pytest.approx(-math.log(0.25 if label else 0.75))
    assert metrics["ece"] == pytest.approx(0.75 if label else 0.25)


def test_ranking_metrics_of_no_row_are_no_numbers():
    nothing = np.zeros(0)
    metrics = ranking_metrics(nothing, nothing, nothing, nothing.astype(int))
    assert all(math.isnan(value) for value in metrics.values())


def test_log_loss_of_certain_and_wrong_is_large_and_finite():
    metrics = ranking_metrics(np.array([0, 1]), np.array([1.0, 0.0]))
    assert metrics["log_loss"] == pytest.approx(-math.log(1e-7))  # probabilities are clipped there
    assert metrics["auc"] == 0.0


def test_log_losses_are_those_of_the_rows():
    found = log_losses(np.array([1.0, 0.0]), np.array([0.25, 0.25], np.float32))
    assert found == pytest.approx([math.log(4), math.log(4 / 3)])


# By group


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("decimals", [1, 6])
def test_group_auc_agrees_with_scikit_learn_on_each_group(seed: int, decimals: int):
    labels, scores, groups = draw_rows(seed, decimals, rows=300)
    weights = np.random.default_rng(seed).random(300)
    found = group_auc(labels, scores, groups, weights)
    for group, value in zip(np.unique(groups), found, strict=True):
        at = groups == group
        if labels[at].min() == labels[at].max():
            assert math.isnan(value)
        else:
            expected = roc_auc_score(labels[at], scores[at], sample_weight=weights[at])
            assert value == pytest.approx(expected)


def test_group_auc_knows_nothing_of_other_groups():
    labels, groups = np.array([1, 0, 1, 0]), np.array([5, 5, 9, 9])
    # Group 9 scores far higher than group 5, which is in the wrong order.
    assert group_auc(labels, np.array([0.1, 0.2, 8.0, 7.0]), groups).tolist() == [0.0, 1.0]


def test_gauc_counts_each_group_once_and_leaves_out_those_of_one_class():
    labels = np.array([1, 0, 0, 0, 1, 0, 0, 0, 1, 1])
    scores = np.array([9, 1, 2, 3, 1, 2, 7, 8, 5, 6])
    groups = np.array([0, 0, 0, 0, 1, 1, 2, 2, 3, 3])
    # Group 0: 1, group 1: 0; group 2 has no click, group 3 nothing else.
    assert gauc(labels, scores, groups) == 0.5
    assert math.isnan(gauc(labels[6:], scores[6:], groups[6:]))


def test_gauc_of_scores_without_meaning_is_one_half():
    draw = np.random.default_rng(0)
    labels, scores = draw.random(400_000) < 0.2, draw.random(400_000)
    # Within the noise of 80,000 groups.
    assert gauc(labels, scores, draw.integers(0, 80_000, 400_000)) == pytest.approx(0.5, abs=0.005)
