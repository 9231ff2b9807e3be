"""What the sources of candidates learn."""

from __future__ import annotations

from pathlib import Path

from tfrec.pipeline.run import Run, write_candidate_arrays
from tfrec.pipeline.stage import Stage


class Candidates(Stage):
    """Lets every source learn from the training data, and asks it once to see that it answers."""

    name = "candidates"
    needs = ("tokens",)
    determined_by = ("candidates",)

    def write(self, run: Run, folder: Path) -> None:
        from tfrec.candidates.build import build_sources
        from tfrec.candidates.source import SourceData
        from tfrec.encoders.tokenizer import special_tokens

        vocabulary = run.vocabulary()
        known = SourceData(
            run.data,
            run.item_tokens(),
            num_tokens=len(vocabulary),
            first_word=special_tokens(vocabulary)[1],
        )
        write_candidate_arrays(folder, build_sources(run.settings.candidates, known))
