"""Retrieval measured on the test requests: ours beside baselines, chance and, if known, truth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from tfrec.config import Config
from tfrec.data.dataset import PreparedData
from tfrec.data.reading.sources import Oracle
from tfrec.evaluation.baselines import build_baselines, read_choices
from tfrec.evaluation.slices import target_slices
from tfrec.metrics.intervals import paired_difference, percentile_interval, resample_means
from tfrec.metrics.lists import list_metrics
from tfrec.metrics.retrieval import (
    Pairs,
    Ranked,
    ScoreBlock,
    rank_requests,
    request_values,
    rows_per_block,
    target_values,
)
from tfrec.progress import progress_bar
from tfrec.schema import Columns

if TYPE_CHECKING:  # reports are shown without loading TensorFlow
    from tfrec.inference.embeddings import Embeddings
    from tfrec.recommender.candidate_lists import CandidateLists

Metrics = dict[str, dict[str, float]]
Intervals = dict[str, dict[str, list[float]]]
# By model: what each request adds to each metric, float64 [num_requests].
Values = dict[str, dict[str, np.ndarray]]

OURS = "ours"
FUSED, RERANKED, EXPORTED = "ours, fused", "ours, re-ranked", "ours, as exported"


@dataclass(frozen=True)
class MeasuredRequests:
    """The requests that are measured, and what each has to find.

    Attributes:
        contexts: int [num_requests], rows of `PreparedData.contexts`, ascending.
        request: int [num_targets], position in `contexts` of each target, ascending.
        target: int [num_targets], item indices.
    """

    contexts: np.ndarray
    request: np.ndarray
    target: np.ndarray


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


@dataclass(frozen=True)
class RetrievalReport:
    """Retrieval in numbers; the mappings go from model to metric to value.

    Attributes:
        k: Length of the lists of `lists` and `slices`: the smallest of `evaluation.k`.
        targets: Metrics per target (`retrieval_metrics`), with the number of ``targets``.
        requests: Metrics per request (`request_values`), with the number of ``requests``.
        lists: What the lists look like beyond accuracy (`list_metrics`).
        intervals: 95% intervals [low, high] of `targets` and of `requests`; empty without any.
        differences: Ours less each other model: ``difference``, ``low`` and ``high`` by metric of
            `targets`; empty without intervals.
        slices: By slice: ``targets`` (their number), ``interval`` (of our NDCG) and, by model,
            recall and NDCG at `k`.
        notes: Lines about what could not be measured.
    """

    k: int
    targets: Metrics
    requests: Metrics
    lists: Metrics
    intervals: dict[str, Intervals] = field(default_factory=dict)
    differences: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    slices: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


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
    report = _summarise(data, embeddings, config, tests, ranked, notes)
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


def read_requests(data: PreparedData, config: Config, split: str = "test") -> MeasuredRequests:
    """Returns the requests of `split` with their targets; of many, `max_contexts` are drawn."""
    examples = data.examples[data.target_rows(split)]
    context, target = examples["context"].to_numpy(), examples["item_index"].to_numpy()
    contexts = np.unique(context)
    if len(contexts) > config.evaluation.max_contexts:
        rng = np.random.default_rng(config.seed)
        contexts = np.sort(rng.choice(contexts, config.evaluation.max_contexts, replace=False))
    is_measured = np.isin(context, contexts)
    request = np.searchsorted(contexts, context[is_measured])
    order = np.argsort(request, kind="stable")
    return MeasuredRequests(contexts, request[order], target[is_measured][order])


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


def _summarise(
    data: PreparedData,
    embeddings: Embeddings,
    config: Config,
    tests: MeasuredRequests,
    ranked: Mapping[str, Ranked],
    notes: list[str],
) -> RetrievalReport:
    settings, k = config.evaluation, min(config.evaluation.k)
    num_requests, num_targets = len(tests.contexts), len(tests.target)
    sizes = np.bincount(tests.request, minlength=num_requests).astype(np.float64)
    of_target = {name: target_values(found.ranks, settings.k) for name, found in ranked.items()}
    added: Values = {
        model: {
            name: np.bincount(tests.request, weights=value, minlength=num_requests)
            for name, value in values.items()
        }
        for model, values in of_target.items()
    }
    of_request: Values = {
        model: {
            f"{name}_at_{depth}": value
            for depth in settings.k
            for name, value in request_values(tests.request, found.ranks, depth).items()
        }
        for model, found in ranked.items()
    }
    counts = data.item_counts()
    report = RetrievalReport(
        k=k,
        targets={
            model: _means(values) | {"targets": float(num_targets)}
            for model, values in of_target.items()
        },
        requests={
            model: _means(values) | {"requests": float(num_requests)}
            for model, values in of_request.items()
        },
        lists={
            model: list_metrics(found.top, counts, embeddings.items)
            for model, found in ranked.items()
        },
        slices=_measure_slices(data, config, tests, of_target),
        notes=notes,
    )
    if settings.bootstrap and num_requests:
        draws = {"resamples": settings.bootstrap, "seed": config.seed}
        report.intervals["targets"] = _intervals(added, sizes, draws)
        report.intervals["requests"] = _intervals(of_request, None, draws)
        report.differences.update(_differences(added, sizes, draws))
    return report


def _means(values: Mapping[str, np.ndarray]) -> dict[str, float]:
    return {n: float(v.mean()) if len(v) else float("nan") for n, v in values.items()}


def _intervals(added: Values, sizes: np.ndarray | None, draws: Mapping[str, int]) -> Intervals:
    names = [(model, name) for model, values in added.items() for name in values]
    columns = np.column_stack([added[model][name] for model, name in names])
    bounds = percentile_interval(resample_means(columns, sizes, **draws))
    found: Intervals = {}
    for (model, name), bound in zip(names, bounds.tolist(), strict=True):
        found.setdefault(model, {})[name] = bound
    return found


def _differences(
    added: Values, sizes: np.ndarray, draws: Mapping[str, int]
) -> dict[str, dict[str, dict[str, float]]]:
    """Compares ours with each other model, all of them with the same draws."""
    names = [(model, name) for model in added if model != OURS for name in added[model]]
    ours = np.column_stack([added[OURS][name] for _, name in names])
    others = np.column_stack([added[model][name] for model, name in names])
    difference, bounds = paired_difference(ours, others, sizes, **draws)
    found: dict[str, dict[str, dict[str, float]]] = {}
    for (model, name), value, (low, high) in zip(
        names, difference.tolist(), bounds.tolist(), strict=True
    ):
        found.setdefault(model, {})[name] = {"difference": value, "low": low, "high": high}
    return found


def _measure_slices(
    data: PreparedData, config: Config, tests: MeasuredRequests, of_target: Values
) -> dict[str, dict[str, Any]]:
    k = min(config.evaluation.k)
    shown = (f"recall_at_{k}", f"ndcg_at_{k}")
    slices: dict[str, dict[str, Any]] = {}
    inside_of = target_slices(data, tests.contexts[tests.request], tests.target)
    for name, inside in inside_of.items():
        slices[name] = {"targets": int(inside.sum())} | {
            model: {metric: float(values[metric][inside].mean()) for metric in shown}
            for model, values in of_target.items()
        }
        if config.evaluation.bootstrap:
            slices[name]["interval"] = _slice_interval(
                tests.request[inside], of_target[OURS][shown[1]][inside], config
            )
    return slices


def _slice_interval(request: np.ndarray, values: np.ndarray, config: Config) -> Sequence[float]:
    """Returns the interval of a mean over targets, drawn among the requests that have some."""
    _, at = np.unique(request, return_inverse=True)
    sums = np.bincount(at, weights=values)[:, None]
    drawn = resample_means(
        sums, np.bincount(at), resamples=config.evaluation.bootstrap, seed=config.seed
    )
    return percentile_interval(drawn)[0].tolist()
