"""Parts of somebody else are imported and tried before the first stage runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from tfrec.config import Config
from tfrec.config.base import PartSection
from tfrec.registry import CANDIDATE_SOURCES


def try_parts(config: Config) -> None:
    """Imports every part of somebody else, and tries those that need no data for it.

    What is made from prepared data, a candidate source or a part of a tower for example, is tried
    once more where that is done.

    Raises:
        ConfigError: One cannot be imported or made, or breaks its contract.
    """
    for key, part in own_parts(config):
        part.door.load(part.kind, f"{key}.kind")
    for name, source in config.candidates.sources.items():
        kind = source.kind or name
        if kind not in CANDIDATE_SOURCES.ours:
            CANDIDATE_SOURCES.load(kind, f"candidates.sources.{name}.kind")
    if config.evaluation.metrics:
        from tfrec.evaluation.own_metrics import own_metrics

        own_metrics(config.evaluation)
    if not all(head.is_ours for head in config.ranking.heads.values()):
        from tfrec.models.build import ranking_heads

        ranking_heads(config.ranking)
    if not config.ranking.optimizer.is_ours:
        from tfrec.training.parts import new_optimizer

        new_optimizer(config.ranking.optimizer, "ranking.optimizer")
    if config.ranking.towers != "none":
        _try_parts_of_towers(config)


def own_parts(section: Any, key: str = "") -> Iterator[tuple[str, PartSection]]:
    """Yields the sections that name a part of somebody else, each with its key."""
    if isinstance(section, PartSection) and not section.is_ours:
        yield key, section
    entries: dict[Any, Any] = {}
    if isinstance(section, BaseModel):
        entries = {name: getattr(section, name) for name in type(section).model_fields}
    elif isinstance(section, dict):
        entries = section
    elif isinstance(section, list):
        entries = dict(enumerate(section))
    for name, inner in entries.items():
        yield from own_parts(inner, f"{key}.{name}" if key else str(name))


def _try_parts_of_towers(config: Config) -> None:
    retrieval = config.retrieval
    if not config.index.is_ours:
        from tfrec.index.build import try_index

        try_index(config.index.kind, config.index.options)
    if not retrieval.loss.is_ours:
        from tfrec.training.parts import new_loss

        new_loss(retrieval.loss)
    if not retrieval.optimizer.is_ours:
        from tfrec.training.parts import new_optimizer

        new_optimizer(retrieval.optimizer, "retrieval.optimizer")
    if not (retrieval.user.history.is_ours and retrieval.item.fusion.is_ours):
        from tfrec.models.build import try_layers

        try_layers(config)
