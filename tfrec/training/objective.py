"""The retrieval objective of a batch: what the settings switch on, put together from pure losses.

Each distinct item of a step (targets, negatives and, with a frozen encoder, the items of histories)
is embedded once; everything else gathers from that table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfrec.config import Loss as LossSettings
from tfrec.config import Retrieval
from tfrec.encoders.buckets import trim
from tfrec.errors import ConfigError
from tfrec.inference.embedder import Embedder, distinct
from tfrec.losses.adversarial import perturb
from tfrec.losses.log_q import log_expected_counts
from tfrec.losses.masks import accidental_hits, known_positives
from tfrec.losses.queue import EmbeddingQueue
from tfrec.losses.retrieval import Catalogue, Pairs, Rated, Sampled
from tfrec.schema import Batch
from tfrec.training.candidates import (
    Block,
    Shared,
    distinct_rows,
    own_block,
    shared_block,
    side_by_side,
)
from tfrec.training.encode import encode_function
from tfrec.training.parts import new_loss, new_negatives
from tfrec.training.strategy import Replicas

Tables = list[tf.Tensor]
Loss = Callable[[Tables], tf.Tensor]


class Totals(NamedTuple):
    """What every replica knows of the whole batch.

    Attributes:
        weight: float32 [], sum of the targets' weights.
        num_targets: int32 [], targets that are no padding.
    """

    weight: tf.Tensor
    num_targets: tf.Tensor


class Objective:
    """The loss of a batch.

    Args:
        embedder: Runs the towers.
        settings: Section `retrieval`.
        item_counts: int64 [num_items + 1], training targets of each item.
        replicas: Who shares the batch.
        jit_compile: Whether XLA compiles the encoder's part of a step.

    Attributes:
        queue: Item embeddings of earlier steps, or None.
    """

    def __init__(
        self,
        embedder: Embedder,
        settings: Retrieval,
        item_counts: np.ndarray,
        replicas: Replicas,
        jit_compile: bool = False,
    ) -> None:
        self._embedder = embedder
        self._model = embedder.model
        self._settings = settings.loss
        self._replicas = replicas
        self._encode: Callable[[tf.Tensor], tf.Tensor] | None = None
        if embedder.live:
            self._encode = encode_function(embedder, settings.gradient_cache, jit_compile)
        self._loss = new_loss(settings.loss)
        ways = {
            Sampled: self._sampled,
            Pairs: self._pairs,
            Catalogue: self._catalogue,
            Rated: self._rated,
        }
        self._prepare = ways[self._loss.reads]
        if self._loss.reads is Pairs:
            _check_plain_pairs(settings.loss, replicas)
        self._draw = new_negatives(settings.loss.negatives, item_counts)
        share = item_counts / max(item_counts.sum(), 1)
        self._share = tf.constant(share, tf.float32)
        self._num_items = len(item_counts) - 1
        size = settings.loss.negatives.queue
        self.queue = EmbeddingQueue(size, settings.embedding_dim) if size else None

    def __call__(
        self, batch: Mapping[str, tf.Tensor], seed: tf.Tensor, totals: Totals
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Computes the loss of one replica's share of a batch.

        Args:
            batch: Histories, targets and their requests, negatives.
            seed: int32 [2], of the step.
            totals: Of the whole batch.

        Returns:
            float32 [], which over all replicas add up to the weighted mean over all targets; and
            the embeddings of the share's targets, [rows, embedding_dim], for the queue.
        """
        tables, places, loss_of = self._prepare(batch, seed, totals)
        loss = loss_of(tables)
        adversarial = self._settings.adversarial
        if adversarial.method != "none":
            pushed = perturb(
                loss_of,
                tables,
                method=adversarial.method,
                epsilon=adversarial.epsilon,
                steps=adversarial.steps,
            )
            loss += adversarial.weight * loss_of(pushed)
        share = tf.math.divide_no_nan(tf.reduce_sum(batch[Batch.WEIGHT]), totals.weight)
        return loss * share, tf.stop_gradient(tf.gather(tables[0], places))

    def _sampled(
        self, batch: Mapping[str, tf.Tensor], seed: tf.Tensor, totals: Totals
    ) -> tuple[Tables, tf.Tensor, Loss]:
        target, hard = batch[Batch.ITEM_INDEX], batch[Batch.NEGATIVES]
        drawn = self._draw(seed, tf.size(target))  # [n], or [rows, n] with `per_target`
        tables, ((at_target, at_drawn, at_hard), history) = self._embed(
            [target, drawn, hard], batch
        )
        queued = self._queued()
        is_negative = partial(self._is_negative, batch)
        log_expected = partial(self._log_expected, queued=queued[1], totals=totals)

        def blocks_of(table: tf.Tensor, users: tf.Tensor) -> list[Block]:
            shared = [Shared(*queued, tf.ones(tf.shape(queued[1])))]
            if self._settings.negatives.in_batch:
                in_batch = self._replicas.gather(tf.gather(table, at_target))
                shared.append(distinct_rows(in_batch, self._replicas.gather(target)))
            if drawn.shape.rank == 1:
                items = tf.gather(table, at_drawn)
                shared.append(Shared(items, drawn, tf.ones(tf.shape(drawn))))
            blocks = [shared_block(users, shared, is_negative, log_expected)]
            if drawn.shape.rank == 2:
                items = tf.gather(table, at_drawn)
                blocks.append(own_block(users, items, is_negative(drawn), log_expected(drawn)))
            if hard.shape[1]:  # nobody drew these: each stands for itself
                items, nothing = tf.gather(table, at_hard), tf.zeros(tf.shape(hard))
                blocks.append(own_block(users, items, is_negative(hard), nothing))
            return blocks

        def loss_of(tables: Tables) -> tf.Tensor:
            users = self._users(batch, tables, history)
            items = tf.gather(tables[0], at_target)
            candidates = side_by_side(blocks_of(tables[0], users))
            temperature = tf.exp(tf.convert_to_tensor(self._model.log_temperature))
            given = Sampled(
                users,
                items,
                weight=batch[Batch.WEIGHT],
                temperature=temperature,
                target_logits=tf.reduce_sum(users * items, axis=1) / temperature,
                logits=candidates.scores / temperature,
                is_negative=candidates.is_negative,
                log_expected=candidates.log_expected,
                target_log_expected=log_expected(target),
            )
            return self._loss(given)

        return tables, at_target, loss_of

    def _pairs(
        self, batch: Mapping[str, tf.Tensor], seed: tf.Tensor, totals: Totals
    ) -> tuple[Tables, tf.Tensor, Loss]:
        target = batch[Batch.ITEM_INDEX]
        tables, (places, history) = self._embed([target], batch)

        def loss_of(tables: Tables) -> tf.Tensor:
            given = Pairs(
                self._users(batch, tables, history),
                tf.gather(tables[0], places[0]),
                item_index=target,
                weight=batch[Batch.WEIGHT],
                temperature=tf.exp(tf.convert_to_tensor(self._model.log_temperature)),
                is_negative=self._is_negative(batch, target),
                probability=self._share_of(target),
                log_expected=self._log_expected(target, self._queued()[1], totals),
            )
            return self._loss(given)

        return tables, places[0], loss_of

    def _catalogue(
        self, batch: Mapping[str, tf.Tensor], seed: tf.Tensor, totals: Totals
    ) -> tuple[Tables, tf.Tensor, Loss]:
        rows = tf.range(self._num_items + 1)
        text = self._embedder.cached_item_text(rows)
        tables = [self._embedder.items(rows, text, training=True)]

        requests, request = batch, None
        if self._settings.targets == "users":
            requests, request = _one_row_each(batch, batch[Batch.USER_INDEX])

        def loss_of(tables: Tables) -> tf.Tensor:
            given = Catalogue(
                self._users(requests, tables, requests[Batch.HISTORY]),
                tables[0],
                item_index=batch[Batch.ITEM_INDEX],
                weight=batch[Batch.WEIGHT],
                temperature=tf.exp(tf.convert_to_tensor(self._model.log_temperature)),
                request=request,
            )
            return self._loss(given)

        return tables, batch[Batch.ITEM_INDEX], loss_of

    def _rated(
        self, batch: Mapping[str, tf.Tensor], seed: tf.Tensor, totals: Totals
    ) -> tuple[Tables, tf.Tensor, Loss]:
        tables, (places, history) = self._embed([batch[Batch.ITEM_INDEX]], batch)

        def loss_of(tables: Tables) -> tf.Tensor:
            users = self._users(batch, tables, history)
            scores = tf.reduce_sum(users * tf.gather(tables[0], places[0]), axis=1)
            predictions = self._model.rating_offset + scores
            return self._loss(Rated(predictions, batch[Batch.RATING], batch[Batch.WEIGHT]))

        return tables, places[0], loss_of

    def _embed(
        self, uses: Sequence[tf.Tensor], batch: Mapping[str, tf.Tensor]
    ) -> tuple[Tables, tuple[list[tf.Tensor], tf.Tensor]]:
        """Embeds the distinct items of a step.

        Args:
            uses: int32 tensors of item indices, of any shapes.
            batch: Its histories.

        Returns:
            The tables, the first for `uses` and the last for histories (one and the same with a
            frozen encoder), and for each use and for the histories the rows of its table.
        """
        history = batch[Batch.HISTORY]
        if self._encode is None:
            rows, (*places, of_history) = distinct([*uses, history])
            text = self._embedder.cached_item_text(rows)
            return [self._embedder.items(rows, text, training=True)], (places, of_history)
        rows, places = distinct(uses)
        text = self._encode(trim(tf.gather(self._embedder.tables.item_tokens, rows)))
        seen, (of_history,) = distinct([history])
        tables = [
            self._embedder.items(rows, text, training=True),
            self._embedder.items(seen, self._embedder.cached_item_text(seen), training=True),
        ]
        return tables, (places, of_history)

    def _users(
        self, batch: Mapping[str, tf.Tensor], tables: Tables, history: tf.Tensor
    ) -> tf.Tensor:
        """Embeds the targets' requests; float32 [rows, embedding_dim]."""
        states = self._embedder.read_histories(batch, tf.gather(tables[-1], history), training=True)
        return self._embedder.request_embeddings(
            batch, states_of_targets(batch, states), training=True, encode=self._encode
        )

    def _queued(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns what earlier steps left, float32 [n, embedding_dim] and item indices [n]."""
        if self.queue is None:
            return tf.zeros([0, self._model.embedding_dim]), tf.zeros([0], tf.int32)
        return self.queue.read()

    def _log_expected(self, index: tf.Tensor, queued: tf.Tensor, totals: Totals) -> tf.Tensor:
        """Returns the log of how often items are expected among the drawn candidates."""
        if self._settings.log_q == "none":
            return tf.zeros(tf.shape(index))
        num_by_share = tf.math.count_nonzero(queued, dtype=tf.int32)
        if self._settings.negatives.in_batch:
            num_by_share += totals.num_targets
        by_share = (num_by_share, tf.gather(self._share, index))
        return log_expected_counts([by_share, *self._draw.expected(index)])

    def _share_of(self, index: tf.Tensor) -> tf.Tensor:
        """Returns how likely a slot of the batch holds each item; ones with `log_q: none`."""
        if self._settings.log_q == "none":
            return tf.ones(tf.shape(index))
        return tf.gather(self._share, index)

    def _is_negative(self, batch: Mapping[str, tf.Tensor], index: tf.Tensor) -> tf.Tensor:
        """Tells which candidates, int32 [n] or [rows, n], are negatives; bool [rows, n]."""
        target = batch[Batch.ITEM_INDEX]
        excluded = accidental_hits(target, index) | (index == 0)
        if self._settings.mask_known_positives:
            excluded |= known_positives(
                batch[Batch.KNOWN_ROW], batch[Batch.KNOWN_ITEM], index, tf.size(target)
            )
        return ~excluded


def _check_plain_pairs(settings: LossSettings, replicas: Replicas) -> None:
    """Raises where a loss that reads `Pairs` would leave out negatives that are asked for."""
    changed = settings.negatives.changed(type(settings.negatives).model_fields)
    if changed:
        raise ConfigError(
            f"retrieval.loss.kind: {settings.kind} trains on plain pairs, which "
            f"`negatives.{changed[0]}` rules out; take `kind: softmax`."
        )
    if replicas.num_replicas > 1:
        raise ConfigError(
            f"retrieval.loss.kind: {settings.kind} takes its negatives from one device, which "
            f"`run.strategy` with {replicas.num_replicas} devices rules out; take `kind: softmax`."
        )


def states_of_targets(batch: Mapping[str, tf.Tensor], states: tf.Tensor) -> tf.Tensor:
    """Picks the state from which each target is predicted.

    Args:
        batch: With ``target_window`` and ``target_place``, int32 [rows], where one history serves
            several targets. Without, row r has history r and its last state.
        states: float32 [histories, length, dim].

    Returns:
        float32 [rows, dim].
    """
    if Batch.TARGET_WINDOW not in batch:
        return states[:, -1]
    at = tf.stack([batch[Batch.TARGET_WINDOW], batch[Batch.TARGET_PLACE]], axis=1)
    return tf.gather_nd(states, at)


def _one_row_each(
    batch: Mapping[str, tf.Tensor], key: tf.Tensor
) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
    """Takes of the rows that share a key the first; and tells which of those each row became."""
    distinct, place = tf.unique(key)
    first = tf.math.unsorted_segment_min(tf.range(tf.size(key)), place, tf.size(distinct))
    return {name: tf.gather(values, first) for name, values in batch.items()}, place
