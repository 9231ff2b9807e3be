"""Measures ranking rows trained a second, ours against a plain Keras model of the same layers.

Usage: python benchmarks/ranking_speed.py [--config FILE] [--set KEY=VALUE ...] [--rounds N]

The plain side is what a Keras user writes: every row holds all that the model reads of its request
and its item as arrays, `tf.data` shuffles and batches them, and `Model.fit` trains the same layers
(the same class, one request a row) with AdamW and the cross-entropy, and measures the validation
rows after each epoch. Ours is `train_ranking` as configured: rows gathered by request, what belongs
to a request computed once, calibration and validation after each epoch. Both train the same rows
with batches of the same number of rows, in one process, in turns. Seconds are those of all epochs
but a first one, in which both trace their graphs.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from tfrec import Pipeline, load_config
from tfrec.pipeline.models import input_tables, new_ranking, start_tensorflow

CONFIG = Path(__file__).parents[1] / "configs" / "shop.yaml"
PACKAGES = ("tensorflow", "keras", "tfrec")
EPOCHS = 3


def main() -> None:
    """Prints both speeds and their ratio."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runs", help="folder of the runs; by default a temporary one")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        runs = asked.runs or scratch
        config = load_config(asked.config, [*asked.set, f"runs={runs}", "ranking.patience=0"])
        pipeline = Pipeline(config)
        pipeline.run(until="retrieval" if pipeline.artefacts.has_towers else "prepare")
        start_tensorflow(pipeline.artefacts)
        speeds: dict[str, list[float]] = {"plain": [], "ours": []}
        for _ in range(asked.rounds):
            speeds["plain"].append(plain_speed(pipeline))
            speeds["ours"].append(our_speed(pipeline, Path(scratch)))
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    print(f"\n{packages}, Python {platform.python_version()}, {os.cpu_count()} CPUs\n")
    print("| side | rows/s, median (least to most) |\n|---|---|")
    for side, found in speeds.items():
        middle = statistics.median(found)
        print(f"| {side} | {middle:,.0f} ({min(found):,.0f} to {max(found):,.0f}) |")
    print(f"\nratio {statistics.median(speeds['ours']) / statistics.median(speeds['plain']):.2f}")


def our_speed(pipeline: Pipeline, scratch: Path) -> float:
    """Trains 1 and 1 + `EPOCHS` epochs; returns rows/s of the further ones."""
    from tfrec.inputs.ranked_rows import training_rows
    from tfrec.training.ranking import retriever, train_ranking

    embeddings, tables = pipeline.artefacts.embeddings(), input_tables(pipeline.artefacts)
    seconds = []
    for epochs in (1, 1 + EPOCHS):
        ranking = pipeline.config.ranking.model_copy(update={"epochs": epochs})
        config = pipeline.config.model_copy(update={"ranking": ranking})
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            start = time.perf_counter()
            train_ranking(
                new_ranking(pipeline.artefacts),
                pipeline.data,
                tables,
                embeddings,
                config,
                Path(folder),
            )
            seconds.append(time.perf_counter() - start)
    retrieve = None if embeddings is None else retriever(pipeline.data, embeddings)
    rows = training_rows(pipeline.data, pipeline.config, retrieve)
    return EPOCHS * len(rows) / (seconds[1] - seconds[0])


def plain_speed(pipeline: Pipeline) -> float:
    """Fits the plain model for 1 + `EPOCHS` epochs; returns rows/s of all but the first."""
    import keras
    import tensorflow as tf

    from tfrec.inputs.ranked_rows import ranked_rows, training_rows
    from tfrec.training.ranking import retriever

    config, embeddings = pipeline.config, pipeline.artefacts.embeddings()
    retrieve = None if embeddings is None else retriever(pipeline.data, embeddings)
    rows = training_rows(pipeline.data, config, retrieve)
    validation = ranked_rows(pipeline.data, "validation", config)
    model = plain_model(pipeline)
    model.compile(
        keras.optimizers.AdamW(config.ranking.learning_rate),
        keras.losses.BinaryCrossentropy(from_logits=True),
    )

    def dataset(part: Any, *, shuffled: bool) -> tf.data.Dataset:
        found = tf.data.Dataset.from_tensor_slices((row_arrays(pipeline, part), part.label))
        if shuffled:
            found = found.shuffle(len(part), seed=config.seed)
        return found.batch(config.ranking.batch_size).prefetch(tf.data.AUTOTUNE)

    class Clock(keras.callbacks.Callback):
        ends: list[float] = []

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.ends.append(time.perf_counter())

    clock = Clock()
    clock.ends = []
    model.fit(
        dataset(rows, shuffled=True),
        validation_data=dataset(validation, shuffled=False),
        epochs=1 + EPOCHS,
        callbacks=[clock],
        verbose=0,
    )
    return EPOCHS * len(rows) / (clock.ends[-1] - clock.ends[0])


def row_arrays(pipeline: Pipeline, rows: Any) -> dict[str, np.ndarray]:
    """Returns what each row reads, one array a column."""
    tables = input_tables(pipeline.artefacts)
    arrays = dict(tables.request_rows(rows.context))
    if new_ranking(pipeline.artefacts).attention is not None:
        arrays["history"] = tables.item_histories(rows.context)
    return {
        **arrays,
        "context": rows.context,
        "item": rows.item_index,
        "position": rows.position,
    }


def plain_model(pipeline: Pipeline) -> Any:
    """Returns a Keras model of the same layers: one request for each row."""
    import keras
    import tensorflow as tf

    from tfrec.models.ranking import PairInputs, RequestInputs
    from tfrec.schema import UNKNOWN_INDEX, Batch

    tables, embeddings = input_tables(pipeline.artefacts), pipeline.artefacts.embeddings()

    class Plain(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.ranking = new_ranking(pipeline.artefacts)
            if embeddings is not None:
                self.items = tf.constant(embeddings.items)
                self.requests = tf.constant(embeddings.requests)

        def call(self, row: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
            item, vectors = row["item"], {}
            if embeddings is not None:
                vectors["embedding"] = tf.gather(self.requests, row["context"])
            if self.ranking.attention is not None:
                vectors["history"] = tf.gather(self.items, row["history"])
                vectors["is_event"] = row["history"] != UNKNOWN_INDEX
            return self.ranking.score(
                RequestInputs(
                    user=row[Batch.USER_INDEX], features=tables.request_features(row), **vectors
                ),
                PairInputs(
                    request=tf.range(tf.shape(item)[0]),
                    position=row["position"],
                    item_features={n: tf.gather(v, item) for n, v in tables.item_features.items()},
                    embedding=None if embeddings is None else tf.gather(self.items, item),
                    statistics=tf.gather(self.ranking.item_statistics, item),
                ),
                training=training,
            )[:, 0]

    return Plain()


if __name__ == "__main__":
    main()
