"""What each source of candidates but the towers proposes."""

from __future__ import annotations

from pathlib import Path

from tfrec.pipeline.run import Run, write_candidate_tables
from tfrec.pipeline.stage import Stage


class Candidates(Stage):
    """Builds the table of each source: from an item or a token to weighted items."""

    name = "candidates"
    needs = ("tokens",)
    determined_by = ("candidates",)

    def write(self, run: Run, folder: Path) -> None:
        from tfrec.candidates.tables import build_tables
        from tfrec.encoders.tokenizer import special_tokens

        vocabulary = run.vocabulary()
        tables = build_tables(
            run.data,
            run.item_tokens(),
            num_tokens=len(vocabulary),
            first_word=special_tokens(vocabulary)[1],
            config=run.settings.candidates,
        )
        write_candidate_tables(folder, tables)
