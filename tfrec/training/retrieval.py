"""Training of the towers: which rows make a batch, what a step does, what a round is judged by."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfrec.config import Config
from tfrec.data.dataset import PreparedData
from tfrec.errors import ConfigError
from tfrec.inference.embedder import Embedder
from tfrec.inputs.batches import InputTables, epoch_batches, num_batches
from tfrec.models.retrieval import RetrievalModel
from tfrec.schema import Batch
from tfrec.training.loop import History, Run, fit
from tfrec.training.objective import Objective, Totals
from tfrec.training.optimizers import Group, OptimizerGroups, learning_rate
from tfrec.training.parts import new_optimizer
from tfrec.training.strategy import Replicas, make_replicas
from tfrec.training.targets import Targets
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
    targets = Targets(data, tables, config)
    steps_per_round = num_batches(targets.num_units, targets.batch_size)
    num_steps = steps_per_round * settings.epochs
    optimizers = _optimizers(model, config, num_steps)
    objective = Objective(
        embedder, settings, data.item_counts(), replicas, jit_compile=config.run.jit_compile
    )
    validation = Validation(embedder, data, config)
    run = Run(
        name="retrieval",
        rounds=settings.epochs,
        steps_per_round=steps_per_round,
        batches=partial(_batches, embedder, targets, steps_per_round, config.seed),
        step=_make_step(objective, optimizers, replicas, targets.signature()),
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


def _batches(
    embedder: Embedder,
    targets: Targets,
    steps_per_round: int,
    seed: int,
    number: int,
    first_step: int,
) -> tf.data.Dataset:
    """Returns the batches of a round, from a step on, each with its seed."""
    if number == first_step == 0:
        embedder.standardize_text()
        embedder.model.rating_offset.assign(targets.mean_rating())
    if first_step == 0 or not embedder.live:  # else the checkpoint gave back the round's cache
        embedder.renew_cache()
    targets.begin_round(embedder, number, first_step)
    units, size = np.arange(targets.num_units), targets.batch_size
    batches = epoch_batches(targets.gather, units, size, seed, number, first_step)
    done = number * steps_per_round
    numbers = tf.data.Dataset.range(done + first_step, done + steps_per_round)
    seeds = numbers.map(lambda n: tf.stack([seed, tf.cast(n, tf.int32)]))
    return tf.data.Dataset.zip(batches, seeds)


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
