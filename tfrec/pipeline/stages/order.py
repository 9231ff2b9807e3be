"""What answers are sorted by, learned from what validation requests chose."""

from __future__ import annotations

from pathlib import Path

from tfrec.pipeline.models import exact_lists, start_tensorflow
from tfrec.pipeline.run import Run, write_order
from tfrec.pipeline.stage import Stage


class Order(Stage):
    """Learns the weights of click log-odds, retrieval score and sources, on what is served."""

    name = "order"
    needs = ("ranking", "candidates")
    determined_by = ("seed", "ranking.retrieval_weight", "index.candidates")

    def write(self, run: Run, folder: Path) -> None:
        from tfrec.training.list_order import learn_order

        start_tensorflow(run)
        write_order(folder, learn_order(exact_lists(run), run.data, run.settings))
