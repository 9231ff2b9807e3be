"""Reads a Hugging Face BERT folder into a keras-nlp backbone, every tensor accounted for."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import keras
import keras_nlp
import numpy as np
from safetensors.numpy import load_file

from tfrec.errors import ConfigError

FILES = ("config.json", "model.safetensors", "tokenizer_config.json", "vocab.txt")

_LAYERS = {
    "token_embedding": "embeddings.word_embeddings",
    "position_embedding": "embeddings.position_embeddings",
    "segment_embedding": "embeddings.token_type_embeddings",
    "embeddings_layer_norm": "embeddings.LayerNorm",
    "self_attention_layer/query": "attention.self.query",
    "self_attention_layer/key": "attention.self.key",
    "self_attention_layer/value": "attention.self.value",
    "self_attention_layer/attention_output": "attention.output.dense",
    "self_attention_layer_norm": "attention.output.LayerNorm",
    "feedforward_intermediate_dense": "intermediate.dense",
    "feedforward_output_dense": "output.dense",
    "feedforward_layer_norm": "output.LayerNorm",
    "pooled_dense": "pooler.dense",
}
"""Layers of keras-nlp by their names in Hugging Face's files."""

_KINDS = {
    "embeddings": "weight",
    "kernel": "weight",
    "gamma": "weight",
    "bias": "bias",
    "beta": "bias",
}

# What a folder may hold besides the encoder: heads of other tasks, and ranges that are no weights.
_OTHER_PARTS = re.compile(
    r"(cls|classifier|qa_outputs)\..*|embeddings\.(position_ids|token_type_ids)"
)

_POOLER = "pooler."  # many folders lack it, and no pooling reads it

_GELU = ("gelu", "gelu_new", "gelu_fast", "gelu_python", "gelu_pytorch_tanh")


def is_hugging_face(folder: Path) -> bool:
    """Tells whether `folder` holds all files of a Hugging Face BERT."""
    return all((folder / name).is_file() for name in FILES)


def load_hugging_face(folder: Path, dropout: float) -> keras_nlp.models.BertBackbone:
    """Builds the backbone that `folder` describes, with its weights.

    Args:
        folder: See `is_hugging_face`.
        dropout: Dropout rate in training.

    Raises:
        ConfigError: The folder holds another architecture, lacks a tensor, holds one of another
            shape, one that is no number, or one that no layer would read.

    Deviates: GELU is the approximation by tanh, as in all of keras-nlp's BERT, also where the
    folder asks for the exact one.
    """
    config = _read_config(folder)
    try:
        backbone = keras_nlp.models.BertBackbone(
            vocabulary_size=config["vocab_size"],
            num_layers=config["num_hidden_layers"],
            num_heads=config["num_attention_heads"],
            hidden_dim=config["hidden_size"],
            intermediate_dim=config["intermediate_size"],
            max_sequence_length=config["max_position_embeddings"],
            num_segments=config.get("type_vocab_size", 2),
            dropout=dropout,
        )
    except KeyError as error:
        raise _error(folder, f"wanted {error} in config.json, which lacks it") from None
    _assign(folder, backbone, _read_tensors(folder))
    return backbone


def _read_config(folder: Path) -> dict[str, Any]:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for key, wanted, default in (
        ("model_type", ("bert",), "bert"),
        ("hidden_act", _GELU, "gelu"),
        ("position_embedding_type", ("absolute",), "absolute"),
    ):
        if (got := config.get(key, default)) not in wanted:
            raise _error(folder, f"config.json: wanted {key} {wanted[0]!r}, got {got!r}")
    return config


def _read_tensors(folder: Path) -> dict[str, np.ndarray]:
    """Returns the encoder's tensors under their plain and present-day names."""
    try:
        tensors = load_file(folder / "model.safetensors")
    except Exception as error:  # safetensors raises its own kinds
        raise _error(folder, f"model.safetensors cannot be read: {error}") from None
    names = {
        name.removeprefix("bert.")
        .replace("LayerNorm.gamma", "LayerNorm.weight")
        .replace("LayerNorm.beta", "LayerNorm.bias"): value
        for name, value in tensors.items()
    }
    return {name: value for name, value in names.items() if not _OTHER_PARTS.fullmatch(name)}


def _assign(
    folder: Path, backbone: keras_nlp.models.BertBackbone, tensors: dict[str, np.ndarray]
) -> None:
    variables = {_name_of(variable.path): variable for variable in backbone.weights}
    missing = {name for name in variables.keys() - tensors.keys() if not name.startswith(_POOLER)}
    if missing:
        raise _error(folder, f"wanted {len(variables)} tensors, missing {_some(missing)}")
    if unused := tensors.keys() - variables.keys():
        raise _error(
            folder, f"model.safetensors has tensors that a BERT has no place for: {_some(unused)}"
        )
    for name, value in tensors.items():
        variable = variables[name]
        wanted = _shape_in_file(variable)
        if value.shape != wanted:
            raise _error(folder, f"{name}: wanted shape {wanted}, got {value.shape}")
        if not np.isfinite(value).all():
            raise _error(folder, f"{name}: wanted numbers, got NaN or infinity")
        if variable.path.endswith("/kernel"):
            value = value.T
        variable.assign(value.reshape(variable.shape))


def _shape_in_file(variable: keras.Variable) -> tuple[int, ...]:
    """Returns the shape that Hugging Face keeps the values of a keras-nlp variable in.

    Its dense layers are [outputs, inputs], those of keras-nlp [inputs, outputs], where attention
    splits inputs or outputs into [heads, ...].
    """
    shape = tuple(variable.shape)
    if variable.path.endswith("/bias"):
        return (math.prod(shape),)
    if variable.path.endswith("/attention_output/kernel"):
        return (shape[-1], math.prod(shape[:-1]))
    if variable.path.endswith("/kernel"):
        return (math.prod(shape[1:]), shape[0])
    return shape


def _name_of(path: str) -> str:
    """Returns Hugging Face's name of a keras-nlp variable."""
    block, rest = re.fullmatch(r"(?:transformer_layer_(\d+)/)?(.+)", path).groups()  # type: ignore[union-attr]
    layer, kind = rest.rsplit("/", 1)
    prefix = "" if block is None else f"encoder.layer.{block}."
    return f"{prefix}{_LAYERS[layer]}.{_KINDS[kind]}"


def _some(names: set[str]) -> str:
    shown = sorted(names)[:5]
    return ", ".join(shown) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _error(folder: Path, message: str) -> ConfigError:
    return ConfigError(f"encoder.source: {folder}: {message}.")
