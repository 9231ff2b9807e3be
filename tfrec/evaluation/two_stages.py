"""Ranks of targets in the lists of the recommender's own core."""

from __future__ import annotations

import numpy as np

from tfrec.metrics.retrieval import Ranked
from tfrec.progress import progress_bar
from tfrec.recommender.candidate_lists import CandidateLists

_BLOCK = 256


def rank_candidates(
    lists: CandidateLists,
    *,
    contexts: np.ndarray,
    request: np.ndarray,
    target: np.ndarray,
    num_items: int,
    k: int,
) -> tuple[Ranked, Ranked]:
    """Ranks targets among the candidates of their requests.

    A target that no source proposes, or that the caps take away, counts as the last item of the
    catalogue.

    Args:
        lists: Finds and sorts the candidates.
        contexts: int [num_requests], rows of `PreparedData.contexts`.
        request: int [num_targets], positions in `contexts`, ascending.
        target: int [num_targets], item indices.
        num_items: Size of the catalogue.
        k: Length of the lists of best items.

    Returns:
        Ranks in the fused list, and in the sorted one.
    """
    ranks = np.empty((2, len(target)), np.int64)
    top = np.zeros((2, len(contexts), k), np.int64)
    starts = range(0, len(contexts), _BLOCK)
    for start in progress_bar(starts, desc="two-stage metrics", unit="block"):
        stop = min(start + _BLOCK, len(contexts))
        found = lists.of(contexts[start:stop])
        is_item = found.items > 0
        first, last = np.searchsorted(request, [start, stop])
        at, item = request[first:last] - start, target[first:last]
        is_target = found.items[at] == item[:, None]
        places = np.broadcast_to(-np.arange(found.items.shape[1], dtype=float), is_item.shape)
        for stage, values in enumerate((places, found.order)):
            values = np.where(is_item, values, -np.inf)
            of_target = np.where(is_target, values[at], 0.0).sum(axis=1, keepdims=True)
            before = (~(values[at] < of_target) & ~is_target).sum(axis=1)
            is_listed = ~np.isneginf(values)
            is_found = (is_target & is_listed[at]).any(axis=1)
            ranks[stage, first:last] = np.where(is_found, 1 + before, num_items)
            best = np.argsort(-values, axis=1, kind="stable")[:, :k]
            listed = np.where(is_listed, found.items, 0)
            top[stage, start:stop, : best.shape[1]] = np.take_along_axis(listed, best, axis=1)
    fused, ordered = (Ranked(r, t) for r, t in zip(ranks, top, strict=True))
    return fused, ordered
