"""Which wrong items a target has to win against: drawn, shown and passed over, or mined."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfrec.data.dataset import PreparedData
from tfrec.schema import Columns
from tfrec.training.samplers import NegativeSampler

_BLOCK = 1024


class DrawnNegatives:
    """Items drawn in the graph by some samplers.

    Args:
        draws: Samplers, and how many items each draws.
        per_target: Whether they draw anew for each target.
    """

    def __init__(
        self, draws: Sequence[tuple[NegativeSampler, int]], *, per_target: bool = False
    ) -> None:
        self._draws = list(draws)
        self._per_target = per_target
        self._shares = [
            (count, tf.constant(sampler.probabilities())) for sampler, count in draws if count
        ]

    def __call__(self, seed: tf.Tensor, num_targets: tf.Tensor) -> tf.Tensor:
        """Draws the negatives of a step.

        Args:
            seed: int32 [2], of the step.
            num_targets: Targets of the step, a scalar.

        Returns:
            int32 [n] for all targets together, or [num_targets, n] with `per_target`.
        """
        rows = [num_targets] if self._per_target else []
        drawn = [
            sampler.draw(seed + offset, tf.stack([*rows, count]))
            for offset, (sampler, count) in enumerate(self._draws)
            if count
        ]
        if not drawn:
            return tf.zeros([*rows, 0], tf.int32)
        return tf.concat(drawn, axis=-1)

    def expected(self, index: tf.Tensor) -> list[tuple[int, tf.Tensor]]:
        """Returns of each sampler its draws and how likely each is an item of `index`."""
        return [(count, tf.gather(share, index)) for count, share in self._shares]


class PassedOver:
    """Items that requests showed and that were not chosen.

    Args:
        data: The prepared data set.
    """

    def __init__(self, data: PreparedData) -> None:
        examples = data.examples
        is_shown = examples[Columns.IS_RANKED].to_numpy() & (
            examples[Columns.LABEL].to_numpy() == 0
        )
        context = examples["context"].to_numpy()[is_shown]
        order = np.argsort(context, kind="stable")
        self._items = examples["item_index"].to_numpy()[is_shown][order]
        counts = np.bincount(context, minlength=data.contexts.height)
        self._starts = np.concatenate([[0], np.cumsum(counts)])

    def of_contexts(self, contexts: np.ndarray, limit: int, rng: np.random.Generator) -> np.ndarray:
        """Returns up to `limit` of each request, int32 [n, limit], padded with 0."""
        starts = self._starts[contexts]
        counts = self._starts[contexts + 1] - starts
        place = np.arange(limit)
        shift = (rng.random(len(contexts)) * counts).astype(np.int64)
        at = starts[:, None] + (shift[:, None] + place) % np.maximum(counts, 1)[:, None]
        if not self._items.size:
            return np.zeros(at.shape, np.int32)
        items = self._items[np.minimum(at, len(self._items) - 1)]
        return np.where(place < counts[:, None], items, 0).astype(np.int32)


class KnownPositives:
    """The items that each user chose in training.

    Args:
        data: The prepared data set.
    """

    def __init__(self, data: PreparedData) -> None:
        rows = data.target_rows("train")
        context = data.examples["context"].to_numpy()[rows]
        user = data.contexts["user_index"].to_numpy()[context]
        order = np.argsort(user, kind="stable")
        self._items = data.examples["item_index"].to_numpy()[rows][order]
        counts = np.bincount(user, minlength=data.num_users + 1)
        self._starts = np.concatenate([[0], np.cumsum(counts)])

    def pairs(self, users: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Lists what the users at n rows chose.

        Args:
            users: int [n], user indices.

        Returns:
            Pairs as two int32 arrays: row of `users`, and item index.
        """
        starts = self._starts[users]
        counts = self._starts[users + 1] - starts
        rows = np.repeat(np.arange(len(users)), counts)
        first = np.repeat(starts - np.concatenate([[0], np.cumsum(counts)[:-1]]), counts)
        return rows.astype(np.int32), self._items[first + np.arange(len(rows))].astype(np.int32)


def mine(
    requests: np.ndarray,
    catalogue: np.ndarray,
    excluded: tuple[np.ndarray, np.ndarray],
    *,
    count: int,
    depth: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Finds wrong items that a model ranks high.

    Args:
        requests: float32 [n, dim].
        catalogue: float32 [num_items + 1, dim]; row 0 is never found.
        excluded: Pairs of row and item that are right answers, two int arrays sorted by row.
        count: Items wanted for each request.
        depth: They are drawn from this many first ranks.
        rng: Draws.

    Returns:
        int32 [n, count], padded with 0 where a catalogue has too few wrong items.

    Source: Xiong et al., Approximate Nearest Neighbor Negative Contrastive Learning (2021).
    """
    num_items = len(catalogue) - 1
    depth = min(depth, num_items)
    found = np.zeros((len(requests), count), np.int32)
    for start in range(0, len(requests), _BLOCK):
        block = slice(start, min(start + _BLOCK, len(requests)))
        scores = requests[block] @ catalogue.T
        first, last = np.searchsorted(excluded[0], [block.start, block.stop])
        scores[excluded[0][first:last] - start, excluded[1][first:last]] = -np.inf
        scores[:, 0] = -np.inf
        top = np.argpartition(-scores, depth - 1, axis=1)[:, :depth]
        is_wrong = np.isfinite(np.take_along_axis(scores, top, axis=1))
        # A random order with the right answers and row 0 at the end.
        order = np.argsort(np.where(is_wrong, rng.random(top.shape), 2.0), axis=1)[:, :count]
        chosen = np.take_along_axis(top, order, axis=1)
        is_wrong = np.take_along_axis(is_wrong, order, axis=1)
        found[block, : chosen.shape[1]] = np.where(is_wrong, chosen, 0)
    return found
