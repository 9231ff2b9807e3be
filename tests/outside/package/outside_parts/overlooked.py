"""A candidate source: what training hardly chose."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfrec.candidates.source import Asked, CandidateSource, SourceData


class Overlooked(CandidateSource):
    """Proposes the items that fewest training targets name, to everybody."""

    def __init__(self, depth: int = 50) -> None:
        super().__init__()
        self.depth = depth

    def build(self, data: SourceData) -> dict[str, np.ndarray]:
        counts = data.data.item_counts()[1:]
        return {"items": 1 + np.argsort(counts, kind="stable")[: self.depth].astype(np.int32)}

    def propose(self, asked: Asked, k: int) -> tf.Tensor:
        return tf.repeat(self.arrays["items"][None, :k], tf.shape(asked.recent)[0], axis=0)
