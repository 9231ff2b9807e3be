"""Training of the ranking model on top of finished towers.

The towers are frozen, so every request is embedded once; a step is one gather and the MLP.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from tfrec.config import Config
from tfrec.data.dataset import PreparedData
from tfrec.features.batches import InputTables
from tfrec.metrics.ranking import ranking_metrics
from tfrec.models.ranking import RankingModel
from tfrec.schema import Batch
from tfrec.training.loop import History, Run, fit, shuffled_batches

_BLOCK = 16384


@dataclass(frozen=True)
class Embeddings:
    """What the finished towers say of the prepared data.

    Attributes:
        items: float32 [num_items + 1, embedding_dim], row 0 zeros.
        requests: float32 [num_contexts, embedding_dim].
    """

    items: np.ndarray
    requests: np.ndarray


@dataclass(frozen=True)
class RankedRows:
    """Rows to rank: requests, items, answers.

    Attributes:
        context: int32 [n].
        item_index: int32 [n].
        label: float32 [n].
        position: int32 [n], 0 for unknown.
    """

    context: np.ndarray
    item_index: np.ndarray
    label: np.ndarray
    position: np.ndarray


def ranked_rows(data: PreparedData, split: str, config: Config) -> RankedRows:
    """Returns the logged answers of `split` and, where they are needed, drawn negatives.

    A log shows only items that someone thought fitting, so a model trained on it alone cannot tell
    a fitting item from an absurd one. Training rows therefore also get `negatives_per_positive`
    items, drawn uniformly from the catalogue, for each positive; they are too thin among fitting
    items to move their probabilities. Validation and test rows get them only where the log holds no
    label 0 at all. The draw is the same in every run with one seed.
    """
    rows = data.ranked_rows(split)
    part = data.examples[rows]
    context, item = part["context"].to_numpy(), part["item_index"].to_numpy()
    label = part["label"].to_numpy().astype(np.float32)
    position = part["position"].to_numpy().astype(np.int32)
    has_negatives = (data.examples["label"] == 0).any()
    if split == "train" or not has_negatives:
        times = config.ranking.negatives_per_positive
        rng = np.random.default_rng([config.seed, len(rows)])
        of_positive = np.repeat(np.flatnonzero(label == 1), times)
        drawn = rng.integers(1, data.num_items + 1, len(of_positive), dtype=np.int32)
        context = np.concatenate([context, context[of_positive]])
        item = np.concatenate([item, drawn])
        label = np.concatenate([label, np.zeros(len(drawn), np.float32)])
        position = np.concatenate([position, position[of_positive]])
    return RankedRows(context, item, label, position)


class PairScorer:
    """Runs the ranking model over rows of the prepared data.

    Args:
        model: The ranking model.
        tables: Features of items and requests.
        embeddings: From the finished towers.
    """

    def __init__(self, model: RankingModel, tables: InputTables, embeddings: Embeddings) -> None:
        self.model = model
        self.tables = tables
        self._items = tf.constant(embeddings.items)
        self._requests = tf.constant(embeddings.requests)
        self._probabilities = tf.function(
            lambda batch: tf.sigmoid(self.logits(batch, training=False)),
            reduce_retracing=True,
            autograph=False,
        )

    def batch(self, rows: RankedRows, chosen: np.ndarray) -> dict[str, np.ndarray]:
        """Gathers the rows at `chosen`, int [n]."""
        context = rows.context[chosen]
        return {
            **self.tables.request_rows(context),
            "context": context,
            Batch.ITEM_INDEX: rows.item_index[chosen],
            Batch.LABEL: rows.label[chosen],
            Batch.POSITION: rows.position[chosen],
        }

    def logits(self, batch: dict[str, tf.Tensor], training: bool) -> tf.Tensor:
        """Predicts a batch; float32 [n]."""
        item = batch[Batch.ITEM_INDEX]
        return self.model(
            tf.gather(self._requests, batch["context"]),
            tf.gather(self._items, item),
            self.tables.request_features(batch),
            {name: tf.gather(v, item) for name, v in self.tables.item_features.items()},
            batch[Batch.POSITION],
            training=training,
        )

    def probabilities(self, rows: RankedRows) -> np.ndarray:
        """Predicts all of `rows`; float32 [n] in [0, 1]."""
        count = len(rows.label)
        blocks = [
            self._probabilities(self.batch(rows, np.arange(s, min(s + _BLOCK, count)))).numpy()
            for s in range(0, count, _BLOCK)
        ]
        return np.concatenate([np.zeros(0, np.float32), *blocks])


def train_ranking(
    model: RankingModel,
    data: PreparedData,
    tables: InputTables,
    embeddings: Embeddings,
    config: Config,
    checkpoint_folder: Path,
) -> History:
    """Trains the model in place and leaves it with the weights of the best round.

    Args:
        model: The ranking model.
        data: The prepared data set.
        tables: Its arrays.
        embeddings: From the finished towers.
        config: Section `ranking`, and the seed.
        checkpoint_folder: Where the run keeps its state.

    Returns:
        Log loss in training, and AUC and log loss on validation, of each round.
    """
    settings = config.ranking
    scorer = PairScorer(model, tables, embeddings)
    rows = ranked_rows(data, "train", config)
    validation = ranked_rows(data, "validation", config)
    batch_size = min(settings.batch_size, len(rows.label))
    steps_per_round = max(1, len(rows.label) // batch_size)
    num_steps = steps_per_round * settings.epochs
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, num_steps, warmup_target=settings.learning_rate, warmup_steps=max(1, num_steps // 20)
    )
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=1e-4)
    weights = model.trainable_variables
    optimizer.build(weights)

    @tf.function(reduce_retracing=True, autograph=False)
    def step(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        with tf.GradientTape() as tape:
            logits = scorer.logits(batch, training=True)
            losses = tf.nn.sigmoid_cross_entropy_with_logits(batch[Batch.LABEL], logits)
            loss = tf.reduce_mean(losses)
        optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        return {"loss": loss}

    def batches(number: int) -> Iterator[dict[str, np.ndarray]]:
        every = np.arange(len(rows.label))
        for chosen in shuffled_batches(every, batch_size, config.seed, number):
            yield scorer.batch(rows, chosen)

    def validate() -> dict[str, float]:
        metrics = ranking_metrics(validation.label, scorer.probabilities(validation))
        return {f"validation_{name}": metrics[name] for name in ("auc", "log_loss")}

    run = Run(
        name="ranking",
        rounds=settings.epochs,
        steps_per_round=steps_per_round,
        batches=batches,
        step=step,
        variables=[*model.variables, *optimizer.variables],
        weights=model.variables,
        validate=validate,
        monitor="-validation_log_loss",
    )
    return fit(run, checkpoint_folder)
