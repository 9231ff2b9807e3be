"""Requests of the prepared data as the recommender's core reads them, without outside names."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfrec.data.dataset import PreparedData
from tfrec.inference.embeddings import Embeddings
from tfrec.inputs.batches import InputTables
from tfrec.recommender.filters import Barred
from tfrec.recommender.request_reader import DecodedRequest, Tokenize
from tfrec.schema import Batch, Columns


class PreparedRequests:
    """Reads requests of the prepared data.

    Args:
        data: The prepared data set.
        tables: What the models read of it.
        embeddings: What retrieval's towers say of all requests; None: the core computes it.
        ranked_embeddings: The same by the towers that the ranking model reads, where it has some of
            its own.
        tokenize: Of queries; None where no source of candidates reads them.
        leave_out_history: Whether an answer may hold no item of the history.
    """

    def __init__(
        self,
        data: PreparedData,
        tables: InputTables,
        *,
        embeddings: Embeddings | None = None,
        ranked_embeddings: Embeddings | None = None,
        tokenize: Tokenize | None = None,
        leave_out_history: bool = True,
    ) -> None:
        self.data = data
        self._tables = tables
        self._embeddings = embeddings
        self._ranked_embeddings = ranked_embeddings
        self._tokenize = tokenize
        self._leave_out_history = leave_out_history

    def decode(self, contexts: np.ndarray) -> DecodedRequest:
        """Gathers n requests, int [n]: rows of the prepared contexts."""
        data, tables = self.data, self._tables
        batch = {name: tf.constant(v) for name, v in tables.requests(contexts).items()}
        # Columns that no history of the batch reaches are left out.
        longest = max(1, int(tables.history_lengths(contexts).max(initial=0)))
        recent, kinds, gaps = (
            None if values is None else values[:, -longest:]
            for values in map(batch.get, (Batch.HISTORY, Batch.HISTORY_KIND, Batch.HISTORY_GAP))
        )
        embeddings, ranked = self._embeddings, self._ranked_embeddings
        query = text = None
        if self._tokenize is not None:
            queries = data.contexts[Columns.QUERY].gather(contexts).to_list()
            query = self._tokenize(tf.constant(queries, tf.string))
        if embeddings is None:
            text = tf.gather(tables.text_tokens, batch[Batch.TEXT_INDEX])
        return DecodedRequest(
            user=tf.gather(tables.user_id_rows, batch[Batch.USER_INDEX]),
            features=tables.request_features(batch),
            barred=Barred(tf.constant(self._histories(contexts)), {}, {}, {}),
            recent=recent,
            kinds=kinds,
            gaps=gaps,
            last_gap=batch.get(Batch.LAST_GAP),
            text=text,
            query=query,
            time=tf.constant(tables.request_seconds(contexts)),
            embedding=None if embeddings is None else tf.constant(embeddings.requests[contexts]),
            ranked_embedding=None if ranked is None else tf.constant(ranked.requests[contexts]),
        )

    def _histories(self, contexts: np.ndarray) -> np.ndarray:
        """Returns what answers leave out, int32 [n, any length]: the full histories, or nothing."""
        start, end = self.data.history_ranges(contexts)
        width = int((end - start).max(initial=0)) if self._leave_out_history else 0
        return self.data.slice_history(start, end, width).items
