"""Parts of the test targets that averages hide: new users and items, rare items, histories."""

from __future__ import annotations

import numpy as np

from tfrec.data.dataset import PreparedData
from tfrec.schema import Columns

_HEAD_SHARE = 0.5
_TORSO_SHARE = 0.8
_HISTORY_FROM = (0, 1, 5, 20)


def target_slices(
    data: PreparedData, contexts: np.ndarray, items: np.ndarray
) -> dict[str, np.ndarray]:
    """Names the slices that targets fall into; slices without a target are left out.

    * cold users: without a training target. Likewise cold items.
    * head, torso and tail items: `popularity_groups`.
    * with and without query: whether the request has a search text; only if some have one.
    * history: number of items in the request's full history.

    Args:
        data: The prepared data set.
        contexts: int [n], row of `data.contexts` of each target.
        items: int [n], item index of each target.

    Returns:
        bool [n] by name.
    """
    requests = data.contexts[contexts]
    has_query = (requests[Columns.QUERY].fill_null("") != "").to_numpy()
    is_warm = data.user_id_rows[requests["user_index"].to_numpy()] > 0
    length = (requests["history_end"] - requests["history_start"]).to_numpy()
    group = popularity_groups(data.item_counts())[items]
    slices = {"cold users": ~is_warm, "warm users": is_warm}
    slices |= {f"{name} items": group == number for number, name in enumerate(GROUPS)}
    if has_query.any():
        slices |= {"with query": has_query, "without query": ~has_query}
    for first, after in zip(_HISTORY_FROM, [*_HISTORY_FROM[1:], None], strict=True):
        inside = length >= first
        name = f"history of {first} or more"
        if after is not None:
            inside = inside & (length < after)
            name = f"history of {first} to {after - 1}" if after - first > 1 else "no history"
        slices[name] = inside
    return {name: inside for name, inside in slices.items() if inside.any()}


GROUPS = ("cold", "tail", "torso", "head")


def popularity_groups(counts: np.ndarray) -> np.ndarray:
    """Sorts items into groups by how much of the training targets more popular items take.

    Head: the most popular items that take the first half of all training targets. Torso: the next
    three tenths. Tail: the rest. Cold: no training target. Items of equal popularity share a group.

    Args:
        counts: int [num_items + 1], training targets.

    Returns:
        int [num_items + 1], position in `GROUPS`.
    """
    values, number = np.unique(counts, return_counts=True)
    of_value = values * number
    above = of_value.sum() - np.cumsum(of_value)  # targets of all more popular items
    share = above[np.searchsorted(values, counts)] / max(1, of_value.sum())
    groups = 1 + (share < _TORSO_SHARE).astype(np.int64) + (share < _HEAD_SHARE)
    return np.where(counts > 0, groups, 0)
