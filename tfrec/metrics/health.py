"""Is a trained retrieval model sound? Numbers for each epoch, from arrays alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tfrec.metrics.diagnosis import HealthReport, diagnose
from tfrec.metrics.intervals import paired_difference
from tfrec.metrics.lists import distinct_share, exposure
from tfrec.metrics.retrieval import gains, hits


def effective_rank(embeddings: np.ndarray) -> float:
    """Counts the directions that embeddings use: exp of the entropy of their singular values.

    Source: Roy and Vetterli, The Effective Rank: A Measure of Effective Dimensionality (2007),
        definition 1.

    Args:
        embeddings: float [n, dim], finite.

    Returns:
        From 1 (all on one line) to min(n, dim) (all directions alike); 0 if all are zeros.
    """
    matrix = embeddings.astype(np.float64)
    squares = np.linalg.eigvalsh(matrix.T @ matrix)
    # The Gram matrix knows singular values to about 1e-8 of the largest; below is noise.
    singular = np.sqrt(np.where(squares > squares.max() * 1e-14, squares, 0.0))
    if not singular.any():
        return 0.0
    share = singular[singular > 0] / singular.sum()
    return float(np.exp(-(share * np.log(share)).sum()))


def mean_cosine(embeddings: np.ndarray) -> float:
    """Mean cosine of two different rows: 1 if all point one way, about 0 if they are spread.

    Found through the sum of the unit vectors, in O(n dim): |sum|^2 holds each pair twice, and each
    row's 1 with itself.

    Args:
        embeddings: float [n, dim]; rows of length 0 are left out.

    Returns:
        In [-1, 1]; NaN for fewer than two rows.
    """
    norms = np.linalg.norm(embeddings.astype(np.float64), axis=1)
    unit = embeddings[norms > 0] / norms[norms > 0, None]
    n = len(unit)
    if n < 2:
        return float("nan")
    return float((np.square(unit.sum(axis=0)).sum() - n) / (n * (n - 1)))


def list_overlap(top: np.ndarray, num_items: int) -> float:
    """Mean share of places that the lists of two different requests have in common.

    Args:
        top: int [num_requests, k], item indices from 1, 0 fills up.
        num_items: Size of the catalogue.

    Returns:
        1 if everybody gets the same items, about k / num_items if lists are drawn; NaN for fewer
        than two lists.
    """
    n = len(top)
    if n < 2 or not top.any():
        return float("nan")
    shown = exposure(top, num_items).astype(np.float64)
    return float((shown * (shown - 1)).sum() / ((n - 1) * shown.sum()))


def own_history_share(histories: np.ndarray, targets: np.ndarray) -> float:
    """Share of targets that stand in the history they have to be found from.

    Args:
        histories: int [n, length], item indices, 0 fills up.
        targets: int [n], item indices.
    """
    if not len(targets):
        return 0.0
    return float((histories == targets[:, None]).any(axis=1).mean())


def own_lead(ranks: np.ndarray, swapped_ranks: np.ndarray) -> float:
    """Says how much better requests rank their own targets than those of other requests.

    The mean of log(rank for another request) - log(rank for its own), over its standard error: of
    the order of the root of the number of targets where requests tell something, a standard normal
    number where they tell nothing.

    Args:
        ranks: int [n], of the targets for the requests they belong to.
        swapped_ranks: int [n], of the same targets for other requests.

    Returns:
        NaN for fewer than two targets; 0 if no rank differs.
    """
    if len(ranks) < 2:
        return float("nan")
    lead = np.log(swapped_ranks) - np.log(ranks)
    error = lead.std(ddof=1) / np.sqrt(len(lead))
    return float(lead.mean() / error) if error > 0 else 0.0


def measure_health(
    *,
    items: np.ndarray,
    top: np.ndarray,
    histories: np.ndarray,
    targets: np.ndarray,
    ranks: np.ndarray,
    popularity_ranks: np.ndarray,
    k: int,
    request: np.ndarray | None = None,
    swapped_ranks: np.ndarray | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> HealthReport:
    """Measures a model on validation targets, and says what is wrong with it.

    Args:
        items: float [num_items + 1, dim], item embeddings; row 0 (no item) is left out.
        top: int [num_requests, depth], item indices, best first, with depth at least k.
        histories: int [num_targets, length], the history of each target, 0 fills up.
        targets: int [num_targets], item indices.
        ranks: int [num_targets], of the targets by our scores.
        popularity_ranks: int [num_targets], of the same targets by popularity.
        k: Length of the lists.
        request: int [num_targets], the row of `top` of each target; one target each by default.
        swapped_ranks: int [num_targets], of the targets for other requests, by our scores.
        resamples: Draws behind the interval.
        seed: Of the draws.

    Returns:
        The numbers with the findings of `diagnose`.
    """
    num_items, dim = len(items) - 1, items.shape[1]
    is_finite = np.isfinite(items[1:]).all(axis=1)
    sound = items[1:][is_finite]
    top = top[:, :k]
    report = HealthReport(
        num_items=num_items,
        num_targets=len(targets),
        num_requests=len(top),
        embedding_dim=dim,
        k=k,
        finite_share=float(is_finite.mean()),
        effective_rank=effective_rank(sound),
        mean_cosine=mean_cosine(sound),
        distinct_share=distinct_share(top, num_items),
        overlap=list_overlap(top, num_items),
        in_own_history=own_history_share(histories, targets),
        recall_at_1=_mean(hits(ranks, 1)),
        popularity_recall_at_1=_mean(hits(popularity_ranks, 1)),
        recall_at_k=_mean(hits(ranks, k)),
        random_recall_at_k=min(1.0, k / num_items),
        ndcg_at_k=_mean(gains(ranks, k)),
        popularity_ndcg_at_k=_mean(gains(popularity_ranks, k)),
        ndcg_lead=_lead(ranks, popularity_ranks, k, request, resamples, seed),
        own_lead=float("nan") if swapped_ranks is None else own_lead(ranks, swapped_ranks),
    )
    return replace(report, findings=diagnose(report))


def _lead(
    ranks: np.ndarray,
    popularity_ranks: np.ndarray,
    k: int,
    request: np.ndarray | None,
    resamples: int,
    seed: int,
) -> tuple[float, float]:
    """Returns the interval of our NDCG less that of popularity, requests drawn."""
    if not len(ranks):
        return float("nan"), float("nan")
    at = np.arange(len(ranks)) if request is None else np.unique(request, return_inverse=True)[1]
    ours, popularity = (
        np.bincount(at, weights=gains(each, k))[:, None] for each in (ranks, popularity_ranks)
    )
    sizes = np.bincount(at).astype(np.float64)
    _, bounds = paired_difference(ours, popularity, sizes, resamples=resamples, seed=seed)
    return float(bounds[0, 0]), float(bounds[0, 1])


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")
