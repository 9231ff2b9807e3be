"""Writes a recommender as a SavedModel, proves that it answers alike, only then publishes it."""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
import polars as pl
import tensorflow as tf

from tfrec.errors import ExportError
from tfrec.export.servers import CORE, Operations, servers
from tfrec.export.signatures import Signature
from tfrec.export.warmup import write_warmup
from tfrec.schema import ExportFiles, Signatures, Tensors

TOLERANCE = 1e-4
_TIE = 1e-6
_PACKAGES = ("tensorflow", "keras", "keras-nlp", "tensorflow-text", "scann")
_NAMESPACES = ["Scann", "TFText"]

Requests = Mapping[str, Mapping[str, np.ndarray]]


def export_model(
    model: keras.Layer,
    signatures: list[Signature],
    model_folder: Path,
    requests: Requests,
    titles: pl.DataFrame,
    manifest: Mapping[str, Any],
) -> Path:
    """Writes ``<model_folder>/<next integer>`` with a manifest and verifies it.

    See `staged_export`.

    Returns:
        The version's folder.
    """
    exported = staged_export(model, signatures, model_folder, requests, titles, manifest)
    with exported as publish:
        return publish()


@contextmanager
def staged_export(
    model: keras.Layer,
    signatures: list[Signature],
    model_folder: Path,
    requests: Requests,
    titles: pl.DataFrame,
    manifest: Mapping[str, Any],
) -> Iterator[Callable[[], Path]]:
    """Writes a version and starts its verification; what it yields waits for that and publishes.

    The folder is written and verified under a name that TF Serving ignores and renamed at the end,
    so an interrupted or failed export leaves the earlier versions and nothing else.

    Args:
        model: The model in memory, which holds all that the signatures read.
        signatures: Its entry points, `recommend` among them.
        model_folder: Folder of the model's versions.
        requests: Signature to its input arrays; replayed for verification.
        titles: item_id and title, for people who look at answers.
        manifest: What to record besides signatures and versions. Its ``fingerprint`` names what
            the model was made from: a newest version with the same one is kept as it is.

    Yields:
        What returns the version's folder.

    Raises:
        ExportError: The written model fails to load or answers differently.
    """
    model_folder.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(model_folder)
    newest = max(list_versions(model_folder), default=0)
    if newest and _read_fingerprint(model_folder / str(newest)) == manifest["fingerprint"]:
        yield lambda: model_folder / str(newest)
        return
    beside = Path(tempfile.mkdtemp(prefix=f".writing-{os.getpid()}-", dir=model_folder))
    try:
        _write(model, signatures, beside)
        with Replay(beside, requests) as replay:

            def publish() -> Path:
                verification, operations = replay.compare(signatures)
                description = {
                    "version": newest + 1,
                    **manifest,
                    "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
                    "default_signature": Signatures.RECOMMEND,
                    "signatures": {signature.name: signature.to_dict() for signature in signatures},
                    "operations": {name: ops for name, ops in operations.items() if name != CORE},
                    "servers": servers(operations),
                    "verification": verification,
                }
                write_warmup(beside, signatures, requests)
                titles.write_csv(beside / ExportFiles.TITLES)
                text = json.dumps(
                    _strict(description), indent=1, ensure_ascii=False, allow_nan=False
                )
                (beside / ExportFiles.MANIFEST).write_text(text + "\n", encoding="utf-8")
                beside.chmod(0o755)
                target = model_folder / str(newest + 1)
                os.rename(beside, target)
                return target

            yield publish
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _strict(value: Any) -> Any:
    """Returns what every JSON parser reads: a number that is not finite becomes null."""
    if isinstance(value, Mapping):
        return {name: _strict(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def list_versions(model_folder: Path) -> list[int]:
    """Returns the version numbers below `model_folder`, ascending."""
    if not model_folder.is_dir():
        return []
    return sorted(int(p.name) for p in model_folder.iterdir() if p.is_dir() and p.name.isdigit())


class Replay:
    """Replays `requests` in a fresh process, loaded TF Serving's way; begins as it is entered.

    Args:
        folder: Of the version.
        requests: Signature to its input arrays.
    """

    def __init__(self, folder: Path, requests: Requests) -> None:
        self._folder = folder
        self._requests = requests

    def __enter__(self) -> Replay:
        self._scratch = Path(tempfile.mkdtemp(prefix="tfrec-replay-"))
        stored = {
            f"{name}/{key}": np.asarray(value, dtype=str) if value.dtype == object else value
            for name, inputs in self._requests.items()
            for key, value in inputs.items()
        }
        np.savez(self._scratch / "requests.npz", allow_pickle=False, **stored)
        files = [self._scratch / name for name in ("requests.npz", "answers.npz", "operations")]
        command = [sys.executable, "-m", "tfrec.export.verify", self._folder, *files]
        with (self._scratch / "errors").open("wb") as errors:
            self._process = subprocess.Popen([str(part) for part in command], stderr=errors)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def compare(self, signatures: list[Signature]) -> tuple[dict[str, Any], Operations]:
        """Waits for the answers and compares them with those of the model in memory.

        Returns:
            For each signature, rows replayed and the largest difference of a number; and the
            graph's operations.

        Raises:
            ExportError: The folder does not load, or a row's answer differs by more than
                `TOLERANCE`.
        """
        code = self._process.wait()
        if code:
            said = (self._scratch / "errors").read_text(encoding="utf-8", errors="replace")
            reason = (said.strip().splitlines() or ["no message"])[-1]
            if code < 0:  # from outside; mostly for want of memory
                reason = f"its process was killed by signal {-code}, {signal.Signals(-code).name}"
            raise ExportError(f"{self._folder}: does not load as TF Serving loads it: {reason}")
        answers = dict(np.load(self._scratch / "answers.npz"))
        operations = json.loads((self._scratch / "operations").read_text(encoding="utf-8"))
        return {
            signature.name: _compare(signature, self._requests[signature.name], answers)
            for signature in signatures
            if signature.name in self._requests
        }, operations


def _write(model: keras.Layer, signatures: list[Signature], folder: Path) -> None:
    archive = keras.export.ExportArchive()
    archive.track(model)
    for signature in signatures:
        archive.add_endpoint(signature.name, signature.function)
        if signature.name == Signatures.RECOMMEND:
            archive.add_endpoint(Signatures.DEFAULT, signature.function)
    options = tf.saved_model.SaveOptions(namespace_whitelist=_NAMESPACES)
    archive.write_out(str(folder), options=options, verbose=False)


def _compare(
    signature: Signature, request: Mapping[str, np.ndarray], answers: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """Compares an exported signature's answers with those of the model in memory.

    Items whose scores are equal may stand in each other's place: which of them comes first is up to
    the last bit, or to the index.
    """
    given = {name: tf.constant(value) for name, value in request.items()}
    expected = {name: value.numpy() for name, value in signature.function(given).items()}
    came = {name: answers[f"{signature.name}/{name}"] for name in expected}
    is_compared = ~_is_tied(expected, came)
    largest = 0.0
    for name, wanted in expected.items():
        if wanted.dtype == object:
            wanted = _decoded(wanted)
            differs = (wanted != came[name]) & is_compared
        else:
            distance = np.where(is_compared, np.abs(wanted - came[name]), 0.0)
            largest = max(largest, float(distance.max(initial=0.0)))
            differs = ~(distance <= TOLERANCE)
        if differs.any():
            at = tuple(int(i) for i in np.argwhere(differs)[0])
            raise ExportError(
                f"signature {signature.name!r}, output {name!r}, entry {at}: the exported model "
                f"answers {came[name][at]!r}, the model in memory {wanted[at]!r}."
            )
    rows = len(next(iter(request.values())))
    return {"rows": rows, "largest_difference": largest}


def _is_tied(expected: Mapping[str, np.ndarray], came: Mapping[str, np.ndarray]) -> np.ndarray:
    """Tells where two lists name different items of equal score; nowhere without lists."""
    if Tensors.ITEM_ID not in expected or Tensors.SCORE not in expected:
        return np.zeros((), bool)
    is_other = _decoded(expected[Tensors.ITEM_ID]) != came[Tensors.ITEM_ID]
    distance = np.abs(expected[Tensors.SCORE] - came[Tensors.SCORE])
    return is_other & (distance <= _TIE)


def _decoded(texts: np.ndarray) -> np.ndarray:
    return np.char.decode(texts.astype(bytes))


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
