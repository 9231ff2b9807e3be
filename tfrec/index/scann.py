"""Approximate search with ScaNN's TensorFlow operations. The only module that imports scann."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from scann.scann_ops.py import scann_ops

from tfrec.index.item_index import ItemIndex, filled, strengthened
from tfrec.index.loop import search_each
from tfrec.index.table import Precision

_EXACT_BELOW = 20_000
_FLAT_BELOW = 100_000

# Fields of ScaNN's ScannState, in the order of its constructor.
_STATE = (
    "scann_config",
    "serialized_partitioner",
    "datapoint_to_token",
    "ah_codebook",
    "hashed_dataset",
    "int8_dataset",
    "int8_multipliers",
    "dp_norms",
    "dataset",
)
# Those that hold a serialised proto.
_PROTOS = ("scann_config", "serialized_partitioner", "ah_codebook")


class ScannIndex(ItemIndex):
    """A ScaNN searcher, held as variables so that it can be exported and stored.

    The kind of search follows ScaNN's rule of thumb: every row below 20,000 items, quantised rows
    with exact re-scoring below 100,000, and a tree in front of that above.

    Args:
        tensors: What ScaNN keeps of a built searcher, in its order.
        num_items: Rows in the index.
        parameters: Settings it was built with.

    Source: https://github.com/google-research/google-research/blob/master/scann/docs/algorithms.md,
        "Rules-of-thumb".
    Deviates: 2 sqrt(n) leaves in place of sqrt(n): at equal recall a query is quicker
        (benchmarks/index.py). SOAR is left out: ScaNN's TensorFlow operations refuse it.
    """

    def __init__(
        self, tensors: Sequence[np.ndarray], num_items: int, parameters: Mapping[str, Any]
    ) -> None:
        super().__init__(num_items, parameters)
        self._state = scann_ops.ScannState(
            [
                _to_proto(tensor) if name in _PROTOS else tf.constant(tensor)
                for name, tensor in zip(_STATE, tensors, strict=True)
            ]
        )

    @classmethod
    def build(cls, embeddings: np.ndarray, k: int, precision: Precision = "float32") -> ScannIndex:
        """Builds a searcher.

        Args:
            embeddings: float32 [num_items, embedding_dim].
            k: Number of rows that searches usually want.
            precision: Of no matter: of ScaNN's operations only those with float32 rows can be
                stored and loaded (1.4.2).
        """
        num_items = len(embeddings)
        parameters = _parameters(num_items, k)
        builder = scann_ops.builder(np.asarray(embeddings, np.float32), k, "dot_product")
        if "num_leaves" in parameters:
            builder = builder.tree(
                parameters["num_leaves"],
                parameters["num_leaves_to_search"],
                training_sample_size=min(num_items, 250_000),
            )
        if "reorder" in parameters:
            builder = builder.score_ah(2, anisotropic_quantization_threshold=0.2)
            builder = builder.reorder(parameters["reorder"])
        else:
            builder = builder.score_brute_force()
        tensors = scann_ops.scann_to_tensors(builder.build().searcher_handle)
        return cls([_to_array(tensor) for tensor in tensors], num_items, parameters)

    def strengthen(self) -> bool:
        """Searches more leaves and re-scores more rows from now on."""
        efforts = ["reorder", "num_leaves_to_search"]
        self.parameters = strengthened(self.parameters, efforts, self.num_items)
        return True

    def tensors(self) -> list[np.ndarray]:
        """Returns what the constructor takes."""
        return [_to_array(getattr(self._state, name)) for name in _STATE]

    def search(self, queries: tf.Tensor, k: tf.Tensor | int) -> tuple[tf.Tensor, tf.Tensor]:
        """See `Searcher.search`."""
        searcher = scann_ops.searcher_from_module(self._state)
        k = tf.minimum(k, self.num_items)
        # What the index was built for is a floor: a search for more re-scores and visits more.
        num_rescored = tf.maximum(k, self.parameters.get("reorder", 0))
        num_leaves = self.parameters.get("num_leaves", 1)
        # Leaves differ in size: visit enough for four times as many rows as are wanted.
        leaves_for_k = tf.cast(tf.math.ceil(4 * k * num_leaves / self.num_items), tf.int32)
        leaves = tf.maximum(leaves_for_k, self.parameters.get("num_leaves_to_search", 1))
        settings = {
            "final_num_neighbors": k,
            "pre_reorder_num_neighbors": num_rescored,
            "leaves_to_search": tf.minimum(leaves, num_leaves),
        }
        if "reorder" not in self.parameters:
            rows, scores = searcher.search_batched(queries, **settings)
            return filled(rows, scores, k)

        def search_one(query: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            rows, scores = searcher.search(query, **settings)
            rows, scores = filled(rows[None], scores[None], k)
            return rows[0], scores[0]

        # Of a batch ScaNN would answer a query otherwise than alone.
        return search_each(search_one, queries)


def _parameters(num_items: int, k: int) -> dict[str, Any]:
    parameters: dict[str, Any] = {"strength": 1}
    if num_items >= _EXACT_BELOW:
        parameters["reorder"] = min(num_items, 6 * k)
    if num_items >= _FLAT_BELOW:
        parameters["num_leaves"] = int(2 * math.sqrt(num_items))
        parameters["num_leaves_to_search"] = max(1, parameters["num_leaves"] // 40)
    return parameters


def _to_array(tensor: tf.Tensor) -> np.ndarray:
    """Returns the tensor's array; a serialised proto as uint8 [bytes]."""
    if tensor.dtype == tf.string:
        return np.frombuffer(tf.reshape(tensor, []).numpy(), np.uint8)
    return tensor.numpy()


def _to_proto(array: np.ndarray) -> tf.Tensor:
    """Returns the proto as ScaNN wants it: a vector of one, or a scalar where there is none."""
    serialized = array.tobytes()
    return tf.constant([serialized] if serialized else serialized)
