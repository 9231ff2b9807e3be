"""Embeddings pushed to where the loss is higher."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeVar

import tensorflow as tf

Embeddings = TypeVar("Embeddings")


def perturb(
    loss_of: Callable[[Embeddings], tf.Tensor],
    embeddings: Embeddings,
    *,
    method: Literal["fgm", "pgd"],
    epsilon: float,
    steps: int = 3,
) -> Embeddings:
    """Pushes embeddings against the model, each by at most `epsilon` times its length.

    ``fgm`` takes one step of full length along the gradient, as if the loss were a plane. ``pgd``
    takes `steps` steps of 2.5 / `steps` of that length, at most all of it. It looks at the
    gradient anew before each and comes back to the bound after each. One step of it is ``fgm``.

    Args:
        loss_of: Gives the loss, float32 [], of embeddings; the same each time it is called, so
            without dropout of its own.
        embeddings: One tensor, or a list or dict of them, each float32 [..., dim].
        method: ``fgm`` or ``pgd``.
        epsilon: Longest push, as a share of an embedding's length.
        steps: Of ``pgd``.

    Returns:
        The pushed embeddings, of the form of `embeddings`. Gradients reach `embeddings` as if the
        push were a constant. Embeddings of zeros, and those the loss does not depend on, stay.

    Source: Miyato et al., Adversarial Training Methods for Semi-Supervised Text Classification
        (2017), eq. 4 and 5 (fgm); Madry et al., Towards Deep Learning Models Resistant to
        Adversarial Attacks (2018), section 2.1 (pgd).
    Deviates: Miyato et al. bound the push of a whole text at once, here each vector has a bound of
        its own, relative to its length. Madry et al. start at a random point, here at the
        embedding, so that nothing is drawn.
    """
    start = tf.nest.map_structure(tf.stop_gradient, embeddings)
    bounds = tf.nest.map_structure(lambda vectors: epsilon * _length(vectors), start)
    pushes = tf.nest.map_structure(tf.zeros_like, start)
    num_steps = 1 if method == "fgm" else steps
    stride = min(1.0, 2.5 / num_steps)

    def further(push: tf.Tensor, gradient: tf.Tensor, bound: tf.Tensor) -> tf.Tensor:
        push += stride * bound * _direction(gradient)
        return push * tf.minimum(1.0, tf.math.divide_no_nan(bound, _length(push)))

    for _ in range(num_steps):
        moved = tf.nest.map_structure(tf.add, start, pushes)
        pushes = tf.nest.map_structure(further, pushes, _gradients(loss_of, moved), bounds)
    return tf.nest.map_structure(
        lambda vectors, push: vectors + tf.stop_gradient(push), embeddings, pushes
    )


def _gradients(loss_of: Callable[[Embeddings], tf.Tensor], embeddings: Embeddings) -> Embeddings:
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(embeddings)
        loss = loss_of(embeddings)
    gradients = tape.gradient(loss, embeddings, unconnected_gradients="zero")
    # Where the loss gathers rows, the gradient comes as slices.
    return tf.nest.map_structure(tf.convert_to_tensor, gradients)


def _length(vectors: tf.Tensor) -> tf.Tensor:
    return tf.norm(vectors, axis=-1, keepdims=True)


def _direction(vectors: tf.Tensor) -> tf.Tensor:
    """Scales vectors to length 1; zeros stay. Squares of tiny gradients would underflow."""
    largest = tf.reduce_max(tf.abs(vectors), axis=-1, keepdims=True)
    vectors = tf.math.divide_no_nan(vectors, largest)
    return tf.math.divide_no_nan(vectors, _length(vectors))
