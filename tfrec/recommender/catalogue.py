"""What a recommender keeps of items and users, and what requests bring along."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tfrec.data.tabular import FeatureEncoder


@dataclass(frozen=True)
class Catalogue:
    """What the recommender keeps of items and users.

    Attributes:
        item_ids: The n items' outside ids.
        item_id_rows: int32 [n + 1], rows of the id table.
        item_inputs: Encoded item features, [n + 1, ...] each.
        user_ids: Outside ids of the known users.
        user_id_rows: int32 [num_users + 1].
        item_embeddings: float32 [n + 1, embedding_dim], row 0 zeros; None without towers.
        ranked_embeddings: The same from the ranking model's own towers; None where it has none.
    """

    item_ids: Sequence[str]
    item_id_rows: np.ndarray
    item_inputs: Mapping[str, np.ndarray]
    user_ids: Sequence[str]
    user_id_rows: np.ndarray
    item_embeddings: np.ndarray | None = None
    ranked_embeddings: np.ndarray | None = None


@dataclass(frozen=True)
class Inputs:
    """Names of the columns that requests and items bring along.

    Attributes:
        user_text: Text columns of users, read before the query.
        request_features: Encoders of user attributes and request features.
        item_text: Text columns of items.
        item_features: Encoders of item features.
        event_kinds: Names of the kinds of events; kind k is the one at k - 1.
    """

    user_text: Sequence[str]
    request_features: Sequence[FeatureEncoder]
    item_text: Sequence[str]
    item_features: Sequence[FeatureEncoder]
    event_kinds: Sequence[str] = ()
