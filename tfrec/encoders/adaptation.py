"""Which of the encoder's weights the training of the towers changes."""

from __future__ import annotations

from typing import Literal

import keras_nlp

from tfrec.encoders.bert import BertEncoder
from tfrec.encoders.text_encoder import TextEncoder
from tfrec.errors import ConfigError

Adaptation = Literal["frozen", "last_layers", "full", "lora"]


def adapt(
    encoder: TextEncoder, adaptation: Adaptation, trained_layers: int = 2, lora_rank: int = 8
) -> None:
    """Marks the encoder's weights as trained or not, once and after they were loaded.

    A model that is built again and adapted with the same settings has the same variables in the
    same order, so that weights saved after this can be loaded. Do not set ``trainable`` of the
    encoder afterwards: it would undo this.

    Args:
        encoder: Changed in place. Its outputs stay what they are. One that is no `BertEncoder` is
            trained as a whole or not at all.
        adaptation: ``frozen``: nothing is trained, pooling included. ``last_layers``: the last
            transformer blocks and the pooling. ``full``: all. ``lora``: small matrices beside the
            query and value projections of all blocks, which start as zero, and the pooling.
        trained_layers: ``last_layers``: how many.
        lora_rank: ``lora``: inner size of the matrices.

    Raises:
        ConfigError: The backbone has fewer blocks than `trained_layers`, or the encoder no blocks.
    """
    encoder.trainable = adaptation != "frozen"
    if not isinstance(encoder, BertEncoder):
        if adaptation not in ("frozen", "full"):
            raise ConfigError(
                f"encoder.adaptation: wanted `frozen` or `full` for a {type(encoder).__name__}, "
                f"got {adaptation!r}, which only BERT has."
            )
        return
    backbone = encoder.backbone
    if adaptation == "last_layers":
        _train_last_layers(backbone, trained_layers)
    elif adaptation == "lora":
        _add_lora(backbone, lora_rank)
    if adaptation != "frozen":
        backbone.pooled_dense.trainable = False  # no pooling reads it


def _train_last_layers(backbone: keras_nlp.models.BertBackbone, count: int) -> None:
    if not 1 <= count <= backbone.num_layers:
        raise ConfigError(
            f"encoder.trained_layers: wanted 1 to {backbone.num_layers}, the layers of "
            f"`encoder.source`, got {count}."
        )
    first_trained = backbone.num_layers - count
    trained = backbone.transformer_layers[first_trained:]
    for layer in backbone.layers:
        layer.trainable = layer in trained


def _add_lora(backbone: keras_nlp.models.BertBackbone, rank: int) -> None:
    """Adds A @ B to the query and value projections W; only A and B are trained.

    Source: Hu et al., LoRA (2021), section 4.1 and 4.2.
    Deviates: Keras factors by head: A is [hidden_dim, heads, rank], B [rank, hidden_dim / heads],
    shared by the heads. The sum is not scaled (alpha equals the rank), A is drawn He-uniform.
    """
    backbone.enable_lora(rank)
    for layer in backbone.transformer_layers:
        attention = layer._self_attention_layer  # keras-nlp gives no public name
        for projection in (attention.query_dense, attention.value_dense):
            projection.bias.trainable = False  # Keras would train it beside the matrices
