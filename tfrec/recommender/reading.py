"""From raw strings and numbers of requests and items to what the models read, in the graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfrec.features.feature_type import FeatureType
from tfrec.features.lookup import lookup_table
from tfrec.recommender.catalogue import Catalogue, Inputs
from tfrec.schema import UNKNOWN_INDEX, Tensors


class RequestReader(keras.layers.Layer):
    """Looks up ids and categories and scales numbers.

    Args:
        catalogue: Items and users.
        inputs: Columns of requests and items.
    """

    def __init__(self, catalogue: Catalogue, inputs: Inputs, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.inputs = inputs
        kinds = inputs.event_kinds
        known = [n for n, item in enumerate(catalogue.item_ids, start=1) if item]
        self._item_index = lookup_table([catalogue.item_ids[n - 1] for n in known], known)
        self._user_row = lookup_table(catalogue.user_ids, catalogue.user_id_rows[1:])
        self._event_kind = lookup_table(kinds, range(1, len(kinds) + 1))
        self._request_lookups = feature_lookups(inputs.request_features)
        self._item_lookups = feature_lookups(inputs.item_features)
        self.built = True

    def item_indices(self, item_ids: tf.Tensor) -> tf.Tensor:
        """Looks up string item ids of any shape; int32, 0 for unknown."""
        return self._item_index.lookup(item_ids)

    def user_rows(self, request: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Returns int32 [batch], rows of the table of user ids, 0 for unknown."""
        return self._user_row.lookup(request[Tensors.USER_ID])

    def event_kinds(self, request: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Returns int32 [batch, length], the kinds of the history's events, 0 for unknown."""
        return self._event_kind.lookup(request[Tensors.HISTORY_KIND])

    def request_features(self, request: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Encodes user attributes and request features, [batch, ...] each."""
        return _encode_features(self.inputs.request_features, request, self._request_lookups)

    def item_features(self, item: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Encodes item features, [batch, ...] each."""
        return _encode_features(self.inputs.item_features, item, self._item_lookups)


def last_items(history: tf.Tensor, length: int) -> tf.Tensor:
    """Moves padding and unknown items to the front and keeps the last `length` entries.

    Args:
        history: int32 [batch, any length], 0 anywhere for none.
        length: Entries to keep.

    Returns:
        int32 [batch, length], known items at the end in their order.
    """
    return last_values(history, history, length)


def last_values(values: tf.Tensor, history: tf.Tensor, length: int) -> tf.Tensor:
    """Picks what goes with `last_items`.

    Args:
        values: Number for each entry of the histories, or for the last of them, [batch, up to
            any length].
        history: int32 [batch, any length], 0 anywhere for none.
        length: Entries to keep.

    Returns:
        [batch, length]; 0 where there is no item or no value.
    """
    width = tf.shape(history)[1] + length
    missing = tf.maximum(width - tf.shape(values)[1], 0)
    values = tf.pad(values, [[0, 0], [missing, 0]])[:, -width:]
    padded = tf.pad(history, [[0, 0], [length, 0]])
    values = tf.where(padded != UNKNOWN_INDEX, values, tf.zeros_like(values))
    order = tf.argsort(tf.cast(padded != UNKNOWN_INDEX, tf.int32), axis=1, stable=True)
    return tf.gather(values, order[:, -length:], batch_dims=1)


def _encode_features(
    features: Sequence[FeatureType],
    values: Mapping[str, tf.Tensor],
    lookups: Mapping[str, Any],
) -> dict[str, tf.Tensor]:
    return {
        feature.name: feature.encode_tensor(values[feature.name], lookups.get(feature.name))
        for feature in features
    }


def feature_lookups(features: Sequence[FeatureType]) -> dict[str, Any]:
    """Returns by name what features look values up in; see `FeatureType.table`."""
    tables = {feature.name: feature.table() for feature in features}
    return {name: table for name, table in tables.items() if table is not None}
