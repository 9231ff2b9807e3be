"""Section of the candidates: which sources propose items, and how their lists become one."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tfrec.config.base import PositiveFloat, PositiveInt, Section
from tfrec.config.models import Ease, ItemKnn

TWO_TOWER = "two_tower"
"""Name of the source that searches the index with the request's vector."""

SourceName = Literal[
    "two_tower", "item_knn", "ease", "content", "search", "popularity", "recent_popularity"
]


class CandidateSource(Section):
    """One source of candidates."""

    weight: PositiveFloat = 1.0
    """Of its ranks, where the lists become one."""
    count: PositiveInt | None = None
    """Items it proposes; by default `index.candidates`."""


class Candidates(Section):
    """Sources of candidates, fused by their ranks."""

    sources: dict[SourceName, CandidateSource] = Field(
        default={"two_tower": CandidateSource()}, min_length=1
    )
    """``two_tower``: the towers. ``item_knn`` and ``ease``: items that users chose together with
    those of the history. ``content``: items whose texts are like those of the history. ``search``:
    items whose text matches the query. ``popularity``, ``recent_popularity``: the same for all."""
    rank_constant: Annotated[float, Field(ge=0)] = 60.0
    """An item at rank r of a source adds weight / (constant + r)."""
    neighbours: PositiveInt = 100
    """Items that each item of the history proposes."""
    matches: PositiveInt = 500
    """Items that each token of the query proposes; popularity likewise."""
    item_knn: ItemKnn = ItemKnn()
    ease: Ease = Ease()
