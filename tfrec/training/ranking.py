"""Training of the ranking model, on rows that are gathered by request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from scipy.special import logit

from tfrec.config import Config, Ranking
from tfrec.config.retrieval import Schedule
from tfrec.data.dataset import PreparedData
from tfrec.inference.embedder import Embedder
from tfrec.inference.embeddings import Embeddings
from tfrec.inference.pair_scorer import PairScorer, RowsByRequest, Vectors
from tfrec.inputs.batches import (
    InputTables,
    batch_signature,
    epoch_batches,
    num_batches,
)
from tfrec.inputs.item_statistics import live_statistics
from tfrec.inputs.ranked_rows import RankedRows, Retrieve, chosen_rate, ranked_rows, training_rows
from tfrec.losses.log_q import log_expected_counts
from tfrec.losses.masks import accidental_hits
from tfrec.losses.sampled_softmax import sampled_softmax
from tfrec.metrics.ranking import ranking_metrics
from tfrec.metrics.retrieval import top_items
from tfrec.models.ranking import RankingModel
from tfrec.models.retrieval import RetrievalModel
from tfrec.schema import Batch
from tfrec.training.heads import head_losses, head_targets, scale_values, start_at_rates
from tfrec.training.loop import History, Run, fit
from tfrec.training.optimizers import (
    Group,
    OptimizerGroups,
    Rate,
    growing_sparsity,
    learning_rate,
)
from tfrec.training.parts import new_optimizer

_MICROSECONDS = 1_000_000


def retriever(data: PreparedData, embeddings: Embeddings) -> Retrieve:
    """Returns what finds the best items of requests that are not in their histories."""

    def retrieve(contexts: np.ndarray, depth: int) -> np.ndarray:
        block = max(1, 2**24 // (data.num_items + 1))
        found = []
        for start in range(0, len(contexts), block):
            chosen = contexts[start : start + block]
            scores = embeddings.requests[chosen] @ embeddings.items.T
            scores[data.seen_pairs(chosen)] = -np.inf
            scores[:, 0] = -np.inf
            found.append(top_items(scores, depth))
        return np.concatenate(found)

    return retrieve


def train_ranking(
    model: RankingModel,
    data: PreparedData,
    tables: InputTables,
    embeddings: Embeddings | None,
    config: Config,
    checkpoint_folder: Path,
    towers: Embedder | None = None,
    teach: Callable[[RankedRows], np.ndarray] | None = None,
) -> History:
    """Trains the model in place and leaves it calibrated, with the weights of the best round.

    Where the log shows no population, the logits that are trained are those of the drawn rows:
    the log of how often a row is drawn is taken off the model's logit, whose own odds are then
    those among all items of the catalogue.

    Args:
        model: The ranking model.
        data: The prepared data set.
        tables: Its arrays.
        embeddings: From the finished towers; None where the model reads none.
        config: Sections `ranking` and `run`, and the seed.
        checkpoint_folder: Where the run keeps its state.
        towers: The finished towers, their texts encoded, where `ranking.towers` trains them
            further; they are trained in place.
        teach: Returns a teacher's log odds of a click for rows, float32 [n].

    Returns:
        Loss in training, and AUC and log loss on validation, of each round.

    Source: King & Zeng, Logistic Regression in Rare Events Data (2001), section 4.1, for odds that
        are off by the rate of sampling. Hinton et al., Distilling the Knowledge in a Neural Network
        (2015), section 2, for the two losses of a model with a teacher.
    """
    settings = config.ranking
    statistics = live_statistics(data, config)
    scorer = PairScorer(model, tables, embeddings, statistics, towers)
    if statistics is not None:
        model.item_statistics.assign(statistics.table())
    elif model.item_statistics.shape[1]:
        rate, overall = chosen_rate(ranked_rows(data, "train", config), data.num_items)
        model.item_statistics.assign((logit(rate) - logit(overall))[:, None])
    retrieve = None if embeddings is None else retriever(data, embeddings)
    rows, validation = (
        training_rows(data, config, retrieve),
        ranked_rows(data, "validation", config),
    )
    targets = head_targets(model, data, rows)
    if targets is not None:
        scale_values(model, targets)
    start_at_rates(model, rows, targets)
    grouped = RowsByRequest(rows)
    batch_size = max(1, round(settings.batch_size * len(grouped) / max(1, len(rows))))
    batch_size = min(batch_size, len(grouped))
    steps_per_round = num_batches(len(grouped), batch_size)
    num_steps = steps_per_round * settings.epochs
    schedule = learning_rate(Schedule(), settings.learning_rate, num_steps)
    groups = _groups(model, schedule, settings, steps_per_round)
    trained = list(model.variables)
    if towers is not None:
        tower_schedule = learning_rate(Schedule(), settings.tower_learning_rate, num_steps)
        groups.append(Group(tower_weights(towers.model), tower_schedule, settings.weight_decay))
        trained += towers.model.variables
    make = new_optimizer(settings.optimizer, "ranking.optimizer")
    optimizer = OptimizerGroups(groups, make=make)
    taught = None if teach is None else teach(rows)
    shares = tf.constant(data.item_counts() / max(1, data.item_counts().sum()), tf.float32)

    def gather(chosen: np.ndarray) -> dict[str, np.ndarray]:
        batch = scorer.batch(rows, grouped, chosen)
        if targets is not None:
            batch[Batch.TARGETS] = targets[grouped.rows_of(chosen)[0]]
        if taught is not None:
            batch[Batch.TAUGHT] = taught[grouped.rows_of(chosen)[0]]
        return batch

    @tf.function(input_signature=[batch_signature(gather(np.arange(0)))], autograph=False)
    def step(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        with tf.GradientTape() as tape:
            vectors = scorer.vectors(batch, training=True)
            outputs = scorer.outputs(batch, vectors, training=True)
            drawn_logits = outputs[:, 0] - batch[Batch.LOG_RATE]
            label = batch[Batch.LABEL]
            if settings.teacher is not None:
                probability = tf.sigmoid(batch[Batch.TAUGHT] - batch[Batch.LOG_RATE])
                label += settings.teacher.weight * (probability - label)
            losses = tf.nn.sigmoid_cross_entropy_with_logits(label, drawn_logits)
            loss = tf.reduce_mean(losses)
            if targets is not None:
                loss += head_losses(model, outputs, batch[Batch.TARGETS])
            if settings.towers == "shared":
                temperature = tf.exp(towers.model.log_temperature)  # type: ignore[union-attr]
                of_retrieval = click_softmax(batch, vectors, shares, temperature)
                loss += settings.retrieval_loss_weight * of_retrieval
        optimizer.apply(tape.gradient(loss, optimizer.weights))
        return {"loss": loss}

    def batches(number: int, first_step: int) -> tf.data.Dataset:
        every = np.arange(len(grouped))
        return epoch_batches(gather, every, batch_size, config.seed, number, first_step)

    def validate() -> dict[str, float]:
        # Calibrated: drawn negatives shift the logits, more so the longer training goes on.
        calibrate(model, scorer, data, validation)
        probabilities = scorer.probabilities(validation)
        metrics = ranking_metrics(validation.label, probabilities, validation.weights)
        return {f"validation_{name}": metrics[name] for name in ("auc", "log_loss")}

    run = Run(
        name="ranking",
        rounds=settings.epochs,
        steps_per_round=steps_per_round,
        batches=batches,
        step=step,
        variables=[*trained, *optimizer.variables],
        weights=trained,
        validate=validate,
        monitor="-validation_log_loss",
        patience=settings.patience,
    )
    return fit(run, checkpoint_folder, config.run.checkpoint_seconds)


def _groups(
    model: RankingModel, rate: Rate, settings: Ranking, steps_per_round: int
) -> list[Group]:
    """Returns all weights of the ranking model; matrices apart where they are to be sparse."""
    weights = list(model.trainable_variables)
    if not settings.sparsity:
        return [Group(weights, rate, settings.weight_decay)]
    matrices = [weight for weight in weights if weight.name == "kernel"]
    others = [weight for weight in weights if weight.name != "kernel"]
    # Whichever round is kept has its zeros: they are all there when the first one ends.
    sparsity = growing_sparsity(settings.sparsity, steps_per_round)
    return [
        Group(matrices, rate, settings.weight_decay, sparsity),
        Group(others, rate, settings.weight_decay),
    ]


def tower_weights(towers: RetrievalModel) -> list[keras.Variable]:
    """Returns what is trained further of finished towers: all but the encoder."""
    of_encoder = {id(weight) for weight in towers.encoder.variables}
    return [weight for weight in towers.trainable_variables if id(weight) not in of_encoder]


def click_softmax(
    batch: Mapping[str, tf.Tensor], vectors: Vectors, shares: tf.Tensor, temperature: tf.Tensor
) -> tf.Tensor:
    """Computes the softmax loss of a batch's clicked items against each other.

    Other items that the same request clicked are no negatives.

    Args:
        batch: Labels, items and the requests they belong to.
        vectors: Of the towers.
        shares: float32 [num_items + 1], how often each item is a training target.
        temperature: Divides the dot products.

    Returns:
        float32 [], see `sampled_softmax`.
    """
    is_clicked = batch[Batch.LABEL] > 0
    item = tf.boolean_mask(batch[Batch.ITEM_INDEX], is_clicked)
    request = tf.boolean_mask(batch[Batch.REQUEST_ROW], is_clicked)
    items = tf.boolean_mask(vectors.items, is_clicked)
    users = tf.gather(vectors.requests, request)
    return sampled_softmax(
        tf.reduce_sum(users * items, axis=-1) / temperature,
        tf.matmul(users, items, transpose_b=True) / temperature,
        weight=tf.ones(tf.shape(item)),
        is_negative=~(accidental_hits(item, item) | accidental_hits(request, request)),
        log_expected=log_expected_counts([(tf.size(item), tf.gather(shares, item))]),
    )


def calibrate(
    model: RankingModel, scorer: PairScorer, data: PreparedData, rows: RankedRows
) -> None:
    """Fits the calibration of each sigmoid head to the answers of `rows`.

    A head whose rows hold one answer only stays as it is.
    """
    outputs, targets = scorer.raw(rows), head_targets(model, data, rows)
    for number, name in enumerate(model.head_names):
        if not model.is_probability(name):
            continue
        labels = rows.label if number == 0 else targets[:, number - 1]  # type: ignore[index]
        known = ~np.isnan(labels)
        terms = model.terms(tf.constant(outputs[known]), name).numpy()
        model.calibrators[name].fit(terms, labels[known], rows.weights[known])
