"""Values found for missing numbers while the data is prepared: by likeness, or in between.

Both put what they find into a column of its own (`filled_column`) beside the raw one, which stays
as it was: the encoder takes the value from the one and sees in the other that it was missing, and
dropping the column undoes the filling.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from tfrec.config import Features
from tfrec.errors import DataError
from tfrec.features.frame import declare, filled_column
from tfrec.features.number import Number
from tfrec.features.numbers import known_numbers, unscale_numbers
from tfrec.schema import Batch, Columns

# Distances of this many rows at a time, to this many donors, are held: some 90 MB.
_BLOCK_ROWS = 128
_MAX_DONORS = 20_000


def fill_nearest(
    frame: pl.DataFrame, features: Features, is_train: np.ndarray
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Fills numbers with ``missing: nearest`` by the mean of the rows most alike.

    Rows are compared in all numbers of the table, clipped, scaled and standardised as the model
    sees them, and the mean is taken there too. Only training rows give values (at most 20,000,
    evenly spaced).

    Args:
        frame: Items or users, one row each, with raw typed columns.
        features: Declared features of the table.
        is_train: bool [n], rows that may be learned from.

    Returns:
        The frame with a Float64 column `filled_column` for each such feature: null where the raw
        value is known, where no other number of the row is, or where no donor shares one.
        The changes; see `list_filled`.

    Raises:
        DataError: The frame already has such a column.

    Source: Troyanskaya et al. 2001, KNNimpute, as scikit-learn's KNNImputer computes it (plain
        mean, distances over the numbers both rows know).
    """
    wanted = _free_names(features, "nearest", frame)
    if not wanted:
        return frame, list_filled(frame, features)
    train = frame.filter(pl.Series(is_train))
    numbers = [f.fit(train[f.name]) for f in declare(features) if isinstance(f, Number)]
    is_known = np.stack([known_numbers(frame[number.name])[1] for number in numbers], axis=1)
    encoded = [n.encode_column(frame[n.name])[:, 0].astype(np.float64) for n in numbers]
    table = np.where(is_known, np.stack(encoded, axis=1), np.nan)
    donors = np.flatnonzero(is_train & is_known.any(axis=1))
    if len(donors) > _MAX_DONORS:
        donors = donors[np.linspace(0, len(donors) - 1, _MAX_DONORS).astype(np.int64)]
    columns = []
    for position, number in enumerate(numbers):
        if number.name not in wanted:
            continue
        found = np.full(frame.height, np.nan)
        rows = np.flatnonzero(~is_known[:, position] & is_known.any(axis=1))
        if len(donors) and len(rows):
            found[rows] = _mean_of_nearest(table, donors, rows, position, number.neighbours)
        raw = unscale_numbers(found * number.std + number.mean, number.scale)
        columns.append(pl.Series(filled_column(number.name), raw).fill_nan(None))
    filled = frame.with_columns(columns)
    return filled, list_filled(filled, features)


def fill_interpolated(events: pl.DataFrame, features: Features) -> pl.DataFrame:
    """Fills context numbers with ``missing: interpolate`` on the line between a user's own values.

    Lines run over `time`, between the nearest known values before and after of the same user and
    the same split, so no value crosses a split. Nothing is filled beyond the first and the last.

    Args:
        events: user_index, split and time (int64) and the context columns, in any order.
        features: Declared context features.

    Returns:
        The events, in their order, with a Float64 column `filled_column` for each such feature:
        null where the raw value is known or nothing was found.

    Raises:
        DataError: The events already have such a column.
    """
    wanted = _free_names(features, "interpolate", events)
    if not wanted:
        return events
    keys = [events[name].to_numpy() for name in (Batch.USER_INDEX, Columns.SPLIT, Columns.TIME)]
    order = np.lexsort(keys[::-1])  # stable: rows of one time keep their order
    user, split, time = (key[order] for key in keys)
    is_first = np.ones(len(order), bool)
    is_first[1:] = (user[1:] != user[:-1]) | (split[1:] != split[:-1])
    columns = []
    for name in wanted:
        values, is_known = known_numbers(events[name])
        found = np.empty(len(order))
        found[order] = _between(values[order], is_known[order], time, is_first)
        raw = np.where(is_known, np.nan, found)
        columns.append(pl.Series(filled_column(name), raw).fill_nan(None))
    return events.with_columns(columns)


def list_filled(frame: pl.DataFrame, features: Features) -> pl.DataFrame:
    """Lists the cells that `fill_nearest` or `fill_interpolated` found a value for.

    Returns:
        row UInt32 (position in `frame`, from 0), column String, old Float64 (null or NaN: the raw
        cell), new Float64; by column, then by row.
    """
    parts = [
        frame.select(
            pl.int_range(pl.len(), dtype=pl.UInt32).alias("row"),
            pl.lit(name).alias("column"),
            pl.col(name).cast(pl.Float64).alias("old"),
            pl.col(filled_column(name)).alias("new"),
        ).drop_nulls("new")
        for name, feature in features.items()
        if feature.missing.method in ("interpolate", "nearest")
        and filled_column(name) in frame.columns
    ]
    schema = {"row": pl.UInt32, "column": pl.String, "old": pl.Float64, "new": pl.Float64}
    return pl.concat([pl.DataFrame(schema=schema), *parts])


def interpolated_features(features: Features) -> list[str]:
    """Returns the features that `fill_interpolated` adds a column for."""
    return _with_method(features, "interpolate")


def _with_method(features: Features, method: str) -> list[str]:
    return [name for name, feature in features.items() if feature.missing.method == method]


def _free_names(features: Features, method: str, frame: pl.DataFrame) -> list[str]:
    names = _with_method(features, method)
    for name in names:
        if filled_column(name) in frame.columns:
            raise DataError(
                f"column {filled_column(name)!r}: wanted this name free for what `missing: "
                f"{method}` finds for {name!r}, got a column of the data; rename it."
            )
    return names


def _mean_of_nearest(
    table: np.ndarray, donors: np.ndarray, rows: np.ndarray, position: int, neighbours: int
) -> np.ndarray:
    """Returns float64 [len(rows)]: column `position` of `rows`; NaN where no donor can give it."""
    from sklearn.impute import KNNImputer

    imputer = KNNImputer(n_neighbors=neighbours, keep_empty_features=True).fit(table[donors])
    donor_knows = (~np.isnan(table[donors])).astype(np.float32)
    can_give = donor_knows[:, position] > 0
    found = np.full(len(rows), np.nan)
    for start in range(0, len(rows), _BLOCK_ROWS):
        block = table[rows[start : start + _BLOCK_ROWS]]
        # The imputer takes the mean of all donors for a row that shares no number with any.
        shared = (~np.isnan(block)).astype(np.float32) @ donor_knows[can_give].T
        has_donor = (shared > 0).any(axis=1)
        if has_donor.any():
            end = start + len(block)
            found[start:end][has_donor] = imputer.transform(block[has_donor])[:, position]
    return found


def _between(
    values: np.ndarray, is_known: np.ndarray, time: np.ndarray, is_first: np.ndarray
) -> np.ndarray:
    """Interpolates rows sorted by group and time; NaN where a group has none before or after."""
    place = np.arange(len(values))
    group = np.cumsum(is_first)
    before = np.maximum.accumulate(np.where(is_known, place, -1))
    after = np.minimum.accumulate(np.where(is_known, place, len(place))[::-1])[::-1]
    has_before = (before >= 0) & (group[before] == group)
    after_or_last = np.minimum(after, len(place) - 1)
    has_after = (after < len(place)) & (group[after_or_last] == group)
    # Of the same moment a value holds as it is, also before the first or after the last.
    is_now_before = has_before & (time[before] == time)
    is_now_after = has_after & (time[after_or_last] == time)
    first, second = values[before], values[after_or_last]
    length = np.maximum(time[after_or_last] - time[before], 1)
    line = first + (second - first) * ((time - time[before]) / length)
    line = np.where(has_before & has_after, line, np.nan)
    return np.where(is_now_before, first, np.where(is_now_after, second, line))
