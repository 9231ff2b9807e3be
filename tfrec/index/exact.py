"""What an index is, and the exact one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from tfrec.index.table import EmbeddingTable, Precision


class ItemIndex(Protocol):
    """Answers with the rows of an embedding table that score highest against a query vector.

    An index is a `tf.Module` as well, so that an exported model can hold it.
    """

    num_items: int
    parameters: dict[str, Any]

    def tensors(self) -> list[np.ndarray]:
        """Returns the arrays that hold the index."""
        ...

    def search(self, queries: tf.Tensor, k: tf.Tensor | int) -> tuple[tf.Tensor, tf.Tensor]:
        """Searches for the largest dot products.

        Args:
            queries: float32 [batch, embedding_dim].
            k: Number of rows wanted; at most `num_items` are there.

        Returns:
            Rows, int32 [batch, min(k, num_items)], and scores, float32 of the same shape, best
            first. An approximate index that finds too few rows fills up with row -1.
        """
        ...


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


class ExactIndex(tf.Module):
    """Scores every row.

    Args:
        embeddings: float32 [num_items, embedding_dim].
        precision: What they are kept in.
    """

    def __init__(self, embeddings: np.ndarray, precision: Precision = "float32") -> None:
        super().__init__(name="exact_index")
        self.num_items = len(embeddings)
        self.parameters: dict[str, Any] = {"precision": precision}
        self._embeddings = EmbeddingTable(embeddings, precision)

    def tensors(self) -> list[np.ndarray]:
        """Returns the embeddings."""
        return [self._embeddings.numpy()]

    def search(self, queries: tf.Tensor, k: tf.Tensor | int) -> tuple[tf.Tensor, tf.Tensor]:
        """See `ItemIndex.search`. Of equal scores the lower row comes first."""
        best = tf.math.top_k(self._embeddings.scores(queries), k=tf.minimum(k, self.num_items))
        return best.indices, best.values
