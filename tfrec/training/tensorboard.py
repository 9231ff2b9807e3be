"""Curves and item embeddings for TensorBoard.

``steps/`` holds what is measured at steps, ``epochs/`` what is measured after rounds, numbered from
1, and the embedding projector. A run that was killed and resumed leaves the points of one that was
never stopped: those told after the checkpoint are taken out before they are told again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfrec.training.loop import Observer

_POINTS = 1000
_MAX_PROJECTED = 10_000


class CurveWriter(Observer):
    """Writes scalar curves while a run goes on.

    Args:
        folder: ``tensorboard/`` of the run; made if it is missing.
        num_steps: Of the whole run: some 1,000 of them get a point.
        rates: Learning rates by name; see `tfrec.training.optimizers.Rate`.
    """

    def __init__(
        self,
        folder: Path,
        num_steps: int,
        rates: Mapping[str, Callable[[tf.Tensor], tf.Tensor]] | None = None,
    ) -> None:
        self._steps = _Curves(folder / "steps")
        self._rounds = _Curves(folder / "epochs")
        self._every = max(1, num_steps // _POINTS)
        self._rates = dict(rates or {})

    def on_start(self, step: int, round_number: int) -> None:
        self._steps.reopen(step)
        self._rounds.reopen(round_number)

    def on_step(self, step: int, measured: dict[str, float]) -> None:
        if step % self._every == 0:
            done = tf.constant(step - 1, tf.int64)
            rates = {f"learning_rate/{name}": float(r(done)) for name, r in self._rates.items()}
            self._steps.write(step, measured | rates)

    def on_round(self, round_number: int, measured: dict[str, float]) -> None:
        self._rounds.write(round_number, measured)

    def on_checkpoint(self) -> None:
        self._steps.flush()
        self._rounds.flush()


class _Curves:
    """The event files of one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: tf.summary.SummaryWriter | None = None

    def reopen(self, last: int) -> None:
        """Keeps the points up to number `last`, and writes on after them."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(self._folder.glob("*tfevents*")):
            _keep_points(path, last)
        self._writer = tf.summary.create_file_writer(str(self._folder))

    def write(self, number: int, values: Mapping[str, float]) -> None:
        assert self._writer is not None, "`on_start` comes first"
        with self._writer.as_default(step=number):
            for name, value in values.items():
                tf.summary.scalar(name, value)

    def flush(self) -> None:
        if self._writer is not None:
            self._writer.flush()


def _keep_points(path: Path, last: int) -> None:
    """Rewrites an event file without its points after number `last`; removes it if none stays."""
    kept, num_points = [], 0
    try:
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            event = tf.compat.v1.Event.FromString(record)
            if event.HasField("summary"):
                if event.step > last:
                    continue
                num_points += 1
            kept.append(record)
    except tf.errors.DataLossError:
        pass  # a kill cut the last record short
    if num_points:
        beside = path.with_name(f".{path.name.replace('tfevents', 'writing')}")
        with tf.io.TFRecordWriter(str(beside)) as writer:
            for record in kept:
                writer.write(record)
        beside.replace(path)
    else:
        path.unlink()


def write_projector(
    folder: Path,
    embeddings: np.ndarray,
    columns: Mapping[str, Sequence[str]],
    popularity: np.ndarray,
) -> int:
    """Writes the most popular items for TensorBoard's embedding projector.

    Args:
        folder: ``tensorboard/`` of the run, after `CurveWriter` has written to it: TensorBoard
            looks for embeddings only where curves are.
        embeddings: float32 [n, dim].
        columns: What is shown of each item, by name, [n] each: titles, categories.
        popularity: [n], larger is more popular; at most 10,000 items are written.

    Returns:
        Number of items written.
    """
    target = folder / "epochs"
    target.mkdir(parents=True, exist_ok=True)
    rows = np.argsort(-np.asarray(popularity), kind="stable")[:_MAX_PROJECTED]
    np.savetxt(target / "items.tsv", embeddings[rows], fmt="%.6g", delimiter="\t")
    lines = ["\t".join(_cell(values[row]) for values in columns.values()) for row in rows]
    if len(columns) > 1:  # TensorBoard takes the first line of a single column for an item
        lines.insert(0, "\t".join(_cell(name) for name in columns))
    text = "".join(f"{line}\n" for line in lines)
    (target / "items_metadata.tsv").write_text(text, encoding="utf-8")
    (target / "projector_config.pbtxt").write_text(
        "embeddings {\n"
        '  tensor_name: "items"\n'
        '  tensor_path: "items.tsv"\n'
        '  metadata_path: "items_metadata.tsv"\n'
        "}\n",
        encoding="utf-8",
    )
    return len(rows)


def _cell(value: object) -> str:
    """Returns a value as one cell of a table: no tabs, no line breaks, not empty."""
    return " ".join(str(value).split()) or "-"
