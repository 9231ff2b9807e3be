"""What a sound retrieval model does not show: findings for people.

The thresholds below are set so that small or easy data raise no alarm: a check whose data are too
few to tell stays silent.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Literal

from scipy.stats import binom

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
