"""The candidates of a step beside the targets themselves, side by side for one softmax."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf


class Block(NamedTuple):
    """Some candidates of each row.

    Attributes:
        scores: float32 [rows, n].
        is_negative: bool [rows, n].
        log_expected: float32 [rows, n].
    """

    scores: tf.Tensor
    is_negative: tf.Tensor
    log_expected: tf.Tensor


class Shared(NamedTuple):
    """Items that all rows have as candidates.

    Attributes:
        items: float32 [n, dim].
        index: int32 [n], 0 pads.
        slots: float32 [n], how many slots each fills.
    """

    items: tf.Tensor
    index: tf.Tensor
    slots: tf.Tensor


Mask = Callable[[tf.Tensor], tf.Tensor]
"""From candidates, int32 [n] or [rows, n], to bool [rows, n]: which are negatives."""


def shared_block(
    users: tf.Tensor, parts: list[Shared], is_negative: Mask, log_expected: Mask
) -> Block:
    """Scores what all rows share.

    n slots with one item are, in a sum of exponentials, one slot whose logit is log n higher.

    Args:
        users: float32 [rows, dim].
        parts: The items, from any number of sources.
        is_negative: Which are negatives.
        log_expected: From candidates, int32 [n], to the log of their expected counts, float32 [n].
    """
    items, index, slots = (tf.concat(part, axis=0) for part in zip(*parts, strict=True))
    expected = log_expected(index) - tf.math.log(slots)
    return Block(
        tf.matmul(users, items, transpose_b=True),
        is_negative(index),
        tf.repeat(expected[None], tf.shape(users)[0], axis=0),
    )


def own_block(
    users: tf.Tensor, items: tf.Tensor, is_negative: tf.Tensor, log_expected: tf.Tensor
) -> Block:
    """Scores what each row has for itself; items float32 [rows, n, dim]."""
    return Block(tf.einsum("nd,nmd->nm", users, items), is_negative, log_expected)


def side_by_side(blocks: list[Block]) -> Block:
    """Joins blocks of the same rows."""
    return Block(*(tf.concat(part, axis=1) for part in zip(*blocks, strict=True)))


def distinct_rows(embeddings: tf.Tensor, index: tf.Tensor) -> Shared:
    """Takes the items of a batch once each.

    Args:
        embeddings: float32 [slots, dim]; slots of one item hold the same.
        index: int32 [slots], item indices.
    """
    distinct, place, slots = tf.unique_with_counts(index)
    first = tf.math.unsorted_segment_min(tf.range(tf.size(index)), place, tf.size(distinct))
    return Shared(tf.gather(embeddings, first), distinct, tf.cast(slots, tf.float32))
