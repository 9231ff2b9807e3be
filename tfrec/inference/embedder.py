"""The towers over rows of the prepared data: catalogue, requests, the parts of a step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from tfrec.encoders.buckets import trim
from tfrec.inputs.batches import InputTables
from tfrec.models.retrieval import RetrievalModel
from tfrec.progress import progress_bar
from tfrec.schema import Batch

_ENCODE_BLOCK = 1024
_REQUEST_BLOCK = 4096


class Embedder:
    """Runs the towers over rows of the input tables.

    Texts come from a cache of BERT(I) and BERT(U), which `renew_cache` fills. With a frozen encoder
    that happens once; with `live`, targets and request texts of a step run through BERT and only
    the items of histories take the cached vectors.

    Args:
        model: The retrieval model.
        tables: What the towers read.
        live: Whether the encoder is trained.

    Attributes:
        item_text: float32 variable [num_items + 1, text_dim], the cached BERT(I).
    """

    def __init__(self, model: RetrievalModel, tables: InputTables, live: bool) -> None:
        self.model = model
        self.tables = tables
        self.live = live
        self._is_cache_valid = False
        text_dim = model.encoder.hidden_dim
        self.item_text = keras.Variable(
            tf.zeros([tables.item_tokens.shape[0], text_dim]), trainable=False, name="item_text"
        )
        self._request_text = tf.Variable(
            tf.zeros([tables.text_tokens.shape[0], text_dim]), trainable=False
        )
        self._encode_block = tf.function(
            lambda tokens: model.encoder(trim(tokens), training=False),
            input_signature=[tf.TensorSpec([None, None], tf.int32)],
            autograph=False,
        )
        self._embed_items_block = tf.function(
            lambda rows: self.items(rows, self.cached_item_text(rows), training=False),
            input_signature=[tf.TensorSpec([None], tf.int32)],
            autograph=False,
        )
        self._embed_requests_block = tf.function(
            self._requests_from_table, reduce_retracing=True, autograph=False
        )

    @property
    def num_items(self) -> int:
        """Size of the catalogue."""
        return self.tables.item_tokens.shape[0] - 1

    def standardize_text(self) -> None:
        """Lets the encoder measure the catalogue's texts; see `TextEncoder.standardize`."""
        self.model.encoder.standardize(self._encode(self.tables.item_tokens).numpy())
        self._is_cache_valid = False

    def renew_cache(self) -> None:
        """Encodes the text of every item, and of every request text unless `live`."""
        if self._is_cache_valid and not self.live:
            return
        self.item_text.assign(self._encode(self.tables.item_tokens))
        if not self.live:
            self._request_text.assign(self._encode(self.tables.text_tokens))
        self._is_cache_valid = True

    def catalogue(self) -> np.ndarray:
        """Embeds all items from the cache; float32 [num_items + 1, embedding_dim], row 0 zeros."""
        count = self.num_items + 1
        blocks = [
            self._embed_items_block(tf.range(start, min(start + _REQUEST_BLOCK, count))).numpy()
            for start in range(0, count, _REQUEST_BLOCK)
        ]
        embeddings = np.concatenate(blocks)
        embeddings[0] = 0.0
        return embeddings

    def requests(self, contexts: np.ndarray, catalogue: np.ndarray) -> np.ndarray:
        """Embeds requests as the exported model does: histories from finished item embeddings.

        Requests with histories of similar length are embedded together, without the padding that
        none of them needs.

        Args:
            contexts: int [n], rows of the prepared contexts.
            catalogue: float32 [num_items + 1, embedding_dim].

        Returns:
            float32 [n, embedding_dim].
        """
        table = tf.constant(catalogue)
        embedded = np.zeros((len(contexts), self.model.embedding_dim), np.float32)
        lengths = self.tables.history_lengths(contexts)
        order = np.argsort(lengths, kind="stable")
        for start in range(0, len(contexts), _REQUEST_BLOCK):
            chosen = order[start : start + _REQUEST_BLOCK]
            longest = max(1, int(lengths[chosen].max()))
            batch = self.tables.requests(contexts[chosen])
            for name in (Batch.HISTORY, Batch.HISTORY_KIND, Batch.HISTORY_GAP):
                if name in batch:
                    batch[name] = batch[name][:, -longest:]
            embedded[chosen] = self._embed_requests_block(batch, table).numpy()
        return embedded

    def items(self, rows: tf.Tensor, text_vector: tf.Tensor, training: bool) -> tf.Tensor:
        """Embeds the items at `rows`, int32 [n], given their text vectors."""
        features = {
            name: tf.gather(values, rows) for name, values in self.tables.item_features.items()
        }
        id_row = tf.gather(self.tables.item_id_rows, rows)
        return self.model.embed_items(text_vector, id_row, features, training=training)

    def cached_item_text(self, rows: tf.Tensor) -> tf.Tensor:
        """Returns BERT(I) of items as it was when the cache was renewed, [n, text_dim]."""
        return tf.gather(self.item_text, rows)

    def read_histories(
        self, batch: Mapping[str, tf.Tensor], history_items: tf.Tensor, training: bool
    ) -> tf.Tensor:
        """Reads the histories of a batch; float32 [n, length, embedding_dim].

        Args:
            batch: Its histories, and their kinds and gaps where the model reads them.
            history_items: float32 [n, length, embedding_dim], their item embeddings.
            training: Whether dropout is active.
        """
        segment = batch.get(Batch.HISTORY_SEGMENT)
        if segment is None:  # a row is one history
            segment = tf.cast(batch[Batch.HISTORY] > 0, tf.int32)
        return self.model.read_histories(
            history_items,
            segment,
            batch.get(Batch.HISTORY_KIND),
            batch.get(Batch.HISTORY_GAP),
            training=training,
        )

    def request_embeddings(
        self,
        batch: Mapping[str, tf.Tensor],
        state: tf.Tensor,
        training: bool,
        encode: Callable[[tf.Tensor], tf.Tensor] | None = None,
    ) -> tf.Tensor:
        """Embeds requests, given the states of their histories, float32 [n, embedding_dim].

        Args:
            batch: User index, text index and request features.
            state: What the histories say.
            training: Whether inputs are hidden.
            encode: From token ids to BERT(U) of the distinct texts; None takes the cache.
        """
        texts, position = tf.unique(batch[Batch.TEXT_INDEX])
        if encode is not None:
            vectors = encode(trim(tf.gather(self.tables.text_tokens, texts)))
        else:
            vectors = tf.gather(self._request_text, texts)
        return self.model.embed_requests(
            tf.gather(vectors, position),
            tf.gather(self.tables.user_id_rows, batch[Batch.USER_INDEX]),
            self.tables.request_features(batch),
            state,
            batch.get(Batch.LAST_GAP),
            training=training,
        )

    def _requests_from_table(self, batch: dict[str, tf.Tensor], table: tf.Tensor) -> tf.Tensor:
        history_items = tf.gather(table, batch[Batch.HISTORY])
        states = self.read_histories(batch, history_items, training=False)
        encode = self.model.encoder if self.live else None
        return self.request_embeddings(batch, states[:, -1], False, encode)

    def _encode(self, tokens: tf.Tensor) -> tf.Tensor:
        """Encodes texts, those of similar length together."""
        lengths = tf.math.count_nonzero(tokens, axis=1, dtype=tf.int32)
        order = tf.argsort(lengths, stable=True)
        starts = range(0, tokens.shape[0], _ENCODE_BLOCK)
        blocks = [
            self._encode_block(tf.gather(tokens, order[start : start + _ENCODE_BLOCK]))
            for start in progress_bar(starts, desc="encoding texts", disable=len(starts) < 5)
        ]
        return tf.gather(tf.concat(blocks, axis=0), tf.argsort(order))


def distinct(uses: Sequence[tf.Tensor]) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """Finds the distinct values of int32 tensors, and where each entry's value is among them."""
    rows, place = tf.unique(tf.concat([tf.reshape(use, [-1]) for use in uses], axis=0))
    sizes = [tf.size(use) for use in uses]
    parts = tf.split(place, sizes, num=len(sizes))
    return rows, [tf.reshape(part, tf.shape(use)) for part, use in zip(parts, uses, strict=True)]
