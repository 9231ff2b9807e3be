"""What a source of candidates is: built once from training data, asked in the graph."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfrec.data.dataset import PreparedData
from tfrec.errors import ConfigError, reason_of

IsAllowed = Callable[[tf.Tensor], tf.Tensor]
"""From items, int32 [batch, n], to bool [batch, n]: whether a request may get them."""

Nearest = Callable[[int], tf.Tensor]
"""From k to the items that the towers find, int32 [batch, up to k], best first; 0 pads."""


class SourceData(NamedTuple):
    """What a source may learn from.

    Attributes:
        data: The prepared data set.
        item_tokens: int32 [num_items + 1, length], the items' texts; 0 pads.
        num_tokens: Size of the vocabulary.
        first_word: First token id above the special ones.
    """

    data: PreparedData
    item_tokens: np.ndarray
    num_tokens: int
    first_word: int


class Asked(NamedTuple):
    """What a source is told of a batch of requests.

    Attributes:
        recent: int32 [batch, length], the last items of the history, oldest first; 0 pads.
        query: int32 [batch, length], tokens of the query; 0 pads. None where no source reads it.
        is_allowed: Which items may be proposed.
        nearest: Searches the index with the requests' vectors.
    """

    recent: tf.Tensor
    query: tf.Tensor | None
    is_allowed: IsAllowed
    nearest: Nearest


class CandidateSource(tf.Module, ABC):
    """Proposes items to requests.

    A source of your own says what it keeps and what it proposes of that; what a request bars is
    left out for it. This one proposes the newest items to everybody:

    >>> class Newest(CandidateSource):
    ...     def build(self, data):
    ...         return {"items": np.arange(data.data.num_items, 0, -1, dtype=np.int32)}
    ...     def propose(self, asked, k):
    ...         batch = tf.shape(asked.recent)[0]
    ...         return tf.repeat(self.arrays["items"][None, :k], batch, axis=0)
    >>> source = Newest()
    >>> source.load({"items": np.array([3, 2, 1], np.int32)})
    >>> asked = Asked(tf.zeros([1, 4], tf.int32), None, lambda items: items > 0, None)
    >>> source.propose(asked, 2).numpy().tolist()
    [[3, 2]]

    Attributes:
        reads_query: Whether `propose` reads `Asked.query`.
        keeps_filters: Whether it proposes allowed items only, so that it is not checked again.
        arrays: What it keeps, as variables by name.
    """

    reads_query: bool = False
    keeps_filters: bool = False
    arrays: Mapping[str, tf.Variable]

    @abstractmethod
    def build(self, data: SourceData) -> dict[str, np.ndarray]:
        """Learns from training data; returns the arrays that are kept, by name."""

    @abstractmethod
    def propose(self, asked: Asked, k: int) -> tf.Tensor:
        """Proposes items, in the graph.

        Args:
            asked: The requests.
            k: Items that are wanted.

        Returns:
            int32 [batch, any length], item indices, best first, each at most once; 0 for none. Of
            those that are allowed the first k are taken.
        """

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Takes what `build` returned, as variables that an exported model holds."""
        self.arrays = {
            name: tf.Variable(values, trainable=False) for name, values in arrays.items()
        }


class TwoTower(CandidateSource):
    """The items that score highest with the request's vector."""

    keeps_filters = True

    def build(self, data: SourceData) -> dict[str, np.ndarray]:
        """Keeps nothing: the index is a stage of its own."""
        return {}

    def propose(self, asked: Asked, k: int) -> tf.Tensor:
        """Searches the index."""
        return asked.nearest(k)


def check_source(source: CandidateSource, key: str, num_items: int) -> None:
    """Asks a loaded source for two small batches, in the graph.

    Raises:
        ConfigError: It cannot be traced, or proposes what are no item indices.
    """

    def ask(recent: tf.Tensor) -> Any:
        def nearest(k: int) -> tf.Tensor:
            return tf.zeros([tf.shape(recent)[0], k], tf.int32)

        return source.propose(Asked(recent, recent, lambda items: items > 0, nearest), 2)

    name = type(source).__name__
    wanted = f"{key}: {name}.propose: wanted int32 [batch, n] of item indices"
    try:
        asked = tf.function(ask, [tf.TensorSpec([None, None], tf.int32)], autograph=False)
        found = [asked(tf.zeros([batch, 3], tf.int32)) for batch in (2, 0)]
    except Exception as error:  # a part of somebody else raises whatever it raises
        reason = reason_of(error)
        raise ConfigError(f"{key}: {name}.propose cannot run in a graph: {reason}") from error
    for batch, items in zip((2, 0), found, strict=True):
        is_tensor = tf.is_tensor(items)
        shape = items.shape.as_list() if is_tensor else []
        if not is_tensor or items.dtype != tf.int32 or len(shape) != 2 or shape[0] != batch:
            came = f"{items.dtype.name} {shape}" if is_tensor else repr(items)
            raise ConfigError(f"{wanted}, got {came} for a batch of {batch}.")
        if (
            items.shape[1]
            and batch
            and not 0 <= items.numpy().min() <= items.numpy().max() <= num_items
        ):
            raise ConfigError(
                f"{wanted} from 0 to {num_items}, got {items.numpy().min()} to "
                f"{items.numpy().max()}."
            )
