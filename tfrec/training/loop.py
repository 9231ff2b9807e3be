"""One training loop for every model: steps, progress, validation, best weights, exact resume.

A run is a number of rounds (epochs, or spans of steps). A batch depends on the seed, the round and
the step alone, and all state lives in variables that the checkpoint holds, so a run that was killed
at any step and started again ends with the same weights and the same history. Clocks decide when a
checkpoint is written, never what is computed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import keras
import tensorflow as tf
from tqdm import tqdm

from tfrec.errors import TfrecError
from tfrec.progress import progress_bar
from tfrec.training.checkpoint import Checkpoint

CHECKPOINT_SECONDS = 60.0

# Where writing is slow, a larger model is written less often: time for work per time for writing.
_WORK_PER_WRITING = 20.0


class TrainingError(TfrecError):
    """Training cannot go on."""


@dataclass(frozen=True)
class Run:
    """What `fit` needs to know of one training run.

    Attributes:
        name: What the progress bar says.
        rounds: Number of rounds.
        steps_per_round: Steps of each round.
        batches: From the round's number and the first step wanted to the batches of the round from
            that step on. Called once a round, with a step above 0 to resume in the middle of one.
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
    batches: Callable[[int, int], Iterable[Any]]
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


@dataclass
class _State:
    """What a checkpoint holds besides the variables.

    Attributes:
        rounds, best_round: The history so far.
        step: Steps done of the round that is under way.
        sums: What those steps measured, added up.
    """

    rounds: list[dict[str, float]] = field(default_factory=list)
    best_round: int = -1
    step: int = 0
    sums: dict[str, float] = field(default_factory=dict)


def fit(run: Run, checkpoint_folder: Path, checkpoint_seconds: float | None = None) -> History:
    """Trains, resuming from `checkpoint_folder` where it holds a state of the same run.

    Args:
        run: The run.
        checkpoint_folder: Existing folder for ``checkpoint.npz`` and ``best.npz``.
        checkpoint_seconds: Time between two checkpoints within a round; by default
            `CHECKPOINT_SECONDS`. The end of a round always writes one.

    Returns:
        The history. The variables hold the best round's weights (the last without a monitor).

    Raises:
        TrainingError: The loss is no number any more.
    """
    checkpoint = Checkpoint(checkpoint_folder / "checkpoint.npz", run.variables)
    best = Checkpoint(checkpoint_folder / "best.npz", run.weights)
    state = _State(**(checkpoint.restore() or {}))
    seconds = CHECKPOINT_SECONDS if checkpoint_seconds is None else checkpoint_seconds
    saver = _Saver(checkpoint, state, seconds)
    total = run.rounds * run.steps_per_round
    with progress_bar(
        total=total,
        initial=len(state.rounds) * run.steps_per_round + state.step,
        desc=run.name,
        unit="step",
        disable=total == 0,
    ) as bar:
        while len(state.rounds) < run.rounds:
            measured = _train_round(run, state, saver, bar)
            if run.validate:
                measured |= run.validate()
            state.rounds.append(measured)
            state.step, state.sums = 0, {}
            if run.monitor and _is_best(state.rounds, run.monitor):
                state.best_round = len(state.rounds) - 1
                best.save({})
            saver.save()
            bar.set_postfix(
                {name: f"{value:.4g}" for name, value in measured.items()}, refresh=False
            )
    if run.monitor and state.best_round >= 0:
        best.restore()
    return History(state.rounds, state.best_round)


class _Saver:
    """Writes a run's state at the end of rounds and, when it is time, between two steps."""

    def __init__(self, checkpoint: Checkpoint, state: _State, seconds: float) -> None:
        self._checkpoint = checkpoint
        self._state = state
        self._seconds = seconds
        self._due = monotonic() + seconds

    def save(self) -> None:
        start = monotonic()
        self._checkpoint.save(asdict(self._state))
        end = monotonic()
        self._due = end + max(self._seconds, _WORK_PER_WRITING * (end - start))

    def save_when_due(self) -> None:
        if monotonic() >= self._due:
            self.save()


def _train_round(run: Run, state: _State, saver: _Saver, bar: tqdm) -> dict[str, float]:
    """Trains the round that `state` stands in to its end; returns the means over all its steps."""
    number = len(state.rounds)
    for batch in run.batches(number, state.step):
        measured = run.step(batch)
        for name, value in measured.items():
            state.sums[name] = state.sums.get(name, 0.0) + float(value)
        state.step += 1
        bar.update()
        if not math.isfinite(state.sums["loss"]):
            raise TrainingError(
                f"{run.name}: the loss became {float(measured['loss'])} in round {number + 1}, "
                f"step {state.step}. Lower the learning rate or look for extreme values in the "
                "data."
            )
        saver.save_when_due()
    return {name: value / max(state.step, 1) for name, value in state.sums.items()}


def _is_best(rounds: list[dict[str, float]], monitor: str) -> bool:
    sign = -1.0 if monitor.startswith("-") else 1.0
    values = [sign * measured[monitor.removeprefix("-")] for measured in rounds]
    earlier = [value for value in values[:-1] if not math.isnan(value)]
    return values[-1] > max(earlier, default=-math.inf)
