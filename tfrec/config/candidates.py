"""Section of the candidates: which sources propose items, and how their lists become one."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from tfrec.config.base import PositiveFloat, PositiveInt, Section
from tfrec.config.models import Ease, ItemKnn
from tfrec.registry import CANDIDATE_SOURCES

TWO_TOWER = "two_tower"
"""Name of the source that searches the index with the request's vector."""


class CandidateSource(Section):
    """One source of candidates."""

    kind: str | None = None
    """A name, or ``package.module:Class`` of your own; by default the source's own name."""
    options: dict[str, Any] = {}
    """Of a source of your own."""
    weight: PositiveFloat = 1.0
    """Of its ranks, where the lists become one."""
    count: PositiveInt | None = None
    """Items it proposes; by default `index.candidates`."""


class Candidates(Section):
    """Sources of candidates, fused by their ranks."""

    sources: dict[str, CandidateSource] = Field(
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

    @model_validator(mode="after")
    def _check_sources(self) -> Candidates:
        for name, source in self.sources.items():
            kind = source.kind or name
            try:
                CANDIDATE_SOURCES.place_of(kind)
            except ValueError as error:
                raise ValueError(f"`sources.{name}`: {error}") from None
            if source.options and kind in CANDIDATE_SOURCES.ours:
                raise ValueError(f"`sources.{name}.options` are for a source of your own")
            if not name or set(name) & set(",/"):
                raise ValueError(f"`sources`: wanted names without `,` and `/`, got {name!r}")
        return self
