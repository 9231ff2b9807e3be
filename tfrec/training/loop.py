"""One training loop for every model: steps, progress, validation, best weights, exact resume.

A run is a number of rounds (epochs, or spans of steps). Each round's batches depend on the seed and
the round alone, and all state lives in variables that the checkpoint holds, so a run that was
killed and started again ends with the same weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from tfrec.errors import TfrecError
from tfrec.progress import progress_bar
from tfrec.training.checkpoint import Checkpoint


class TrainingError(TfrecError):
    """Training cannot go on."""


@dataclass(frozen=True)
class Run:
    """What `fit` needs to know of one training run.

    Attributes:
        name: What the progress bar says.
        rounds: Number of rounds.
        steps_per_round: Steps of each round.
        batches: From the round's number to its batches.
        step: Trains on one batch; returns scalar tensors by name, ``loss`` among them.
        variables: All that training changes.
        weights: The part of `variables` that the best round gives back.
        validate: Returns metrics after a round.
        monitor: Name of the validation metric that marks the best round: the largest value, or
            with a leading ``-`` the smallest. None keeps the last round.
    """

    name: str
    rounds: int
    steps_per_round: int
    batches: Callable[[int], Iterable[Any]]
    step: Callable[[Any], dict[str, tf.Tensor]]
    variables: Sequence[keras.Variable]
    weights: Sequence[keras.Variable]
    validate: Callable[[], dict[str, float]] | None = None
    monitor: str | None = None


@dataclass
class History:
    """What was measured: one entry a round."""

    rounds: list[dict[str, float]] = field(default_factory=list)
    best_round: int = -1


def fit(run: Run, checkpoint_folder: Path) -> History:
    """Trains, resuming from `checkpoint_folder` where it holds a state of the same run.

    Args:
        run: The run.
        checkpoint_folder: Existing folder for ``checkpoint.npz`` and ``best.npz``.

    Returns:
        The history. The variables hold the best round's weights (the last without a monitor).

    Raises:
        TrainingError: The loss is no number any more.
    """
    checkpoint = Checkpoint(checkpoint_folder / "checkpoint.npz", run.variables)
    best = Checkpoint(checkpoint_folder / "best.npz", run.weights)
    history = History(**(checkpoint.restore() or {}))
    done = len(history.rounds)
    total = run.rounds * run.steps_per_round
    with progress_bar(
        total=total,
        initial=done * run.steps_per_round,
        desc=run.name,
        unit="step",
        disable=total == 0,
    ) as bar:
        for number in range(done, run.rounds):
            measured = _train_round(run, number, bar)
            if run.validate:
                measured |= run.validate()
            history.rounds.append(measured)
            if run.monitor and _is_best(history, run.monitor):
                history.best_round = number
                best.save({})
            checkpoint.save({"rounds": history.rounds, "best_round": history.best_round})
            bar.set_postfix(
                {name: f"{value:.4g}" for name, value in measured.items()}, refresh=False
            )
    if run.monitor and history.best_round >= 0:
        best.restore()
    return history


def _train_round(run: Run, number: int, bar: tqdm) -> dict[str, float]:
    sums: dict[str, float] = {}
    steps = 0
    for batch in run.batches(number):
        measured = run.step(batch)
        for name, value in measured.items():
            sums[name] = sums.get(name, 0.0) + float(value)
        steps += 1
        bar.update()
        if not math.isfinite(sums["loss"]):
            raise TrainingError(
                f"{run.name}: the loss became {float(measured['loss'])} in round {number + 1}, "
                f"step {steps}. Lower the learning rate or look for extreme values in the data."
            )
    return {name: value / max(steps, 1) for name, value in sums.items()}


def _is_best(history: History, monitor: str) -> bool:
    sign = -1.0 if monitor.startswith("-") else 1.0
    values = [sign * measured[monitor.removeprefix("-")] for measured in history.rounds]
    earlier = [value for value in values[:-1] if not math.isnan(value)]
    return values[-1] > max(earlier, default=-math.inf)


def shuffled_batches(
    rows: np.ndarray, batch_size: int, seed: int, round_number: int
) -> list[np.ndarray]:
    """Cuts a permutation, which `seed` and `round_number` determine, into batches.

    Args:
        rows: int [n].
        batch_size: Rows of a batch; a last, shorter batch is dropped unless it is the only one.
        seed: Of the run.
        round_number: Of the round.
    """
    order = np.random.default_rng([seed, round_number]).permutation(rows)
    if len(order) <= batch_size:
        return [order]
    return np.split(order[: len(order) // batch_size * batch_size], len(order) // batch_size)
