"""All features of a table: declared, learned on train, encoded."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from tfrec.config import Feature, Features
from tfrec.errors import ConfigError
from tfrec.features.feature_type import LEARNED, FeatureType
from tfrec.registry import FEATURE_TYPES


def declare(features: Features, key: str = "features") -> list[FeatureType]:
    """Makes the declared features, of which nothing is learned yet.

    Args:
        features: The declaration.
        key: Of the configuration, for messages.

    Raises:
        ConfigError: A type cannot be had, or refuses its options.
    """
    return [_declare(name, feature, f"{key}.{name}") for name, feature in features.items()]


def _declare(name: str, declared: Feature, key: str) -> FeatureType:
    options = {**declared.keywords(), **declared.options}
    for field in dataclasses.fields(FEATURE_TYPES.load(declared.type, key)):
        if field.name in options and field.metadata == LEARNED:
            raise ConfigError(f"{key}: {declared.type}: {field.name!r} is learned, no option.")
    feature: FeatureType = FEATURE_TYPES.make(declared.type, key, options, name=name)
    return feature


def fit_features(declared: Features, frame: pl.DataFrame) -> list[FeatureType]:
    """Learns each declared feature from the rows of `frame`."""
    return [feature.fit(frame[feature.name]) for feature in declare(declared)]


def filled_column(name: str) -> str:
    """Returns the column that holds the numbers found for what is missing in column `name`."""
    return f"{name}__filled"


def encode_frame(
    features: Sequence[FeatureType], frame: pl.DataFrame, with_unknown_row: bool
) -> dict[str, np.ndarray]:
    """Encodes every feature of `frame`.

    Args:
        features: Fitted features.
        frame: Typed columns under the features' names, and, where preparation found numbers for
            missing ones, the columns of them (`filled_column`).
        with_unknown_row: Puts a row 0 of unknown values before the rows.

    Returns:
        Feature name to array; see `FeatureType.encode_column`.
    """
    arrays = {}
    for feature in features:
        array = feature.encode_column(*_columns(feature, frame))
        if with_unknown_row:
            first = np.zeros_like(array[:1]) if len(array) else feature.unknown_row()
            row = feature.unknown_row()
            first[..., : row.shape[-1]] = row
            array = np.concatenate([first, array])
        arrays[feature.name] = array
    return arrays


def describe_frame(features: Sequence[FeatureType], frame: pl.DataFrame) -> dict[str, Any]:
    """Describes every feature of `frame`, by name; see `FeatureType.describe`."""
    return {feature.name: feature.describe(*_columns(feature, frame)) for feature in features}


def _columns(feature: FeatureType, frame: pl.DataFrame) -> list[pl.Series]:
    """Returns the typed column, and the one of found values where there is one."""
    names = [feature.name, *([filled_column(feature.name)] if feature.reads_filled else [])]
    return [frame[name] for name in names if name in frame.columns]
