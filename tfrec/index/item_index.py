"""What an index is."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfrec.errors import ConfigError, reason_of
from tfrec.index.table import Precision


class Searcher(tf.Module, ABC):
    """Answers with the rows of an embedding table that score highest against a query vector.

    Args:
        num_items: Rows in the index.
        parameters: Settings it was built with, as JSON holds them.

    Attributes:
        num_items: Rows in the index.
        parameters: Settings it was built with.
    """

    def __init__(self, num_items: int, parameters: Mapping[str, Any]) -> None:
        super().__init__()
        self.num_items = num_items
        self.parameters: dict[str, Any] = dict(parameters)

    @abstractmethod
    def tensors(self) -> list[np.ndarray]:
        """Returns the arrays that hold the index."""

    @abstractmethod
    def search(self, queries: tf.Tensor, k: tf.Tensor | int) -> tuple[tf.Tensor, tf.Tensor]:
        """Searches for the largest dot products.

        Args:
            queries: float32 [batch, embedding_dim].
            k: Number of rows wanted; at most `num_items` are there.

        Returns:
            Rows, int32 [batch, min(k, num_items)], and scores, float32 of the same shape, best
            first. An approximate index that finds too few rows fills up with row -1 and score 0.
        """


class ItemIndex(Searcher):
    """A kind of index: it says how it is built, stored and searched.

    It keeps what it searches in variables, so that an exported model can hold it. One that scores
    only the even rows:

    >>> class Halves(ItemIndex):
    ...     def __init__(self, tensors, num_items, parameters):
    ...         super().__init__(num_items, parameters)
    ...         self._rows = tf.Variable(tensors[0], trainable=False)
    ...     @classmethod
    ...     def build(cls, embeddings, k, precision="float32"):
    ...         return cls([embeddings[::2]], len(embeddings), {})
    ...     def tensors(self):
    ...         return [self._rows.numpy()]
    ...     def search(self, queries, k):
    ...         k, found = tf.minimum(k, self.num_items), tf.shape(self._rows)[0]
    ...         scores = tf.linalg.matmul(queries, self._rows, transpose_b=True)
    ...         best = tf.math.top_k(scores, tf.minimum(k, found))
    ...         return filled(2 * best.indices, best.values, k)
    >>> index = Halves.build(np.eye(3, dtype=np.float32), k=2)
    >>> index.search(tf.constant([[1.0, 3.0, 2.0]]), 3)[0].numpy().tolist()
    [[2, 0, -1]]
    """

    @classmethod
    @abstractmethod
    def build(cls, embeddings: np.ndarray, k: int, precision: Precision = "float32") -> ItemIndex:
        """Builds an index; options of the configuration are further keywords.

        Args:
            embeddings: float32 [num_items, embedding_dim].
            k: Number of rows that searches usually want.
            precision: What the embeddings are kept in.
        """

    @classmethod
    def restore(
        cls, tensors: Sequence[np.ndarray], num_items: int, parameters: Mapping[str, Any]
    ) -> ItemIndex:
        """Makes a stored index again, by default by calling the class.

        Args:
            tensors: From `tensors`.
            num_items: Rows in the index.
            parameters: As they were.
        """
        return cls(tensors, num_items, parameters)  # type: ignore[call-arg, arg-type]

    def strengthen(self) -> bool:
        """Tries harder from now on; returns False where there is nothing more to try."""
        return False


def filled(rows: tf.Tensor, scores: tf.Tensor, k: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Fills what a search found, [batch, up to k], up to k columns with row -1 and score 0.

    Where a score is infinite there is no row.
    """
    is_row = tf.math.is_finite(scores)
    rows, scores = tf.where(is_row, rows, -1), tf.where(is_row, scores, 0.0)
    padding = [[0, 0], [0, k - tf.shape(rows)[1]]]
    return tf.pad(rows, padding, constant_values=-1), tf.pad(scores, padding)


def strengthened(
    parameters: Mapping[str, Any], efforts: Sequence[str], most: int
) -> dict[str, Any]:
    """Returns the settings of an index that tries harder by a factor of the root of 2.

    Args:
        parameters: Its settings, `strength` among them.
        efforts: Names of those that say how much is searched; any may be missing.
        most: No setting gets larger than this.
    """
    more = {
        name: min(most, math.ceil(parameters[name] * math.sqrt(2)))
        for name in efforts
        if name in parameters
    }
    return {**parameters, **more, "strength": parameters["strength"] + 1}


def check_index(index: Searcher, key: str, dim: int) -> None:
    """Searches an index for batches of two and of none, in the graph, for more rows than it has.

    Args:
        index: Any index.
        key: Of the configuration, for messages.
        dim: Length of its embeddings.

    Raises:
        ConfigError: It cannot be traced, or answers something else than rows and scores.
    """
    name, wide = type(index).__name__, index.num_items + 2
    try:
        spec = [tf.TensorSpec([None, dim], tf.float32)]
        search = tf.function(lambda asked: index.search(asked, wide), spec, autograph=False)
        found = [search(tf.zeros([batch, dim])) for batch in (2, 0)]
    except Exception as error:  # a part of somebody else raises whatever it raises
        reason = reason_of(error)
        raise ConfigError(f"{key}: {name}.search cannot run in a graph: {reason}") from error
    for batch, answer in zip((2, 0), found, strict=True):
        parts = answer if isinstance(answer, tuple | list) else [answer]
        came = [
            f"{part.dtype.name} {part.shape.as_list()}" if tf.is_tensor(part) else repr(part)
            for part in parts
        ]
        shape = [batch, index.num_items]
        if came != [f"int32 {shape}", f"float32 {shape}"]:
            raise ConfigError(
                f"{key}: {name}.search: wanted rows, int32 {shape}, and scores, float32 {shape}, "
                f"of {batch} queries, got {' and '.join(came)}."
            )
        rows = answer[0].numpy()
        if rows.size and not -1 <= rows.min() <= rows.max() < index.num_items:
            raise ConfigError(
                f"{key}: {name}.search: wanted rows from -1 to {index.num_items - 1}, got "
                f"{rows.min()} to {rows.max()}."
            )
