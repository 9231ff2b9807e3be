"""Trains a small model in a child process that is killed again and again.

Usage: mortal_training.py FOLDER MOMENT...; a moment is the number of a step, ``writing`` (a
checkpoint is being written) or ``validating``. After all kills the last child trains to the end and
writes its weights to FOLDER/finished.npz. Prints how each child ended: -9 or 0.
"""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import tfrec  # noqa: F401  isort: skip  comes before TensorFlow
import keras
import numpy as np
import tensorflow as tf

from tfrec.config.retrieval import Schedule
from tfrec.inputs.batches import epoch_batches
from tfrec.training.checkpoint import save_variables
from tfrec.training.loop import Observer, Run, fit
from tfrec.training.optimizers import Group, OptimizerGroups, learning_rate
from tfrec.training.tensorboard import CurveWriter

ROUNDS, STEPS = 4, 6


class Reporter(CurveWriter):
    """Tells the parent which step is done."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "tensorboard", ROUNDS * STEPS)
        self._progress = folder / "progress"

    def on_step(self, step: int, measured: dict[str, float]) -> None:
        super().on_step(step, measured)
        self._progress.write_text(str(step))
        time.sleep(0.01)  # time to be killed in


def train(folder: Path, observer: Observer) -> None:
    keras.utils.set_random_seed(3)
    table = keras.layers.Embedding(20, 32)
    table.build((None,))
    dropout = keras.layers.Dropout(0.5)
    output = keras.layers.Dense(1)
    output.build((None, 32))
    weights = [*table.variables, *output.variables]
    rate = learning_rate(Schedule(), 0.05, ROUNDS * STEPS)
    optimizers = OptimizerGroups([Group(weights, rate, 0.01)], ema_decay=0.9)
    rows = np.random.default_rng(0).integers(0, 20, STEPS * 16, dtype=np.int32)

    @tf.function(autograph=False, reduce_retracing=True)
    def step(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        ids = batch["ids"]
        with tf.GradientTape() as tape:
            wanted = tf.sin(tf.cast(ids, tf.float32))
            error = output(dropout(table(ids), training=True))[:, 0] - wanted
            loss = tf.reduce_mean(tf.square(error))
        return {"loss": loss, "norm": optimizers.apply(tape.gradient(loss, weights))}

    def validate() -> dict[str, float]:
        (folder / "progress").write_text("validating")
        time.sleep(0.05)
        return {"metric": float(tf.reduce_sum(tf.abs(table.embeddings.value)))}

    run = Run(
        name="mortal",
        rounds=ROUNDS,
        steps_per_round=STEPS,
        batches=lambda number, first: epoch_batches(
            lambda chosen: {"ids": rows[chosen]}, np.arange(len(rows)), 16, 5, number, first
        ),
        step=step,
        variables=[*weights, *dropout.variables, *optimizers.variables],
        weights=weights,
        validate=validate,
        monitor="-metric",
        averaged=optimizers.averaged,
    )
    history = fit(run, folder, checkpoint_seconds=0, observer=observer)
    save_variables(folder / "finished.npz", weights)
    (folder / "history.txt").write_text(repr(history))


def is_reached(folder: Path, moment: str) -> Callable[[], bool]:
    progress = folder / "progress"
    if moment == "writing":
        return (folder / ".checkpoint.npz.partial").exists

    def has_come() -> bool:
        text = progress.read_text() if progress.exists() else ""
        if moment == "validating":
            return text == moment
        return text.isdigit() and int(text) >= int(moment)

    return has_come


def live(folder: Path, moment: str | None) -> int:
    """Runs one child, killed at a moment; returns its exit status, the negative signal if killed.

    A forked child is a process of its own that need not import TensorFlow again.
    """
    (folder / "progress").unlink(missing_ok=True)
    (folder / ".checkpoint.npz.partial").unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        train(folder, Reporter(folder))
        os._exit(0)
    has_come = is_reached(folder, moment) if moment else lambda: False
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if has_come():
            os.kill(child, signal.SIGKILL)
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        time.sleep(0.0005)


if __name__ == "__main__":
    work = Path(sys.argv[1])
    print(*[live(work, moment) for moment in [*sys.argv[2:], None]], flush=True)
