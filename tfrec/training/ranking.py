"""Training of the ranking model, on rows that are gathered by request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from scipy.special import expit, logit

from tfrec.config import Config, Ranking
from tfrec.config.retrieval import Schedule
from tfrec.data.dataset import PreparedData
from tfrec.features.batches import (
    InputTables,
    batch_signature,
    epoch_batches,
    num_batches,
    trim_front,
)
from tfrec.features.item_statistics import ItemStatistics
from tfrec.losses.log_q import log_expected_counts
from tfrec.losses.masks import accidental_hits
from tfrec.losses.sampled_softmax import sampled_softmax
from tfrec.metrics.ranking import ranking_metrics
from tfrec.metrics.retrieval import top_items
from tfrec.models.ranking import PairInputs, RankingModel, RequestInputs
from tfrec.models.retrieval import RetrievalModel
from tfrec.schema import UNKNOWN_INDEX, Batch
from tfrec.training.embedder import Embedder, distinct
from tfrec.training.heads import head_losses, head_targets, scale_values, start_at_rates
from tfrec.training.loop import History, Run, fit
from tfrec.training.optimizers import (
    Group,
    OptimizerGroups,
    Rate,
    growing_sparsity,
    learning_rate,
)
from tfrec.training.ranked_rows import RankedRows, Retrieve, chosen_rate, ranked_rows, training_rows

_BLOCK = 16384
_MICROSECONDS = 1_000_000


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
class Vectors:
    """What the towers say of a batch; None where the ranking model does not read it.

    Attributes:
        requests: float32 [b, embedding_dim].
        items: float32 [n, embedding_dim].
        history: float32 [b, length, embedding_dim].
        is_event: bool [b, length].
    """

    requests: tf.Tensor | None = None
    items: tf.Tensor | None = None
    history: tf.Tensor | None = None
    is_event: tf.Tensor | None = None


class RowsByRequest:
    """Rows in the order of their requests, so that a batch can take whole requests.

    Args:
        rows: In any order.

    Attributes:
        order: int64 [n], rows in the order of their requests.
        contexts: int32 [num_requests], ascending.
        start: int64 [num_requests + 1], where each request's rows begin in `order`.
    """

    def __init__(self, rows: RankedRows) -> None:
        self.order = np.argsort(rows.context, kind="stable")
        self.contexts, counts = np.unique(rows.context, return_counts=True)
        self.start = np.concatenate([[0], np.cumsum(counts)])

    def __len__(self) -> int:
        return len(self.contexts)

    def rows_of(self, requests: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the rows of requests, int [b], and which of the b each belongs to; int [n]."""
        counts = self.start[requests + 1] - self.start[requests]
        request = np.repeat(np.arange(len(requests)), counts)
        before = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64)
        at = np.arange(len(request)) + np.repeat(self.start[requests] - before, counts)
        return self.order[at], request

    def blocks(self, num_rows: int) -> list[np.ndarray]:
        """Cuts the requests into blocks of about `num_rows` rows."""
        block = self.start[:-1] // num_rows
        return np.split(np.arange(len(self)), np.flatnonzero(np.diff(block)) + 1)


class PairScorer:
    """Runs the ranking model over rows of the prepared data.

    Args:
        model: The ranking model.
        tables: Features of items and requests.
        embeddings: From the finished towers; None where the model reads none.
        statistics: What was known of items at any moment; None: the model's own table serves for
            all moments.
        towers: Towers that are still trained; their embeddings are computed anew in each batch and
            take the place of `embeddings`.
    """

    def __init__(
        self,
        model: RankingModel,
        tables: InputTables,
        embeddings: Embeddings | None,
        statistics: ItemStatistics | None = None,
        towers: Embedder | None = None,
    ) -> None:
        self.model = model
        self.towers = towers
        self.statistics = statistics
        self.tables = tables
        self._items = None if embeddings is None else tf.constant(embeddings.items)
        self._requests = None if embeddings is None else tf.constant(embeddings.requests)
        self._outputs = tf.function(
            lambda batch: self.outputs(batch, self.vectors(batch)), autograph=False
        )

    def batch(
        self, rows: RankedRows, grouped: RowsByRequest, requests: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Gathers all rows of some requests.

        Args:
            rows: All rows.
            grouped: The same by request.
            requests: int [b], positions in `grouped.contexts`.

        Returns:
            [b, ...] what belongs to requests, [n, ...] what belongs to pairs.
        """
        at, request = grouped.rows_of(requests)
        context = grouped.contexts[requests]
        batch = {
            **self.tables.request_rows(context),
            Batch.CONTEXT: context,
            Batch.REQUEST_ROW: request.astype(np.int32),
            Batch.ITEM_INDEX: rows.item_index[at],
            Batch.LABEL: rows.label[at],
            Batch.POSITION: rows.position[at],
            Batch.LOG_RATE: rows.log_rate[at],
        }
        if self.statistics is not None:
            batch[Batch.STATISTICS] = self.statistics.live(rows.context[at], rows.item_index[at])
        if self.towers is not None:
            batch |= self.tables.requests(context)
        elif self.model.attention is not None:
            batch[Batch.HISTORY] = self.tables.item_histories(context)
        if self.model.config.time_features:
            batch[Batch.TIME] = self.tables.request_seconds(context)
        return batch

    def vectors(self, batch: Mapping[str, tf.Tensor], training: bool = False) -> Vectors:
        """Looks up or computes what the towers say of a batch."""
        item = batch[Batch.ITEM_INDEX]
        if self.towers is not None:
            history = batch[Batch.HISTORY]
            rows, (at_item, at_history) = distinct([item, history])
            text = self.towers.cached_item_text(rows)
            table = self.towers.items(rows, text, training=training)
            table *= tf.cast(rows != UNKNOWN_INDEX, tf.float32)[:, None]
            past = tf.gather(table, at_history)
            states = self.towers.read_histories(batch, past, training=training)
            requests = self.towers.request_embeddings(batch, states[:, -1], training=training)
            return Vectors(requests, tf.gather(table, at_item), past, history != UNKNOWN_INDEX)
        if self._items is None:
            return Vectors()
        requests = tf.gather(self._requests, batch[Batch.CONTEXT])
        items = tf.gather(self._items, item)
        if self.model.attention is None:
            return Vectors(requests, items)
        recent = trim_front(batch[Batch.HISTORY])
        return Vectors(requests, items, tf.gather(self._items, recent), recent != UNKNOWN_INDEX)

    def outputs(
        self, batch: Mapping[str, tf.Tensor], vectors: Vectors, training: bool = False
    ) -> tf.Tensor:
        """Predicts a batch; float32 [n, num_outputs], see `RankingModel.score`."""
        item = batch[Batch.ITEM_INDEX]
        statistics = batch.get(Batch.STATISTICS)
        if statistics is None and self.model.item_statistics.shape[1]:
            statistics = tf.gather(self.model.item_statistics, item)
        return self.model.score(
            RequestInputs(
                user=batch[Batch.USER_INDEX],
                features=self.tables.request_features(batch),
                embedding=vectors.requests,
                history=vectors.history,
                is_event=vectors.is_event,
                time=batch.get(Batch.TIME),
            ),
            PairInputs(
                request=batch[Batch.REQUEST_ROW],
                position=batch[Batch.POSITION],
                item_features={n: tf.gather(v, item) for n, v in self.tables.item_features.items()},
                embedding=vectors.items,
                statistics=statistics,
            ),
            training=training,
        )

    def raw(self, rows: RankedRows) -> np.ndarray:
        """Predicts all of `rows`; float32 [n, num_outputs], see `RankingModel.score`."""
        grouped = RowsByRequest(rows)
        found = np.zeros((len(rows), self.model.num_outputs), np.float32)
        if not len(rows):
            return found
        signature = batch_signature(self.batch(rows, grouped, np.arange(0)))
        predict = self._outputs.get_concrete_function(signature)
        for block in grouped.blocks(_BLOCK):
            at, _ = grouped.rows_of(block)
            batch = self.batch(rows, grouped, block)
            found[at] = predict({n: tf.constant(values) for n, values in batch.items()}).numpy()
        return found

    def logits(self, rows: RankedRows) -> np.ndarray:
        """Predicts all of `rows`; float32 [n], calibrated log odds of a click."""
        return self.model.predict(tf.constant(self.raw(rows)))[self.model.head_names[0]].numpy()

    def click_order(self, rows: RankedRows) -> np.ndarray:
        """Returns what lists of `rows` are sorted by; float32 [n], `RankingModel.click_order`."""
        return self.model.click_order(tf.constant(self.raw(rows))).numpy()

    def probabilities(self, rows: RankedRows) -> np.ndarray:
        """Predicts all of `rows`; float32 [n] in [0, 1], the calibrated probability of a click."""
        return expit(self.logits(rows))


def live_statistics(data: PreparedData, config: Config) -> ItemStatistics | None:
    """Returns the counters of `ranking.item_statistics: live`; None for its other values."""
    return ItemStatistics(data) if config.ranking.item_statistics == "live" else None


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
        config: Section `ranking`, and the seed.
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
    optimizer = OptimizerGroups(groups)
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
    return fit(run, checkpoint_folder)


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
