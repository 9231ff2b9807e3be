"""Rows for the ranking model: shown items with their answers, and drawn negatives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tfrec.config import Config
from tfrec.data.dataset import PreparedData

NOT_LOGGED = -1
"""Stands for the example of a row that was drawn."""

Retrieve = Callable[[np.ndarray, int], np.ndarray]
"""From contexts, int [n], and a depth to the best items, int [n, depth]; 0 where there is none."""

_PRIOR_ROWS = 20.0


@dataclass(frozen=True)
class RankedRows:
    """Rows to rank: requests, items, answers.

    Attributes:
        context: int32 [n].
        item_index: int32 [n].
        label: float32 [n].
        position: int32 [n], 0 for unknown.
        example: int64 [n], row of `PreparedData.examples`; `NOT_LOGGED` for a drawn negative.
        log_rate: float32 [n]. Where negatives stand for a population that no log shows: the log of
            how often this item is drawn for this request. 0 where the log shows the population.
    """

    context: np.ndarray
    item_index: np.ndarray
    label: np.ndarray
    position: np.ndarray
    example: np.ndarray
    log_rate: np.ndarray

    @property
    def weights(self) -> np.ndarray:
        """How many rows of the population each stands for, float64 [n]."""
        drawn = self.example == NOT_LOGGED
        return np.where(drawn, np.exp(-self.log_rate.astype(np.float64)), 1.0)

    def __len__(self) -> int:
        return len(self.label)

    def take(self, chosen: np.ndarray) -> RankedRows:
        """Returns the rows at `chosen`, int [m]."""
        return RankedRows(
            self.context[chosen],
            self.item_index[chosen],
            self.label[chosen],
            self.position[chosen],
            self.example[chosen],
            self.log_rate[chosen],
        )


def ranked_rows(data: PreparedData, split: str, config: Config) -> RankedRows:
    """Returns the logged answers of `split`; a split without any label 0 gets drawn negatives."""
    rows = _logged_rows(data, split)
    if (rows.label == 0).any():
        return rows
    uniform = max(1, config.ranking.negatives.uniform)
    return _with_negatives(rows, data, config.seed, uniform, stands_for_all=True)


def training_rows(
    data: PreparedData, config: Config, retrieve: Retrieve | None = None
) -> RankedRows:
    """Returns the rows that train the ranking model: logged answers and drawn negatives.

    A log shows only items that someone thought fitting, so a model trained on it alone cannot tell
    a fitting item from an absurd one. Drawn items lower all probabilities somewhat; the calibration
    on logged answers takes that back.

    A log without label 0 shows no population: then the drawn items stand for the whole catalogue,
    and `log_rate` says how often each row is drawn from it, so that training can correct for it.

    Args:
        data: The prepared data set.
        config: `ranking.negatives` and the seed.
        retrieve: Where some negatives come from retrieval.
    """
    rows = _logged_rows(data, "train")
    is_logged = bool((rows.label == 0).any())
    settings = config.ranking.negatives
    return _with_negatives(
        rows,
        data,
        config.seed,
        settings.uniform if is_logged else max(1, settings.uniform),
        stands_for_all=not is_logged,
        retrieved=settings.retrieved,
        depth=settings.depth,
        retrieve=retrieve,
    )


def chosen_rate(rows: RankedRows, num_items: int) -> tuple[np.ndarray, float]:
    """Counts how often each item was chosen where it was shown.

    Each item's share is drawn towards the overall one as if it had been shown 20 times more.

    Returns:
        The shares, float64 [num_items + 1], and the overall share.
    """
    overall = float(rows.label.mean()) if len(rows) else 0.0
    shown = np.bincount(rows.item_index, minlength=num_items + 1)
    chosen = np.bincount(rows.item_index, weights=rows.label, minlength=num_items + 1)
    return (chosen + _PRIOR_ROWS * overall) / (shown + _PRIOR_ROWS), overall


def pair_rows(contexts: np.ndarray, items: np.ndarray, position: int = 1) -> RankedRows:
    """Returns rows without answers, to predict: int [n] contexts and items, at one position."""
    count = len(contexts)
    return RankedRows(
        context=contexts.astype(np.int32),
        item_index=items.astype(np.int32),
        label=np.zeros(count, np.float32),
        position=np.full(count, position, np.int32),
        example=np.full(count, NOT_LOGGED, np.int64),
        log_rate=np.zeros(count, np.float32),
    )


def _logged_rows(data: PreparedData, split: str) -> RankedRows:
    at = data.ranked_rows(split)
    part = data.examples[at]
    return RankedRows(
        part["context"].to_numpy(),
        part["item_index"].to_numpy(),
        part["label"].to_numpy().astype(np.float32),
        part["position"].to_numpy().astype(np.int32),
        at.astype(np.int64),
        np.zeros(len(at), np.float32),
    )


def _with_negatives(
    rows: RankedRows,
    data: PreparedData,
    seed: int,
    uniform: int,
    *,
    stands_for_all: bool,
    retrieved: int = 0,
    depth: int = 0,
    retrieve: Retrieve | None = None,
) -> RankedRows:
    """Adds drawn items for each positive; none that is a positive of the same request.

    Each stands at the position of some row, whichever.

    With `stands_for_all` the rows get their `log_rate`. A request with p positives draws each
    item of the catalogue uniform * p / num_items times on average, and each of its retrieved ones
    retrieved * p / depth times more.
    """
    rng = np.random.default_rng([seed, len(rows.label)])
    positives = np.flatnonzero(rows.label == 1)
    context = rows.context[positives]
    times = uniform + retrieved
    drawn = np.zeros((len(positives), times), np.int32)
    drawn[:, :uniform] = rng.integers(1, data.num_items + 1, (len(positives), uniform))
    requests, request = np.unique(rows.context, return_inverse=True)
    best = np.zeros((0, 0), np.int64)
    if retrieved and retrieve is not None:
        best = retrieve(requests, min(depth, data.num_items))
        place = rng.integers(0, best.shape[1], (len(positives), retrieved))
        drawn[:, uniform:] = np.take_along_axis(best[request[positives]], place, axis=1)
    flat, of_context = drawn.reshape(-1), np.repeat(context, times)
    known = _pair_keys(context, rows.item_index[positives], data.num_items)
    keep = (flat > 0) & ~np.isin(_pair_keys(of_context, flat, data.num_items), known)
    count = int(keep.sum())
    # Drawn where items stand, not where they are clicked, or the first positions would look worse.
    position = rng.choice(rows.position, count) if count else rows.position[:0]
    merged = RankedRows(
        np.concatenate([rows.context, of_context[keep]]),
        np.concatenate([rows.item_index, flat[keep]]),
        np.concatenate([rows.label, np.zeros(count, np.float32)]),
        np.concatenate([rows.position, position]),
        np.concatenate([rows.example, np.full(count, NOT_LOGGED, np.int64)]),
        np.zeros(len(rows.label) + count, np.float32),
    )
    if stands_for_all:
        num_positives = np.bincount(request[positives], minlength=len(requests))
        of_row = np.searchsorted(requests, merged.context)
        rate = np.full(len(merged), uniform / data.num_items)
        if best.size:
            listed = _pair_keys(
                np.repeat(requests, best.shape[1]), best.reshape(-1), data.num_items
            )
            is_listed = np.isin(
                _pair_keys(merged.context, merged.item_index, data.num_items), listed
            )
            rate += np.where(is_listed, retrieved / best.shape[1], 0.0)
        merged.log_rate[:] = np.log(rate * np.maximum(1, num_positives[of_row]))
    return merged


def _pair_keys(context: np.ndarray, item: np.ndarray, num_items: int) -> np.ndarray:
    """Returns one number for each pair of context and item, int64 [n]."""
    return context.astype(np.int64) * (num_items + 1) + item
