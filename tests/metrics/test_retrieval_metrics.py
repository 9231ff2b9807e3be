import math
from collections.abc import Callable

import numpy as np
import pytest

from tfrec.metrics.retrieval import (
    mean_reciprocal_rank,
    ndcg_at_k,
    recall_at_k,
    retrieval_metrics,
    target_ranks,
)

Pairs = tuple[np.ndarray, np.ndarray]


def blocks(scores: np.ndarray, seen: list[set[int]]) -> tuple[Callable, Callable]:
    """Returns the two functions that `target_ranks` asks, from plain tables."""

    def seen_block(rows: slice) -> Pairs:
        pairs = [(row, item) for row, items in enumerate(seen[rows]) for item in items]
        found = np.array(pairs, np.int64).reshape(-1, 2)
        return found[:, 0], found[:, 1]

    return lambda rows: scores[rows], seen_block


def rank(scores: list[float], target: int, seen: set[int] | None = None) -> int:
    """Ranks one request's target; `scores` begin with column 0, no item."""
    score_block, seen_block = blocks(np.array([scores]), [seen or set()])
    return int(target_ranks(score_block, np.array([target]), seen_block)[0])


def loop(scores: np.ndarray, targets: np.ndarray, seen: list[set[int]]) -> list[int]:
    """Ranks by the definition: one more than the items that are not worse."""
    ranks = []
    for row, target in enumerate(targets):
        better = 0
        for item in range(1, scores.shape[1]):
            if (
                item != target
                and item not in seen[row]
                and scores[row, item] >= scores[row, target]
            ):
                better += 1
        ranks.append(1 + better)
    return ranks


def random_case(seed: int) -> tuple[np.ndarray, np.ndarray, list[set[int]]]:
    """Returns coarse scores (so that many are equal), targets, and seen items."""
    draw = np.random.default_rng(seed)
    requests, num_items = int(draw.integers(1, 40)), int(draw.integers(1, 30))
    scores = draw.integers(-4, 5, (requests, num_items + 1)).astype(np.float32)
    targets = draw.integers(1, num_items + 1, requests)
    seen = [set(draw.integers(1, num_items + 1, draw.integers(0, 6)).tolist()) for _ in targets]
    return scores, targets, seen


# By hand


@pytest.mark.parametrize(
    ("scores", "target", "seen", "expected"),
    [
        ([9.0, 3.0, 2.0, 1.0], 1, set(), 1),  # column 0 is no item, however well it scores
        ([9.0, 3.0, 2.0, 1.0], 3, set(), 3),
        ([0.0, 2.0, 2.0, 2.0], 2, set(), 3),  # ties count against us
        ([0.0, 0.0, 0.0, 0.0], 1, set(), 3),
        ([9.0, 3.0, 2.0, 1.0], 3, {1}, 2),  # seen items are removed
        ([9.0, 3.0, 2.0, 1.0], 3, {1, 2}, 1),
        ([9.0, 3.0, 2.0, 1.0], 1, {2, 3}, 1),
        ([9.0, 3.0, 2.0, 1.0], 3, {1, 3}, 2),  # the target itself never is
        ([9.0, 3.0, 2.0, 1.0], 1, {1}, 1),
        ([0.0, 5.0], 1, set(), 1),
        ([0.0, -5.0, -6.0], 1, set(), 1),
        ([0.0, math.nan, 1.0, 2.0], 2, set(), 3),  # whatever is not worse is better: NaN too
    ],
)
def test_target_rank_by_hand(scores: list[float], target: int, seen: set[int], expected: int):
    assert rank(scores, target, seen) == expected


def test_target_without_a_score_is_last():
    assert rank([0.0, math.nan, 1.0, 2.0], 1) >= 3  # a broken model must not look perfect


def test_scores_of_the_caller_are_left_as_they_are():
    scores = np.arange(8, dtype=np.float32).reshape(2, 4)
    score_block, seen_block = blocks(scores, [{1}, {2}])
    target_ranks(score_block, np.array([2, 3]), seen_block)
    np.testing.assert_array_equal(scores, np.arange(8).reshape(2, 4))


# Against the definition


@pytest.mark.parametrize("seed", range(10))
def test_target_ranks_agree_with_a_loop_in_blocks_of_any_size(seed: int):
    scores, targets, seen = random_case(seed)
    score_block, seen_block = blocks(scores, seen)
    expected = loop(scores, targets, seen)
    for block_size in (1, 3, len(targets), 1024):
        ranks = target_ranks(score_block, targets, seen_block, block_size)
        assert ranks.tolist() == expected
    assert ranks.dtype == np.int64


@pytest.mark.parametrize("seed", range(10))
def test_target_ranks_follow_permuted_requests_and_items(seed: int):
    scores, targets, seen = random_case(seed)
    ranks = target_ranks(*(lambda b: (b[0], targets, b[1]))(blocks(scores, seen)))
    draw = np.random.default_rng(seed)

    order = draw.permutation(len(targets))
    score_block, seen_block = blocks(scores[order], [seen[row] for row in order])
    permuted = target_ranks(score_block, targets[order], seen_block, block_size=7)
    np.testing.assert_array_equal(permuted, ranks[order])

    column_of = np.concatenate([[0], 1 + draw.permutation(scores.shape[1] - 1)])  # item to column
    moved = np.empty_like(scores)
    moved[:, column_of] = scores
    score_block, seen_block = blocks(moved, [{int(column_of[i]) for i in items} for items in seen])
    np.testing.assert_array_equal(target_ranks(score_block, column_of[targets], seen_block), ranks)


# Numbers from ranks


def test_recall_is_share_of_ranks_up_to_k():
    ranks = np.array([1, 3, 10, 11])
    assert [recall_at_k(ranks, k) for k in (1, 3, 10, 11)] == [0.25, 0.5, 0.75, 1.0]


def test_ndcg_discounts_by_logarithm_of_rank():
    ranks = np.array([1, 3, 7, 8])
    # 1 / log2(2) = 1; 1 / log2(4) = 1/2; 1 / log2(8) = 1/3; rank 8 lies outside.
    assert ndcg_at_k(ranks, 7) == pytest.approx((1 + 1 / 2 + 1 / 3) / 4)
    assert ndcg_at_k(ranks, 1) == pytest.approx(1 / 4)


def test_mean_reciprocal_rank_by_hand():
    assert mean_reciprocal_rank(np.array([1, 2, 4])) == pytest.approx((1 + 0.5 + 0.25) / 3)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("k", [1, 5, 20])
def test_ndcg_agrees_with_scikit_learn(seed: int, k: int):
    from sklearn.metrics import ndcg_score

    draw = np.random.default_rng(seed)
    scores = draw.permuted(np.tile(np.arange(30.0), (12, 1)), axis=1)  # no ties
    targets = draw.integers(1, 31, 12)
    padded = np.concatenate([np.zeros((12, 1)), scores], axis=1)
    score_block, seen_block = blocks(padded, [set()] * 12)
    relevance = np.eye(30)[targets - 1]
    ranks = target_ranks(score_block, targets, seen_block)
    assert ndcg_at_k(ranks, k) == pytest.approx(ndcg_score(relevance, scores, k=k))


def test_retrieval_metrics_names_each_number():
    metrics = retrieval_metrics(np.array([1, 3]), [1, 3])
    assert metrics == pytest.approx(
        {
            "recall_at_1": 0.5,
            "recall_at_3": 1.0,
            "ndcg_at_1": 0.5,
            "ndcg_at_3": (1 + 1 / 2) / 2,
            "mrr": (1 + 1 / 3) / 2,
        }
    )
