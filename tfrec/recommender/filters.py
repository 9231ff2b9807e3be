"""Which items an answer may hold: what requests allow, deny and exclude, what is available."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tfrec.features.lookup import lookup_table
from tfrec.recommender.catalogue import Catalogue
from tfrec.schema import UNKNOWN_INDEX, Tensors

_SAMPLE = 1024


class Barred(NamedTuple):
    """What the requests of a batch bar.

    Attributes:
        items: int32 [batch, any length], items that are left out; 0 pads.
        allowed: By attribute, bool [batch, num_values + 1], which values an item may have; an item
            needs one of them.
        denied: By attribute, bool [batch, num_values + 1], which values an item may not have.
        is_limited: By attribute, bool [batch], whether the request names allowed values at all.
    """

    items: tf.Tensor
    allowed: Mapping[str, tf.Tensor]
    denied: Mapping[str, tf.Tensor]
    is_limited: Mapping[str, tf.Tensor]

    def of(self, number: tf.Tensor) -> Barred:
        """Returns the request with a number, int32 [], as a batch of one."""
        picked: Barred = tf.nest.map_structure(lambda values: values[number][None], self)
        return picked


class ItemFilters(keras.layers.Layer):
    """Tells which items requests may get.

    Args:
        catalogue: Attributes of the items, and which are available.
        caps: By attribute, how many items with one value an answer may hold.

    Attributes:
        names: Attributes that requests may allow or deny.
        caps: As given.
    """

    def __init__(self, catalogue: Catalogue, caps: Mapping[str, int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.names: list[str] = [*catalogue.attributes]
        self.caps = dict(caps)
        num_items = len(catalogue.item_ids)
        self._values = {
            name: lookup_table(attribute.values, range(1, len(attribute.values) + 1))
            for name, attribute in catalogue.attributes.items()
        }
        self._num_values = {n: len(a.values) for n, a in catalogue.attributes.items()}
        self._codes = {
            name: tf.Variable(attribute.codes, trainable=False)
            for name, attribute in catalogue.attributes.items()
        }
        available = np.ones(num_items + 1, bool)
        if catalogue.is_available is not None:
            available[:] = catalogue.is_available
        available[UNKNOWN_INDEX] = False
        self._is_available = tf.Variable(available, trainable=False)
        drawn = np.random.default_rng(0).permutation(num_items)[:_SAMPLE] + 1
        self._sample = tf.Variable(drawn.astype(np.int32), trainable=False)
        self.built = True

    def read(self, request: Mapping[str, tf.Tensor], items: tf.Tensor) -> Barred:
        """Reads what requests allow and deny.

        Args:
            request: Its tensors; those of filters may be missing.
            items: int32 [batch, any length], items to leave out; 0 pads.
        """
        allowed, denied, is_limited = {}, {}, {}
        for name, table in self._values.items():
            asked = request.get(Tensors.ALLOW + name)
            if asked is not None:
                is_limited[name] = tf.reduce_any(asked != "", axis=1)
                allowed[name] = self._mark(table.lookup(asked), self._num_values[name])
            asked = request.get(Tensors.DENY + name)
            if asked is not None:
                denied[name] = self._mark(table.lookup(asked), self._num_values[name])
        return Barred(items, allowed, denied, is_limited)

    def is_allowed(self, barred: Barred, items: tf.Tensor) -> tf.Tensor:
        """Tells which items, int32 [batch, n], requests may get; bool [batch, n]."""
        # A search in sorted lists: comparing all with all would take batch * n * length bytes.
        ordered = tf.pad(tf.sort(barred.items, axis=1), [[0, 0], [1, 0]])
        place = tf.minimum(tf.searchsorted(ordered, items), tf.shape(ordered)[1] - 1)
        is_barred = tf.gather(ordered, place, batch_dims=1) == items
        return ~is_barred & self._has_allowed_values(barred, items)

    def all_allowed(self, barred: Barred) -> tf.Tensor:
        """Tells which items of the catalogue requests may get; bool [batch, num_items + 1]."""
        batch, length = tf.shape(barred.items)[0], tf.shape(barred.items)[1]
        num_items = self._is_available.shape[0]
        every = tf.repeat(tf.range(num_items)[None], batch, axis=0)
        of_batch = tf.repeat(tf.range(batch), length)
        at = tf.stack([of_batch, tf.reshape(barred.items, [-1])], axis=1)
        is_barred = tf.scatter_nd(at, tf.ones([batch * length], tf.int32), [batch, num_items]) > 0
        return ~is_barred & self._has_allowed_values(barred, every)

    def share(self, barred: Barred) -> tf.Tensor:
        """Returns about what part of the catalogue each request may get; float32 [batch]."""
        if not (barred.allowed or barred.denied):
            share = tf.reduce_mean(tf.cast(tf.gather(self._is_available, self._sample), tf.float32))
            return tf.fill([tf.shape(barred.items)[0]], share)
        drawn = tf.repeat(self._sample[None], tf.shape(barred.items)[0], axis=0)
        return tf.reduce_mean(tf.cast(self._has_allowed_values(barred, drawn), tf.float32), axis=1)

    def is_within_caps(self, items: tf.Tensor) -> tf.Tensor:
        """Tells which items of lists stay when each value of a capped attribute may come so often.

        Args:
            items: int32 [batch, n], best first; 0 where there is none.

        Returns:
            bool [batch, n]; false where there is no item.
        """
        stays = items != UNKNOWN_INDEX
        for name, cap in self.caps.items():
            codes = tf.gather(self._codes[name][:, 0], items)
            # What an earlier cap took away does not count: it becomes a value of its own.
            place = place_among_equals(tf.where(stays, codes, -1))
            stays &= (place < cap) | (codes == 0)
        return stays

    def _has_allowed_values(self, barred: Barred, items: tf.Tensor) -> tf.Tensor:
        found = tf.gather(self._is_available, tf.maximum(items, UNKNOWN_INDEX))
        for name, codes in self._codes.items():
            if name not in barred.allowed and name not in barred.denied:
                continue
            own = tf.gather(codes, tf.maximum(items, UNKNOWN_INDEX))  # [batch, n, width]
            if name in barred.allowed:
                has = tf.reduce_any(tf.gather(barred.allowed[name], own, batch_dims=1), axis=-1)
                found &= has | ~barred.is_limited[name][:, None]
            if name in barred.denied:
                found &= ~tf.reduce_any(tf.gather(barred.denied[name], own, batch_dims=1), axis=-1)
        return found

    def _mark(self, codes: tf.Tensor, num_values: int) -> tf.Tensor:
        """Returns bool [batch, num_values + 1], true at the codes; never at 0."""
        marks = tf.one_hot(codes, num_values + 1, on_value=True, off_value=False)
        marks = tf.reduce_any(marks, axis=1)
        return tf.concat([tf.zeros_like(marks[:, :1]), marks[:, 1:]], axis=1)


def place_among_equals(codes: tf.Tensor) -> tf.Tensor:
    """Counts, for each entry of int32 [batch, n], the equal ones before it in its row."""
    order = tf.argsort(codes, axis=1, stable=True)
    ordered = tf.gather(codes, order, batch_dims=1)
    first = tf.searchsorted(ordered, ordered, side="left")
    place = tf.range(tf.shape(codes)[1])[None] - first
    return tf.gather(place, tf.argsort(order, axis=1), batch_dims=1)
