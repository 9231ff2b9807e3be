"""Retrieval measured on the test requests: ours beside baselines, chance and, if known, truth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tfrec.config import Config
from tfrec.data.dataset import PreparedData
from tfrec.data.reading.sources import Oracle
from tfrec.evaluation.baselines import build_baselines, read_choices
from tfrec.evaluation.requests import MeasuredRequests, read_requests
from tfrec.evaluation.retrieval_report import (
    EXPORTED,
    FUSED,
    OURS,
    RERANKED,
    RetrievalReport,
    summarise,
)
from tfrec.metrics.retrieval import Pairs, Ranked, ScoreBlock, rank_requests, rows_per_block
from tfrec.progress import progress_bar
from tfrec.schema import Columns

if TYPE_CHECKING:  # reports are shown without loading TensorFlow
    from tfrec.inference.embeddings import Embeddings
    from tfrec.recommender.candidate_lists import CandidateLists


@dataclass(frozen=True)
class RankedTargets:
    """The measured targets with the ranks that models give them.

    Attributes:
        tests: Requests and targets.
        ranks: By model, int64 [num_targets], from 1.
    """

    tests: MeasuredRequests
    ranks: dict[str, np.ndarray]


@dataclass(frozen=True)
class TwoStages:
    """Where recommended lists come from.

    Attributes:
        exact: The whole recommender with exact search, without filters and caps.
        exported: The same as it is exported: with its index, filters, caps and precision.
    """

    exact: CandidateLists
    exported: CandidateLists | None = None


def evaluate_retrieval(
    data: PreparedData,
    embeddings: Embeddings,
    oracle: Oracle | None,
    config: Config,
    stages: TwoStages | None = None,
    split: str = "test",
) -> tuple[RetrievalReport, RankedTargets]:
    """Ranks the whole catalogue for each test request and compares all models on the same ones.

    Args:
        data: The prepared data set.
        embeddings: From the finished towers: the catalogue is embedded once, before.
        oracle: Truth of generated data.
        config: `evaluation` and the seed.
        stages: The whole recommender; with it the lists of both stages are measured too.
        split: Whose targets are measured; ``validation`` serves to choose settings.

    Returns:
        The report and the ranks behind it. Models: ``ours`` (the towers), ``ours, fused`` (with
        several sources of candidates, their fused list), ``ours, re-ranked`` (the whole recommender
        with exact search), ``ours, as exported`` (with all that its export does), ``popularity``,
        the baselines of `evaluation.baselines`, ``random`` and, with an oracle, ``oracle``.
    """
    tests = read_requests(data, config, split)
    k = min(config.evaluation.k)

    def seen_block(block: slice) -> Pairs:
        if config.evaluation.remove_seen:
            return data.seen_pairs(tests.contexts[block])
        return np.empty(0, np.int64), np.empty(0, np.int64)

    ranked: dict[str, Ranked] = {}
    notes: list[str] = []
    models = _scorers(data, embeddings, oracle, config, tests.contexts)
    for name, score in progress_bar(models, desc="retrieval metrics", unit="model"):
        if isinstance(score, str):
            notes.append(score)
            continue
        ranked[name] = rank_requests(
            score,
            tests.request,
            tests.target,
            seen_block,
            num_requests=len(tests.contexts),
            k=k,
            block_size=rows_per_block(data.num_items),
        )
        if name == OURS and stages is not None:
            ranked |= _rank_lists(stages, tests, data.num_items, k)
    report = summarise(data, embeddings, config, tests, ranked, notes)
    return report, RankedTargets(tests, {name: found.ranks for name, found in ranked.items()})


def _rank_lists(
    stages: TwoStages, tests: MeasuredRequests, num_items: int, k: int
) -> dict[str, Ranked]:
    """Ranks the targets in the lists of the whole recommender."""
    from tfrec.evaluation.two_stages import rank_candidates

    asked: dict[str, Any] = {
        "contexts": tests.contexts,
        "request": tests.request,
        "target": tests.target,
        "num_items": num_items,
        "k": k,
    }
    fused, ordered = rank_candidates(stages.exact, **asked)
    ranked = {FUSED: fused} if stages.exact.is_fused else {}
    ranked[RERANKED] = ordered
    if stages.exported is not None:
        _, ranked[EXPORTED] = rank_candidates(stages.exported, **asked)
    return ranked


def _scorers(
    data: PreparedData,
    embeddings: Embeddings,
    oracle: Oracle | None,
    config: Config,
    contexts: np.ndarray,
) -> Iterator[tuple[str, ScoreBlock | str]]:
    """Yields each model's name and scores (or why it has none), one model in memory at a time."""
    num_columns = data.num_items + 1
    choices = read_choices(data, contexts, config.seed)

    def by_embedding(block: slice) -> np.ndarray:
        return embeddings.requests[contexts[block]] @ embeddings.items.T

    def by_popularity(block: slice) -> np.ndarray:
        return np.broadcast_to(choices.popularity, (block.stop - block.start, num_columns))

    def by_chance(block: slice) -> np.ndarray:
        rng = np.random.default_rng([config.seed, block.start])
        return rng.random((block.stop - block.start, num_columns), np.float32)

    yield OURS, by_embedding
    yield "popularity", by_popularity
    yield from build_baselines(data, choices, contexts, config)
    yield "random", by_chance
    if oracle is None:
        return
    users, requests = data.users[Columns.USER_ID].to_numpy(), data.contexts

    def by_truth(block: slice) -> np.ndarray:
        part = requests[contexts[block]]
        clicks = oracle.expected_clicks(
            users[part["user_index"].to_numpy() - 1].tolist(),
            part[Columns.TIME].to_list(),
            part[Columns.QUERY].to_list(),
        )
        return np.concatenate([np.zeros((len(clicks), 1), np.float32), clicks], axis=1)

    yield "oracle", by_truth
