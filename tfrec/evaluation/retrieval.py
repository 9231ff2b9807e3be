"""Retrieval measured on the test requests: ours beside popularity, chance and, if known, truth."""

from __future__ import annotations

import numpy as np

from tfrec.config import Config
from tfrec.data.dataset import PreparedData
from tfrec.data.reading.sources import Oracle
from tfrec.metrics.retrieval import retrieval_metrics, target_ranks
from tfrec.progress import progress_bar
from tfrec.schema import Columns
from tfrec.training.ranking import Embeddings, PairScorer, RankedRows

_BLOCK = 512


def evaluate_retrieval(
    data: PreparedData,
    embeddings: Embeddings,
    oracle: Oracle | None,
    config: Config,
) -> dict[str, dict[str, float]]:
    """Ranks every test target among the whole catalogue, the user's history left out.

    Args:
        data: The prepared data set.
        embeddings: From the finished towers.
        oracle: Truth of generated data.
        config: `evaluation.k`, `evaluation.max_contexts` and the seed.

    Returns:
        Metrics by model: ``ours``, ``popularity``, ``random`` and, with an oracle, ``oracle``; the
        number of targets stands under ``targets``.
    """
    context, target = _test_targets(data, config)
    counts = data.item_counts().astype(np.float32)
    # Items of equal popularity come in a random order, not all before the target.
    jitter = np.random.default_rng(config.seed).random(len(counts), np.float32)
    popularity = counts + 0.5 * jitter

    def by_embedding(block: slice) -> np.ndarray:
        return embeddings.requests[context[block]] @ embeddings.items.T

    def by_popularity(block: slice) -> np.ndarray:
        return np.broadcast_to(popularity, (block.stop - block.start, len(counts)))

    def by_chance(block: slice) -> np.ndarray:
        rng = np.random.default_rng([config.seed, block.start])
        return rng.random((block.stop - block.start, len(counts)), np.float32)

    scorers = {"ours": by_embedding, "popularity": by_popularity, "random": by_chance}
    if oracle is not None:
        users = data.users[Columns.USER_ID].to_numpy()
        requests = data.contexts

        def by_truth(block: slice) -> np.ndarray:
            part = requests[context[block]]
            clicks = oracle.expected_clicks(
                users[part["user_index"].to_numpy() - 1].tolist(),
                part[Columns.TIME].to_list(),
                part[Columns.QUERY].to_list(),
            )
            return np.concatenate([np.zeros((len(clicks), 1), np.float32), clicks], axis=1)

        scorers["oracle"] = by_truth

    metrics = {}
    for name, scorer in progress_bar(scorers.items(), desc="retrieval metrics", unit="model"):
        ranks = target_ranks(
            scorer, target, lambda block: data.seen_pairs(context[block]), block_size=_BLOCK
        )
        metrics[name] = retrieval_metrics(ranks, config.evaluation.k) | {
            "targets": float(len(target))
        }
    return metrics


def evaluate_two_stages(
    data: PreparedData,
    embeddings: Embeddings,
    scorer: PairScorer,
    config: Config,
) -> dict[str, float]:
    """Ranks each test target as `Recommender.recommend` orders it.

    A target that retrieval does not hand on counts as the last item of the catalogue.

    Args:
        data: The prepared data set.
        embeddings: From the finished towers.
        scorer: Runs the ranking model.
        config: As for `evaluate_retrieval`, and `index.candidates`.

    Returns:
        The metrics of `retrieval_metrics`.
    """
    context, target = _test_targets(data, config)
    num_candidates = min(config.index.candidates, data.num_items)
    ranks = np.empty(len(target), np.int64)
    starts = range(0, len(target), _BLOCK)
    for start in progress_bar(starts, desc="two-stage metrics", unit="block"):
        block = slice(start, min(start + _BLOCK, len(target)))
        scores = embeddings.requests[context[block]] @ embeddings.items.T
        scores[data.seen_pairs(context[block])] = -np.inf
        scores[:, 0] = -np.inf
        candidates = np.argpartition(-scores, num_candidates - 1, axis=1)[:, :num_candidates]
        rows = RankedRows(
            context=np.repeat(context[block], num_candidates),
            item_index=candidates.reshape(-1).astype(np.int32),
            label=np.zeros(candidates.size, np.float32),
            position=np.ones(candidates.size, np.int32),
        )
        order = scorer.logits(rows).reshape(candidates.shape)
        order += config.score_weight * np.take_along_axis(scores, candidates, axis=1)
        is_target = candidates == target[block][:, None]
        of_target = np.where(is_target, order, -np.inf).max(axis=1)
        before = ((order >= of_target[:, None]) & ~is_target).sum(axis=1)
        ranks[block] = np.where(is_target.any(axis=1), 1 + before, data.num_items)
    return retrieval_metrics(ranks, config.evaluation.k) | {"targets": float(len(target))}


def _test_targets(data: PreparedData, config: Config) -> tuple[np.ndarray, np.ndarray]:
    """Returns context rows and item indices of the test targets that are measured."""
    rows = data.target_rows("test")
    if len(rows) > config.evaluation.max_contexts:
        rng = np.random.default_rng(config.seed)
        rows = np.sort(rng.choice(rows, config.evaluation.max_contexts, replace=False))
    examples = data.examples[rows]
    return examples["context"].to_numpy(), examples["item_index"].to_numpy()
