"""How the parts of an item (text, features, own parts, id) become one vector."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfrec.layer_trial import try_layer


class Fusion(keras.layers.Layer, ABC):
    """The contract of all fusions. One that `retrieval.item.fusion` names is made with its options.

    Weights are made in `build`, which is given the shape of each part.

    Example:
        >>> import keras, numpy as np, tensorflow as tf
        >>> from tfrec.towers import Fusion
        >>> @keras.saving.register_keras_serializable("example")
        ... class Largest(Fusion):
        ...     def call(self, parts):
        ...         return tf.reduce_max(tf.stack(list(parts)), axis=0)
        >>> Largest()([np.array([[1.0, 5.0]]), np.array([[3.0, 2.0]])]).numpy()
        array([[3., 5.]], dtype=float32)
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)

    def build(self, shapes: Sequence[tuple[int | None, int]]) -> None:
        """Makes the weights for parts of these shapes, (None, dim) each; by default none."""

    @abstractmethod
    def call(self, parts: Sequence[tf.Tensor]) -> tf.Tensor:
        """Joins parts of n items.

        Args:
            parts: float32 [n, dim] each, always as many and in the same order: text, features,
                own parts, id. In a model of mixed precision bfloat16, as the answer.

        Returns:
            float32 [n, dim].
        """


@keras.saving.register_keras_serializable("tfrec")
class SumFusion(Fusion):
    """The sum of the parts.

    Example:
        >>> import numpy as np
        >>> from tfrec.towers import SumFusion
        >>> SumFusion()([np.array([[1.0, 5.0]]), np.array([[3.0, 2.0]])]).numpy()
        array([[4., 7.]], dtype=float32)
    """

    def call(self, parts: Sequence[tf.Tensor]) -> tf.Tensor:
        return tf.add_n(list(parts))


@keras.saving.register_keras_serializable("tfrec")
class ConcatFusion(Fusion):
    """The sum of the parts and, beside it, an MLP over all of them: what pairs of parts mean.

    Example:
        >>> import numpy as np
        >>> from tfrec.towers import ConcatFusion
        >>> ConcatFusion()([np.ones((5, 4)), np.ones((5, 4))]).shape
        TensorShape([5, 4])
    """

    def build(self, shapes: Sequence[tuple[int | None, int]]) -> None:
        dim, dtype = shapes[0][-1], self.dtype_policy
        self.hidden = keras.layers.Dense(2 * dim, activation="gelu", name="hidden", dtype=dtype)
        self.hidden.build((None, len(shapes) * dim))
        self.output_projection = keras.layers.Dense(dim, name="output", dtype=dtype)
        self.output_projection.build((None, 2 * dim))

    def call(self, parts: Sequence[tf.Tensor]) -> tf.Tensor:
        mixed = self.output_projection(self.hidden(tf.concat(list(parts), axis=-1)))
        return tf.add_n(list(parts)) + mixed


@keras.saving.register_keras_serializable("tfrec")
class GateFusion(Fusion):
    """A sum in which learned gates, which look at all parts, weigh each part from 0 to 2.

    The gates begin at 1, as the plain sum.

    Example:
        >>> import numpy as np
        >>> from tfrec.towers import GateFusion
        >>> GateFusion()([np.array([[1.0, 5.0]]), np.array([[3.0, 2.0]])]).numpy()
        array([[4., 7.]], dtype=float32)
    """

    def build(self, shapes: Sequence[tuple[int | None, int]]) -> None:
        self.gates = keras.layers.Dense(
            len(shapes), kernel_initializer="zeros", name="gates", dtype=self.dtype_policy
        )
        self.gates.build((None, len(shapes) * shapes[0][-1]))

    def call(self, parts: Sequence[tf.Tensor]) -> tf.Tensor:
        gates = 2.0 * tf.sigmoid(self.gates(tf.concat(list(parts), axis=-1)))  # [n, parts]
        return tf.einsum("np,npd->nd", gates, tf.stack(list(parts), axis=1))


def check_fusion(fusion: Fusion, key: str, num_parts: int, dim: int) -> None:
    """Tries a fusion on two tiny batches; see `try_layer`.

    Raises:
        ConfigError: It breaks the contract.
    """
    batches = [
        ([[np.ones((count, dim), np.float32)] * num_parts], (count, dim)) for count in (2, 3)
    ]
    try_layer(fusion, key, batches, fusion.compute_dtype)
