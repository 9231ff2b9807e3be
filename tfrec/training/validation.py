"""What a round of retrieval training is measured by: validation targets, popularity, health."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tfrec.config import Config
from tfrec.data.dataset import PreparedData
from tfrec.metrics.health import HealthReport, measure_health
from tfrec.metrics.retrieval import recall_at_k, target_ranks, top_items
from tfrec.training.embedder import Embedder

MAX_TARGETS = 4000
_MAX_LISTS = 1000
_BLOCK = 256


class Validation:
    """Ranks validation targets among the whole catalogue.

    Args:
        embedder: Runs the towers.
        data: The prepared data set.
        config: `evaluation.k`, `evaluation.remove_seen` and the seed.

    Attributes:
        k: Length of the lists by which rounds are compared, the smallest of `evaluation.k`.
        report: What the last round showed.
    """

    def __init__(self, embedder: Embedder, data: PreparedData, config: Config) -> None:
        self.k = min(config.evaluation.k)
        self.report: HealthReport | None = None
        self._max_k = max(config.evaluation.k)
        self._embedder = embedder
        self._data = data
        self._removes_seen = config.evaluation.remove_seen
        rows = _sample(data.target_rows("validation"), MAX_TARGETS, config.seed)
        self._contexts = data.examples["context"].to_numpy()[rows]
        self._targets = data.examples["item_index"].to_numpy()[rows]
        self._histories = data.histories(self._contexts)
        # Items of equal popularity stand in a random order.
        counts = data.item_counts()
        popularity = counts + 0.5 * np.random.default_rng(config.seed).random(len(counts))
        self._popularity_ranks = self._rank(
            lambda block: np.broadcast_to(popularity, (block.stop - block.start, len(counts)))
        )

    @property
    def monitor(self) -> str:
        """Name of the metric that marks the best round."""
        return f"validation_ndcg_at_{self.k}"

    def __call__(self) -> dict[str, float]:
        """Measures the model as it is.

        Returns:
            NDCG and recall of ours, NDCG of popularity, and what the health report counts.
        """
        self._embedder.renew_cache()
        items = self._embedder.catalogue()
        users = self._embedder.requests(self._contexts, items)
        ranks = self._rank(lambda block: users[block] @ items.T)
        self.report = measure_health(
            items=items,
            top=self._lists(users[:_MAX_LISTS], items),
            histories=self._histories,
            targets=self._targets,
            ranks=ranks,
            popularity_ranks=self._popularity_ranks,
            k=self.k,
        )
        return {
            self.monitor: self.report.ndcg_at_k,
            f"validation_recall_at_{self._max_k}": recall_at_k(ranks, self._max_k),
            f"popularity_ndcg_at_{self.k}": self.report.popularity_ndcg_at_k,
            "effective_rank": self.report.effective_rank,
            "mean_cosine": self.report.mean_cosine,
            "distinct_share": self.report.distinct_share,
        }

    def describe(self, measured: dict[str, float]) -> str:
        """Returns the line of a round."""
        health = self.report.line() if self.report else ""
        return f"loss {measured['loss']:.4f}, {health}"

    def _rank(self, score_block: Callable[[slice], np.ndarray]) -> np.ndarray:
        return target_ranks(score_block, self._targets, self._seen)

    def _seen(self, block: slice) -> tuple[np.ndarray, np.ndarray]:
        contexts = self._contexts[block] if self._removes_seen else self._contexts[:0]
        return self._data.seen_pairs(contexts)

    def _lists(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Returns the best items of some requests, int [n, k]."""
        lists = []
        for start in range(0, len(users), _BLOCK):
            block = slice(start, min(start + _BLOCK, len(users)))
            scores = users[block] @ items.T
            scores[self._seen(block)] = -np.inf
            lists.append(top_items(scores, self.k))
        return np.concatenate(lists) if lists else np.zeros((0, self.k), np.int64)


def _sample(rows: np.ndarray, size: int, seed: int) -> np.ndarray:
    if len(rows) <= size:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, size, replace=False))
