"""From one vector a token to one vector a text."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import keras
import tensorflow as tf

Pooling = Literal["mean", "cls", "attention"]

Pool = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
"""From float32 [n, length, dim], token vectors, and bool [n, length], true where a token stands,
to float32 [n, dim]. A row without tokens gives finite values that mean nothing."""


def build_pooling(kind: Pooling, dim: int) -> Pool:
    """Returns the pooling named `kind` for token vectors of length `dim`."""
    if kind == "attention":
        return AttentionPooling(dim, name="pooling")
    return {"mean": pool_mean, "cls": pool_first}[kind]


def pool_mean(vectors: tf.Tensor, is_token: tf.Tensor) -> tf.Tensor:
    """Averages over the tokens."""
    is_token = tf.cast(is_token, vectors.dtype)
    count = tf.reduce_sum(is_token, axis=1, keepdims=True)  # [n, 1]
    return tf.einsum("nld,nl->nd", vectors, is_token) / tf.maximum(count, 1.0)


def pool_first(vectors: tf.Tensor, is_token: tf.Tensor) -> tf.Tensor:
    """Takes the first token's vector, ``[CLS]``."""
    del is_token
    return vectors[:, 0]


@keras.saving.register_keras_serializable("tfrec")
class AttentionPooling(keras.layers.Layer):
    """Averages over the tokens with weights softmax(vectors @ query / sqrt(dim)).

    The learned query starts at zero, which is the plain mean.

    Args:
        dim: Length of a token's vector.

    Source: Yang et al., Hierarchical Attention Networks (2016), section 2.2, equations 5 to 7.
    Deviates: No layer before the query; logits are divided as in Vaswani et al. (2017).

    Example:
        >>> import numpy as np
        >>> from tfrec.encoders import AttentionPooling
        >>> vectors = np.array([[[2.0, 4.0], [4.0, 0.0], [9.0, 9.0]]], np.float32)
        >>> AttentionPooling(2)(vectors, np.array([[True, True, False]])).numpy()
        array([[3., 2.]], dtype=float32)
    """

    def __init__(self, dim: int, **kwargs: Any) -> None:
        # In a model of mixed precision too, as its inputs are.
        super().__init__(**({"dtype": "float32"} | kwargs))
        self.dim = dim
        self.query = self.add_weight(shape=(dim,), initializer="zeros", name="query")
        self.built = True

    def get_config(self) -> dict[str, Any]:
        """Returns what builds the layer again; see Keras."""
        return super().get_config() | {"dim": self.dim}

    def call(self, vectors: tf.Tensor, is_token: tf.Tensor) -> tf.Tensor:
        """See `Pool`."""
        logits = tf.einsum("nld,d->nl", vectors, self.query) / math.sqrt(self.dim)
        shares = tf.nn.softmax(tf.where(is_token, logits, -1e9), axis=1)
        return tf.einsum("nld,nl->nd", vectors, shares)
