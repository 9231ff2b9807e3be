"""One training loop for every model: steps, progress, validation, best weights, exact resume.

A run is a number of rounds (epochs, or spans of steps). A batch depends on the seed, the round and
the step alone, and all state lives in variables that the checkpoint holds, so a run that was killed
at any step and started again ends with the same weights and the same history. Clocks decide when a
checkpoint is written, never what is computed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import keras
import tensorflow as tf
from tqdm import tqdm

from tfrec.errors import TfrecError
from tfrec.log import tell
from tfrec.progress import progress_bar
from tfrec.training.checkpoint import Checkpoint
from tfrec.training.strategy import Replicas

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
        patience: Rounds without a better `monitor` after which training stops; 0: never.
        describe: From what was measured in a round to what is printed of it; None prints nothing.
        averaged: Returns a block in which `weights` hold what is validated and given back, where
            that differs from what is trained.
        replicas: Those that share a step. Their chief alone writes; all read its checkpoints.
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
    patience: int = 0
    describe: Callable[[dict[str, float]], str | None] = lambda measured: None
    averaged: Callable[[], AbstractContextManager[None]] = nullcontext
    replicas: Replicas = field(default_factory=Replicas)


class Observer:
    """Hears of a run while it goes on, and keeps whatever it likes of it.

    What was told after the last checkpoint of a killed run is told again by the run that resumes.
    """

    def on_start(self, step: int, round_number: int) -> None:
        """The run goes on after so many steps and whole rounds; later ones never were."""

    def on_step(self, step: int, measured: dict[str, float]) -> None:
        """The run's step number `step`, from 1, is done."""

    def on_round(self, round_number: int, measured: dict[str, float]) -> None:
        """The run's round number `round_number`, from 1, is done."""

    def on_checkpoint(self) -> None:
        """A checkpoint comes next: nothing told so far will be told again."""


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


def fit(
    run: Run,
    checkpoint_folder: Path,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    observer: Observer | None = None,
) -> History:
    """Trains, resuming from `checkpoint_folder` where it holds a state of the same run.

    Args:
        run: The run.
        checkpoint_folder: Existing folder for ``checkpoint.npz`` and ``best.npz``; with several
            workers one that all of them share.
        checkpoint_seconds: Time between two checkpoints within a round. The end of a round always
            writes one.
        observer: Hears of steps, rounds and checkpoints, with several workers the chief's.

    Returns:
        The history. The variables hold the best round's weights (the last without a monitor).

    Raises:
        TrainingError: The loss is no number any more.
        StrategyError: The workers do not start alike.
    """
    observer = observer if observer and run.replicas.is_chief else Observer()
    checkpoint = Checkpoint(checkpoint_folder / "checkpoint.npz", run.variables)
    best = Checkpoint(checkpoint_folder / "best.npz", run.weights)
    state = _State(**(checkpoint.restore() or {}))
    run.replicas.check_equal(run.variables)
    saver = _Saver(checkpoint, state, checkpoint_seconds, observer, run.replicas.is_chief)
    total = run.rounds * run.steps_per_round
    observer.on_start(_steps_done(run, state), len(state.rounds))
    with progress_bar(
        total=total,
        initial=_steps_done(run, state),
        desc=run.name,
        unit="step",
        disable=total == 0 or not run.replicas.is_chief,
    ) as bar:
        while not _is_over(run, state):
            measured = _train_round(run, state, saver, bar, observer)
            with run.averaged():
                if run.validate:
                    measured |= run.validate()
                state.rounds.append(run.replicas.agree(measured))
                state.step, state.sums = 0, {}
                if run.monitor and _is_best(state.rounds, run.monitor):
                    state.best_round = len(state.rounds) - 1
                    if run.replicas.is_chief:
                        best.save({})
            _tell_round(run, state, bar, observer)
            saver.save()
    _give_back(run, state, best)
    return History(state.rounds, state.best_round)


def _steps_done(run: Run, state: _State) -> int:
    return len(state.rounds) * run.steps_per_round + state.step


def _is_over(run: Run, state: _State) -> bool:
    """Decides from the history alone, so a resumed run stops where the whole one does."""
    if len(state.rounds) >= run.rounds:
        return True
    rounds_since_best = len(state.rounds) - 1 - state.best_round
    return bool(run.monitor and run.patience) and rounds_since_best >= run.patience


def _tell_round(run: Run, state: _State, bar: tqdm, observer: Observer) -> None:
    number, measured = len(state.rounds), state.rounds[-1]
    bar.set_postfix({name: f"{value:.4g}" for name, value in measured.items()}, refresh=False)
    text = run.describe(measured)
    if text is not None and run.replicas.is_chief:
        tell(f"{run.name} epoch {number}/{run.rounds}: {text}")
    observer.on_round(number, measured)


def _give_back(run: Run, state: _State, best: Checkpoint) -> None:
    """Leaves the finished weights in the variables."""
    # The chief may still be writing the best ones.
    run.replicas.agree({})
    if run.monitor and state.best_round >= 0:
        best.restore()
        return
    with run.averaged():
        finished = [keras.ops.convert_to_numpy(weight) for weight in run.weights]
    for weight, value in zip(run.weights, finished, strict=True):
        weight.assign(value)


class _Saver:
    """Writes a run's state at the end of rounds and, when it is time, between two steps."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        state: _State,
        seconds: float,
        observer: Observer,
        is_chief: bool,
    ) -> None:
        self._checkpoint = checkpoint
        self._state = state
        self._seconds = seconds
        self._observer = observer
        self._is_chief = is_chief
        self._due = monotonic() + seconds

    def save(self) -> None:
        if not self._is_chief:
            return
        start = monotonic()
        self._observer.on_checkpoint()
        self._checkpoint.save(asdict(self._state))
        end = monotonic()
        self._due = end + max(self._seconds, _WORK_PER_WRITING * (end - start))

    def save_when_due(self) -> None:
        if monotonic() >= self._due:
            self.save()


def _train_round(
    run: Run, state: _State, saver: _Saver, bar: tqdm, observer: Observer
) -> dict[str, float]:
    """Trains the round that `state` stands in to its end; returns the means over all its steps."""
    number = len(state.rounds)
    for batch in run.batches(number, state.step):
        measured = {name: float(value) for name, value in run.step(batch).items()}
        for name, value in measured.items():
            state.sums[name] = state.sums.get(name, 0.0) + value
        state.step += 1
        bar.update()
        if not math.isfinite(state.sums["loss"]):
            raise TrainingError(
                f"{run.name}: the loss became {measured['loss']} in round {number + 1}, "
                f"step {state.step}. Lower the learning rate or look for extreme values in the "
                "data."
            )
        observer.on_step(_steps_done(run, state), measured)
        saver.save_when_due()
    return {name: value / max(state.step, 1) for name, value in state.sums.items()}


def _is_best(rounds: list[dict[str, float]], monitor: str) -> bool:
    sign = -1.0 if monitor.startswith("-") else 1.0
    values = [sign * measured[monitor.removeprefix("-")] for measured in rounds]
    earlier = [value for value in values[:-1] if not math.isnan(value)]
    return values[-1] > max(earlier, default=-math.inf)
