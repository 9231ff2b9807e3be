"""Search that goes through the queries of a batch one by one."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf


def search_each(
    search_one: Callable[..., tuple[tf.Tensor, tf.Tensor]], *inputs: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Searches for each query of a batch, which may be empty.

    Args:
        search_one: From one row of each input to rows, int32 [k], and scores, float32 [k].
        inputs: [batch, ...] each, what `search_one` takes.

    Returns:
        int32 and float32 [batch, k].
    """
    batch = tf.shape(inputs[0])[0]
    # What a loop finds can only be stacked where there is something: no query becomes zeros.
    missing = tf.cast(batch == 0, tf.int32)
    padded = [
        tf.pad(values, [[0, missing], *[[0, 0]] * (values.shape.rank - 1)]) for values in inputs
    ]
    rows, scores = tf.map_fn(
        lambda one: search_one(*one),
        padded,
        fn_output_signature=(tf.TensorSpec([None], tf.int32), tf.TensorSpec([None])),
    )
    return rows[:batch], scores[:batch]
