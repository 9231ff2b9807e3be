"""A stage: what the index holds, for a program that watches runs."""

from __future__ import annotations

import json
from pathlib import Path

from tfrec.pipeline.run import Run
from tfrec.pipeline.stage import Stage


class CatalogueSize(Stage):
    name = "catalogue_size"
    needs = ("index",)
    determined_by = ("index.candidates",)
    writes = ("size.json",)

    def __init__(self, unit: str = "items") -> None:
        self.unit = unit

    def write(self, run: Run, folder: Path) -> None:
        report = run.index_report()
        facts = {self.unit: report["num_items"], "candidates": run.settings.index.candidates}
        (folder / "size.json").write_text(json.dumps(facts), encoding="utf-8")
