"""Prepared data as a TensorFlow Datasets builder.

Importing this module registers the builder, so that afterwards

    tfds.load("tfrec_prepared", data_dir=..., builder_kwargs={"folder": "runs/shop/prepare"})

opens what ``tfrec train`` prepared: one example per event, in the splits that it trains, validates
and tests on. Nothing is downloaded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import tensorflow_datasets as tfds

from tfrec.data.dataset import PreparedData
from tfrec.errors import ArtefactError
from tfrec.schema import SPLITS, Batch, Columns

_META_FILE = "prepared.json"
_TABLES = (".parquet", ".npy")
_BLOCK = 8192

_OF_EXAMPLE = (
    Columns.LABEL,
    Columns.WEIGHT,
    Columns.POSITION,
    Columns.IS_TARGET,
    Columns.IS_RANKED,
    Columns.WATCH_TIME,
)

_DESCRIPTION = """\
Events of a log as tfrec has read, cleaned and split them. An example is an event: who was shown or
chose which item, when, with what history before it, and how they answered.
"""


class TfrecPrepared(tfds.core.GeneratorBasedBuilder):
    """Examples of a prepared data set; see `PreparedData`.

    The builder's config is named after the contents of the folder. Data sets therefore share a
    `data_dir` without meeting, and a folder that is prepared anew is read anew.

    Args:
        folder: The folder of the stage `prepare`.
        **kwargs: `data_dir`, `version` and `file_format` of any builder.

    Raises:
        ArtefactError: The folder holds no prepared data, or data of another format version.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}

    def __init__(self, *, folder: str | Path | None = None, **kwargs: Any) -> None:
        if folder is None:
            raise ArtefactError(
                f"{self.name}: wanted builder_kwargs={{'folder': 'runs/<name>/prepare'}}, "
                "got no folder."
            )
        self._folder = Path(folder)
        # A pickled builder is built anew from the folder, which then names the config.
        kwargs.pop("config", None)
        config = tfds.core.BuilderConfig(
            name=_content_digest(self._folder), description=f"Prepared in {folder}."
        )
        super().__init__(config=config, **kwargs)
        self._original_state |= {"folder": str(folder)}

    def download_and_prepare(
        self, *, download_config: tfds.download.DownloadConfig | None = None, **kwargs: Any
    ) -> None:
        """Writes the examples below `data_dir`, never asking for a copy in the cloud."""
        download_config = download_config or tfds.download.DownloadConfig()
        super().download_and_prepare(
            download_config=replace(download_config, try_download_gcs=False), **kwargs
        )

    def _info(self) -> tfds.core.DatasetInfo:
        text = tfds.features.Text
        return tfds.core.DatasetInfo(
            builder=self,
            description=_DESCRIPTION,
            features=tfds.features.FeaturesDict(
                {
                    Columns.USER_ID: text(),
                    Columns.QUERY: text(doc="What was searched for; empty for none."),
                    Columns.TIME: tfds.features.Scalar(
                        np.int64, doc="Microseconds since 1970; without times, only an order."
                    ),
                    Batch.HISTORY: tfds.features.Sequence(
                        text(), doc="The last items chosen strictly before, oldest first."
                    ),
                    Columns.ITEM_ID: text(),
                    Columns.LABEL: tfds.features.Scalar(np.int8),
                    Columns.WEIGHT: tfds.features.Scalar(np.float32),
                    Columns.POSITION: tfds.features.Scalar(np.int16, doc="From 1; 0 for none."),
                    Columns.IS_TARGET: tfds.features.Scalar(
                        np.bool_, doc="Whether retrieval is to find the item."
                    ),
                    Columns.IS_RANKED: tfds.features.Scalar(
                        np.bool_, doc="Whether ranking is to predict the label."
                    ),
                    Columns.WATCH_TIME: tfds.features.Scalar(np.float32, doc="NaN where unknown."),
                }
            ),
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        del dl_manager
        data = PreparedData.load(self._folder)
        # TensorFlow Datasets refuses a split without examples.
        return {
            split: self._generate_examples(data, rows)
            for split in SPLITS
            if len(rows := np.flatnonzero(data.split_mask(split)))
        }

    def _generate_examples(
        self, data: PreparedData, rows: np.ndarray
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yields each example with its row of `PreparedData.examples` as key."""
        item_ids = data.items[Columns.ITEM_ID].to_numpy()
        user_ids = data.users[Columns.USER_ID]
        for start in range(0, len(rows), _BLOCK):
            chosen = rows[start : start + _BLOCK]
            part = data.examples[chosen]
            at = part["context"].to_numpy()
            contexts = data.contexts[at]
            histories = [row[row > 0] - 1 for row in data.histories(at)]
            table = pl.DataFrame(
                {
                    Columns.USER_ID: user_ids.gather(contexts[Batch.USER_INDEX] - 1),
                    Columns.QUERY: contexts[Columns.QUERY],
                    Columns.TIME: contexts[Columns.TIME].dt.timestamp("us"),
                    Columns.ITEM_ID: item_ids[part[Batch.ITEM_INDEX].to_numpy() - 1],
                    **{name: part[name] for name in _OF_EXAMPLE},
                }
            )
            for key, items, values in zip(
                chosen.tolist(), histories, table.iter_rows(named=True), strict=True
            ):
                yield key, values | {Batch.HISTORY: item_ids[items].tolist()}


def _content_digest(folder: Path) -> str:
    """Returns 16 hexadecimal digits that tell the data in `folder` from any other.

    What a run writes beside the data (its configuration, how long it took) does not count.
    """
    if not (folder / _META_FILE).is_file():
        raise ArtefactError(f"{folder}: holds no prepared data; run `tfrec train`.")
    paths = sorted(path for path in folder.rglob("*") if path.suffix in _TABLES)
    digest = hashlib.sha256()
    for path in [folder / _META_FILE, *paths]:
        with path.open("rb") as file:
            contents = hashlib.file_digest(file, "sha256")
        digest.update(f"{path.relative_to(folder).as_posix()}\0".encode() + contents.digest())
    return digest.hexdigest()[:16]
