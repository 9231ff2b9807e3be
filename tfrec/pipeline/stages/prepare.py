"""Raw tables become prepared data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tfrec.data.parsing.privacy import pseudonym_stamp
from tfrec.data.preparing.prepare import prepare
from tfrec.data.reading.sources import read_source, source_files, table_stamps
from tfrec.files import file_stamps
from tfrec.pipeline.run import Run
from tfrec.pipeline.stage import Stage


class Prepare(Stage):
    """Types, checks, labels and splits the events, and turns ids into row numbers."""

    name = "prepare"
    determined_by = ("seed", "data")
    writes = ("prepared.json",)

    def outside(self, run: Run) -> Any:
        """Stamps the source's files or tables, and the key of pseudonyms.

        A pseudonym of nobody stands for the key: another key makes other data.
        """
        data = run.settings.data
        stamps = file_stamps(source_files(data)) + table_stamps(run.tables)
        return [stamps, pseudonym_stamp(data.privacy)]

    def write(self, run: Run, folder: Path) -> None:
        settings = run.settings
        prepare(read_source(settings.data, settings.seed, run.tables), settings, folder)
        run.forget_data()
