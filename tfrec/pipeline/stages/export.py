"""The SavedModels: written, verified in a fresh process, published as a new version."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from tfrec.pipeline.models import load_recommender, start_tensorflow
from tfrec.pipeline.run import INDEX, PORTABLE_INDEX, Run, write_export
from tfrec.pipeline.stage import Stage
from tfrec.pipeline.stages.index import has_portable_twin
from tfrec.schema import Columns, ExportFiles

if TYPE_CHECKING:  # TensorFlow is loaded by a stage that really runs
    from tfrec.recommender import Recommender
    from tfrec.recommender.changes import Changes


class Export(Stage):
    """Exports the model and its portable twin.

    Args:
        needs: What is exported, and the measurements that go along.
    """

    name = "export"
    determined_by = (
        "seed",
        "name",
        "export",
        "filters",
        "index.precision",
        "retrieval.user.history",
        "text.max_item_tokens",
        "text.max_query_tokens",
    )

    def __init__(self, needs: Sequence[str] = ("evaluation", "index")) -> None:
        self.needs = needs

    def is_complete(self, run: Run) -> bool:
        """Tells whether the versions that were written are still there."""
        versions = map(Path, run.versions().values())
        return all((version / ExportFiles.MANIFEST).is_file() for version in versions)

    def write(self, run: Run, folder: Path) -> None:
        from tfrec.export.replay import sample_request

        start_tensorflow(run)
        changes = run.changes(run.fingerprint)
        recommender = load_recommender(run, changes)
        sample = sample_request(run.data, run.settings, recommender)
        write_export(folder, sample, export_all(run, changes, run.fingerprint, recommender))


def export_all(
    run: Run, changes: Changes, stamp: str, recommender: Recommender | None = None
) -> dict[str, str]:
    """Exports the model, and its portable twin; returns their folders.

    One is verified, in a process of its own, while the other is written.

    Args:
        run: The run.
        changes: Of its catalogue since the training.
        stamp: Tells this version from others, in the manifest.
        recommender: The model, where it is in memory already.
    """
    with ExitStack() as staged:
        model = recommender or load_recommender(run, changes)
        folder = run.model_folder
        publish = {"folder": _stage(staged, run, changes, model, INDEX, folder, stamp)}
        if has_portable_twin(run):
            model = load_recommender(run, changes, PORTABLE_INDEX)
            twin = folder.with_name(f"{folder.name}-portable")
            publish["portable"] = _stage(staged, run, changes, model, PORTABLE_INDEX, twin, stamp)
        return {name: str(published()) for name, published in publish.items()}


def _stage(
    staged: ExitStack,
    run: Run,
    changes: Changes,
    recommender: Recommender,
    index: str,
    folder: Path,
    stamp: str,
) -> Callable[[], Path]:
    """Writes a version beside the others; see `staged_export`."""
    from tfrec.export.replay import replay_requests
    from tfrec.export.saved_model import staged_export
    from tfrec.export.signatures import build_signatures

    report = run.report()
    frames = (run.data.items, changes.items)
    titles = pl.concat(frame.select(Columns.ITEM_ID, Columns.TITLE) for frame in frames)
    manifest = {
        "name": folder.name,
        "fingerprint": stamp,
        "metrics": {part: report[part] for part in ("retrieval", "ranking") if part in report},
        "index": run.index_report(index, changes) if run.has_towers else None,
        "catalogue": {
            "added": changes.items.height,
            "gone": len(changes.gone),
            "changes": changes.number,
        },
        "config": run.record,
    }
    requests = replay_requests(run.data, run.settings, recommender)
    titles = titles.unique(Columns.ITEM_ID, keep="last", maintain_order=True)
    signatures = build_signatures(recommender)
    export = staged_export(recommender, signatures, folder, requests, titles, manifest)
    return staged.enter_context(export)
