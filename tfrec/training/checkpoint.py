"""Checkpoints: every variable of a training run in one file, replaced whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfrec.errors import ArtefactError
from tfrec.files import write_arrays


def save_variables(path: Path, variables: Sequence[keras.Variable]) -> None:
    """Writes the variables' values in their order."""
    write_arrays(path, _to_arrays(variables))


def load_variables(path: Path, variables: Sequence[keras.Variable]) -> None:
    """Assigns what `save_variables` wrote to the same variables.

    Raises:
        ArtefactError: The file is missing or belongs to a model of another shape.
    """
    try:
        with np.load(path) as saved:
            _assign(path, saved, variables)
    except FileNotFoundError:
        raise ArtefactError(f"{path}: no such weights; run `tfrec train`.") from None


class Checkpoint:
    """The state of a training run: variables and a small JSON state.

    Args:
        path: File of the checkpoint; its folder exists.
        variables: Everything that training changes: weights, optimiser slots, random states.
    """

    def __init__(self, path: Path, variables: Sequence[keras.Variable]) -> None:
        self._path = path
        self._variables = list(variables)

    def save(self, state: dict[str, Any]) -> None:
        """Writes variables and `state` as one file."""
        arrays = _to_arrays(self._variables)
        write_arrays(self._path, {**arrays, "state": np.array(json.dumps(state))})

    def restore(self) -> dict[str, Any] | None:
        """Restores the variables; returns the saved state, or None without a checkpoint."""
        if not self._path.exists():
            return None
        with np.load(self._path) as saved:
            _assign(self._path, saved, self._variables)
            return json.loads(str(saved["state"]))


def _to_arrays(variables: Sequence[keras.Variable]) -> dict[str, np.ndarray]:
    return {f"{n:04d}": keras.ops.convert_to_numpy(v) for n, v in enumerate(variables)}


def _assign(path: Path, saved: Any, variables: Sequence[keras.Variable]) -> None:
    num_saved = len([name for name in saved.files if name != "state"])
    if num_saved != len(variables):
        raise ArtefactError(
            f"{path}: wanted {len(variables)} variables, got {num_saved}: another model wrote it."
        )
    for number, variable in enumerate(variables):
        value = saved[f"{number:04d}"]
        if value.shape != tuple(variable.shape):
            raise ArtefactError(
                f"{path}: variable {variable.path}: wanted shape {tuple(variable.shape)}, "
                f"got {value.shape}: another model wrote it."
            )
        variable.assign(value)
