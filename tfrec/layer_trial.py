"""A layer that somebody brought is tried on tiny batches before anything is trained with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfrec.errors import ConfigError, place_of, reason_of

Batch = tuple[Sequence[Any], tuple[int, ...]]
"""Arguments of a call, arrays, and the shape of what must come back."""


def try_layer(layer: keras.layers.Layer, key: str, batches: Sequence[Batch], dtype: str) -> None:
    """Refuses a layer that answers in another form, runs in no graph or cannot be built again.

    Args:
        layer: What the configuration names; its weights exist afterwards.
        key: Of the configuration, for messages.
        batches: Two or more. A dimension that differs between them is any number in the graph.
        dtype: Of the answers.

    Raises:
        ConfigError: With key and place, in one line.
    """
    part = f"{key}: {place_of(layer)}"
    for arguments, shape in batches:
        try:
            answer = layer(*arguments)
        except Exception as error:  # a layer of somebody else raises whatever it raises
            raise ConfigError(f"{part}: failed on a small batch: {reason_of(error)}") from error
        _check_form(answer, shape, dtype, part)
    specs = tf.nest.map_structure(_common_spec, *[list(arguments) for arguments, _ in batches])
    traced = tf.function(lambda *arguments: layer(*arguments), specs, autograph=False)
    try:
        for arguments, shape in batches:
            _check_form(traced(*arguments), shape, dtype, part)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(
            f"{part}: wanted a layer of TensorFlow operations, which runs in a graph for batches "
            f"of any size, got: {reason_of(error)}"
        ) from error
    _check_config(layer, batches[0][0], part)


def _check_form(answer: Any, shape: tuple[int, ...], dtype: str, part: str) -> None:
    wanted, came = f"{dtype} {list(shape)}", f"a {type(answer).__name__}"
    if tf.is_tensor(answer):
        came = f"{answer.dtype.name} {list(answer.shape)}"
    if came != wanted:
        raise ConfigError(f"{part}: wanted {wanted}, got {came}.")


def _check_config(layer: keras.layers.Layer, arguments: Sequence[Any], part: str) -> None:
    """Builds the layer again from what `get_config` says; it must have the same weights."""
    try:
        again = type(layer).from_config(layer.get_config())
        again(*arguments)
    except Exception as error:
        raise ConfigError(
            f"{part}: cannot be built again from `get_config`: {reason_of(error)}"
        ) from error
    wanted, came = ([tuple(v.shape) for v in one.variables] for one in (layer, again))
    if came != wanted:
        raise ConfigError(
            f"{part}: built again from `get_config`, wanted weights of the shapes {wanted}, got "
            f"{came}."
        )


def _common_spec(*values: Any) -> tf.TensorSpec:
    shapes = zip(*(np.shape(value) for value in values), strict=True)
    shape = [sizes[0] if len(set(sizes)) == 1 else None for sizes in shapes]
    return tf.TensorSpec(shape, tf.as_dtype(np.asarray(values[0]).dtype))


def repeat_rows(row: Mapping[str, Any], count: int) -> dict[str, np.ndarray]:
    """Repeats a row, [1, ...] for each name, `count` times."""
    return {name: np.repeat(np.asarray(value), count, axis=0) for name, value in row.items()}
