import math
from collections.abc import Callable

import numpy as np
import pytest

from tfrec.metrics.retrieval import (
    ndcg_at_k,
    rank_requests,
    recall_at_k,
    request_values,
    retrieval_metrics,
    rows_per_block,
    target_ranks,
    top_items,
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


# Several targets a request, and lists


def random_requests(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[set[int]]]:
    """Returns coarse scores, and of each target the request and the item; and seen items."""
    draw = np.random.default_rng(seed)
    requests, num_items = int(draw.integers(1, 12)), int(draw.integers(6, 30))
    scores = draw.integers(-4, 5, (requests, num_items + 1)).astype(np.float32)
    sizes = draw.integers(1, 6, requests)
    request = np.repeat(np.arange(requests), sizes)
    target = np.concatenate([1 + draw.permutation(num_items)[:size] for size in sizes])
    seen = [set(draw.integers(1, num_items + 1, draw.integers(0, 6)).tolist()) for _ in sizes]
    return scores, request, target, seen


def list_of_request(
    scores: np.ndarray, wanted: set[int], seen: set[int], ties_against: bool
) -> list[int]:
    """Sorts the items left: best first; of equal ones, wanted last or lower index first."""
    left = [i for i in range(1, len(scores)) if i not in seen or i in wanted]
    return sorted(left, key=lambda i: (-scores[i], ties_against and i in wanted, i))


@pytest.mark.parametrize("seed", range(10))
def test_requests_with_several_targets_agree_with_a_loop_in_blocks_of_any_size(seed: int):
    scores, request, target, seen = random_requests(seed)
    wanted = [set(target[request == row].tolist()) for row in range(len(scores))]
    ranks, lists = [], []
    for row, item in zip(request, target, strict=True):
        rivals = set(range(1, scores.shape[1])) - (seen[row] - wanted[row]) - {int(item)}
        ranks.append(1 + sum(scores[row, rival] >= scores[row, item] for rival in rivals))
    for row in range(len(scores)):
        items = list_of_request(scores[row], wanted[row], seen[row], ties_against=False)[:7]
        lists.append(items + [0] * (7 - len(items)))
    score_block, seen_block = blocks(scores, seen)
    for block_size in (1, 2, 1024):
        found = rank_requests(
            score_block,
            request,
            target,
            seen_block,
            num_requests=len(scores),
            k=7,
            block_size=block_size,
        )
        assert found.ranks.tolist() == ranks
        assert found.top.tolist() == lists


def test_top_items_of_equal_missing_and_few_scores():
    scores = np.array(
        [
            [9.0, 1.0, 1.0, 1.0, 1.0],  # column 0 is no item; of equal ones the lower first
            [9.0, 1.0, 3.0, 1.0, 2.0],
            [9.0, math.nan, -math.inf, 5.0, -math.inf],  # what has no score is in no list
            [math.nan] * 5,
        ]
    )
    assert top_items(scores, 3).tolist() == [[1, 2, 3], [2, 4, 1], [3, 0, 0], [0, 0, 0]]
    assert top_items(scores, 6)[1].tolist() == [2, 4, 1, 3, 0, 0]


def test_block_of_requests_shrinks_as_the_catalogue_grows():
    assert rows_per_block(100) == 1024
    assert 1 <= rows_per_block(10_000_000) < rows_per_block(1_000_000) < 32


def test_request_values_by_hand():
    # Request 0 wants three items, at 1, 3 and 6 of its list; request 1 one item, at 5.
    request, ranks = np.array([0, 0, 0, 1]), np.array([3, 1, 6, 5])
    values = request_values(request, ranks, 4)
    # Two of three within 4. Average precision (1/1 + 2/3) / 3 = 5/9.
    # DCG 1 + 1/log2(4) = 1.5; the best list of three: 1 + 1/log2(3) + 1/2 = 2.1309.
    assert values["precision"] == pytest.approx([2 / 4, 0])
    assert values["recall"] == pytest.approx([2 / 3, 0])
    assert values["f1"] == pytest.approx([4 / 7, 0])  # 2 * (1/2 * 2/3) / (1/2 + 2/3)
    assert values["map"] == pytest.approx([5 / 9, 0])
    assert values["mrr"] == pytest.approx([1, 0])
    assert values["hit_rate"] == pytest.approx([1, 0])
    assert values["ndcg"] == pytest.approx([1.5 / 2.130930, 0], rel=1e-6)
    assert request_values(request, ranks, 5)["mrr"] == pytest.approx([1, 1 / 5])


def test_equal_targets_take_one_place_each():
    # Both targets score as much as one other item: places 1 (the other), 2 and 3; rank 3 for both.
    values = request_values(np.array([0, 0]), np.array([3, 3]), 2)
    assert values["recall"] == pytest.approx([1 / 2])
    assert values["mrr"] == pytest.approx([1 / 2])


def test_perfect_list_has_one_everywhere_but_in_precision():
    values = request_values(np.array([0, 0, 0]), np.array([1, 2, 3]), 2)
    assert {name: value[0] for name, value in values.items() if name not in ("recall", "f1")} == (
        pytest.approx({"precision": 1, "map": 1, "mrr": 1, "hit_rate": 1, "ndcg": 1})
    )
    assert values["recall"] == pytest.approx([2 / 3])


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("k", [1, 3, 10, 40])
def test_request_values_agree_with_a_loop_over_lists(seed: int, k: int):
    scores, request, target, seen = random_requests(seed)
    score_block, seen_block = blocks(scores, seen)
    found = rank_requests(score_block, request, target, seen_block, num_requests=len(scores), k=0)
    shuffled = np.random.default_rng(seed).permutation(len(request))  # order within a request
    shuffled = shuffled[np.argsort(request[shuffled], kind="stable")]
    values = request_values(request[shuffled], found.ranks[shuffled], k)
    for row in range(len(scores)):
        wanted = set(target[request == row].tolist())
        shown = list_of_request(scores[row], wanted, seen[row], ties_against=True)[:k]
        is_wanted = [item in wanted for item in shown]
        precisions = [sum(is_wanted[:n]) / n for n in range(1, len(shown) + 1)]
        ideal = sum(1 / math.log2(n + 1) for n in range(1, min(k, len(wanted)) + 1))
        dcg = sum(1 / math.log2(n + 1) for n, is_in in enumerate(is_wanted, 1) if is_in)
        precision, recall = sum(is_wanted) / k, sum(is_wanted) / len(wanted)
        expected = {
            "precision": precision,
            "recall": recall,
            "f1": 2 * precision * recall / (precision + recall) if recall else 0,
            "map": sum(p for p, is_in in zip(precisions, is_wanted, strict=True) if is_in)
            / min(k, len(wanted)),
            "mrr": 1 / (1 + is_wanted.index(True)) if recall else 0,
            "hit_rate": float(any(is_wanted)),
            "ndcg": dcg / ideal,
        }
        assert {name: value[row] for name, value in values.items()} == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(3))
def test_ndcg_of_several_targets_agrees_with_scikit_learn(seed: int):
    from sklearn.metrics import ndcg_score

    draw = np.random.default_rng(seed)
    scores = draw.permuted(np.tile(np.arange(31.0), (8, 1)), axis=1)
    request = np.repeat(np.arange(8), 4)
    target = np.concatenate([1 + draw.permutation(30)[:4] for _ in range(8)])
    score_block, seen_block = blocks(scores, [set()] * 8)
    ranks = rank_requests(score_block, request, target, seen_block, num_requests=8, k=0).ranks
    relevance = np.zeros((8, 30))
    relevance[request, target - 1] = 1
    expected = ndcg_score(relevance, scores[:, 1:], k=10)
    assert request_values(request, ranks, 10)["ndcg"].mean() == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(3))
def test_both_views_agree_for_one_target_a_request(seed: int):
    ranks = np.random.default_rng(seed).integers(1, 30, 50)
    values = request_values(np.arange(50), ranks, 10)
    metrics = retrieval_metrics(ranks, [10])
    assert values["recall"].mean() == values["hit_rate"].mean() == metrics["recall_at_10"]
    assert values["ndcg"].mean() == pytest.approx(metrics["ndcg_at_10"])
    np.testing.assert_allclose(values["map"], values["mrr"])
