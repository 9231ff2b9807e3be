"""Types the events of one batch: who, what, when, wanted or not."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from tfrec.config import Cleaning, Events
from tfrec.config.cleaning import parse_moment
from tfrec.data.parsing.checks import RowChecks
from tfrec.data.parsing.convert import to_ids, to_labels, to_weights, to_whole_numbers
from tfrec.data.parsing.features import clean_text, type_features
from tfrec.data.parsing.times import to_times
from tfrec.data.reading.files import require_columns
from tfrec.features.cells import to_numbers, to_text, without
from tfrec.features.frame import declare
from tfrec.schema import SPLITS, Columns

_MAX_POSITION = 1000
_NO_SPLIT = -1
_SPLIT_NAMES = {name: number for number, name in enumerate(SPLITS)} | {
    name: SPLITS.index("validation") for name in ("valid", "val", "dev")
}


def type_events(
    checks: RowChecks,
    declared: Events,
    cleaning: Cleaning,
    now: datetime,
    counts: Counter[str],
) -> pl.DataFrame:
    """Types one batch. Rows that `checks` drops stay, so that row numbers hold.

    Args:
        checks: The batch.
        declared: Which column plays which role.
        cleaning: Bounds of times, and how texts are cleaned.
        now: The moment of reading, in UTC without a zone.
        counts: Changed texts are counted here.

    Returns:
        n rows: user_id, item_id (String, null in dropped rows), time (Datetime("us"), null without
        one), sequence (Int64, 0), label (Int8), weight (Float32), is_ranked, is_target (Boolean),
        query (String, ""), position (Int16, 0), watch_time (Float32, NaN), impression (String, ""),
        true_probability (Float32, NaN), split (Int8, position in `SPLITS`, -1), where they are
        declared event_kind (Int16, position in `kinds` from 1, 0 in dropped rows) and rating
        (Float32, NaN in dropped rows), then the context features. What stands behind the comma says
        that nothing is known.

    Raises:
        DataError: A declared column is missing or of a wrong kind, or a cell does not fit and is
            not to be repaired.
    """
    require_columns(checks.frame, declared_columns(declared), checks.origin)
    no_text = pl.Series([""], dtype=pl.String).new_from_index(0, checks.frame.height)
    users = to_ids(checks, declared.user_id)
    items = to_ids(checks, declared.item_id)
    times = _times(checks, declared, cleaning, now)
    sequence = _zeros(checks, pl.Int64)
    if declared.sequence:
        sequence = to_whole_numbers(checks, declared.sequence).fill_null(0)
    watch_time = _watch_time(checks, declared)
    kind = _kind_number(checks, declared)
    rating = to_numbers(checks, declared.rating, reject=True) if declared.rating else None
    label, weight, is_ranked, is_target = _labels(checks, declared, kind, rating, watch_time)
    query = impression = no_text
    if declared.query:
        query = to_text(checks, declared.query)
        query = clean_text(query, cleaning.html, cleaning.max_text_chars, counts)
    if declared.impression:
        impression = to_text(checks, declared.impression).str.strip_chars()
    split = _zeros(checks, pl.Int8) + _NO_SPLIT
    if declared.split:
        split = _given_split(checks, declared.split)
    return pl.DataFrame(
        [
            users.alias(Columns.USER_ID),
            items.alias(Columns.ITEM_ID),
            times.alias(Columns.TIME),
            sequence.alias("sequence"),
            label.fill_null(0).cast(pl.Int8).alias(Columns.LABEL),
            weight.fill_null(1).cast(pl.Float32).alias(Columns.WEIGHT),
            is_ranked.fill_null(False).alias(Columns.IS_RANKED),
            is_target.fill_null(False).alias(Columns.IS_TARGET),
            query.alias(Columns.QUERY),
            _position(checks, declared.position).alias(Columns.POSITION),
            watch_time.cast(pl.Float32).fill_null(np.nan).alias(Columns.WATCH_TIME),
            impression.alias(Columns.IMPRESSION),
            _probability(checks, declared.true_probability).alias(Columns.TRUE_PROBABILITY),
            split.alias(Columns.SPLIT),
            *([] if kind is None else [_stored_kind(kind)]),
            *([] if rating is None else [_stored_rating(rating)]),
            *type_features(checks, declare(declared.context, "data.events.context")),
        ]
    )


def declared_columns(declared: Events) -> list[str]:
    """Returns the columns that the event table must have, in order and once each."""
    roles = (
        declared.user_id, declared.item_id, declared.time, declared.sequence, declared.kind,
        declared.label, declared.rating, declared.watch_time, declared.weight, declared.query,
        declared.position, declared.impression, declared.true_probability, declared.split,
    )  # fmt: skip
    return list(dict.fromkeys([*(column for column in roles if column), *declared.context]))


def _times(checks: RowChecks, declared: Events, cleaning: Cleaning, now: datetime) -> pl.Series:
    if declared.time is None:
        return pl.Series([None], dtype=pl.Datetime("us")).new_from_index(0, checks.frame.height)
    earliest = _in_utc(cleaning.earliest)
    latest = _in_utc(cleaning.latest) if cleaning.latest else now + timedelta(days=1)
    return to_times(
        checks, declared.time, earliest, latest, declared.time_format, declared.time_unit
    )


def _in_utc(text: str) -> datetime:
    return parse_moment(text).astimezone(UTC).replace(tzinfo=None)


def _watch_time(checks: RowChecks, declared: Events) -> pl.Series:
    """Returns seconds, Float64 [n], null where unknown; rejected where the label needs them."""
    column = declared.watch_time
    if column is None:
        return _zeros(checks, pl.Float64) + np.nan
    gives_label = declared.positive_watch_time is not None
    seconds = to_numbers(checks, column, reject=gives_label)
    # What no float32 holds is no number of seconds either.
    is_odd = ~seconds.is_between(0, float(np.finfo(np.float32).max))
    report = checks.reject if gives_label else checks.blank
    report(is_odd, column, "a number of seconds, 0 or more")
    return without(seconds, is_odd)


def _labels(
    checks: RowChecks,
    declared: Events,
    kind: pl.Series | None,
    rating: pl.Series | None,
    watch_time: pl.Series,
) -> tuple[pl.Series, pl.Series, pl.Series, pl.Series]:
    """Returns label, weight, is_ranked and is_target; null in rejected rows."""
    weight = _zeros(checks, pl.Float64) + 1
    is_ranked = is_target = weight > 0
    label = _zeros(checks, pl.Int8) + 1
    if kind is not None:
        kinds = declared.kinds.values()
        label = pl.Series([each.label for each in kinds], dtype=pl.Int8).gather(kind)
        weight = pl.Series([each.weight for each in kinds], dtype=pl.Float64).gather(kind)
        is_ranked = pl.Series([each.ranked for each in kinds]).gather(kind)
        is_target = pl.Series([each.target for each in kinds]).gather(kind)
    elif declared.label:
        label = to_labels(checks, declared.label)
    elif rating is not None:
        label = rating >= declared.positive_rating
    elif declared.positive_watch_time is not None:
        label = watch_time >= declared.positive_watch_time
    if declared.weight:
        weight = weight * to_weights(checks, declared.weight)
    return label, weight, is_ranked, is_target


def _kind_number(checks: RowChecks, declared: Events) -> pl.Series | None:
    """Returns the position in `kinds` of each row's kind; null in rejected rows."""
    if declared.kind is None:
        return None
    known = list(declared.kinds)
    kinds = to_text(checks, declared.kind).str.strip_chars()
    number = kinds.cast(pl.Enum(known), strict=False).to_physical().cast(pl.UInt32)
    checks.reject(number.is_null(), declared.kind, f"one of {', '.join(known)}")
    return number


def _stored_kind(number: pl.Series) -> pl.Series:
    return (number.cast(pl.Int16) + 1).fill_null(0).alias(Columns.EVENT_KIND)


def _stored_rating(rating: pl.Series) -> pl.Series:
    return rating.cast(pl.Float32).fill_null(np.nan).alias(Columns.RATING)


def _given_split(checks: RowChecks, column: str) -> pl.Series:
    names = to_text(checks, column).str.strip_chars().str.to_lowercase()
    split = names.replace_strict(_SPLIT_NAMES, default=None, return_dtype=pl.Int8)
    checks.reject(split.is_null(), column, f"one of {', '.join(SPLITS)}")
    return split.fill_null(_NO_SPLIT)


def _position(checks: RowChecks, column: str | None) -> pl.Series:
    if column is None:
        return _zeros(checks, pl.Int16)
    return to_numbers(checks, column).fill_null(0).clip(0, _MAX_POSITION).cast(pl.Int16)


def _probability(checks: RowChecks, column: str | None) -> pl.Series:
    if column is None:
        return (_zeros(checks, pl.Float32) + np.nan).cast(pl.Float32)
    values = to_numbers(checks, column)
    is_odd = ~values.is_between(0, 1)
    checks.blank(is_odd, column, "a probability from 0 to 1")
    return without(values, is_odd).cast(pl.Float32).fill_null(np.nan)


def _zeros(checks: RowChecks, dtype: type[pl.DataType]) -> pl.Series:
    return pl.zeros(checks.frame.height, dtype=dtype, eager=True)
