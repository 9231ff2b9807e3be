"""Lists as `Recommender.recommend` orders them: candidates of retrieval, sorted by the ranker."""

from __future__ import annotations

import numpy as np

from tfrec.config import Config
from tfrec.data.dataset import PreparedData
from tfrec.metrics.retrieval import Ranked, SeenBlock, rows_per_block, top_items
from tfrec.progress import progress_bar
from tfrec.training.ranked_rows import pair_rows
from tfrec.training.ranking import Embeddings, PairScorer

_BLOCK = 512


def rank_two_stages(
    data: PreparedData,
    embeddings: Embeddings,
    scorer: PairScorer,
    config: Config,
    *,
    contexts: np.ndarray,
    request: np.ndarray,
    target: np.ndarray,
    seen_block: SeenBlock,
    k: int,
) -> Ranked:
    """Ranks targets as `Recommender.recommend` orders items.

    A target that retrieval does not hand on counts as the last item of the catalogue.

    Args:
        data: The prepared data set.
        embeddings: From the finished towers.
        scorer: Runs the ranking model.
        config: `index.candidates` and the weight of the retrieval score.
        contexts: int [num_requests], rows of `data.contexts`.
        request: int [num_targets], positions in `contexts`, ascending.
        target: int [num_targets], item indices.
        seen_block: As for `rank_requests`.
        k: Length of the lists of best items.
    """
    score_weight = config.ranking.retrieval_weight / embeddings.temperature
    num_candidates = min(config.index.candidates, data.num_items)
    ranks = np.empty(len(target), np.int64)
    top = np.zeros((len(contexts), k), np.int64)
    size = min(_BLOCK, rows_per_block(data.num_items))
    starts = range(0, len(contexts), size)
    for start in progress_bar(starts, desc="two-stage metrics", unit="block"):
        block = slice(start, min(start + size, len(contexts)))
        scores = embeddings.requests[contexts[block]] @ embeddings.items.T
        scores[seen_block(block)] = -np.inf
        candidates = top_items(scores, num_candidates)
        order = _click_order(scores, candidates, contexts[block], scorer, score_weight)
        first, last = np.searchsorted(request, [block.start, block.stop])
        at, item = request[first:last] - start, target[first:last]
        is_target = candidates[at] == item[:, None]
        of_target = np.where(is_target, order[at], 0.0).sum(axis=1, keepdims=True)
        before = (~(order[at] < of_target) & ~is_target).sum(axis=1)
        ranks[first:last] = np.where(is_target.any(axis=1), 1 + before, data.num_items)
        best = np.argsort(-order, axis=1, kind="stable")[:, :k]
        top[block, : best.shape[1]] = np.take_along_axis(candidates, best, axis=1)
    return Ranked(ranks, top)


def _click_order(
    scores: np.ndarray,
    candidates: np.ndarray,
    contexts: np.ndarray,
    scorer: PairScorer,
    score_weight: float,
) -> np.ndarray:
    """Returns what candidates are sorted by, float [rows, candidates]; -inf where there is none."""
    rows = pair_rows(np.repeat(contexts, candidates.shape[1]), candidates.reshape(-1))
    order = scorer.click_order(rows).reshape(candidates.shape).astype(np.float64)
    order += score_weight * np.take_along_axis(scores, candidates, axis=1)
    return np.where(candidates > 0, order, -np.inf)
