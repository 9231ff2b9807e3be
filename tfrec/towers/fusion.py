"""How the parts of an item (text, id, features) become one vector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf


class SumFusion(keras.layers.Layer):
    """The sum of the parts."""

    def call(self, parts: Sequence[tf.Tensor]) -> tf.Tensor:
        """Joins the parts, float32 [n, dim] each, to float32 [n, dim]."""
        return tf.add_n(list(parts))


class ConcatFusion(keras.layers.Layer):
    """The sum of the parts and, beside it, an MLP over all of them: what pairs of parts mean.

    Args:
        num_parts: Number of parts.
        dim: Length of each part and of the result.
    """

    def __init__(self, num_parts: int, dim: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.hidden = keras.layers.Dense(2 * dim, activation="gelu", name="hidden")
        self.hidden.build((None, num_parts * dim))
        self.output_projection = keras.layers.Dense(dim, name="output")
        self.output_projection.build((None, 2 * dim))
        self.built = True

    def call(self, parts: Sequence[tf.Tensor]) -> tf.Tensor:
        """Joins the parts, float32 [n, dim] each, to float32 [n, dim]."""
        mixed = self.output_projection(self.hidden(tf.concat(list(parts), axis=-1)))
        return tf.add_n(list(parts)) + mixed


class GateFusion(keras.layers.Layer):
    """A sum in which learned gates, which look at all parts, weigh each part from 0 to 2.

    The gates begin at 1, as the plain sum.

    Args:
        num_parts: Number of parts.
        dim: Length of each part and of the result.
    """

    def __init__(self, num_parts: int, dim: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.gates = keras.layers.Dense(num_parts, kernel_initializer="zeros", name="gates")
        self.gates.build((None, num_parts * dim))
        self.built = True

    def call(self, parts: Sequence[tf.Tensor]) -> tf.Tensor:
        """Joins the parts, float32 [n, dim] each, to float32 [n, dim]."""
        gates = 2.0 * tf.sigmoid(self.gates(tf.concat(list(parts), axis=-1)))  # [n, parts]
        return tf.einsum("np,npd->nd", gates, tf.stack(list(parts), axis=1))


def build_fusion(kind: str, num_parts: int, dim: int) -> keras.layers.Layer:
    """Returns the fusion of this kind: ``sum``, ``concat`` or ``gate``."""
    if kind == "sum":
        return SumFusion(name="fusion")
    fusions = {"concat": ConcatFusion, "gate": GateFusion}
    return fusions[kind](num_parts, dim, name="fusion")
