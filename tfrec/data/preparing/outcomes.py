"""What followed each shown item: the further answers that ranking may predict.

Events belong to the shown items (ranked rows) of the same user and item: an event with an
impression id to those of that impression, one without to those shown last at or before its time.
What followed tells the answer, so it is a label and never an input; and a row is only told of
events that lie in no later split than itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from tfrec.data.preparing.histories import pair_keys, starts_run
from tfrec.schema import SPLITS, Columns

_NO_GROUP = -1


@dataclass(frozen=True)
class Outcomes:
    """The answers of n events; those that are not ranked have only their own watch time.

    Attributes:
        kinds: int64 [n]; bit k - 1 is set where an event of kind k belongs to the row, its own
            event among them.
        watch_time: float32 [n]; the row's own or else that of the first event that belongs to it
            and has one; NaN where unknown.
    """

    kinds: np.ndarray
    watch_time: np.ndarray


def find_outcomes(events: pl.DataFrame, ordered: bool = True) -> Outcomes:
    """Collects for each ranked row the events that belong to it.

    Args:
        events: One shard with splits and kinds, sorted by user_index, time and row.
        ordered: Whether times tell what came first. Where they do not, all events without
            impression belong to all ranked rows of their user and item.
    """
    pair = pair_keys(events).to_numpy()
    time = events[Columns.TIME].to_numpy() if ordered else np.zeros(events.height, np.int64)
    impression = events[Columns.IMPRESSION]
    has_impression = (impression != "").to_numpy()
    is_ranked = events[Columns.IS_RANKED].to_numpy()
    shown = _last_shown(pair, time, is_ranked)
    listed = _same_impression(pair, impression, has_impression)

    split = events[Columns.SPLIT].to_numpy()
    kind = events[Columns.EVENT_KIND].to_numpy().astype(np.int64)
    bit = np.where(kind > 0, 1 << np.maximum(kind - 1, 0), 0)
    watched = events[Columns.WATCH_TIME].to_numpy()
    place = np.where(np.isnan(watched), len(watched), np.arange(len(watched)))

    kinds = np.where(is_ranked, bit, 0)
    first = np.full(len(watched), len(watched))
    for group, joins in ((shown, ~has_impression), (listed, has_impression)):
        joins = joins & (group != _NO_GROUP)
        told = np.flatnonzero(is_ranked & (group != _NO_GROUP))
        # One row for each group of shown items and one column for each split that may be told.
        table = (np.max(group, initial=-1) + 1, len(SPLITS))
        found = np.zeros(table, np.int64)
        np.bitwise_or.at(found, (group[joins], split[joins]), bit[joins])
        found = np.bitwise_or.accumulate(found, axis=1)
        kinds[told] |= found[group[told], split[told]]
        earliest = np.full(table, len(watched))
        np.minimum.at(earliest, (group[joins], split[joins]), place[joins])
        earliest = np.minimum.accumulate(earliest, axis=1)
        first[told] = np.minimum(first[told], earliest[group[told], split[told]])
    following = np.append(watched, np.float32(np.nan))[first]
    return Outcomes(kinds, np.where(np.isnan(watched), following, watched))


def _last_shown(pair: np.ndarray, time: np.ndarray, is_ranked: np.ndarray) -> np.ndarray:
    """Numbers the instants at which an item is shown to a user.

    Returns:
        int64 [n], of each event the last such instant up to its time; `_NO_GROUP` before any.
    """
    order = np.lexsort((~is_ranked, time, pair))
    pair, is_ranked = pair[order], is_ranked[order]
    begins = starts_run(pair, time[order]) & is_ranked
    number = np.cumsum(begins) - 1
    belongs = (number >= 0) & (pair[begins][number] == pair) if begins.any() else begins
    group = np.empty(len(order), np.int64)
    group[order] = np.where(belongs, number, _NO_GROUP)
    return group


def _same_impression(
    pair: np.ndarray, impression: pl.Series, has_impression: np.ndarray
) -> np.ndarray:
    """Numbers the pairs of user and item within impressions, int64 [n]; `_NO_GROUP` without one."""
    rows = np.flatnonzero(has_impression)
    listed = pl.DataFrame({"pair": pair[rows], "impression": impression.gather(rows)})
    group = np.full(len(pair), _NO_GROUP, np.int64)
    group[rows] = listed.select(pl.struct("pair", "impression").rank("dense")).to_series() - 1
    return group
