"""Masked-LM pre-training of BERT on the catalogue's texts."""

from __future__ import annotations

from pathlib import Path

from tfrec.pipeline.models import new_backbone, start_tensorflow
from tfrec.pipeline.run import Run, write_backbone, write_history
from tfrec.pipeline.stage import CHECKPOINTS, Stage


class Pretraining(Stage):
    """Trains BERT to guess hidden tokens."""

    name = "pretraining"
    needs = ("tokens",)
    determined_by = (
        "seed",
        "encoder.kind",
        "encoder.options",
        "encoder.source",
        "encoder.dropout",
        "encoder.pretraining",
    )

    def write(self, run: Run, folder: Path) -> None:
        from tfrec.encoders.tokenizer import special_tokens
        from tfrec.training.loop import History
        from tfrec.training.pretraining import pretrain

        settings = run.settings
        if settings.encoder.kind != "bert":  # only BERT is pre-trained
            write_history(folder, History())
            return
        start_tensorflow(run)
        backbone = new_backbone(run)
        mask_token_id, num_special = special_tokens(run.vocabulary())
        history = pretrain(
            backbone,
            run.item_tokens(),
            mask_token_id=mask_token_id,
            num_special=num_special,
            config=settings.encoder.pretraining,
            seed=settings.seed,
            checkpoint_folder=folder / CHECKPOINTS,
            checkpoint_seconds=settings.run.checkpoint_seconds,
        )
        write_backbone(folder, backbone)
        write_history(folder, history)
