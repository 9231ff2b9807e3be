"""Lookup tables from text to rows, inside the graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfrec.schema import UNKNOWN_INDEX


def lookup_table(keys: Sequence[str], values: Any) -> tf.lookup.StaticHashTable:
    """Maps text to int32; what is not among the keys, and "", becomes 0."""
    initializer = tf.lookup.KeyValueTensorInitializer(
        tf.constant(list(keys) or [""], tf.string),
        tf.constant(np.asarray(list(values), np.int32) if len(keys) else [UNKNOWN_INDEX]),
    )
    return tf.lookup.StaticHashTable(initializer, UNKNOWN_INDEX)
