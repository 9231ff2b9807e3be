"""Tries a feature type of somebody else before anything is trained on it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from tfrec.errors import ConfigError, reason_of
from tfrec.features.feature_type import FeatureType, load_feature
from tfrec.registry import FEATURE_TYPES

_ROWS, _DIM = 4, 3


def check_foreign(features: Sequence[FeatureType], frame: pl.DataFrame, key: str) -> None:
    """Tries those of fitted features whose type is not ours on rows of `frame`.

    Args:
        features: Fitted.
        frame: Typed columns.
        key: Of the configuration, for messages.

    Raises:
        ConfigError: As `check_feature`.
    """
    for feature in features:
        if feature.to_dict()["type"] not in FEATURE_TYPES.ours:
            check_feature(feature, f"{key}.{feature.name}", frame[feature.name])


def check_feature(feature: FeatureType, key: str, column: pl.Series) -> None:
    """Refuses a feature that breaks the contract of `FeatureType`.

    Two tiny batches, the first rows of a column and a row of which nothing is known, are encoded in
    numpy and in the graph, embedded, and both feature and layer are written and read back.

    Args:
        feature: Fitted.
        key: Of the configuration, for messages.
        column: Typed values.

    Raises:
        ConfigError: One line with what was wanted and what came.
    """
    unknown = pl.Series([None], dtype=feature.column_type)
    try:
        _compare("the feature that `to_dict` wrote", feature, _read_back(feature))
        for batch in (column.head(_ROWS), unknown):
            encoded = feature.encode_column(batch)
            _check_encoded(encoded, len(batch))
            _compare("from encode_tensor what encode_column gives", *_in_graph(feature, batch))
        _check_layer(feature, encoded)
    except ConfigError as error:
        raise ConfigError(f"{key}: {error}") from None
    except Exception as error:  # a type of somebody else raises whatever it raises
        reason = reason_of(error)
        raise ConfigError(f"{key}: {_place(feature)}: {reason}") from error


def _read_back(feature: FeatureType) -> FeatureType:
    return load_feature(json.loads(json.dumps(feature.to_dict(), allow_nan=False)))


def _check_encoded(encoded: Any, rows: int) -> None:
    wanted = f"from encode_column int32 or float32 of shape [{rows}] or [{rows}, any]"
    shape, dtype = np.shape(encoded), getattr(encoded, "dtype", type(encoded).__name__)
    if dtype not in (np.int32, np.float32) or len(shape) not in (1, 2) or shape[0] != rows:
        raise ConfigError(f"wanted {wanted}, got {dtype} of shape {list(shape)}")


def _in_graph(feature: FeatureType, batch: pl.Series) -> tuple[Any, Any]:
    """Returns what both ways give, in equal width."""
    import tensorflow as tf

    info, table = feature.signature(), feature.table()
    spec = tf.TensorSpec(info.shape, tf.as_dtype(info.dtype))
    traced = tf.function(lambda x: feature.encode_tensor(x, table), input_signature=[spec])
    request = tf.constant(feature.request_values(batch), tf.as_dtype(info.dtype))
    served, trained = traced(request).numpy(), feature.encode_column(batch)
    if served.dtype != trained.dtype or served.ndim != trained.ndim:
        return (str(trained.dtype), trained.shape), (str(served.dtype), served.shape)
    return np.round(trained, 4).tolist(), np.round(served, 4).tolist()


def _check_layer(feature: FeatureType, encoded: np.ndarray) -> None:
    layer = feature.layer(_DIM, "trial")
    embedded = layer(encoded)
    if embedded.shape != (len(encoded), _DIM) or not embedded.dtype.is_floating:
        raise ConfigError(
            f"wanted from the layer numbers of shape {[len(encoded), _DIM]}, got "
            f"{embedded.dtype.name} of shape {list(embedded.shape)}"
        )
    type(layer).from_config(layer.get_config())


def _compare(what: str, wanted: Any, came: Any) -> None:
    if wanted != came:
        raise ConfigError(f"wanted {what}, {wanted}, got {came}"[:400])


def _place(feature: FeatureType) -> str:
    return str(feature.to_dict()["type"])
