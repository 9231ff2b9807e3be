"""The WordPiece vocabulary: that of a pre-trained encoder, or one of the run's own texts."""

from __future__ import annotations

from pathlib import Path

from tfrec.pipeline.run import Run, write_vocabulary
from tfrec.pipeline.stage import Stage
from tfrec.schema import Columns


class Vocabulary(Stage):
    """Takes the vocabulary of the encoder's source, or learns one from the training texts."""

    name = "vocabulary"
    needs = ("prepare",)
    determined_by = ("text.vocabulary_size", "encoder.source")

    def write(self, run: Run, folder: Path) -> None:
        from tfrec.encoders.bert import is_pretrained, load_vocabulary
        from tfrec.encoders.tokenizer import train_vocabulary

        source = run.settings.encoder.source
        if is_pretrained(source):
            vocabulary = load_vocabulary(source)
        else:
            texts = [*run.data.items[Columns.TEXT].to_list(), *run.data.train_texts()]
            vocabulary = train_vocabulary(texts, run.settings.text.vocabulary_size)
        write_vocabulary(folder, vocabulary)
