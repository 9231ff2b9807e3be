"""How a step runs texts through an encoder that is trained."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import tensorflow as tf

from tfrec.encoders.buckets import encode_by_length, trim
from tfrec.inference.embedder import Embedder
from tfrec.losses.gradient_cache import cached_encode, seed_states_of


def encode_function(
    embedder: Embedder, chunk_size: int, jit_compile: bool
) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns how a step encodes texts, int32 [n, length], when the encoder is trained."""
    encoder = embedder.model.encoder
    # A function of its own is traced once and not for each use and each length of text.
    encode = tf.function(
        lambda tokens: encoder(tokens, training=True),
        input_signature=[tf.TensorSpec([None, None], tf.int32)],
        jit_compile=jit_compile or None,
        autograph=False,
    )
    if chunk_size:
        return partial(
            cached_encode,
            lambda tokens: encode(trim(tokens)),
            chunk_size=chunk_size,
            weights=encoder.trainable_variables,
            seed_states=seed_states_of(encoder),
        )
    return partial(encode_by_length, encode)
