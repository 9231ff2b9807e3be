"""Training of the towers: which rows make a batch, what a step does, what a round is judged by."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfrec.config import Config
from tfrec.data.dataset import PreparedData
from tfrec.errors import ConfigError
from tfrec.inference.embedder import Embedder
from tfrec.inputs.batches import InputTables, batch_signature, epoch_batches, num_batches
from tfrec.inputs.packed import PackedSequences
from tfrec.inputs.sequences import cut_sequences
from tfrec.inputs.user_rows import UserRows
from tfrec.models.retrieval import RetrievalModel
from tfrec.schema import SPLITS, Batch, Columns
from tfrec.training.loop import History, Run, fit
from tfrec.training.negatives import KnownPositives, PassedOver, mine
from tfrec.training.objective import Objective, Totals
from tfrec.training.optimizers import Group, OptimizerGroups, learning_rate
from tfrec.training.parts import new_optimizer
from tfrec.training.strategy import Replicas, make_replicas
from tfrec.training.tensorboard import CurveWriter
from tfrec.training.validation import Validation

_HISTORY_KEYS = (Batch.HISTORY, Batch.HISTORY_SEGMENT, Batch.HISTORY_KIND, Batch.HISTORY_GAP)
_PAIR_KEYS = (Batch.KNOWN_ROW, Batch.KNOWN_ITEM)


def train_retrieval(
    model: RetrievalModel,
    data: PreparedData,
    tables: InputTables,
    config: Config,
    checkpoint_folder: Path,
    replicas: Replicas | None = None,
) -> History:
    """Trains the model in place and leaves it with the weights of the best round.

    Args:
        model: Towers and encoder, adapted as `encoder.adaptation` says.
        data: The prepared data set.
        tables: Its arrays.
        config: Sections `retrieval`, `encoder` and `run`, and the seed.
        checkpoint_folder: Where the run keeps its state. Curves for TensorBoard go to
            ``tensorboard/`` beside it.
        replicas: Who shares the batches; by default as `run.strategy` says.

    Returns:
        Loss and validation metrics of each round.

    Raises:
        ConfigError: The settings ask for what the data do not have.
    """
    settings = config.retrieval
    replicas = replicas or make_replicas(config.run.strategy)
    live = config.encoder.adaptation != "frozen"
    if live and settings.loss.kind == "full_softmax":
        raise ConfigError(
            "retrieval.loss.kind: `full_softmax` runs every item through the encoder in each step; "
            "take `encoder.adaptation: frozen` or `loss.kind: softmax`."
        )
    embedder = Embedder(model, tables, live)
    targets = _Targets(data, tables, config)
    steps_per_round = num_batches(targets.num_units, targets.batch_size)
    num_steps = steps_per_round * settings.epochs
    optimizers = _optimizers(model, config, num_steps)
    objective = Objective(
        embedder, settings, data.item_counts(), replicas, jit_compile=config.run.jit_compile
    )
    validation = Validation(embedder, data, config)
    step = _make_step(objective, optimizers, replicas, targets.signature())

    def batches(number: int, first_step: int) -> tf.data.Dataset:
        if number == first_step == 0:
            embedder.standardize_text()
            model.rating_offset.assign(targets.mean_rating())
        if first_step == 0 or not live:  # else the checkpoint gave back the cache of the round
            embedder.renew_cache()
        targets.begin_round(embedder, number, first_step)
        batches = epoch_batches(
            targets.gather,
            np.arange(targets.num_units),
            targets.batch_size,
            config.seed,
            number,
            first_step,
        )
        done = number * steps_per_round
        numbers = tf.data.Dataset.range(done + first_step, done + steps_per_round)
        seeds = numbers.map(lambda n: tf.stack([config.seed, tf.cast(n, tf.int32)]))
        return tf.data.Dataset.zip(batches, seeds)

    run = Run(
        name="retrieval",
        rounds=settings.epochs,
        steps_per_round=steps_per_round,
        batches=batches,
        step=step,
        variables=[
            *model.variables,
            *optimizers.variables,
            *targets.variables,
            *(objective.queue.variables if objective.queue else []),
            *([embedder.item_text] if live else []),
        ],
        weights=model.variables,
        validate=validation,
        monitor=validation.monitor,
        patience=settings.patience,
        describe=validation.describe,
        averaged=optimizers.averaged if settings.average_decay else nullcontext,
        replicas=replicas,
    )
    curves = CurveWriter(
        checkpoint_folder.parent / "tensorboard",
        num_steps,
        {"towers": learning_rate(settings.schedule, settings.learning_rate, num_steps)},
    )
    return fit(
        run,
        checkpoint_folder,
        config.run.checkpoint_seconds,
        observer=curves if replicas.is_chief else None,
    )


class _Targets:
    """What is trained on, in units of which a batch takes some: targets, packed sequences, users.

    Attributes:
        num_units: Number of units.
        batch_size: Units of a batch.
        variables: What a checkpoint must hold besides the model.
    """

    def __init__(self, data: PreparedData, tables: InputTables, config: Config) -> None:
        self._data = data
        self._tables = tables
        self._loss = config.retrieval.loss
        self._seed = config.seed
        examples = data.examples
        self._context = examples["context"].to_numpy()
        self._item_index = examples["item_index"].to_numpy()
        self._weight = examples[Columns.WEIGHT].to_numpy()
        self._rating = _ratings(data) if self._loss.kind == "mse" else None
        self.rows = _rated_rows(data) if self._rating is not None else data.target_rows("train")
        masks = self._loss.mask_known_positives and self._loss.samples
        self._known = KnownPositives(data) if masks else None
        negatives = self._loss.negatives
        self._passed_over = PassedOver(data) if negatives.impressed else None
        self._mined: keras.Variable | None = None
        self._number_of = np.zeros(0, np.int64)
        if negatives.mined:
            self._mined = keras.Variable(
                np.zeros((len(self.rows), negatives.mined), np.int32),
                trainable=False,
                dtype="int32",
                name="mined",
            )
            self._mined_rows = keras.ops.convert_to_numpy(self._mined)
            self._number_of = np.zeros(examples.height, np.int64)
            self._number_of[self.rows] = np.arange(len(self.rows))
        self.num_units = len(self.rows)
        self._packed: PackedSequences | None = None
        if self._loss.targets == "positions":
            sequences = cut_sequences(data, self.rows, data.max_history)
            self._packed = PackedSequences(sequences, tables, config.seed)
            self.num_units = self._packed.num_rows
        self._of_users: UserRows | None = None
        if self._loss.targets == "users":
            _check_users_are_one_request(data)
            users = data.contexts[Batch.USER_INDEX].to_numpy()
            self._of_users = UserRows(self.rows, users[self._context[self.rows]])
            self.num_units = self._of_users.num_users
        self.batch_size = min(config.retrieval.batch_size, self.num_units)

    @property
    def variables(self) -> list[keras.Variable]:
        return [] if self._mined is None else [self._mined]

    def gather(self, units: np.ndarray) -> dict[str, np.ndarray]:
        """Gathers histories, targets, their requests and what they have to win against."""
        if self._of_users is not None:
            rows = self._of_users.gather(units)
            nothing = np.zeros((len(rows), 1), np.int32)
            requests = self._tables.request_fields(self._context[rows])
            return {**self._fields(rows), **requests, Batch.HISTORY: nothing}
        if self._packed is None:
            rows = self.rows[units]
            return {**self._fields(rows), **self._tables.requests(self._context[rows])}
        histories, rows = self._packed.gather(units)
        return {
            **histories,
            **self._fields(rows),
            **self._tables.request_fields(self._context[rows]),
        }

    def signature(self) -> dict[str, tf.TensorSpec]:
        """Returns name, type and shape of what `gather` gives, any number of units."""
        return batch_signature(self.gather(np.zeros(0, np.int64)))

    def begin_round(self, embedder: Embedder, number: int, first_step: int) -> None:
        """Finds hard negatives with the model as it is at the beginning of a round.

        In the middle of one they are those that the checkpoint gave back.
        """
        if self._mined is None:
            return
        if first_step == 0:
            catalogue = embedder.catalogue()
            contexts = self._context[self.rows]
            users = self._data.contexts["user_index"].to_numpy()[contexts]
            found = mine(
                embedder.requests(contexts, catalogue),
                catalogue,
                KnownPositives(self._data).pairs(users),
                count=self._loss.negatives.mined,
                depth=self._loss.negatives.mined_depth,
                rng=np.random.default_rng([self._seed, number]),
            )
            self._mined.assign(found)
        self._mined_rows = keras.ops.convert_to_numpy(self._mined)

    def mean_rating(self) -> float:
        """Returns the mean of the ratings that are trained on, 0 without any."""
        return 0.0 if self._rating is None else float(self._rating[self.rows].mean())

    def _fields(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        fields = {
            Batch.ITEM_INDEX: self._item_index[rows],
            Batch.WEIGHT: self._weight[rows],
            Batch.NEGATIVES: self._hard_negatives(rows),
        }
        if self._rating is not None:
            fields[Batch.RATING] = self._rating[rows]
        if self._known is not None:
            users = self._data.contexts["user_index"].to_numpy()[self._context[rows]]
            fields[Batch.KNOWN_ROW], fields[Batch.KNOWN_ITEM] = self._known.pairs(users)
        return fields

    def _hard_negatives(self, rows: np.ndarray) -> np.ndarray:
        parts = [np.zeros((len(rows), 0), np.int32)]
        if self._passed_over is not None:
            rng = np.random.default_rng([self._seed, *rows[:1]])
            limit = self._loss.negatives.impressed
            parts.append(self._passed_over.of_contexts(self._context[rows], limit, rng))
        if self._mined is not None:
            parts.append(self._mined_rows[self._number_of[rows]])
        return np.concatenate(parts, axis=1)


def _check_users_are_one_request(data: PreparedData) -> None:
    """Raises where the requests of a user differ, so that one embedding cannot stand for all."""
    differs = sorted(data.context_inputs)
    if (data.contexts[Batch.TEXT_INDEX].to_numpy() != 0).any():
        differs.append("text")
    if differs:
        raise ConfigError(
            "retrieval.loss.targets: `users` wants requests that say nothing beside who asks, got "
            f"{', '.join(differs)}; take `requests`."
        )


def _ratings(data: PreparedData) -> np.ndarray:
    if Columns.RATING not in data.examples.columns:
        raise ConfigError("retrieval.loss.kind: `mse` needs a log with `data.events.rating`.")
    return data.examples[Columns.RATING].to_numpy()


def _rated_rows(data: PreparedData) -> np.ndarray:
    is_train = data.split_mask(SPLITS[0])
    return np.flatnonzero(is_train & np.isfinite(_ratings(data)))


def _make_step(
    objective: Objective,
    optimizers: OptimizerGroups,
    replicas: Replicas,
    signature: dict[str, tf.TensorSpec],
) -> Any:
    """Returns the step that trains on one batch and its seed."""
    weights = optimizers.weights

    # One graph for batches of all sizes: a run that resumes must not trace another, which rounds
    # differently.
    @tf.function(input_signature=[signature, tf.TensorSpec([2], tf.int32)], autograph=False)
    def step(batch: dict[str, tf.Tensor], seed: tf.Tensor) -> dict[str, tf.Tensor]:
        rows, whole = _parts(batch)
        totals = Totals(
            tf.reduce_sum(batch[Batch.WEIGHT]),
            tf.math.count_nonzero(batch[Batch.ITEM_INDEX], dtype=tf.int32),
        )

        def share(part: dict[str, tf.Tensor], first: tf.Tensor) -> Any:
            if replicas.num_replicas > 1:
                own = _own_part(whole, part, first)
            else:
                own = {**part, **whole}
            # Only what is trained is watched: nothing is kept for frozen layers.
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch([weight.value for weight in weights])
                loss, items = objective(own, seed, totals)
            gradients = tape.gradient(loss, [weight.value for weight in weights])
            remembered = replicas.once(replicas.gather(items)) if objective.queue else None
            return loss, gradients, remembered

        loss, gradients, items = replicas.run(share, rows)
        optimizers.apply(gradients)
        if objective.queue is not None:
            objective.queue.enqueue(items, batch[Batch.ITEM_INDEX])
        return {"loss": loss}

    return lambda item: step(*item)


def _parts(
    batch: Mapping[str, tf.Tensor],
) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
    """Parts a batch into what has a row for each target and what has not."""
    is_packed = Batch.TARGET_WINDOW in batch
    others = {*_PAIR_KEYS, *(_HISTORY_KEYS if is_packed else ())}
    return (
        {name: values for name, values in batch.items() if name not in others},
        {name: values for name, values in batch.items() if name in others},
    )


def _own_part(
    whole: Mapping[str, tf.Tensor], part: Mapping[str, tf.Tensor], first: tf.Tensor
) -> dict[str, tf.Tensor]:
    """Joins to a replica's targets what belongs to them of the rest of a batch."""
    own = {**part, **whole}
    if Batch.KNOWN_ROW in whole:
        row = whole[Batch.KNOWN_ROW] - first
        is_own = (row >= 0) & (row < tf.size(part[Batch.ITEM_INDEX]))
        own[Batch.KNOWN_ROW] = tf.boolean_mask(row, is_own)
        own[Batch.KNOWN_ITEM] = tf.boolean_mask(whole[Batch.KNOWN_ITEM], is_own)
    if Batch.TARGET_WINDOW in part:
        windows, own[Batch.TARGET_WINDOW] = tf.unique(part[Batch.TARGET_WINDOW])
        for name in _HISTORY_KEYS:
            if name in whole:
                own[name] = tf.gather(whole[name], windows)
    return own


def _optimizers(model: RetrievalModel, config: Config, num_steps: int) -> OptimizerGroups:
    """Returns the optimiser of towers, tables of ids and encoder, each at its own rate or decay."""
    settings = config.retrieval
    encoder = model.encoder.trainable_variables
    tables = [
        model.item_tower.id_embedding.embeddings,
        model.user_tower.id_embedding.embeddings,
    ]
    apart = {id(weight) for weight in (*encoder, *tables)}
    towers = [weight for weight in model.trainable_variables if id(weight) not in apart]
    rate = learning_rate(settings.schedule, settings.learning_rate, num_steps)
    encoder_rate = learning_rate(settings.schedule, settings.encoder_learning_rate, num_steps)
    return OptimizerGroups(
        [
            Group(towers, rate, settings.weight_decay),
            Group(tables, rate, settings.id_weight_decay),
            Group(encoder, encoder_rate, settings.weight_decay),
        ],
        beta_2=settings.gradient_memory,
        make=new_optimizer(settings.optimizer, "retrieval.optimizer"),
        ema_decay=settings.average_decay or None,
    )
