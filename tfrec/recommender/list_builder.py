"""From candidates with what all stages say of them to a list: blend, caps, the first k."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from tfrec.candidates.order import ListOrder
from tfrec.recommender.filters import ItemFilters
from tfrec.schema import UNKNOWN_INDEX


class ListBuilder(tf.Module):
    """Makes lists of k items.

    Args:
        order: What candidates are sorted by.
        filters: Its caps say how many items with one value a list may hold.
        k: Items in a list.
    """

    def __init__(self, order: ListOrder, filters: ItemFilters, k: int) -> None:
        super().__init__(name="list_builder")
        self._weights = list(order.weights)
        self._filters = filters
        self._k = k

    def blend(self, values: tf.Tensor) -> tf.Tensor:
        """Weighs what is said of candidates; float32 [batch, n] from [batch, n, num_names]."""
        return tf.linalg.matvec(values, tf.constant(self._weights, tf.float32))

    def within_caps(self, items: tf.Tensor, order: tf.Tensor) -> tf.Tensor:
        """Lowers what a list may not hold to -inf.

        Args:
            items: int32 [batch, n]; 0 where there is none.
            order: float32 [batch, n], the highest comes first.

        Returns:
            float32 [batch, n]: -inf where there is no item, or where items before it are as many
            as the caps allow.
        """
        order = tf.where(items != UNKNOWN_INDEX, order, -np.inf)
        if not self._filters.caps:
            return order
        places = tf.argsort(-order, axis=1, stable=True)
        stays = self._filters.is_within_caps(tf.gather(items, places, batch_dims=1))
        stays = tf.gather(stays, tf.argsort(places, axis=1), batch_dims=1)
        return tf.where(stays, order, -np.inf)

    def build(
        self, answer: Mapping[str, tf.Tensor], items: tf.Tensor, order: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Takes the first k items within the caps.

        Args:
            answer: What is said of the items, [batch, n] each.
            items: int32 [batch, n]; 0 where there is none.
            order: float32 [batch, n], the highest comes first.

        Returns:
            [batch, k] each, padded with 0 and "".
        """
        order = self.within_caps(items, order)
        best = tf.math.top_k(order, k=tf.minimum(self._k, tf.shape(items)[1]))
        values, places = list(answer.values()), best.indices
        if self._filters.caps:  # what was taken away is a padded place at the end of the row
            end = tf.shape(items)[1]
            values = [tf.pad(value, [[0, 0], [0, 1]]) for value in values]
            places = tf.where(best.values > -np.inf, places, end)
        best_first = [tf.gather(value, places, batch_dims=1) for value in values]
        return dict(zip(answer, pad_columns(best_first, self._k), strict=True))


def pad_columns(values: Sequence[tf.Tensor], width: int) -> list[tf.Tensor]:
    """Fills [batch, up to width] up to [batch, width] with 0 or "", each."""
    return [
        tf.ensure_shape(tf.pad(v, [[0, 0], [0, width - tf.shape(v)[1]]]), [None, width])
        for v in values
    ]
