"""Candidates of prepared requests, as the recommender finds them, and learning their order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from tfrec.candidates.order import (
    CLICK_LOG_ODDS,
    SCORE,
    ListOrder,
    given_order,
    learned_order,
)
from tfrec.candidates.sources import CandidateSources, not_among
from tfrec.config import Config
from tfrec.config.candidates import TWO_TOWER
from tfrec.data.dataset import PreparedData
from tfrec.inference.embeddings import Embeddings
from tfrec.inference.pair_scorer import PairScorer
from tfrec.inputs.ranked_rows import pair_rows
from tfrec.metrics.retrieval import top_items
from tfrec.progress import progress_bar
from tfrec.schema import UNKNOWN_INDEX, Columns

_MAX_REQUESTS = 5000
_BLOCK = 256

Tokenize = Callable[[tf.Tensor], tf.Tensor]
"""From string [n] to int32 [n, any length]."""


@dataclass(frozen=True)
class CandidateBlock:
    """Candidates of n requests.

    Attributes:
        items: int32 [n, num_candidates] in the order of the fused list; 0 where there is none.
        values: float32 [n, num_candidates, num_names], what they are sorted by.
    """

    items: np.ndarray
    values: np.ndarray


class CandidateLists:
    """Finds candidates of requests of the prepared data, by exact search.

    Args:
        data: The prepared data set.
        embeddings: From the finished towers.
        sources: All sources.
        tokenize: From search texts to tokens.
        scorer: Runs the ranking model.
        remove_seen: Whether items of the history are left out.

    Attributes:
        names: What candidates are sorted by.
        temperature: What retrieval scores were divided by in training.
        is_fused: Whether several sources propose.
    """

    def __init__(
        self,
        data: PreparedData,
        embeddings: Embeddings,
        sources: CandidateSources,
        tokenize: Tokenize,
        scorer: PairScorer,
        *,
        remove_seen: bool,
    ) -> None:
        self._data = data
        self._embeddings = embeddings
        self._sources = sources
        self._scorer = scorer
        self._remove_seen = remove_seen
        self.names = order_names(sources)
        self.temperature = embeddings.temperature
        self.is_fused = len(sources.names) > 1

        def propose(
            recent: tf.Tensor, query: tf.Tensor, seen: tf.Tensor, found: tf.Tensor
        ) -> tuple[tf.Tensor, tf.Tensor]:
            tokens = tokenize(query) if sources.reads_query else None
            lists = {TWO_TOWER: found, **sources.propose(recent, tokens, not_among(seen))}
            items = sources.fuse(lists)
            return items, sources.reciprocal_ranks(lists, items)

        rows = tf.TensorSpec([None, None], tf.int32)
        self._propose = tf.function(
            propose,
            input_signature=[rows, tf.TensorSpec([None], tf.string), rows, rows],
            autograph=False,
        )

    def of(self, contexts: np.ndarray) -> CandidateBlock:
        """Finds the candidates of n requests, int [n]: rows of the prepared contexts."""
        data, embeddings = self._data, self._embeddings
        start, end = data.history_ranges(contexts)
        width = int((end - start).max(initial=0)) if self._remove_seen else 0
        scores = embeddings.requests[contexts] @ embeddings.items.T
        new = scores.copy()
        new[:, UNKNOWN_INDEX] = -np.inf
        if self._remove_seen:
            new[data.seen_pairs(contexts)] = -np.inf
        number = min(self._sources.counts.get(TWO_TOWER, 1), data.num_items)
        items, ranks = self._propose(
            tf.constant(data.histories(contexts)),
            tf.constant(data.contexts[Columns.QUERY].gather(contexts).to_list(), tf.string),
            tf.constant(data.slice_history(start, end, width).items),
            tf.constant(top_items(new, number).astype(np.int32)),
        )
        items = items.numpy()
        rows = pair_rows(np.repeat(contexts, items.shape[1]), items.reshape(-1))
        click = self._scorer.click_order(rows).reshape(items.shape)
        score = np.take_along_axis(scores, items.astype(np.int64), axis=1)
        values = np.concatenate([click[..., None], score[..., None], ranks.numpy()], axis=-1)
        return CandidateBlock(items, values[..., : len(self.names)])


def order_names(sources: CandidateSources) -> list[str]:
    """Lists what candidates are sorted by; a source on its own tells nothing beside its score."""
    return [CLICK_LOG_ODDS, SCORE, *(sources.names if len(sources.names) > 1 else [])]


def learn_order(lists: CandidateLists, data: PreparedData, config: Config) -> ListOrder:
    """Learns the order of candidates on validation, where the configuration gives none.

    Of more than 5,000 requests as many are drawn with the seed. Too few targets among the
    candidates lead to click log-odds + score / temperature.
    """
    temperature = lists.temperature
    weight = config.ranking.retrieval_weight
    if weight is not None:
        return given_order(lists.names, weight / temperature)
    examples = data.examples[data.target_rows("validation")]
    context, target = examples["context"].to_numpy(), examples["item_index"].to_numpy()
    contexts = np.unique(context)
    if len(contexts) > _MAX_REQUESTS:
        rng = np.random.default_rng(config.seed)
        contexts = np.sort(rng.choice(contexts, _MAX_REQUESTS, replace=False))
    values, is_item, chosen = [], [], []
    for start in progress_bar(range(0, len(contexts), _BLOCK), desc="order", unit="block"):
        block = contexts[start : start + _BLOCK]
        found = lists.of(block)
        inside = np.isin(context, block)
        request = np.searchsorted(block, context[inside])
        is_target = found.items[request] == target[inside][:, None]
        hit = is_target.any(axis=1)
        values.append(found.values[request[hit]])
        is_item.append(found.items[request[hit]] > 0)
        chosen.append(is_target[hit].argmax(axis=1))
    learned = None
    if values:
        learned = learned_order(
            lists.names, np.concatenate(values), np.concatenate(is_item), np.concatenate(chosen)
        )
    return learned or given_order(lists.names, 1.0 / temperature)
