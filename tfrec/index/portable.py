"""Approximate search with TensorFlow's own operations alone, so that any server can run it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from sklearn.cluster import MiniBatchKMeans

from tfrec.index.item_index import ItemIndex, strengthened
from tfrec.index.loop import search_each
from tfrec.index.table import EmbeddingTable, Precision

_EXACT_BELOW = 20_000
_TRAINING_ROWS_PER_CELL = 64
_ASSIGN_BLOCK = 65_536
_CELLS_PER_SEARCHED = 256


class PortableIndex(ItemIndex):
    """An inverted file: rows in cells around centres, of which a search scores the nearest cells'.

    Scores are the dot products; what is missed lies in cells that were not searched. Below
    20,000 rows all of them are one cell, and the search is exact.

    Args:
        tensors: The centres, float32 [num_cells, embedding_dim]; where each cell begins, int32
            [num_cells + 1]; the row at each place, int32 [num_items]; its embedding, float32
            [num_items, embedding_dim].
        num_items: Rows in the index.
        parameters: Settings it was built with.

    Source: Sivic & Zisserman, Video Google (2003), section 4, for the inverted file; Jégou et al.,
        Product Quantization for Nearest Neighbor Search (2011), section IV.A, for searching several
        cells.
    """

    def __init__(
        self, tensors: Sequence[np.ndarray], num_items: int, parameters: Mapping[str, Any]
    ) -> None:
        super().__init__(num_items, parameters)
        centres, starts, rows, embeddings = tensors
        self._centres = tf.Variable(centres, trainable=False, dtype=tf.float32)
        self._starts = tf.Variable(starts, trainable=False, dtype=tf.int32)
        self._rows = tf.Variable(rows, trainable=False, dtype=tf.int32)
        self._embeddings = EmbeddingTable(embeddings, self.parameters["precision"])

    @classmethod
    def build(
        cls, embeddings: np.ndarray, k: int, precision: Precision = "float32", seed: int = 0
    ) -> PortableIndex:
        """Parts the rows into about 4 sqrt(n) cells by k-means.

        Args:
            embeddings: float32 [num_items, embedding_dim].
            k: Number of rows that searches usually want.
            precision: What the embeddings are kept in.
            seed: Of k-means.
        """
        embeddings = np.ascontiguousarray(embeddings, np.float32)
        num_items = len(embeddings)
        num_cells = 1
        if num_items >= _EXACT_BELOW:
            num_cells = int(4 * math.sqrt(num_items))
        cell, centres = _part(embeddings, num_cells, seed)
        order = np.argsort(cell, kind="stable").astype(np.int32)
        starts = np.searchsorted(cell[order], np.arange(num_cells + 1)).astype(np.int32)
        parameters = {
            "precision": precision,
            "strength": 1,
            "num_cells": num_cells,
            "num_cells_to_search": max(1, num_cells // _CELLS_PER_SEARCHED),
        }
        return cls([centres, starts, order, embeddings[order]], num_items, parameters)

    def strengthen(self) -> bool:
        """Searches more cells from now on."""
        self.parameters = strengthened(
            self.parameters, ["num_cells_to_search"], self.parameters["num_cells"]
        )
        return True

    def tensors(self) -> list[np.ndarray]:
        """Returns what the constructor takes."""
        return [v.numpy() for v in (self._centres, self._starts, self._rows, self._embeddings)]

    def search(self, queries: tf.Tensor, k: tf.Tensor | int) -> tuple[tf.Tensor, tf.Tensor]:
        """See `Searcher.search`."""
        k = tf.minimum(k, self.num_items)
        num_cells = self.parameters["num_cells"]
        if num_cells == 1:
            best = tf.math.top_k(self._embeddings.scores(queries), k=k)
            return tf.gather(self._rows, best.indices), best.values
        # Cells differ in size: search enough for four times as many rows as are wanted.
        cells_for_k = tf.cast(tf.math.ceil(4 * k * num_cells / self.num_items), tf.int32)
        count = tf.minimum(
            tf.maximum(cells_for_k, self.parameters["num_cells_to_search"]), num_cells
        )
        nearness = tf.linalg.matmul(queries, self._centres, transpose_b=True)
        cells = tf.math.top_k(nearness, k=count).indices

        def search_one(query: tf.Tensor, own_cells: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            places = tf.ragged.range(
                tf.gather(self._starts, own_cells), tf.gather(self._starts, own_cells + 1)
            ).values
            scores = tf.linalg.matvec(self._embeddings.gather(places), query)
            found = tf.math.top_k(scores, k=tf.minimum(k, tf.size(scores)))
            padding = [[0, k - tf.size(found.values)]]
            rows = tf.gather(self._rows, tf.gather(places, found.indices))
            return tf.pad(rows, padding, constant_values=-1), tf.pad(found.values, padding)

        return search_each(search_one, queries, cells)


def _part(embeddings: np.ndarray, num_cells: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns each row's cell, int64 [n], and the centres, float32 [num_cells, dim]."""
    if num_cells == 1:
        return np.zeros(len(embeddings), np.int64), embeddings.mean(axis=0, keepdims=True)
    rng = np.random.default_rng(seed)
    sample = rng.permutation(len(embeddings))[: _TRAINING_ROWS_PER_CELL * num_cells]
    fitted = MiniBatchKMeans(
        num_cells, init="random", n_init=1, batch_size=16_384, max_iter=10, random_state=seed
    ).fit(embeddings[sample])
    centres = fitted.cluster_centers_.astype(np.float32)
    # |x - c|^2 = |x|^2 - 2 x c + |c|^2, of which the first part is the same for all centres.
    half_norms = 0.5 * np.square(centres).sum(axis=1)
    blocks = [
        np.argmax(embeddings[start : start + _ASSIGN_BLOCK] @ centres.T - half_norms, axis=1)
        for start in range(0, len(embeddings), _ASSIGN_BLOCK)
    ]
    return np.concatenate(blocks), centres
