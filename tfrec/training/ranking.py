"""Training of the ranking model on top of finished towers.

The towers are frozen, so every request is embedded once; a step is one gather and the MLP.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from tfrec.config import Config
from tfrec.config.retrieval import Schedule
from tfrec.data.dataset import PreparedData
from tfrec.features.batches import InputTables, epoch_batches, num_batches
from tfrec.metrics.ranking import ranking_metrics
from tfrec.models.ranking import RankingModel
from tfrec.schema import Batch
from tfrec.training.loop import History, Run, fit
from tfrec.training.optimizers import Group, OptimizerGroups, learning_rate

_BLOCK = 16384
_PRIOR_ROWS = 20.0


@dataclass(frozen=True)
class Embeddings:
    """What the finished towers say of the prepared data.

    Attributes:
        items: float32 [num_items + 1, embedding_dim], row 0 zeros.
        requests: float32 [num_contexts, embedding_dim].
        temperature: What their dot products were divided by in training.
    """

    items: np.ndarray
    requests: np.ndarray
    temperature: float = 1.0


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
    """Returns the logged answers of `split`; a split without any label 0 gets drawn negatives."""
    rows = _logged_rows(data, split)
    if (rows.label == 0).any():
        return rows
    return _with_drawn_negatives(rows, data, max(1, config.ranking.negatives_per_positive), config)


def training_rows(data: PreparedData, config: Config) -> RankedRows:
    """Returns the rows that train the ranking model: logged answers and drawn negatives.

    A log shows only items that someone thought fitting, so a model trained on it alone cannot tell
    a fitting item from an absurd one. Drawn items lower all probabilities somewhat; the calibration
    on logged answers takes that back.
    """
    rows = _logged_rows(data, "train")
    if not (rows.label == 0).any():
        return ranked_rows(data, "train", config)
    return _with_drawn_negatives(rows, data, config.ranking.negatives_per_positive, config)


def _logged_rows(data: PreparedData, split: str) -> RankedRows:
    part = data.examples[data.ranked_rows(split)]
    return RankedRows(
        part["context"].to_numpy(),
        part["item_index"].to_numpy(),
        part["label"].to_numpy().astype(np.float32),
        part["position"].to_numpy().astype(np.int32),
    )


def _with_drawn_negatives(
    rows: RankedRows, data: PreparedData, times: int, config: Config
) -> RankedRows:
    """Adds `times` items, uniform over the catalogue, for each positive; the seed decides which."""
    rng = np.random.default_rng([config.seed, len(rows.label)])
    of_positive = np.repeat(np.flatnonzero(rows.label == 1), times)
    drawn = rng.integers(1, data.num_items + 1, len(of_positive), dtype=np.int32)
    return RankedRows(
        np.concatenate([rows.context, rows.context[of_positive]]),
        np.concatenate([rows.item_index, drawn]),
        np.concatenate([rows.label, np.zeros(len(drawn), np.float32)]),
        np.concatenate([rows.position, rows.position[of_positive]]),
    )


def chosen_rate(rows: RankedRows, num_items: int) -> tuple[np.ndarray, float]:
    """Counts how often each item was chosen where it was shown.

    Each item's share is drawn towards the overall one as if it had been shown 20 times more.

    Returns:
        The shares, float64 [num_items + 1], and the overall share.
    """
    overall = float(rows.label.mean())
    shown = np.bincount(rows.item_index, minlength=num_items + 1)
    chosen = np.bincount(rows.item_index, weights=rows.label, minlength=num_items + 1)
    return (chosen + _PRIOR_ROWS * overall) / (shown + _PRIOR_ROWS), overall


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
        self._logits = tf.function(
            lambda batch: self.batch_logits(batch, training=False),
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

    def batch_logits(self, batch: dict[str, tf.Tensor], training: bool) -> tf.Tensor:
        """Predicts a batch; float32 [n]."""
        item = batch[Batch.ITEM_INDEX]
        return self.model(
            tf.gather(self._requests, batch["context"]),
            tf.gather(self._items, item),
            item,
            self.tables.request_features(batch),
            {name: tf.gather(v, item) for name, v in self.tables.item_features.items()},
            batch[Batch.POSITION],
            training=training,
        )

    def probabilities(self, rows: RankedRows) -> np.ndarray:
        """Predicts all of `rows`; float32 [n] in [0, 1]."""
        return expit(self.logits(rows))

    def logits(self, rows: RankedRows) -> np.ndarray:
        """Predicts all of `rows`; float32 [n], log odds of a click."""
        count = len(rows.label)
        blocks = [
            self._logits(self.batch(rows, np.arange(s, min(s + _BLOCK, count)))).numpy()
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
    """Trains the model in place and leaves it calibrated, with the weights of the best round.

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
    rate, overall = chosen_rate(ranked_rows(data, "train", config), data.num_items)
    model.item_log_odds.assign(logit(rate) - logit(overall))
    rows = training_rows(data, config)
    validation = ranked_rows(data, "validation", config)
    batch_size = min(settings.batch_size, len(rows.label))
    steps_per_round = num_batches(len(rows.label), batch_size)
    num_steps = steps_per_round * settings.epochs
    schedule = learning_rate(Schedule(), settings.learning_rate, num_steps)
    optimizer = OptimizerGroups([Group(model.trainable_variables, schedule, weight_decay=1e-4)])

    @tf.function(reduce_retracing=True, autograph=False)
    def step(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        with tf.GradientTape() as tape:
            logits = scorer.batch_logits(batch, training=True)
            losses = tf.nn.sigmoid_cross_entropy_with_logits(batch[Batch.LABEL], logits)
            loss = tf.reduce_mean(losses)
        optimizer.apply(tape.gradient(loss, optimizer.weights))
        return {"loss": loss}

    every = np.arange(len(rows.label))

    def batches(number: int, first_step: int) -> tf.data.Dataset:
        return epoch_batches(
            lambda chosen: scorer.batch(rows, chosen),
            every,
            batch_size,
            config.seed,
            number,
            first_step,
        )

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
    history = fit(run, checkpoint_folder)
    calibrate(model, scorer, validation)
    return history


def calibrate(model: RankingModel, scorer: PairScorer, rows: RankedRows) -> None:
    """Sets the model's slope and offset so that its probabilities fit the answers of `rows`.

    A model whose rows hold one answer only stays as it is.

    Source: Platt, Probabilistic Outputs for Support Vector Machines (1999), without the smoothed
        targets.
    """
    model.calibration.assign([1.0, 0.0])
    if len(np.unique(rows.label)) < 2:
        return
    logits = scorer.logits(rows).astype(np.float64)
    fitted = LogisticRegression(C=np.inf).fit(logits[:, None], rows.label)
    if fitted.coef_[0, 0] > 0:
        model.calibration.assign([fitted.coef_[0, 0], fitted.intercept_[0]])
