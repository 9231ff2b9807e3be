"""Cross layers: products of features of a bounded degree, learned explicitly."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tfrec.models.ranking_layer import RankingLayer


@keras.saving.register_keras_serializable("tfrec")
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
        self.width, self.rank = width, rank
        self.reduce, dtype = None, self.dtype_policy
        if rank:
            self.reduce = keras.layers.Dense(rank, use_bias=False, name="reduce", dtype=dtype)
            self.reduce.build((None, width))
        self.expand = keras.layers.Dense(
            width,
            kernel_initializer=keras.initializers.TruncatedNormal(stddev=0.01),
            name="expand",
            dtype=dtype,
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

    def get_config(self) -> dict[str, Any]:
        """Returns what `from_config` needs."""
        return {**super().get_config(), "width": self.width, "rank": self.rank}


@keras.saving.register_keras_serializable("tfrec")
class CrossNetwork(RankingLayer):
    """Cross layers one after the other, on all that the ranking model reads of a pair.

    Args:
        depth: How many.
        rank: Of their matrices; 0: full.

    Source: Wang et al., DCN V2 (2021), figure 1 (b), for cross layers in parallel with the MLP.
    """

    def __init__(self, depth: int, rank: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.depth, self.rank = depth, rank
        self.crosses: list[Cross] = []

    def build(self, shape: tuple[int | None, int]) -> None:
        """Makes the layers for pairs of width `shape[-1]`."""
        self.crosses = [
            Cross(shape[-1], self.rank, name=f"cross_{number}", dtype=self.dtype_policy)
            for number in range(self.depth)
        ]

    def call(self, pairs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Crosses n pairs; float32 [n, width] to float32 [n, width]."""
        crossed = pairs
        for cross in self.crosses:
            crossed = cross(pairs, crossed)
        return crossed

    def get_config(self) -> dict[str, Any]:
        """Returns what `from_config` needs."""
        return {**super().get_config(), "depth": self.depth, "rank": self.rank}
