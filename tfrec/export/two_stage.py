"""Exports own towers, and a ranker on them, to the same two SavedModels as a pipeline's model."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from tfrec.export.saved_model import export_model
from tfrec.export.signatures import Signature, TensorInfo
from tfrec.recommender.two_stage import TwoStage
from tfrec.schema import Columns, Signatures, Tensors

_PORTABLE: Final = "portable"


def export_two_stage(
    model: TwoStage, folder: str | Path, titles: Mapping[str, str] | None = None
) -> list[Path]:
    """Writes verified SavedModels: with a ScaNN index a second one that any server can load.

    Args:
        model: The model in memory.
        folder: Of the model's versions; the second one goes to ``<folder>-portable``.
        titles: Title of an item by its id, for people who look at answers.

    Returns:
        The folders of the new versions.

    Raises:
        ExportError: A written model answers differently from the one in memory.
    """
    folder = Path(folder)
    ids = model.item_ids.tolist()
    shown = [(titles or {}).get(item, "") for item in ids]
    named = pl.DataFrame({Columns.ITEM_ID: ids, Columns.TITLE: shown})
    models = {folder: model}
    if model.index_kind == "scann":
        models[folder.with_name(f"{folder.name}-{_PORTABLE}")] = model.with_index(_PORTABLE)
    stamp = hashlib.sha256(repr((model.k, model.num_candidates, model.index_kind)).encode())
    for array in model.weights_and_items():
        stamp.update(array.tobytes())
    versions = []
    for place, variant in models.items():
        manifest = {
            "name": place.name,
            "fingerprint": stamp.hexdigest()[:16],
            "index": asdict(variant.index_report),
        }
        signatures = two_stage_signatures(variant)
        requests = {s.name: _examples(variant, s) for s in signatures}
        versions.append(export_model(variant, signatures, place, requests, named, manifest))
    return versions


def two_stage_signatures(model: TwoStage) -> list[Signature]:
    """Returns the entry points of an export of own towers."""
    asked = [
        _input(name, values, f"Feature {name!r} of the request.")
        for name, values in model.requests.items()
    ]
    ids = TensorInfo(Tensors.ITEM_ID, "string", [None, None], "Item id; '' pads.", "")
    exclude = TensorInfo(
        Tensors.EXCLUDE, "string", [None, None], "Ids of items left out; '' pads.", ""
    )
    score = TensorInfo(Tensors.SCORE, "float32", [None, None], "Score of the towers.")
    ranked = [score]
    if model.ranker is not None:
        meaning = "Output of the ranking model, by which answers are sorted."
        ranked.append(TensorInfo(Tensors.PROBABILITY, "float32", [None, None], meaning))
    one = TensorInfo(Tensors.ITEM_ID, "string", [None], "Item id.", "")
    vector = TensorInfo(Tensors.EMBEDDING, "float32", [None, None], "Of the user tower.")
    return [
        Signature(
            Signatures.RECOMMEND,
            "Finds items and sorts them; best first.",
            [*asked, exclude],
            _of_width(model.k, ids, *ranked),
            model.recommend,
        ),
        Signature(
            Signatures.RETRIEVE,
            "Finds the candidates; best score first.",
            [*asked, exclude],
            _of_width(model.num_candidates, ids, score),
            model.retrieve,
        ),
        Signature(
            Signatures.RANK,
            "Scores the given items, in their order.",
            [*asked, ids],
            ranked,
            model.rank,
        ),
        Signature(
            Signatures.SIMILAR_ITEMS,
            "Finds the items closest to an item; best score first.",
            [one],
            _of_width(model.k, ids, score),
            model.similar_items,
        ),
        Signature(
            Signatures.ENCODE_USER,
            "Embeds requests.",
            asked,
            [vector],
            lambda request: {Tensors.EMBEDDING: model.towers.embed_users(request)},
        ),
    ]


def _examples(model: TwoStage, signature: Signature) -> dict[str, np.ndarray]:
    """Returns requests for verification: those given, each leaving out other items."""
    count = min(64, len(next(iter(model.requests.values()))))
    ids = model.item_ids
    at = np.arange(count) % model.num_items
    pairs = np.stack([ids[at], ids[at[::-1]], np.full(count, "", object)], axis=1)
    given = {name: values[:count] for name, values in model.requests.items()}
    given |= {Tensors.EXCLUDE: pairs, Tensors.ITEM_ID: pairs}
    if signature.name == Signatures.SIMILAR_ITEMS:
        given[Tensors.ITEM_ID] = pairs[:, 0]
    return {info.name: given[info.name] for info in signature.inputs}


def _of_width(width: int, *infos: TensorInfo) -> list[TensorInfo]:
    return [replace(info, shape=[None, width]) for info in infos]


def _input(name: str, values: np.ndarray, meaning: str) -> TensorInfo:
    """Describes an input like `values`, [n, ...]."""
    dtype = "string" if values.dtype == object else values.dtype.name
    neutral: str | float = "" if dtype == "string" else 0
    return TensorInfo(name, dtype, [None, *values.shape[1:]], meaning, neutral)
