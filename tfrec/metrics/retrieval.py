"""Metrics of retrieval: pure functions of arrays, exact, ties counted against the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np


def target_ranks(
    score_block: Callable[[slice], np.ndarray],
    targets: np.ndarray,
    seen_block: Callable[[slice], tuple[np.ndarray, np.ndarray]],
    block_size: int = 1024,
) -> np.ndarray:
    """Ranks each request's target among all items, in blocks of bounded memory.

    Args:
        score_block: From a slice of requests to float [rows, num_items + 1]; column 0 (no item)
            is never ranked.
        targets: int [n], the item index that each request has to find.
        seen_block: From a slice of requests to the (row, item index) pairs that are removed;
            rows count from the slice's start. A request's own target is never removed.
        block_size: Requests scored at once.

    Returns:
        int64 [n], from 1. Items that score as much as the target rank before it.
    """
    ranks = np.empty(len(targets), np.int64)
    for start in range(0, len(targets), block_size):
        rows = slice(start, min(start + block_size, len(targets)))
        scores = np.array(score_block(rows), np.float32)
        at = np.arange(len(scores))
        of_target = scores[at, targets[rows]]
        scores[seen_block(rows)] = -np.inf
        scores[:, 0] = -np.inf
        scores[at, targets[rows]] = -np.inf
        ranks[rows] = 1 + (~(scores < of_target[:, None])).sum(axis=1)  # NaN counts against us
    return ranks


def recall_at_k(ranks: np.ndarray, k: int) -> float:
    """Share of targets among the first `k`; with one target a request this is the hit rate."""
    return float((ranks <= k).mean())


def ndcg_at_k(ranks: np.ndarray, k: int) -> float:
    """Mean of 1 / log2(rank + 1) for ranks up to `k`, else 0.

    Source: Järvelin and Kekäläinen, Cumulated Gain-Based Evaluation of IR Techniques (2002), for
        one relevant item, whose ideal gain is 1.
    """
    return float(np.where(ranks <= k, 1.0 / np.log2(ranks + 1.0), 0.0).mean())


def mean_reciprocal_rank(ranks: np.ndarray) -> float:
    """Mean of 1 / rank."""
    return float((1.0 / ranks).mean())


def retrieval_metrics(ranks: np.ndarray, ks: Sequence[int]) -> dict[str, float]:
    """Returns recall and NDCG at each of `ks`, and the mean reciprocal rank."""
    metrics = {f"recall_at_{k}": recall_at_k(ranks, k) for k in ks}
    metrics |= {f"ndcg_at_{k}": ndcg_at_k(ranks, k) for k in ks}
    return metrics | {"mrr": mean_reciprocal_rank(ranks)}
