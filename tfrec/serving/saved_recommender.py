"""Asks an exported model from Python. Knows the folder's manifest and no model code."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from tfrec.errors import ArtefactError, TfrecError, did_you_mean
from tfrec.schema import Columns, ExportFiles, Signatures, Tensors


class RequestError(TfrecError):
    """A request names an input that the model does not have, or a value of the wrong kind."""


class SavedRecommender:
    """A SavedModel with its manifest.

    Args:
        folder: A version's folder, or a model's folder, of which the highest version is taken.

    Attributes:
        folder: The version's folder.
        manifest: What the export recorded.
        titles: Titles of all items by their id.

    Raises:
        ArtefactError: There is no exported model.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = _version_folder(Path(folder))
        self.manifest: dict[str, Any] = json.loads(
            (self.folder / ExportFiles.MANIFEST).read_text(encoding="utf-8")
        )
        self._model = _load(self.folder)  # kept: signatures do not keep their tables alive
        titles = pl.read_csv(self.folder / ExportFiles.TITLES, infer_schema=False)
        ids = titles[Columns.ITEM_ID].to_list()
        self.titles: dict[str, str] = dict(
            zip(ids, titles[Columns.TITLE].fill_null("").to_list(), strict=True)
        )

    @property
    def k(self) -> int:
        """Items in an answer."""
        return int(self.manifest["signatures"][Signatures.RECOMMEND]["outputs"][0]["shape"][1])

    def title(self, item_id: str) -> str:
        """Returns the item's title, "" for an unknown item."""
        return self.titles.get(item_id, "")

    def recommend(
        self,
        user_id: str = "",
        history: Sequence[str] = (),
        query: str = "",
        k: int | None = None,
        features: Mapping[str, Any] | None = None,
        history_kinds: Sequence[str] | None = None,
        history_times: Sequence[int] | None = None,
        time: int | None = None,
    ) -> pl.DataFrame:
        """Answers one request.

        Args:
            user_id: Outside id; unknown and "" are fine.
            history: Item ids, oldest first; unknown ones are passed over.
            query: Search text.
            k: Rows wanted; at most the exported number.
            features: Attributes and request features by name; the rest is unknown.
            history_kinds: Kind of event for each item of the history, "" for unknown. Only for
                models that read them (`retrieval.user.history.event_kinds`).
            history_times: Seconds since 1970 for each item of the history, 0 for unknown. Only for
                models that read them (`retrieval.user.history.time_gaps`).
            time: When is asked, seconds since 1970; likewise.

        Returns:
            item_id, title, score (of models with towers), probability, and what further heads
            predict; best first.

        Raises:
            RequestError: A feature is unknown or has the wrong kind of value; the model does not
                read kinds or times; there are not as many of them as items.
        """
        request: dict[str, Any] = {
            Tensors.USER_ID: user_id,
            Tensors.HISTORY: list(history) or [""],
            **({Tensors.QUERY: query} if query else {}),
            **(features or {}),
        }
        for name, values in (
            (Tensors.HISTORY_KIND, history_kinds), (Tensors.HISTORY_TIME, history_times)
        ):  # fmt: skip
            if values is not None and len(values) != len(history):
                raise RequestError(
                    f"input {name!r}: wanted one for each of the {len(history)} items of the "
                    f"history, got {len(values)}."
                )
            if values is not None and len(values):
                request[name] = list(values)
        if time is not None:
            request[Tensors.TIME] = time
        answer = self.call(Signatures.RECOMMEND, {name: [v] for name, v in request.items()})
        ids = [value.decode() for value in answer[Tensors.ITEM_ID][0]]
        names = {Columns.ITEM_ID: ids, Columns.TITLE: [self.title(item) for item in ids]}
        numbers = {
            info["name"]: answer[info["name"]][0]
            for info in self.manifest["signatures"][Signatures.RECOMMEND]["outputs"]
            if info["name"] != Tensors.ITEM_ID
        }
        frame = pl.DataFrame(names | numbers)
        return frame.filter(pl.col(Columns.ITEM_ID) != "").head(self.k if k is None else k)

    def signature(self, name: str) -> Any:
        """Returns the function of a signature, which takes each input as a tensor."""
        return self._model.signatures[name]

    def call(self, signature: str, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Calls a signature; inputs that are left out get their neutral values.

        Args:
            signature: Name of the signature.
            inputs: Input name to a list or array whose first dimension is the batch.

        Raises:
            RequestError: A name is unknown or a value has the wrong kind.
        """
        import tensorflow as tf

        declared = self.manifest["signatures"].get(signature)
        if declared is None:
            known = list(self.manifest["signatures"])
            hint = did_you_mean(signature, known)
            raise RequestError(f"signature {signature!r}: wanted one of {', '.join(known)}.{hint}")
        infos = {info["name"]: info for info in declared["inputs"]}
        for name in inputs:
            if name not in infos:
                hint = did_you_mean(name, infos)
                raise RequestError(f"input {name!r}: wanted one of {', '.join(infos)}.{hint}")
        batch = len(next(iter(inputs.values()))) if inputs else 1
        feeds = {}
        for name, info in infos.items():
            value = inputs.get(name, _neutral(info, batch))
            try:
                feeds[name] = tf.constant(value, tf.as_dtype(info["dtype"]))
            except (TypeError, ValueError):
                raise RequestError(
                    f"input {name!r}: wanted {info['dtype']} of shape {info['shape']}, "
                    f"got {str(value)[:80]}."
                ) from None
        answer = self._model.signatures[signature](**feeds)
        return {name: tensor.numpy() for name, tensor in answer.items()}


def _neutral(info: Mapping[str, Any], batch: int) -> np.ndarray:
    shape = [batch, *(1 if size is None else size for size in info["shape"][1:])]
    if info["dtype"] == "string":
        return np.full(shape, info["neutral"], object)
    return np.full(shape, float(info["neutral"]), info["dtype"])  # "NaN" too, see TensorInfo


def _version_folder(folder: Path) -> Path:
    if (folder / ExportFiles.MANIFEST).is_file():
        return folder
    versions = [path for path in folder.glob("[0-9]*") if path.name.isdigit()]
    complete = [path for path in versions if (path / ExportFiles.MANIFEST).is_file()]
    if not complete:
        raise ArtefactError(
            f"{folder}: wanted an exported model (a folder with <integer version>/manifest.json); "
            "run `tfrec train` first."
        )
    return max(complete, key=lambda path: int(path.name))


def _load(folder: Path) -> Any:
    import tensorflow as tf
    import tensorflow_text  # noqa: F401  registers its operations

    if b"Scann>" in (folder / "saved_model.pb").read_bytes():
        from tfrec.index import scann  # noqa: F401  registers its operations

    return tf.saved_model.load(str(folder))
