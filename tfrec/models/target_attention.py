"""What a candidate finds in the history: attention with the candidate as the query."""

from __future__ import annotations

import math
from typing import Any

import keras
import tensorflow as tf

_NEVER = -1e9


@keras.saving.register_keras_serializable("tfrec")
class HistoryAttention(keras.layers.Layer):
    """Attention over the history's items, asked by each candidate of the request.

    Keys and values are computed once a request, however many candidates ask.

    Args:
        embedding_dim: Length of item embeddings.
        max_history: Longest history.
        heads: Number of attention heads.
        units: Length of queries, keys and values of a head.

    Source: Zhou et al., Deep Interest Network (2018), section 4.3, for a user vector that depends
        on the candidate.
    Deviates: Scaled dot products, normalised by a softmax, with a learned bias for how long ago an
        event is; not an MLP over each pair.
    """

    def __init__(
        self, embedding_dim: int, max_history: int, heads: int, units: int, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.embedding_dim, self.max_history = embedding_dim, max_history
        self.heads, self.units = heads, units
        self.projections: dict[str, keras.layers.Dense] = {}
        for name in ("query", "key", "value"):
            dense = keras.layers.Dense(heads * units, use_bias=name == "value", name=name)
            dense.build((None, embedding_dim))
            self.projections[name] = dense
        self.recency = self.add_weight(
            shape=(heads, max_history), initializer="zeros", name="recency"
        )
        self.built = True

    def get_config(self) -> dict[str, Any]:
        """Returns what `from_config` needs."""
        names = ("embedding_dim", "max_history", "heads", "units")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}

    @property
    def width(self) -> int:
        """Length of what `call` returns."""
        return self.heads * self.units

    def read(self, items: tf.Tensor, is_event: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Reads b histories once, for all that ask.

        Args:
            items: float32 [b, length, embedding_dim], item embeddings, the last event at the end.
            is_event: bool [b, length], False on padding.

        Returns:
            Keys and values, float32 [b, length, heads, units], and what is added to attention
            logits, float32 [b, heads, length]: the bias of recency, -1e9 on padding.
        """
        shape = tf.concat([tf.shape(items)[:2], [self.heads, self.units]], axis=0)
        keys, values = (
            tf.reshape(self.projections[name](items), shape) for name in ("key", "value")
        )
        bias = self.recency[:, self.max_history - tf.shape(items)[1] :]
        return keys, values, tf.where(is_event[:, None, :], bias[None], _NEVER)

    def call(
        self,
        candidates: tf.Tensor,
        row: tf.Tensor,
        history: tuple[tf.Tensor, tf.Tensor, tf.Tensor],
    ) -> tf.Tensor:
        """Asks for n candidates.

        Args:
            candidates: float32 [n, embedding_dim].
            row: int32 [n], the request of each, a row of `history`; ascending.
            history: From `read`.

        Returns:
            float32 [n, heads * units]; zeros where the history is empty.
        """
        keys, values, bias = history
        num_requests = tf.shape(bias, tf.int64)[0]
        row = tf.cast(row, tf.int64)
        # Candidates of a request side by side, [b, most, heads, units]: products of matrices then.
        counts = tf.math.bincount(row, minlength=num_requests, dtype=tf.int64)
        place = tf.range(tf.size(row, tf.int64)) - tf.gather(tf.cumsum(counts, exclusive=True), row)
        at = tf.stack([row, place], axis=-1)
        most = tf.reduce_max(tf.concat([counts, [0]], axis=0))
        query = tf.scatter_nd(
            at, self.projections["query"](candidates), tf.stack([num_requests, most, self.width])
        )
        query = tf.reshape(query, tf.stack([num_requests, most, self.heads, self.units]))
        logits = tf.einsum("bphu,blhu->bhpl", query, keys) / math.sqrt(self.units)
        bias = bias[:, :, None, :]
        # On padding the weight is exactly 0, also where there is nothing else.
        weights = tf.nn.softmax(logits + bias, axis=-1) * tf.cast(bias > _NEVER / 2, logits.dtype)
        found = tf.einsum("bhpl,blhu->bphu", weights, values)
        return tf.reshape(tf.gather_nd(found, at), [-1, self.width])
