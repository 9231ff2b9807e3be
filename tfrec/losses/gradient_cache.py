"""Gradients of a whole batch through an encoder that runs over a chunk at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

Encode = Callable[[Any], tf.Tensor]


def cached_encode(
    encode: Encode,
    inputs: Any,
    *,
    chunk_size: int,
    weights: Sequence[keras.Variable],
    seed_states: Sequence[keras.Variable] = (),
) -> tf.Tensor:
    """Encodes a batch chunk by chunk, for use inside a gradient tape.

    The way forward keeps the vectors and nothing else. The way back encodes each chunk once more,
    this time with a tape, and adds up the gradients of `weights`. So the memory is that of one
    chunk, whatever the batch, and the gradients are those of the whole batch at once. It costs one
    more way forward. Memory falls inside `tf.function` only: in eager mode a tape around the
    call keeps what it sees.

    Args:
        encode: Gives the vectors, float [n, dim], of n rows of inputs. The vector of a row must
            not depend on the other rows (no batch normalisation).
        inputs: One tensor, or a list or dict of them, each [batch, ...]. They get no gradient.
        chunk_size: Rows encoded at once.
        weights: The trainable weights that `encode` uses; others get no gradient.
        seed_states: States of the seed generators that `encode` draws from, see `seed_states_of`.
            Both ways then drop out the same; without, gradients are wrong where dropout is on.

    Returns:
        float32 [batch, dim].

    Raises:
        ValueError: `chunk_size` is not positive.

    Source: Gao et al., Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup
        (2021), section 3.
    """
    if chunk_size < 1:
        raise ValueError(f"`chunk_size` must be positive. Received: {chunk_size}.")
    variables = [weight.value for weight in weights]
    before = _read(seed_states)
    vectors = tf.stop_gradient(_encode_chunks(encode, inputs, chunk_size))

    # The weights' values are arguments so that the tape around asks for their gradients.
    @tf.custom_gradient
    def attach(*values: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], list[tf.Tensor]]]:
        del values

        def backward(upstream: tf.Tensor | tf.IndexedSlices) -> list[tf.Tensor]:
            upstream = tf.convert_to_tensor(upstream)  # slices, if rows of the answer are gathered
            after = _read(seed_states)
            _write(seed_states, before)
            gradients = _sum_gradients(encode, inputs, upstream, chunk_size, variables)
            _write(seed_states, after)
            return gradients

        return tf.identity(vectors), backward

    return attach(*[tf.convert_to_tensor(variable) for variable in variables])


def seed_states_of(layer: keras.layers.Layer) -> list[keras.Variable]:
    """Returns the states of all seed generators in a layer and those below it."""
    weights = {id(weight) for weight in layer.weights}
    return [state for state in layer.variables if id(state) not in weights]


def _encode_chunks(encode: Encode, inputs: Any, chunk_size: int) -> tf.Tensor:
    dims: list[int | None] = []

    def body(number: tf.Tensor, chunks: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
        vectors = tf.cast(encode(_chunk(inputs, number, chunk_size)), tf.float32)
        dims[:] = vectors.shape[1:]
        return number + 1, chunks.write(number, vectors)

    num_chunks = _num_chunks(inputs, chunk_size)
    chunks = tf.TensorArray(tf.float32, num_chunks, infer_shape=False)
    _, chunks = tf.while_loop(
        lambda number, _: number < num_chunks, body, (0, chunks), parallel_iterations=1
    )
    return tf.ensure_shape(chunks.concat(), [None, *dims])


def _sum_gradients(
    encode: Encode,
    inputs: Any,
    upstream: tf.Tensor,
    chunk_size: int,
    variables: Sequence[tf.Variable],
) -> list[tf.Tensor]:
    def body(number: tf.Tensor, *sums: tf.Tensor) -> tuple[tf.Tensor, ...]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            vectors = tf.cast(encode(_chunk(inputs, number, chunk_size)), tf.float32)
        gradients = tape.gradient(
            vectors, variables, output_gradients=_chunk(upstream, number, chunk_size)
        )
        return (number + 1, *map(_add, sums, gradients))

    num_chunks = _num_chunks(inputs, chunk_size)
    zeros = [tf.zeros(variable.shape, variable.dtype) for variable in variables]
    _, *sums = tf.while_loop(
        lambda number, *_: number < num_chunks, body, (0, *zeros), parallel_iterations=1
    )
    return sums


def _add(total: tf.Tensor, gradient: tf.Tensor | tf.IndexedSlices | None) -> tf.Tensor:
    if gradient is None:
        return total
    if isinstance(gradient, tf.IndexedSlices):  # a table of which the chunk used a few rows
        return tf.tensor_scatter_nd_add(total, gradient.indices[:, tf.newaxis], gradient.values)
    return total + gradient


def _num_chunks(inputs: Any, chunk_size: int) -> tf.Tensor:
    """Counts chunks; an empty batch is one chunk without rows, so that the encoder sees it."""
    size = tf.shape(tf.nest.flatten(inputs)[0])[0]
    return tf.maximum((size + chunk_size - 1) // chunk_size, 1)


def _chunk(inputs: Any, number: tf.Tensor, chunk_size: int) -> Any:
    start = number * chunk_size
    return tf.nest.map_structure(lambda tensor: tensor[start : start + chunk_size], inputs)


def _read(states: Sequence[keras.Variable]) -> list[tf.Tensor]:
    return [tf.identity(state.value) for state in states]


def _write(states: Sequence[keras.Variable], values: Sequence[tf.Tensor]) -> None:
    for state, value in zip(states, values, strict=True):
        state.assign(value)
