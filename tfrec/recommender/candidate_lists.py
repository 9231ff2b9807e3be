"""Lists of the recommender's core for requests of the prepared data, block by block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from tfrec.inputs.item_statistics import ItemStatistics
from tfrec.recommender.candidate_search import Candidates
from tfrec.recommender.prepared_requests import PreparedRequests
from tfrec.recommender.recommender import Recommender
from tfrec.recommender.request_reader import DecodedRequest


@dataclass(frozen=True)
class CandidateBlock:
    """Candidates of n requests.

    Attributes:
        items: int32 [n, num_candidates] in the order of the fused list; 0 where there is none.
        values: float32 [n, num_candidates, num_names], what they are sorted by.
        order: float32 [n, num_candidates], by which the list is sorted, the highest first; -inf
            where there is no item or the caps take it away.
    """

    items: np.ndarray
    values: np.ndarray
    order: np.ndarray


class CandidateLists:
    """Asks a recommender's core about requests of the prepared data.

    Args:
        recommender: With towers.
        requests: Reads the requests.
        temperature: What retrieval scores were divided by in training.
        statistics: What was known of items when a request came; None: what is known at the end of
            training serves for all requests.

    Attributes:
        names: What candidates are sorted by.
        temperature: As given.
        is_fused: Whether several sources propose.
    """

    def __init__(
        self,
        recommender: Recommender,
        requests: PreparedRequests,
        *,
        temperature: float = 1.0,
        statistics: ItemStatistics | None = None,
    ) -> None:
        self._core = recommender.core
        self._requests = requests
        self._statistics = statistics
        self._functions: tuple[Any, Any] | None = None
        self.names = recommender.names
        self.temperature = temperature
        self.is_fused = recommender.has_several_sources

    def of(self, contexts: np.ndarray) -> CandidateBlock:
        """Finds and sorts the candidates of n requests, int [n]: rows of the prepared contexts."""
        request = self._requests.decode(contexts)
        if self._functions is None:
            self._functions = self._compile(request)
        find, sort = self._functions
        known = [values for values in tf.nest.flatten(request) if values is not None]
        found = find(*known)
        values, order = sort(*known, *found, *self._known_of(contexts, found.items.numpy()))
        return CandidateBlock(found.items.numpy(), values.numpy(), order.numpy())

    def _known_of(self, contexts: np.ndarray, items: np.ndarray) -> list[tf.Tensor]:
        """Returns what was known of candidates when requests came, [n, num_candidates, any]."""
        if self._statistics is None:
            return []
        flat = self._statistics.live(np.repeat(contexts, items.shape[1]), items.reshape(-1))
        return [tf.constant(flat.reshape(*items.shape, -1))]

    def _compile(self, example: DecodedRequest) -> tuple[Any, Any]:
        """Traces the core for requests like this one, in batches of any size."""
        core, leaves = self._core, tf.nest.flatten(example)
        specs = [
            tf.TensorSpec(
                # Numbers of things come in rows of any length, vectors do not.
                [None] * v.shape.rank if v.dtype == tf.int32 else [None, *v.shape[1:]],
                v.dtype,
            )
            for v in leaves
            if v is not None
        ]
        size = len(specs)

        def packed(known: tuple[tf.Tensor, ...]) -> DecodedRequest:
            given = iter(known)
            filled = [None if values is None else next(given) for values in leaves]
            request: DecodedRequest = tf.nest.pack_sequence_as(example, filled)
            return request

        def sort(*inputs: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            request, found = packed(inputs[:size]), Candidates(*inputs[size : size + 3])
            outputs = core.score(request, found.items, *inputs[size + 3 :])
            values = core.values(outputs, found)
            return values, core.lists.within_caps(found.items, core.lists.blend(values))

        of_found = [
            tf.TensorSpec([None, None], tf.int32),
            tf.TensorSpec([None, None]),
            tf.TensorSpec([None, None, core.num_sources]),
        ]
        if self._statistics is not None:
            of_found.append(tf.TensorSpec([None, None, len(self._statistics.names)]))
        find = tf.function(lambda *known: core.find(packed(known)), specs, autograph=False)
        return find, tf.function(sort, [*specs, *of_found], autograph=False)
