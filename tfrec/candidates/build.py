"""From the configuration to sources of candidates, and their arrays on disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfrec.candidates.source import CandidateSource, SourceData, check_source
from tfrec.candidates.sources import CandidateSources
from tfrec.config.candidates import Candidates
from tfrec.files import write_arrays
from tfrec.registry import CANDIDATE_SOURCES

Arrays = dict[str, dict[str, np.ndarray]]
"""By source, what it keeps."""


def make_sources(config: Candidates) -> dict[str, CandidateSource]:
    """Makes the sources of a configuration, which know nothing yet.

    Raises:
        ConfigError: One is no source, or an option is wrong.
    """
    found = {}
    for name, settings in config.sources.items():
        kind = settings.kind or name
        options = {**_own_options(kind, config), **settings.options}
        key = f"candidates.sources.{name}"
        found[name] = CANDIDATE_SOURCES.make(kind, key, options)
    return found


def build_sources(config: Candidates, data: SourceData) -> Arrays:
    """Lets every source learn from training data; each is asked once, to see that it answers.

    Raises:
        ConfigError: A source cannot be made, learn or answer.
    """
    arrays = {}
    for name, source in make_sources(config).items():
        arrays[name] = source.build(data)
        source.load(arrays[name])
        check_source(source, f"candidates.sources.{name}", data.data.num_items)
    return arrays


def loaded_sources(config: Candidates, arrays: Arrays, num_candidates: int) -> CandidateSources:
    """Makes the sources of a configuration from what they learned.

    Args:
        config: Sources, their weights and counts.
        arrays: From `build_sources`.
        num_candidates: Items in the fused list.
    """
    sources = make_sources(config)
    for name, source in sources.items():
        source.load(arrays.get(name, {}))
    settings = config.sources.items()
    return CandidateSources(
        sources,
        num_candidates,
        weights={name: one.weight for name, one in settings},
        counts={name: one.count for name, one in settings if one.count},
        rank_constant=config.rank_constant,
    )


def save_arrays(path: Path, arrays: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    """Writes what sources keep into one file, as ``<source>/<array>``."""
    flat = {
        f"{name}/{key}": values for name, kept in arrays.items() for key, values in kept.items()
    }
    write_arrays(path, flat)


def load_arrays(path: Path) -> Arrays:
    """Reads what `save_arrays` wrote."""
    found: Arrays = {}
    with np.load(path) as saved:
        for key in saved.files:
            name, _, array = key.partition("/")
            found.setdefault(name, {})[array] = saved[key]
    return found


def _own_options(kind: str, config: Candidates) -> dict[str, Any]:
    """Returns what our sources take from the keys beside `sources`."""
    by_item, by_token = {"depth": config.neighbours}, {"depth": config.matches}
    options: dict[str, dict[str, Any]] = {
        "item_knn": {**by_item, **config.item_knn.model_dump()},
        "ease": {**by_item, **config.ease.model_dump()},
        "content": by_item,
        "search": by_token,
        "popularity": by_token,
        "recent_popularity": by_token,
    }
    return options.get(kind, {})
