"""Measures trained positions a second, ours against a plain TFRS + keras-nlp loop over pairs.

Usage: python benchmarks/training_speed.py [--config FILE] [--set KEY=VALUE ...]

A position is an item that a user chose, with the history before it. Both sides train the same BERT
(the configured size from scratch, all weights) on the same positions with the same texts cut at
the same length, in one process, in turns. The plain loop does what the tutorials of both libraries
do: its input pipeline tokenises and pads the texts of each batch, BERT encodes one text for each
pair, the user is the sum of an id embedding and the mean of the history's id embeddings, and
`tfrs.tasks.Retrieval` is the loss. Ours is `train_retrieval` as configured. Rounds are steady
state: what is traced and compiled in a first one does not count, what an epoch repeats does.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from tfrec import Pipeline, load_config
from tfrec.pipeline.models import input_tables, new_retrieval

CONFIG = Path(__file__).parents[1] / "configs" / "shop.yaml"
SETTINGS = [
    "encoder.adaptation=full",
    "encoder.pretraining.steps=0",
    "retrieval.loss.targets=positions",
    "retrieval.user.history.kind=transformer",
    "run.health_alarm=off",
]
PACKAGES = ("tensorflow", "tensorflow-recommenders", "keras", "keras-nlp", "tfrec")

Measure = Callable[[], tuple[int, float]]
"""Trains for a while; returns positions and seconds."""


def plain_loop(pipeline: Any, vocabulary: list[str], batch_size: int, steps: int) -> Measure:
    """Builds the loop over (user, item) pairs."""
    import keras
    import keras_nlp
    import tensorflow as tf
    import tensorflow_recommenders as tfrs

    from tfrec.encoders.bert import build_backbone
    from tfrec.schema import Batch, Columns

    config, data = pipeline.config, pipeline.data
    dim, length = config.retrieval.embedding_dim, config.text.max_item_tokens
    rows = data.target_rows("train")
    items = data.examples["item_index"].to_numpy()[rows]
    requests = input_tables(pipeline.artefacts).requests(data.examples["context"].to_numpy()[rows])
    texts = tf.constant(["", *data.items[Columns.TEXT].to_list()])
    tokenizer = keras_nlp.models.BertTokenizer(vocabulary=vocabulary, lowercase=True)
    preprocessor = keras_nlp.models.BertTextClassifierPreprocessor(
        tokenizer, sequence_length=length
    )

    class PairModel(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.bert = build_backbone(
                config.encoder.source, len(vocabulary), length, config.encoder.dropout
            )
            self.project = keras.layers.Dense(dim)
            self.user_id = keras.layers.Embedding(data.num_users + 1, dim)
            self.item_id = keras.layers.Embedding(data.num_items + 1, dim)

        def embed_users(self, user: tf.Tensor, history: tf.Tensor) -> tf.Tensor:
            is_item = tf.cast(history > 0, tf.float32)[..., None]
            total = tf.reduce_sum(self.item_id(history) * is_item, axis=1)
            mean = tf.math.divide_no_nan(total, tf.reduce_sum(is_item, axis=1))
            return self.user_id(user) + mean

        def embed_items(self, tokens: dict[str, tf.Tensor]) -> tf.Tensor:
            return self.project(self.bert(tokens, training=True)["pooled_output"])

    model = PairModel()
    task = tfrs.tasks.Retrieval(remove_accidental_hits=True)
    optimizer = keras.optimizers.Adam(config.retrieval.encoder_learning_rate)

    def load(pair: dict[str, tf.Tensor]) -> dict[str, Any]:
        return {**pair, "tokens": preprocessor(tf.gather(texts, pair["item"]))}

    pairs = {
        "user": requests[Batch.USER_INDEX],
        "history": requests[Batch.HISTORY],
        "item": items,
    }
    batches = (
        tf.data.Dataset.from_tensor_slices(pairs)
        .shuffle(len(rows), seed=config.seed)
        .repeat()
        .batch(batch_size, drop_remainder=True)
        .map(load, num_parallel_calls=tf.data.AUTOTUNE)
        .prefetch(tf.data.AUTOTUNE)
    )

    @tf.function
    def train(batch: dict[str, Any]) -> tf.Tensor:
        with tf.GradientTape() as tape:
            users = model.embed_users(batch["user"], batch["history"])
            loss = task(
                users,
                model.embed_items(batch["tokens"]),
                candidate_ids=batch["item"],
                compute_metrics=False,
            )
        gradients = tape.gradient(loss, model.trainable_variables)
        pairs = zip(gradients, model.trainable_variables, strict=True)
        optimizer.apply_gradients([(g, w) for g, w in pairs if g is not None])
        return loss

    stream: Iterator[Any] = iter(batches)

    def measure() -> tuple[int, float]:
        start = time.perf_counter()
        for _ in range(steps):
            loss = train(next(stream))
        check_finite(float(loss))
        return steps * batch_size, time.perf_counter() - start

    return measure


class _CapturedError(Exception):
    """Ends `train_retrieval` where its loop would start."""


def ours(pipeline: Any, steps: int) -> Measure:
    """Builds the training of `train_retrieval`.

    Each measurement runs the first steps of another epoch. Their share of what comes before the
    first step of each epoch, encoding the texts of all items for the histories, counts.
    """
    import tensorflow as tf

    from tfrec.encoders.adaptation import adapt
    from tfrec.schema import Batch
    from tfrec.training import retrieval

    config = pipeline.config
    settings = config.encoder
    model = new_retrieval(pipeline.artefacts)
    adapt(model.encoder, settings.adaptation, settings.trained_layers, settings.lora_rank)
    runs = []

    def capture(run: Any, *_: Any, **__: Any) -> None:
        runs.append(run)
        raise _CapturedError

    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(retrieval, "fit", capture),
        contextlib.suppress(_CapturedError),
    ):
        retrieval.train_retrieval(
            model,
            pipeline.data,
            input_tables(pipeline.artefacts),
            config,
            Path(folder) / "checkpoints",
        )
    run = runs[0]
    epoch = 0

    def measure() -> tuple[int, float]:
        nonlocal epoch
        start = time.perf_counter()
        batches = run.batches(epoch, 0)
        renewing = time.perf_counter() - start
        count = done = 0
        start = time.perf_counter()
        for batch in itertools.islice(batches, steps):
            loss = run.step(batch)["loss"]
            count += int(tf.math.count_nonzero(batch[0][Batch.ITEM_INDEX]))
            done += 1
        check_finite(float(loss))
        training = time.perf_counter() - start
        epoch += 1
        return count, training + renewing * done / run.steps_per_round

    return measure


def check_finite(loss: float) -> None:
    """Makes sure that what was timed did train."""
    if not np.isfinite(loss):
        raise RuntimeError(f"wanted a finite loss, got {loss}")


def main() -> None:
    """Prints one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE")
    parser.add_argument("--pairs", type=int, default=512, help="batch of the plain loop")
    parser.add_argument("--steps", type=int, default=15, help="steps of the plain loop a round")
    parser.add_argument("--our-steps", type=int, default=5, help="our steps a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--prepared", type=Path, help="keeps prepared data and tokens here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        runs = arguments.prepared or Path(temporary)
        config = load_config(arguments.config, [*SETTINGS, f"runs={runs}", *arguments.set])
        pipeline = Pipeline(config)
        pipeline.run(until="tokens")
        sides = {
            "plain TFRS + keras-nlp": plain_loop(
                pipeline, pipeline.artefacts.vocabulary(), arguments.pairs, arguments.steps
            ),
            "tfrec": ours(pipeline, arguments.our_steps),
        }
        for measure in sides.values():  # tracing
            measure()
        rates: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(arguments.rounds):
            for name, measure in sides.items():
                count, seconds = measure()
                rates[name].append(count / seconds)
    print(f"{'':24} {'positions/s':>12} {'lowest':>9} {'highest':>9} {'ratio':>7}")
    first = np.median(next(iter(rates.values())))
    for name, measured in rates.items():
        middle = np.median(measured)
        print(
            f"{name:24} {middle:12,.0f} {min(measured):9,.0f} {max(measured):9,.0f} "
            f"{middle / first:6.1f}x"
        )
    versions = ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    print(f"Median of {arguments.rounds} rounds. Python {platform.python_version()}, {versions}")


if __name__ == "__main__":
    main()
