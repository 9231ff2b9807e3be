"""How often an item is expected among the candidates of a step."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import tensorflow as tf


def log_expected_counts(sources: Sequence[tuple[tf.Tensor | int, tf.Tensor]]) -> tf.Tensor:
    """Computes the log of the expected count of items among candidates of several sources.

    An item that each of the n_s draws of source s picks with probability q_s is picked
    sum_s n_s q_s times in the mean. It does not matter from which source a candidate came: one
    that two sources could have drawn is expected as often as both together draw it.

    Args:
        sources: Of each source the number of its draws, a scalar, and the probability with which
            one draw picks each item asked for, float32 [...], in [0, 1]; shapes broadcast.
            Slots of a batch and entries of a queue are draws with the training targets' shares,
            a uniform draw has 1 / num_items.

    Returns:
        float32 [...]. 0 where no source draws the item: such a candidate is padding, or there for
        a reason other than a draw, and counts once.

    Raises:
        ValueError: There is no source.
    """
    if not sources:
        raise ValueError("wanted at least one source of candidates, got none")
    expected = reduce(tf.add, [tf.cast(number, tf.float32) * share for number, share in sources])
    return tf.math.log(tf.where(expected > 0, expected, 1.0))
