"""The ranking model over rows of the prepared data, gathered by request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from scipy.special import expit

from tfrec.inference.embedder import Embedder, distinct
from tfrec.inference.embeddings import Embeddings
from tfrec.inputs.batches import InputTables, batch_signature, trim_front
from tfrec.inputs.item_statistics import ItemStatistics
from tfrec.inputs.ranked_rows import RankedRows
from tfrec.models.ranking import PairInputs, RankingModel, RequestInputs
from tfrec.schema import UNKNOWN_INDEX, Batch

_BLOCK = 16384


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
        if self.model.time_features:
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
