"""Both models are measured on the test."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tfrec.data.reading.sources import read_oracle
from tfrec.pipeline.models import exact_lists, exported_lists, pair_scorer, start_tensorflow
from tfrec.pipeline.run import Run
from tfrec.pipeline.stage import Stage


class Evaluation(Stage):
    """Writes the report.

    Args:
        needs: What is measured: all that answers come from, or the ranking model alone.
    """

    name = "evaluation"
    determined_by = ("seed", "evaluation", "export.encoder", "export.k", "filters", "name")
    writes = ("report.json", "report.md")

    def __init__(self, needs: Sequence[str] = ("order", "index")) -> None:
        self.needs = needs

    def write(self, run: Run, folder: Path) -> None:
        from tfrec.evaluation.answers import write_predictions, write_ranks
        from tfrec.evaluation.ranking import evaluate_ranking
        from tfrec.evaluation.report import write_report
        from tfrec.evaluation.retrieval import TwoStages, evaluate_retrieval

        start_tensorflow(run)
        data, settings, embeddings = run.data, run.settings, run.embeddings()
        retrieval = None
        if embeddings is not None:
            oracle = read_oracle(settings.data, settings.seed)
            exact = exact_lists(run, run.order(), remove_seen=settings.evaluation.remove_seen)
            stages = TwoStages(exact, exported_lists(run))
            retrieval, ranked = evaluate_retrieval(data, embeddings, oracle, settings, stages)
            write_ranks(folder, data, ranked)
        ranking, predictions = evaluate_ranking(data, pair_scorer(run), embeddings, settings)
        write_predictions(folder, data, predictions)
        write_report(
            folder,
            name=settings.name,
            retrieval=retrieval,
            ranking=ranking,
            predictions=predictions,
            histories=run.histories(),
            data_report=data.report,
        )
