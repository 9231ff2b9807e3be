"""What lists of recommendations look like beyond accuracy: pure functions of item indices.

A list is a row of `top`: int [num_requests, k], item indices from 1; 0 fills up and counts nothing.
"""

from __future__ import annotations

import numpy as np


def exposure(top: np.ndarray, num_items: int) -> np.ndarray:
    """Returns int64 [num_items]: in how many lists each item of the catalogue stands."""
    return np.bincount(top.ravel(), minlength=num_items + 1)[1:]


def catalogue_coverage(top: np.ndarray, num_items: int) -> float:
    """Share of the catalogue that stands in at least one list.

    Source: Ge, Delgado-Battenfeld and Jannach, Beyond Accuracy: Evaluating Recommender Systems by
        Coverage and Serendipity (2010), section 3.1.
    """
    return float((exposure(top, num_items) > 0).mean())


def distinct_share(top: np.ndarray, num_items: int) -> float:
    """Number of distinct items in all lists, as a share of the most that there could be.

    That is the number of places or, if the catalogue is smaller, of items. 1: no two lists share an
    item (or every item is used); near 0: the same few items for everybody.
    """
    shown = exposure(top, num_items)
    most = min(int(shown.sum()), num_items)
    return float(np.count_nonzero(shown) / most) if most else float("nan")


def exposure_gini(top: np.ndarray, num_items: int) -> float:
    """Gini coefficient of `exposure`: 0 if all items are shown alike, near 1 if few have it all.

    Source: Fleder and Hosanagar, Blockbuster Culture's Next Rise or Fall (2009), section 3, over
        all items of the catalogue.
    """
    shown = np.sort(exposure(top, num_items)).astype(np.float64)
    n, total = len(shown), shown.sum()
    if not total:
        return float("nan")
    return float((2 * np.arange(1, n + 1) - n - 1) @ shown / (n * total))


def average_popularity(top: np.ndarray, counts: np.ndarray) -> float:
    """Mean over all places of how often the item was a training target.

    Source: Yin et al., Challenging the Long Tail Recommendation (2012), section 4.
    Deviates: The mean over places, not of the means of lists; they differ only if lists are short.

    Args:
        top: The lists.
        counts: int [num_items + 1], training targets by item index.
    """
    return float(counts[top[top > 0]].mean()) if top.any() else float("nan")


def novelty(top: np.ndarray, counts: np.ndarray) -> float:
    """Mean over all places of -log2 of the item's share of the training targets, in bits.

    Source: Zhou et al., Solving the Apparent Diversity-Accuracy Dilemma of Recommender Systems
        (2010), the self-information of recommended items.
    Deviates: Counts are raised by one, so that an item without training targets has a finite value;
        shares are of targets, not of users.

    Args:
        top: The lists.
        counts: int [num_items + 1], training targets by item index.
    """
    share = (counts[1:] + 1.0) / (counts[1:] + 1.0).sum()
    return float(-np.log2(share[top[top > 0] - 1]).mean()) if top.any() else float("nan")


def intra_list_diversity(top: np.ndarray, vectors: np.ndarray) -> float:
    """1 - mean cosine of two items of a list; the mean of the lists with at least two items.

    Source: Ziegler et al., Improving Recommendation Lists Through Topic Diversification (2005),
        section 3.3 (intra-list similarity, here the mean over pairs in place of their sum).

    Args:
        top: The lists.
        vectors: float [num_items + 1, dim], of any length; one of length 0 is like no other.
    """
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.where(norms > 0, norms, 1.0)
    unit[0] = 0.0
    size = np.count_nonzero(top, axis=1)
    values = []
    for row in np.flatnonzero(size > 1):
        of_list = unit[top[row]]
        # The sum over all pairs i != j is |sum of vectors|^2 less the squares of each.
        pairs = np.square(of_list.sum(axis=0)).sum() - np.square(of_list).sum()
        values.append(1.0 - pairs / (size[row] * (size[row] - 1)))
    return float(np.mean(values)) if values else float("nan")


def list_metrics(top: np.ndarray, counts: np.ndarray, vectors: np.ndarray) -> dict[str, float]:
    """Returns all of the above: coverage, distinct, diversity, novelty, popularity and gini.

    Args:
        top: The lists.
        counts: int [num_items + 1], training targets by item index.
        vectors: float [num_items + 1, dim].
    """
    num_items = len(counts) - 1
    return {
        "coverage": catalogue_coverage(top, num_items),
        "distinct": distinct_share(top, num_items),
        "diversity": intra_list_diversity(top, vectors),
        "novelty": novelty(top, counts),
        "popularity": average_popularity(top, counts),
        "gini": exposure_gini(top, num_items),
    }
