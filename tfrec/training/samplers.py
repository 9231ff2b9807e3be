"""How items are drawn as negatives: our two ways, and the contract for others."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import tensorflow as tf

from tfrec.errors import ConfigError, place_of, reason_of


class NegativeSampler(ABC):
    """Draws items from the catalogue in the graph, each draw on its own.

    Args:
        item_counts: int64 [num_items + 1], how often each item is a training target; row 0, the
            unknown item, is never drawn.

    Example:
        >>> import numpy as np
        >>> import tensorflow as tf
        >>> class FirstHalf(NegativeSampler):
        ...     def draw(self, seed: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
        ...         end = self.num_items // 2 + 1
        ...         return tf.random.stateless_uniform(shape, seed, 1, end, tf.int32)
        ...     def probabilities(self) -> np.ndarray:
        ...         half = self.num_items // 2
        ...         share = np.zeros(self.num_items + 1, np.float32)
        ...         share[1 : half + 1] = 1 / half
        ...         return share
        >>> check_negative_sampler(FirstHalf(np.ones(9)), "a.kind")
    """

    def __init__(self, item_counts: np.ndarray) -> None:
        self.item_counts = item_counts
        self.num_items = len(item_counts) - 1

    @abstractmethod
    def draw(self, seed: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
        """Draws items with replacement.

        Args:
            seed: int32 [2]; the same seed draws the same items.
            shape: int32 [1] or [2], of the result.

        Returns:
            int32 of this shape, 1 to `num_items`.
        """

    @abstractmethod
    def probabilities(self) -> np.ndarray:
        """Returns how likely one draw is each item; float32 [num_items + 1], sums to 1."""


class UniformSampler(NegativeSampler):
    """Every item is as likely.

    Example:
        >>> import numpy as np
        >>> UniformSampler(np.array([0, 5, 1])).probabilities().tolist()
        [0.0, 0.5, 0.5]
    """

    def draw(self, seed: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
        """See `NegativeSampler`."""
        return tf.random.stateless_uniform(shape, seed, 1, self.num_items + 1, tf.int32)

    def probabilities(self) -> np.ndarray:
        """See `NegativeSampler`."""
        share = np.full(self.num_items + 1, 1.0 / self.num_items, np.float32)
        share[0] = 0.0
        return share


class PopularSampler(NegativeSampler):
    """An item is as likely as it is a training target.

    Example:
        >>> import numpy as np
        >>> PopularSampler(np.array([0, 3, 1])).probabilities().tolist()
        [0.0, 0.75, 0.25]
    """

    def __init__(self, item_counts: np.ndarray) -> None:
        super().__init__(item_counts)
        share = item_counts[1:] / max(item_counts[1:].sum(), 1)
        self._cumulative = tf.constant(np.cumsum(share), tf.float32)

    def draw(self, seed: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
        """See `NegativeSampler`."""
        drawn = tf.random.stateless_uniform(shape, seed) * self._cumulative[-1]
        found = tf.searchsorted(self._cumulative, tf.reshape(drawn, [-1]), side="right")
        return 1 + tf.reshape(tf.minimum(found, self.num_items - 1), shape)

    def probabilities(self) -> np.ndarray:
        """See `NegativeSampler`."""
        share = self.item_counts / max(self.item_counts.sum(), 1)
        return share.astype(np.float32)


def check_negative_sampler(sampler: NegativeSampler, key: str) -> None:
    """Draws from a sampler in a graph.

    Args:
        sampler: Of somebody else.
        key: Of the configuration, for messages.

    Raises:
        ConfigError: It breaks the contract.
    """
    place = f"{key}: {place_of(sampler)}"
    size = sampler.num_items + 1
    try:
        share = np.asarray(sampler.probabilities())
        draw = tf.function(sampler.draw, autograph=False)
        drawn = [
            (shape, draw(tf.constant([1, 2]), tf.constant(shape, tf.int32)))
            for shape in ([5], [2, 3])
        ]
    except Exception as error:  # somebody else's code raises whatever it raises
        reason = reason_of(error)
        raise ConfigError(f"{place}: fails on a draw of the contract: {reason}") from error
    if share.shape != (size,) or share.dtype != np.float32:
        raise ConfigError(
            f"{place}: wanted probabilities float32 ({size},), got {share.dtype} {share.shape}."
        )
    if not abs(share.sum() - 1.0) < 1e-3 or share.min() < 0 or share[0] != 0:
        raise ConfigError(
            f"{place}: wanted probabilities >= 0 that sum to 1, and 0 for row 0, got a sum of "
            f"{share.sum():.4g}, a least of {share.min():.4g} and {share[0]:.4g} for row 0."
        )
    for shape, items in drawn:
        if items.dtype != tf.int32 or items.shape != tuple(shape):
            raise ConfigError(
                f"{place}: wanted items int32 {tuple(shape)}, got {items.dtype.name} {items.shape}."
            )
        least, most = int(tf.reduce_min(items)), int(tf.reduce_max(items))
        if least < 1 or most >= size:
            raise ConfigError(
                f"{place}: wanted items from 1 to {size - 1}, got some from {least} to {most}."
            )
