"""The index of item embeddings, and its twin for servers without ScaNN."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfrec.pipeline.models import start_tensorflow
from tfrec.pipeline.run import PORTABLE_INDEX, Run
from tfrec.pipeline.stage import Stage

_MAX_QUERIES = 1000


class Index(Stage):
    """Builds what finds the items that are nearest to a request.

    Args:
        needs: The stage whose towers find candidates.
    """

    name = "index"
    determined_by = ("seed", "index", "export.portable", "ranking.towers")

    def __init__(self, needs: Sequence[str] = ("retrieval",)) -> None:
        self.needs = needs

    def write(self, run: Run, folder: Path) -> None:
        start_tensorflow(run)
        embeddings = run.embeddings()
        assert embeddings is not None  # the stage is part of runs with towers only
        write_indexes(run, folder, embeddings.items[1:])


def has_portable_twin(run: Run) -> bool:
    """Tells whether the model is exported a second time, for servers without ScaNN."""
    settings = run.settings
    return run.has_towers and settings.index.kind == "scann" and settings.export.portable


def write_indexes(run: Run, folder: Path, items: np.ndarray) -> None:
    """Builds the index over float32 [n, embedding_dim], and its portable twin."""
    from tfrec.index.build import build_index, save_index

    embeddings, settings = run.embeddings(), run.settings.index
    assert embeddings is not None  # there are towers
    contexts = run.data.examples["context"].to_numpy()[run.data.target_rows("test")]
    kinds: dict[Path, Any] = {folder: settings.kind}
    if has_portable_twin(run):
        kinds[folder / Path(PORTABLE_INDEX).name] = "portable"
    for place, kind in kinds.items():
        place.mkdir(exist_ok=True)
        index, report = build_index(
            kind,
            items,
            embeddings.requests[contexts[:_MAX_QUERIES]],
            k=settings.candidates,
            min_recall=settings.min_recall,
            precision=settings.precision,
            options=settings.options if kind == settings.kind else {},
        )
        save_index(place, index, report)
