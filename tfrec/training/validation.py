"""What a round of retrieval training is measured by: validation targets, popularity, health."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tfrec.config import Config
from tfrec.data.dataset import PreparedData
from tfrec.inference.embedder import Embedder
from tfrec.metrics.diagnosis import HealthReport
from tfrec.metrics.health import measure_health
from tfrec.metrics.retrieval import recall_at_k, target_ranks, top_items
from tfrec.schema import Columns

MAX_TARGETS = 4000
_MAX_LISTS = 1000
_BLOCK = 256
_RECALL_K = 100


class Validation:
    """Ranks validation targets among the whole catalogue; with `loss.kind: mse` predicts ratings.

    Args:
        embedder: Runs the towers.
        data: The prepared data set.
        config: `retrieval.validation_k`, `retrieval.validation_remove_seen`, `retrieval.loss.kind`
            and the seed.

    Attributes:
        k: Length of the lists by which rounds are compared.
        report: What the last round showed.
    """

    def __init__(self, embedder: Embedder, data: PreparedData, config: Config) -> None:
        self.k = config.retrieval.validation_k
        self.report: HealthReport | None = None
        self._recall_k = max(_RECALL_K, self.k)
        self._embedder = embedder
        self._data = data
        self._removes_seen = config.retrieval.validation_remove_seen
        rows = _sample(data.target_rows("validation"), MAX_TARGETS, config.seed)
        self._contexts = data.examples["context"].to_numpy()[rows]
        self._targets = data.examples["item_index"].to_numpy()[rows]
        self._histories = data.histories(self._contexts)
        is_rated = config.retrieval.loss.kind == "mse"
        self._ratings = _Ratings(embedder, data, config.seed) if is_rated else None
        # Items of equal popularity stand in a random order.
        counts = data.item_counts()
        popularity = counts + 0.5 * np.random.default_rng(config.seed).random(len(counts))
        self._popularity_ranks = self._rank(
            lambda block: np.broadcast_to(popularity, (block.stop - block.start, len(counts)))
        )

    @property
    def monitor(self) -> str:
        """Name of the metric that marks the best round, with a ``-`` where less is better."""
        if self._ratings is not None and self._ratings.count:
            return "-validation_rmse"
        return self._ndcg

    @property
    def _ndcg(self) -> str:
        return f"validation_ndcg_at_{self.k}"

    def __call__(self) -> dict[str, float]:
        """Measures the model as it is.

        Returns:
            NDCG and recall of ours, NDCG of popularity, what the health report counts and, with
            `loss.kind: mse`, the root mean squared error of ours and of the mean rating.
        """
        self._embedder.renew_cache()
        items = self._embedder.catalogue()
        users = self._embedder.requests(self._contexts, items)
        ranks = self._rank(lambda block: users[block] @ items.T)
        others = np.roll(users, len(users) // 2, axis=0)
        self.report = measure_health(
            items=items,
            top=self._lists(users[:_MAX_LISTS], items),
            histories=self._histories,
            targets=self._targets,
            ranks=ranks,
            popularity_ranks=self._popularity_ranks,
            swapped_ranks=self._rank(lambda block: others[block] @ items.T),
            k=self.k,
        )
        return {
            **(self._ratings.measure(items) if self._ratings is not None else {}),
            self._ndcg: self.report.ndcg_at_k,
            f"validation_recall_at_{self._recall_k}": recall_at_k(ranks, self._recall_k),
            f"popularity_ndcg_at_{self.k}": self.report.popularity_ndcg_at_k,
            "effective_rank": self.report.effective_rank,
            "mean_cosine": self.report.mean_cosine,
            "distinct_share": self.report.distinct_share,
        }

    def describe(self, measured: dict[str, float]) -> str:
        """Returns the line of a round."""
        parts = [f"loss {measured['loss']:.4f}"]
        if self._ratings is not None and self._ratings.count:
            rmse, of_mean = measured["validation_rmse"], measured["mean_rating_rmse"]
            parts.append(f"RMSE {rmse:.4f} (mean rating {of_mean:.4f})")
        if self.report:
            parts.append(self.report.line())
        return ", ".join(parts)

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


class _Ratings:
    """Predicts validation ratings.

    Args:
        embedder: Runs the towers.
        data: The prepared data set, with ratings.
        seed: Draws the rows where there are many.

    Attributes:
        count: Number of ratings.
    """

    def __init__(self, embedder: Embedder, data: PreparedData, seed: int) -> None:
        self._embedder = embedder
        ratings = data.examples[Columns.RATING].to_numpy()
        rows = np.flatnonzero(data.split_mask("validation") & np.isfinite(ratings))
        rows = _sample(rows, MAX_TARGETS, seed)
        self.count = len(rows)
        self._contexts = data.examples["context"].to_numpy()[rows]
        self._items = data.examples["item_index"].to_numpy()[rows]
        self._ratings = ratings[rows]

    def measure(self, items: np.ndarray) -> dict[str, float]:
        """Returns the error of ours and, to compare, of the mean training rating for all.

        Args:
            items: float32 [num_items + 1, embedding_dim].
        """
        if not self.count:
            return {}
        mean = float(self._embedder.model.rating_offset)
        users = self._embedder.requests(self._contexts, items)
        scores = np.einsum("nd,nd->n", users, items[self._items])
        return {
            "validation_rmse": _root_mean_square(mean + scores - self._ratings),
            "mean_rating_rmse": _root_mean_square(mean - self._ratings),
        }


def _root_mean_square(errors: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(errors, dtype=np.float64))))


def _sample(rows: np.ndarray, size: int, seed: int) -> np.ndarray:
    if len(rows) <= size:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, size, replace=False))
