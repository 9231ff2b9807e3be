"""Retrieval measured on the test requests: ours beside popularity, chance and, if known, truth."""

from __future__ import annotations

import numpy as np

from tfrec.config import Config
from tfrec.data.dataset import PreparedData
from tfrec.data.sources import Oracle
from tfrec.metrics.retrieval import retrieval_metrics, target_ranks
from tfrec.progress import progress_bar
from tfrec.schema import Columns

_BLOCK = 512


def evaluate_retrieval(
    data: PreparedData,
    item_embeddings: np.ndarray,
    request_embeddings: np.ndarray,
    oracle: Oracle | None,
    config: Config,
) -> dict[str, dict[str, float]]:
    """Ranks every test target among the whole catalogue, the user's history left out.

    Args:
        data: The prepared data set.
        item_embeddings: float32 [num_items + 1, embedding_dim].
        request_embeddings: float32 [num_contexts, embedding_dim].
        oracle: Truth of generated data.
        config: `evaluation.k`, `evaluation.max_contexts` and the seed.

    Returns:
        Metrics by model: ``ours``, ``popularity``, ``random`` and, with an oracle, ``oracle``; the
        number of targets stands under ``targets``.
    """
    rows = data.target_rows("test")
    if len(rows) > config.evaluation.max_contexts:
        rng = np.random.default_rng(config.seed)
        rows = np.sort(rng.choice(rows, config.evaluation.max_contexts, replace=False))
    context = data.examples["context"].to_numpy()[rows]
    target = data.examples["item_index"].to_numpy()[rows]
    counts = data.item_counts().astype(np.float32)
    # Items of equal popularity come in a random order, not all before the target.
    jitter = np.random.default_rng(config.seed).random(len(counts), np.float32)
    popularity = counts + 0.5 * jitter

    def by_embedding(block: slice) -> np.ndarray:
        return request_embeddings[context[block]] @ item_embeddings.T

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
            "targets": float(len(rows))
        }
    return metrics
