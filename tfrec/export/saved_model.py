"""Writes a recommender as a SavedModel, proves that it answers alike, only then publishes it."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import polars as pl
import tensorflow as tf

from tfrec.errors import ExportError
from tfrec.export.servers import CORE, Operations, servers
from tfrec.export.signatures import Signature, build_signatures
from tfrec.export.warmup import write_warmup
from tfrec.recommender import Recommender
from tfrec.schema import ExportFiles, Signatures

TOLERANCE = 1e-4
_PACKAGES = ("tensorflow", "keras", "keras-nlp", "tensorflow-text", "scann")
_NAMESPACES = ["Scann", "TFText"]

Requests = Mapping[str, Mapping[str, np.ndarray]]


def export_model(
    recommender: Recommender,
    model_folder: Path,
    requests: Requests,
    titles: pl.DataFrame,
    manifest: Mapping[str, Any],
) -> Path:
    """Writes ``<model_folder>/<next integer>`` with a manifest and verifies it.

    The folder is written and verified under a name that TF Serving ignores and renamed at the end,
    so an interrupted or failed export leaves the earlier versions and nothing else.

    Args:
        recommender: The model in memory.
        model_folder: Folder of the model's versions.
        requests: Signature to its input arrays; replayed for verification.
        titles: item_id and title, for people who look at answers.
        manifest: What to record besides signatures and versions. Its ``fingerprint`` names what
            the model was made from: a newest version with the same one is kept as it is.

    Returns:
        The version's folder.

    Raises:
        ExportError: The written model fails to load or answers differently.
    """
    model_folder.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(model_folder)
    newest = max(list_versions(model_folder), default=0)
    if newest and _read_fingerprint(model_folder / str(newest)) == manifest["fingerprint"]:
        return model_folder / str(newest)
    version = newest + 1
    beside = Path(tempfile.mkdtemp(prefix=f".writing-{os.getpid()}-", dir=model_folder))
    try:
        signatures = build_signatures(recommender)
        _write(recommender, signatures, beside)
        verification, operations = verify(beside, signatures, requests)
        description = {
            "version": version,
            **manifest,
            "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
            "default_signature": Signatures.RECOMMEND,
            "signatures": {signature.name: signature.to_dict() for signature in signatures},
            "operations": {name: found for name, found in operations.items() if name != CORE},
            "servers": servers(operations),
            "verification": verification,
        }
        write_warmup(beside, signatures, requests)
        titles.write_csv(beside / ExportFiles.TITLES)
        text = json.dumps(description, indent=1, ensure_ascii=False)
        (beside / ExportFiles.MANIFEST).write_text(text + "\n", encoding="utf-8")
        beside.chmod(0o755)
        target = model_folder / str(version)
        os.rename(beside, target)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    return target


def list_versions(model_folder: Path) -> list[int]:
    """Returns the version numbers below `model_folder`, ascending."""
    if not model_folder.is_dir():
        return []
    return sorted(int(p.name) for p in model_folder.iterdir() if p.is_dir() and p.name.isdigit())


def verify(
    folder: Path, signatures: list[Signature], requests: Requests
) -> tuple[dict[str, Any], Operations]:
    """Replays `requests` in a fresh process, loaded TF Serving's way, and compares.

    Returns:
        For each signature, rows replayed and the largest difference of a number; and the graph's
        operations.

    Raises:
        ExportError: The folder does not load, or a row's answer differs by more than `TOLERANCE`.
    """
    stored = {
        f"{name}/{key}": np.asarray(value, dtype=str) if value.dtype == object else value
        for name, inputs in requests.items()
        for key, value in inputs.items()
    }
    with tempfile.TemporaryDirectory() as scratch:
        asked, answered = Path(scratch) / "requests.npz", Path(scratch) / "answers.npz"
        used = Path(scratch) / "operations.json"
        np.savez(asked, allow_pickle=False, **stored)
        command = [sys.executable, "-m", "tfrec.export.verify", folder, asked, answered, used]
        process = subprocess.run([str(c) for c in command], capture_output=True, text=True)
        if process.returncode:
            reason = (process.stderr.strip().splitlines() or ["no message"])[-1]
            raise ExportError(f"{folder}: does not load as TF Serving loads it: {reason}")
        answers = dict(np.load(answered))
        operations = json.loads(used.read_text(encoding="utf-8"))
    return {
        signature.name: _compare(signature, requests[signature.name], answers)
        for signature in signatures
        if signature.name in requests
    }, operations


def _write(recommender: Recommender, signatures: list[Signature], folder: Path) -> None:
    archive = keras.export.ExportArchive()
    archive.track(recommender)
    for signature in signatures:
        archive.add_endpoint(signature.name, signature.function)
        if signature.name == Signatures.RECOMMEND:
            archive.add_endpoint(Signatures.DEFAULT, signature.function)
    options = tf.saved_model.SaveOptions(namespace_whitelist=_NAMESPACES)
    archive.write_out(str(folder), options=options, verbose=False)


def _compare(
    signature: Signature, request: Mapping[str, np.ndarray], answers: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    expected = signature.function({name: tf.constant(value) for name, value in request.items()})
    largest = 0.0
    for name, tensor in expected.items():
        wanted, came = tensor.numpy(), answers[f"{signature.name}/{name}"]
        if wanted.dtype == object:
            wanted = np.char.decode(wanted.astype(bytes))
            differs = wanted != came
        else:
            distance = np.abs(wanted - came)
            largest = max(largest, float(distance.max(initial=0.0)))
            differs = ~(distance <= TOLERANCE)
        if differs.any():
            at = tuple(int(i) for i in np.argwhere(differs)[0])
            raise ExportError(
                f"signature {signature.name!r}, output {name!r}, entry {at}: the exported model "
                f"answers {came[at]!r}, the model in memory {wanted[at]!r}."
            )
    rows = len(next(iter(request.values())))
    return {"rows": rows, "largest_difference": largest}


def _read_fingerprint(folder: Path) -> str | None:
    manifest = folder / ExportFiles.MANIFEST
    if not manifest.is_file():
        return None
    return json.loads(manifest.read_text(encoding="utf-8")).get("fingerprint")


def _remove_leftovers(model_folder: Path) -> None:
    """Removes what killed exports of processes that no longer run left behind."""
    for path in model_folder.glob(".writing-*"):
        pid = path.name.split("-")[1]
        if not Path(f"/proc/{pid}").exists():
            shutil.rmtree(path, ignore_errors=True)
