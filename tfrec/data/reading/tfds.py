"""Tables of TensorFlow Datasets. TensorFlow is loaded when one is read, not before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl

from tfrec.data.reading.batch import RawBatch
from tfrec.errors import DataError, reason_of

_BLOCK_ROWS = 10_000
_MAX_REASON_CHARS = 200
_NO_NETWORK = "Without a network, name a folder that holds it in TFDS_DATA_DIR."


def read_tfds(name: str, split: str, hint: str = _NO_NETWORK) -> Iterator[RawBatch]:
    """Reads one split.

    Args:
        name: ``movielens/100k-ratings``.
        split: Its name, or a slice as ``train[:10%]``.
        hint: What to do where it cannot be loaded.

    Yields:
        Rows in stored order; features of features are named ``outer/inner``. Bytes become text,
        labels of classes their names, sequences lists. What has more dimensions is left out.

    Raises:
        DataError: The data set is neither on disk nor can be downloaded, or is no table.
    """
    import tensorflow_datasets as tfds

    try:
        dataset, info = tfds.load(name, split=split, with_info=True)
    except Exception as error:  # tfds passes on whatever its downloader raises
        reason = reason_of(error)
        raise DataError(
            f"TensorFlow Datasets {name} is not on disk and could not be downloaded "
            f"({reason[:_MAX_REASON_CHARS]}). {hint}"
        ) from None
    if not isinstance(dataset.element_spec, Mapping):
        raise DataError(f"TensorFlow Datasets {name}: wanted features with names.")
    features = dict(_flatten(info.features))
    origin, first = f"{name}, {split}", 1
    for block in tfds.as_numpy(dataset.ragged_batch(_BLOCK_ROWS)):
        columns = [_to_series(key, value, features.get(key)) for key, value in _flatten(block)]
        try:
            frame = pl.DataFrame([column for column in columns if column is not None])
        except pl.exceptions.PolarsError as error:
            raise DataError(f"TensorFlow Datasets {origin}: {error}.") from None
        yield RawBatch(frame, origin, np.arange(first, first + frame.height))
        first += frame.height


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", value


def _to_series(name: str, value: Any, feature: Any) -> pl.Series | None:
    """Returns a column, None for a feature that no cell can hold."""
    names = getattr(feature, "names", None) or getattr(
        getattr(feature, "feature", None), "names", None
    )
    if hasattr(value, "row_splits"):
        splits, value = np.asarray(value.row_splits), value.values
        if hasattr(value, "row_splits") or value.ndim > 1:
            return None
    elif value.ndim == 1:
        return _to_cells(value, names).alias(name)
    elif value.ndim == 2:
        splits, value = np.arange(len(value) + 1) * value.shape[1], value.ravel()
    else:
        return None
    cells = _to_cells(np.asarray(value), names)
    lists = [cells[start:end] for start, end in pairwise(splits)]
    return pl.Series(name, lists, dtype=pl.List(cells.dtype))


def _to_cells(values: np.ndarray, names: list[str] | None) -> pl.Series:
    if values.dtype == object:
        return pl.Series(values.tolist(), dtype=pl.Binary).cast(pl.String)
    if names is None:
        return pl.Series(values)
    numbers = pl.Series(values)
    known = numbers.set(numbers < 0, None)  # -1 stands for a label that is not told
    return pl.Series(names, dtype=pl.String).gather(known)
