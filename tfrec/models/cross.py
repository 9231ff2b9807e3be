"""Cross layers: products of features of a bounded degree, learned explicitly."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


class Cross(keras.layers.Layer):
    """x_{l+1} = x_0 * (W x_l + b) + x_l, with W of full or of low rank.

    Args:
        width: Length of x_0 and x_l.
        rank: Rank of W = U V; 0: W is a full matrix.

    Source: Wang et al., DCN V2 (2021), equations 1 and 2. The same as
        `tensorflow_recommenders.layers.dcn.Cross`, which is a layer of Keras 2.
    """

    def __init__(self, width: int, rank: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.reduce = None
        if rank:
            self.reduce = keras.layers.Dense(rank, use_bias=False, name="reduce")
            self.reduce.build((None, width))
        self.expand = keras.layers.Dense(
            width, kernel_initializer=keras.initializers.TruncatedNormal(stddev=0.01), name="expand"
        )
        self.expand.build((None, rank or width))
        self.built = True

    def call(self, first: tf.Tensor, current: tf.Tensor) -> tf.Tensor:
        """Crosses n rows.

        Args:
            first: float32 [n, width], x_0.
            current: float32 [n, width], x_l.

        Returns:
            float32 [n, width], x_{l+1}.
        """
        reduced = current if self.reduce is None else self.reduce(current)
        return first * self.expand(reduced) + current
