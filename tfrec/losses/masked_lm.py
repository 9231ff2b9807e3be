"""Masked-LM: which tokens are hidden, and the loss of guessing them."""

from __future__ import annotations

import tensorflow as tf


def mask_tokens(
    token_ids: tf.Tensor,
    seed: tf.Tensor,
    *,
    mask_rate: float,
    mask_token_id: int,
    num_special: int,
    vocabulary_size: int,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Hides tokens the BERT way: 80% become the mask, 10% a random token, 10% stay.

    Args:
        token_ids: int32 [n, length]; ids below `num_special` are never hidden.
        seed: int32 [2]; the same seed hides the same tokens.
        mask_rate: Expected share of ordinary tokens to guess.
        mask_token_id: Id of ``[MASK]``.
        num_special: Number of special tokens; they hold the first ids.
        vocabulary_size: Random tokens are drawn below it.

    Returns:
        The changed ids, int32 [n, length], and bool [n, length], true where to guess.

    Source: Devlin et al., BERT (2019), section 3.1.
    """
    shape = tf.shape(token_ids)
    seeds = tf.random.split(seed, 3)
    is_ordinary = token_ids >= num_special
    to_guess = is_ordinary & (tf.random.stateless_uniform(shape, seeds[0]) < mask_rate)
    way = tf.random.stateless_uniform(shape, seeds[1])
    random_ids = tf.random.stateless_uniform(
        shape, seeds[2], minval=num_special, maxval=vocabulary_size, dtype=tf.int32
    )
    changed = tf.where(way < 0.8, mask_token_id, tf.where(way < 0.9, random_ids, token_ids))
    return tf.where(to_guess, changed, token_ids), to_guess
