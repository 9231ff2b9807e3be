"""What finished towers say of the prepared data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Embeddings:
    """What the finished towers say of the prepared data.

    Attributes:
        items: float32 [num_items + 1, embedding_dim], row 0 zeros.
        requests: float32 [num_contexts, embedding_dim].
        temperature: What their dot products were divided by in training.
    """

    items: np.ndarray
    requests: np.ndarray
    temperature: float = 1.0
