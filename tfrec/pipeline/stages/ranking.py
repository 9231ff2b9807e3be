"""The ranking model is trained, on finished towers, on towers that learn along, or on none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfrec.config import Ranking as Settings
from tfrec.errors import ConfigError
from tfrec.pipeline.models import (
    embed_all,
    input_tables,
    new_ranking,
    pair_scorer,
    start_tensorflow,
    trained_retrieval,
)
from tfrec.pipeline.run import (
    RANKING_TOWERS,
    RETRIEVAL_TOWERS,
    Run,
    read_fingerprint,
    write_embeddings,
    write_history,
    write_model,
)
from tfrec.pipeline.stage import CHECKPOINTS, Stage

if TYPE_CHECKING:  # TensorFlow is loaded by a stage that really runs
    from tfrec.inputs.ranked_rows import RankedRows


class Ranking(Stage):
    """Trains the ranking model and, where the settings say so, towers of its own.

    Args:
        needs: What it is trained on: the finished towers, or the prepared data alone.
    """

    name = "ranking"
    determined_by = (
        "seed",
        # All of the section but the one key that training does not read, which is of the order.
        *(f"ranking.{name}" for name in Settings.model_fields if name != "retrieval_weight"),
    )

    def __init__(self, needs: Sequence[str] = ("retrieval",)) -> None:
        self.needs = needs

    def outside(self, run: Run) -> Any:
        """Tells one training of the teacher from another."""
        teacher = _open_teacher(run)
        return None if teacher is None else read_fingerprint(teacher.path(self.name))

    def write(self, run: Run, folder: Path) -> None:
        from tfrec.inference.embedder import Embedder
        from tfrec.training.ranking import train_ranking

        start_tensorflow(run)
        model, tables, towers = new_ranking(run), input_tables(run), None
        if run.settings.ranking.trains_towers:
            towers = Embedder(trained_retrieval(run, RETRIEVAL_TOWERS), tables, live=False)
            towers.renew_cache()
        history = train_ranking(
            model,
            run.data,
            tables,
            run.embeddings(RETRIEVAL_TOWERS),
            run.settings,
            folder / CHECKPOINTS,
            towers,
            _teach(run),
        )
        write_model(folder, model)
        if towers is not None:
            own = folder / Path(RANKING_TOWERS).name
            own.mkdir(exist_ok=True)
            write_model(own, towers.model)
            write_embeddings(own, embed_all(run, towers))
        write_history(folder, history)


def _open_teacher(run: Run) -> Run | None:
    """Opens the run of `ranking.teacher`.

    Raises:
        ConfigError: It has no trained ranking model.
    """
    settings = run.settings.ranking.teacher
    if settings is None:
        return None
    folder = Path(settings.run)
    if read_fingerprint(folder / Ranking.name) is None:
        raise ConfigError(
            f"ranking.teacher.run: {folder}: wanted a run with a trained ranking model "
            "(`tfrec train` makes one), found none."
        )
    return Run.open(folder, Ranking.name)


def _teach(run: Run) -> Callable[[RankedRows], np.ndarray] | None:
    """Returns what tells the teacher's log odds of a click for rows of the data.

    Raises:
        ConfigError: The teacher learned from other data.
    """
    teacher = _open_teacher(run)
    if teacher is None:
        return None
    for name in ("examples", "contexts", "items"):
        if not getattr(teacher.data, name).equals(getattr(run.data, name)):
            raise ConfigError(
                f"ranking.teacher.run: {teacher.folder}: wanted a run on the same data, seed "
                f"and splits, got one with other {name}."
            )
    return pair_scorer(teacher).logits
