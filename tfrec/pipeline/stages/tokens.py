"""All texts cut into tokens, once for all of training."""

from __future__ import annotations

from pathlib import Path

from tfrec.pipeline.run import Run, write_tokens
from tfrec.pipeline.stage import Stage
from tfrec.schema import Columns


class Tokens(Stage):
    """Cuts the texts of items and requests into WordPiece tokens."""

    name = "tokens"
    needs = ("vocabulary",)
    determined_by = ("text.max_item_tokens", "text.max_query_tokens")

    def write(self, run: Run, folder: Path) -> None:
        from tfrec.encoders.tokenizer import tokenize_texts

        limits, vocabulary = run.settings.text, run.vocabulary()
        items = ["", *run.data.items[Columns.TEXT].to_list()]
        write_tokens(
            folder,
            tokenize_texts(vocabulary, items, limits.max_item_tokens, "tokens of items"),
            tokenize_texts(
                vocabulary, run.data.texts, limits.max_query_tokens, "tokens of requests"
            ),
        )
