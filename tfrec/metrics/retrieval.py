"""Metrics of retrieval: pure functions of arrays, exact, ties counted against the model.

Two views of the same ranks. *Per target*: each target is a trial of its own and meets all other
items, those that the same request also wants included. *Per request*: the targets of a request are
the relevant items of one list, as in information retrieval. With one target a request they agree.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

Pairs = tuple[np.ndarray, np.ndarray]
ScoreBlock = Callable[[slice], np.ndarray]
SeenBlock = Callable[[slice], Pairs]

_BLOCK_SCORES = 2**24


@dataclass(frozen=True)
class Ranked:
    """What ranking the whole catalogue for some requests gave.

    Attributes:
        ranks: int64 [num_targets], from 1. Items that score as much as the target rank before it.
        top: int64 [num_requests, k], the item indices that score best, best first; of equal scores
            the lower index first. 0 fills up where fewer items are left.
    """

    ranks: np.ndarray
    top: np.ndarray


def rows_per_block(num_items: int) -> int:
    """Returns how many requests to score at once, so that a block takes about 64 MB."""
    return max(1, min(1024, _BLOCK_SCORES // (num_items + 1)))


def rank_requests(
    score_block: ScoreBlock,
    request: np.ndarray,
    target: np.ndarray,
    seen_block: SeenBlock,
    *,
    num_requests: int,
    k: int,
    block_size: int = 1024,
) -> Ranked:
    """Ranks all items for each request, in blocks of bounded memory.

    Args:
        score_block: From a slice of requests to float [rows, num_items + 1]; column 0 (no item)
            is never ranked. A score that is no number (NaN) counts as better than every target,
            and that of a target as the worst.
        request: int [num_targets], the request of each target, ascending.
        target: int [num_targets], item indices; a request names each at most once.
        seen_block: From a slice of requests to the (row, item index) pairs that are removed;
            rows count from the slice's start. A request's own targets are never removed.
        num_requests: Requests are numbered from 0 to `num_requests` - 1.
        k: Length of the lists of best items; may be 0.
        block_size: Requests scored at once, and targets compared at once.

    Returns:
        The rank of each target and the best items of each request.
    """
    ranks = np.empty(len(target), np.int64)
    top = np.zeros((num_requests, k), np.int64)
    for start in range(0, num_requests, block_size):
        rows = slice(start, min(start + block_size, num_requests))
        scores = np.array(score_block(rows), np.float32)
        first, last = np.searchsorted(request, [rows.start, rows.stop])
        at, item = request[first:last] - start, target[first:last]
        of_target = scores[at, item]
        scores[seen_block(rows)] = -np.inf
        scores[:, 0] = -np.inf
        scores[at, item] = of_target
        for chunk in range(0, len(at), block_size):
            part = slice(chunk, chunk + block_size)
            # What is not worse is before us, NaN too. A target is not worse than itself: from 1.
            is_worse = scores[at[part]] < of_target[part, None]
            ranks[first:last][part] = scores.shape[1] - np.count_nonzero(is_worse, axis=1)
        if k:
            top[rows] = top_items(scores, k)
    return Ranked(ranks, top)


def target_ranks(
    score_block: ScoreBlock, targets: np.ndarray, seen_block: SeenBlock, block_size: int = 1024
) -> np.ndarray:
    """Ranks one target a request among all items; see `rank_requests`.

    Args:
        score_block: From a slice of requests to float [rows, num_items + 1].
        targets: int [n], the item index that each request has to find.
        seen_block: From a slice of requests to the (row, item index) pairs that are removed.
        block_size: Requests scored at once.

    Returns:
        int64 [n], from 1.
    """
    return rank_requests(
        score_block,
        np.arange(len(targets)),
        targets,
        seen_block,
        num_requests=len(targets),
        k=0,
        block_size=block_size,
    ).ranks


def top_items(scores: np.ndarray, k: int) -> np.ndarray:
    """Finds the best items of each row, exactly.

    Args:
        scores: float [rows, columns]; column 0 is no item, -inf and NaN are never found.
        k: Length of the lists.

    Returns:
        int64 [rows, k]: columns, best first, of equal scores the lower one first; 0 fills up.
    """
    scores = np.where(np.isnan(scores), -np.inf, scores)
    scores[:, 0] = -np.inf
    width = min(k, scores.shape[1])
    found = np.argpartition(-scores, width - 1, axis=1)[:, :width]
    worst = np.take_along_axis(scores, found, axis=1).min(axis=1, keepdims=True)
    # Partitioning takes any of several equal scores at the end of a list; take the lowest columns.
    for row in np.flatnonzero(np.count_nonzero(scores >= worst, axis=1) > width):
        above = np.flatnonzero(scores[row] > worst[row])
        equal = np.flatnonzero(scores[row] == worst[row])
        found[row] = np.concatenate([above, equal[: width - len(above)]])
    found.sort(axis=1)
    value = np.take_along_axis(scores, found, axis=1)
    order = np.argsort(-value, axis=1, kind="stable")
    best = np.take_along_axis(found, order, axis=1)
    best[np.take_along_axis(value, order, axis=1) == -np.inf] = 0
    return np.pad(best, ((0, 0), (0, k - width)))


# Per target


def hits(ranks: np.ndarray, k: int) -> np.ndarray:
    """Returns float64 [n]: 1 for ranks up to `k`, else 0."""
    return (ranks <= k).astype(np.float64)


def gains(ranks: np.ndarray, k: int) -> np.ndarray:
    """Returns float64 [n]: 1 / log2(rank + 1) for ranks up to `k`, else 0.

    Source: Järvelin and Kekäläinen, Cumulated Gain-Based Evaluation of IR Techniques (2002), for
        one relevant item, whose ideal gain is 1; the discount log2(rank + 1) is that of Burges et
        al., Learning to Rank using Gradient Descent (2005).
    """
    return np.where(ranks <= k, 1.0 / np.log2(ranks + 1.0), 0.0)


def target_values(ranks: np.ndarray, ks: Sequence[int]) -> dict[str, np.ndarray]:
    """Returns what each target adds to each metric of `retrieval_metrics`, float64 [n]."""
    values = {f"recall_at_{k}": hits(ranks, k) for k in ks}
    values |= {f"ndcg_at_{k}": gains(ranks, k) for k in ks}
    return values | {"mrr": 1.0 / ranks}


def recall_at_k(ranks: np.ndarray, k: int) -> float:
    """Share of targets among the first `k`; with one target a request this is the hit rate."""
    return float(hits(ranks, k).mean())


def ndcg_at_k(ranks: np.ndarray, k: int) -> float:
    """Mean of `gains`."""
    return float(gains(ranks, k).mean())


def retrieval_metrics(ranks: np.ndarray, ks: Sequence[int]) -> dict[str, float]:
    """Returns recall and NDCG at each of `ks`, and the mean reciprocal rank."""
    return {name: float(value.mean()) for name, value in target_values(ranks, ks).items()}


# Per request


def request_values(request: np.ndarray, ranks: np.ndarray, k: int) -> dict[str, np.ndarray]:
    """Measures each request's list of `k` items against all its targets.

    With R targets, of which those at positions p_1 < p_2 < ... <= k are found, h of them:

    * ``precision``: h / k. ``recall``: h / R. ``f1``: 2 h / (k + R), their harmonic mean.
    * ``map``: (1/p_1 + 2/p_2 + ... + h/p_h) / min(k, R), the average precision.
    * ``mrr``: 1 / p_1, or 0. ``hit_rate``: 1 if anything is found.
    * ``ndcg``: sum of 1 / log2(p_j + 1) by its largest value, that of positions 1 to min(k, R).

    Source: Manning, Raghavan and Schütze, Introduction to Information Retrieval (2008), sections
        8.3 and 8.4, for precision, recall, F1 and average precision; Voorhees, The TREC-8 Question
        Answering Track Report (1999), for the reciprocal rank; Deshpande and Karypis, Item-Based
        Top-N Recommendation Algorithms (2004), for the hit rate; `gains` for NDCG.
    Deviates: Average precision is divided by min(k, R), not by R, so that the best list has 1.

    Args:
        request: int [num_targets], ascending from 0; every request has a target.
        ranks: int64 [num_targets], from `rank_requests`.
        k: Length of the list, at least 1.

    Returns:
        float64 [num_requests] in [0, 1], by the names above.
    """
    order = np.lexsort((ranks, request))
    request, ranks = request[order], ranks[order]
    num_targets = np.bincount(request)
    starts = np.cumsum(num_targets) - num_targets
    number = 1 + np.arange(len(request)) - starts[request]
    # Equal targets have one rank, the last of their places; in a list they take one place each.
    is_last = np.ones(len(request), bool)
    is_last[:-1] = (request[1:] != request[:-1]) | (ranks[1:] != ranks[:-1])
    last_of_group = np.flatnonzero(is_last)[np.cumsum(is_last) - is_last]
    position = ranks - (last_of_group - np.arange(len(request)))

    def total(values: np.ndarray) -> np.ndarray:
        return np.bincount(request, weights=np.where(position <= k, values, 0.0))

    found = total(np.ones(len(request)))
    ideal = np.cumsum(1.0 / np.log2(np.arange(1, k + 1) + 1.0))
    best = np.minimum(k, num_targets)
    return {
        "precision": found / k,
        "recall": found / num_targets,
        "f1": 2.0 * found / (k + num_targets),
        "map": total(number / position) / best,
        "mrr": total((number == 1) / position),
        "hit_rate": (found > 0).astype(np.float64),
        "ndcg": total(1.0 / np.log2(position + 1.0)) / ideal[best - 1],
    }
