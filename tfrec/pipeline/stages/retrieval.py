"""The towers are trained, looked over, and embed all items and requests."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tfrec.log import LOGGER
from tfrec.pipeline.models import (
    embed_all,
    input_tables,
    pretrained_retrieval,
    start_tensorflow,
)
from tfrec.pipeline.run import (
    TENSORBOARD,
    Run,
    write_embeddings,
    write_health,
    write_history,
    write_model,
)
from tfrec.pipeline.stage import CHECKPOINTS, Stage
from tfrec.schema import Columns
from tfrec.training.health import sound_alarm

if TYPE_CHECKING:  # TensorFlow is loaded by a stage that really runs
    from tfrec.training.strategy import Replicas


class Retrieval(Stage):
    """Trains both towers; further workers share each batch, and the chief alone writes.

    A model that is not sound is written all the same. The alarm is sounded by whoever goes on
    from it, so that silencing it trains nothing again.
    """

    name = "retrieval"
    needs = ("pretraining",)
    determined_by = (
        "seed",
        "retrieval",
        "encoder.adaptation",
        "encoder.trained_layers",
        "encoder.lora_rank",
        "encoder.pooling",
    )

    def __init__(self) -> None:
        self._replicas: Replicas | None = None

    def meet_workers(self) -> None:
        """Meets the other workers of `TF_CONFIG`, which must be before TensorFlow computes."""
        from tfrec.training.strategy import make_replicas

        self._replicas = make_replicas("multi_worker")

    def write(self, run: Run, folder: Path) -> None:
        from tfrec.inference.embedder import Embedder
        from tfrec.training.health import examine
        from tfrec.training.retrieval import train_retrieval
        from tfrec.training.strategy import make_replicas
        from tfrec.training.tensorboard import write_projector

        replicas = self._replicas or make_replicas(run.settings.run.strategy)
        start_tensorflow(run)
        model, data, tables = pretrained_retrieval(run), run.data, input_tables(run)
        history = train_retrieval(
            model, data, tables, run.settings, folder / CHECKPOINTS, replicas=replicas
        )
        if not replicas.is_chief:
            return
        embedder = Embedder(model, tables, live=False)
        embedder.renew_cache()
        embeddings = embed_all(run, embedder)
        write_model(folder, model)
        write_embeddings(folder, embeddings)
        write_projector(
            folder / TENSORBOARD,
            embeddings.items[1:],
            {name: data.items[name].to_list() for name in (Columns.TITLE, Columns.ITEM_ID)},
            data.item_counts()[1:],
        )
        write_history(folder, history)
        write_health(folder, examine(embedder, data, run.settings))

    def use(self, run: Run) -> None:
        """Sounds the alarm of a model that is not sound.

        Raises:
            HealthError: `run.health_alarm` says so.
        """
        sound_alarm(run.health(), run.settings.run.health_alarm, LOGGER.warning)
