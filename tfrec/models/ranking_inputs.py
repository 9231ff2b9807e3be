"""What the ranking model reads: of requests, and of pairs of a request and an item."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import tensorflow as tf


@dataclass(frozen=True)
class RequestInputs:
    """What the ranking model reads of b requests.

    Attributes:
        user: int32 [b], index of the user; says how many requests there are.
        features: Encoded user attributes and request features, [b, ...] each.
        embedding: float32 [b, embedding_dim], from the user tower; None without towers.
        history: float32 [b, length, embedding_dim], the history's item embeddings, the last event
            at the end; None where no candidate looks at it.
        is_event: bool [b, length], False on the history's padding.
        time: int64 [b], seconds since 1970, 0 for unknown; None where the model reads no clock.
    """

    user: tf.Tensor
    features: Mapping[str, tf.Tensor] = field(default_factory=dict)
    embedding: tf.Tensor | None = None
    history: tf.Tensor | None = None
    is_event: tf.Tensor | None = None
    time: tf.Tensor | None = None


@dataclass(frozen=True)
class PairInputs:
    """What the ranking model reads of n pairs of a request and an item.

    Attributes:
        request: int32 [n], row of the request among the b; ascending.
        position: int [n], from 1, at which the item is shown; 0 for unknown.
        item_features: Encoded, [n, ...] each.
        embedding: float32 [n, embedding_dim], from the item tower; None without towers.
        statistics: float32 [n, num_statistics], the item's past, log odds first.
    """

    request: tf.Tensor
    position: tf.Tensor
    item_features: Mapping[str, tf.Tensor] = field(default_factory=dict)
    embedding: tf.Tensor | None = None
    statistics: tf.Tensor | None = None
