"""Is a trained retrieval model sound? Numbers for each epoch, and findings for people.

Pure functions of arrays. The thresholds below are set so that small or easy data raise no alarm: a
check whose data are too few to tell stays silent.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Literal

import numpy as np
from scipy.stats import binom

from tfrec.metrics.intervals import paired_difference
from tfrec.metrics.lists import distinct_share, exposure
from tfrec.metrics.retrieval import gains, hits

MIN_RANK = 2.0
"""Fewer directions than this in use are a collapse, from `MIN_ITEMS` items and 8 dimensions on."""
MAX_COSINE = 0.95
"""Items that are all this alike are a collapse, from `MIN_ITEMS` items on."""
MAX_OVERLAP = 0.9
"""Lists of which any two share this much are one list, where the catalogue is at least five lists
long and `MIN_REQUESTS` requests were measured."""
MAX_IN_HISTORY = 0.01
"""More targets than this in their own histories are a leak: prepared data hold none."""
MAX_RECALL_AT_1 = 0.9
"""More targets than this in first place are too good to be true, from `MIN_TARGETS` targets and
items on, unless popularity finds half as many."""
MIN_OWN_LEAD = 3.0
"""A smaller lead of requests' own targets over those of others, in standard errors, is none."""
MIN_ITEMS, MIN_REQUESTS, MIN_TARGETS = 50, 50, 100
MIN_SWAPPED = 300
"""Targets from which on `MIN_OWN_LEAD` is asked for."""

Kind = Literal[
    "diverged",
    "collapse",
    "leak",
    "worse_than_popularity",
    "level_with_popularity",
    "requests_do_not_matter",
    "worse_than_random",
]


OF_RANKING: tuple[Kind, ...] = (
    "worse_than_popularity", "requests_do_not_matter", "worse_than_random",
)  # fmt: skip
"""What says nothing about a model that was not made to rank the catalogue."""


@dataclass(frozen=True)
class Finding:
    """Something that a sound model does not show.

    Attributes:
        kind: What is wrong.
        message: What was seen, what it means, what to do: a paragraph.
    """

    kind: Kind
    message: str


@dataclass(frozen=True)
class HealthReport:
    """What was seen of one model on one set of targets.

    Attributes:
        num_items: Size of the catalogue.
        num_targets: Targets measured.
        num_requests: Requests they belong to.
        embedding_dim: Length of the embeddings.
        k: Length of the lists.
        finite_share: Share of items whose embedding is finite.
        effective_rank: Of the item embeddings, see `effective_rank`.
        mean_cosine: Of two items, see `mean_cosine`.
        distinct_share: Of the lists, see `tfrec.metrics.lists.distinct_share`.
        overlap: Of two lists, see `list_overlap`.
        in_own_history: Share of targets that stand in their own history.
        recall_at_1, popularity_recall_at_1: Share of targets in first place.
        recall_at_k, random_recall_at_k: Share of targets among the first k; in a random order.
        ndcg_at_k, popularity_ndcg_at_k: NDCG of ours and of popularity.
        ndcg_lead: 95% interval of the difference of both.
        own_lead: See `own_lead`; NaN where it was not measured.
        findings: What is wrong; empty if nothing is.
    """

    num_items: int
    num_targets: int
    num_requests: int
    embedding_dim: int
    k: int
    finite_share: float
    effective_rank: float
    mean_cosine: float
    distinct_share: float
    overlap: float
    in_own_history: float
    recall_at_1: float
    popularity_recall_at_1: float
    recall_at_k: float
    random_recall_at_k: float
    ndcg_at_k: float
    popularity_ndcg_at_k: float
    ndcg_lead: tuple[float, float]
    own_lead: float = float("nan")
    findings: list[Finding] = field(default_factory=list)

    def numbers(self) -> dict[str, float]:
        """Returns the plain numbers by name, for the record of an epoch."""
        return {
            name: float(value)
            for name, value in asdict(self).items()
            if name not in ("ndcg_lead", "findings")
        }

    def line(self) -> str:
        """Returns one line for people."""
        return (
            f"rank {self.effective_rank:.1f} of {self.embedding_dim}, "
            f"cosine {self.mean_cosine:+.2f}, "
            f"distinct {self.distinct_share:.2f}, overlap {self.overlap:.2f}, "
            f"NDCG@{self.k} {self.ndcg_at_k:.4f} (popularity {self.popularity_ndcg_at_k:.4f}), "
            f"recall@{self.k} {self.recall_at_k:.4f} (random {self.random_recall_at_k:.4f})"
        )


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


def diagnose(report: HealthReport) -> list[Finding]:
    """Names what a sound model would not show; `MIN_RANK` and the rest say from where on."""
    return [*_find_collapse(report), *_find_leak(report), *_find_weakness(report)]


def _find_collapse(report: HealthReport) -> Iterator[Finding]:
    advice = (
        "Lower the learning rate, or give the loss more and other negatives (a larger batch, "
        "`loss.negatives.uniform`); look at the temperature too."
    )
    if report.finite_share < 1.0:
        yield Finding(
            "diverged",
            f"{1 - report.finite_share:.1%} of the item embeddings are not finite numbers. "
            "Training has diverged, and no figure of this model means anything. Lower the "
            "learning rate or lengthen the warm-up; without mixed precision if it is on.",
        )
        return
    if report.num_items >= MIN_ITEMS:
        if report.embedding_dim >= 8 and report.effective_rank < MIN_RANK:
            yield Finding(
                "collapse",
                f"The item embeddings use {report.effective_rank:.2f} of {report.embedding_dim} "
                "directions (effective rank). Nearly all items lie on one line, so the model can "
                f"hardly tell them apart: it has collapsed. {advice}",
            )
        if report.mean_cosine > MAX_COSINE:
            yield Finding(
                "collapse",
                f"Two items have a cosine of {report.mean_cosine:.3f} on average. All items point "
                "the same way, so every request likes all of them about equally: the model has "
                f"collapsed. {advice}",
            )
    can_differ = report.num_items >= 5 * report.k and report.num_requests >= MIN_REQUESTS
    if can_differ and report.overlap > MAX_OVERLAP:
        yield Finding(
            "collapse",
            f"The lists of two requests share {report.overlap:.0%} of their {report.k} items. The "
            "model gives everybody nearly the same answer, whoever asks. Either requests have "
            "collapsed into one vector, or nothing about them reaches the model: check that "
            f"histories, queries and features are not empty. {advice}",
        )


def _find_leak(report: HealthReport) -> Iterator[Finding]:
    if report.in_own_history > MAX_IN_HISTORY:
        yield Finding(
            "leak",
            f"{report.in_own_history:.1%} of the targets stand in the history they are to be found "
            "from. The model reads the answer instead of guessing it, so its figures are worth "
            "nothing. A history must end strictly before the request: check the times, and "
            "prepare the data again.",
        )
    enough = min(report.num_items, report.num_targets) >= MIN_TARGETS
    is_easy = report.popularity_recall_at_1 > MAX_RECALL_AT_1 / 2
    if enough and report.recall_at_1 > MAX_RECALL_AT_1 and not is_easy:
        yield Finding(
            "leak",
            f"{report.recall_at_1:.1%} of the targets stand in first place among "
            f"{report.num_items:,} items; by popularity {report.popularity_recall_at_1:.1%} do. No "
            "honest model is that good: something in the request tells the answer. Look for a "
            "feature or text that is written after the choice, and for targets in histories; "
            "`tfrec validate` names suspicious columns.",
        )


def _find_weakness(report: HealthReport) -> Iterator[Finding]:
    if report.num_requests < MIN_REQUESTS:
        return
    low, high = report.ndcg_lead
    if high < 0:
        yield Finding(
            "worse_than_popularity",
            f"NDCG@{report.k} is {report.ndcg_at_k:.4f}; showing everybody the most popular items "
            f"gives {report.popularity_ndcg_at_k:.4f}. The difference, between {low:.4f} and "
            f"{high:.4f}, is more than chance. The model has learned less than a count of "
            "choices knows: train longer, check the learning rate, and check that labels and "
            "requests belong together.",
        )
    elif low <= 0 and report.num_targets >= MIN_TARGETS:
        yield Finding(
            "level_with_popularity",
            f"NDCG@{report.k} is {report.ndcg_at_k:.4f}, by popularity "
            f"{report.popularity_ndcg_at_k:.4f}; the difference, between {low:.4f} and "
            f"{high:.4f}, may be chance. So ends a model that has learned which items are popular "
            "and nothing about who asks. Train longer or on more data, and check that requests "
            "and labels belong together: a column may be shuffled or joined wrongly.",
        )
    if report.num_targets >= MIN_SWAPPED and report.own_lead < MIN_OWN_LEAD:
        yield Finding(
            "requests_do_not_matter",
            "Requests rank their own targets no better than those of other requests: the lead is "
            f"{report.own_lead:.1f} standard errors over {report.num_targets:,} targets. What the "
            "model knows of a request tells nothing about what it chose. Labels may be shuffled, "
            "or histories, users and features joined to the wrong rows; check that requests and "
            "labels belong together.",
        )
    found = round(report.recall_at_k * report.num_targets)
    chance = float(binom.cdf(found, report.num_targets, report.random_recall_at_k))
    if chance < 0.025:
        yield Finding(
            "worse_than_random",
            f"{found:,} of {report.num_targets:,} targets stand among the first {report.k}; in a "
            f"random order about {report.random_recall_at_k * report.num_targets:,.0f} would. So "
            "few by chance happen less than once in 40 times. The order is the wrong way round "
            "or targets are kept from the lists: check the sign of labels and weights, and which "
            "items are left out as seen.",
        )


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
