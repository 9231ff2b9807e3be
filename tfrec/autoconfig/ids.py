"""Which column names the user and which the item, and which table's ids they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import polars as pl

from tfrec.autoconfig import words
from tfrec.autoconfig.columns import Column, as_float
from tfrec.autoconfig.groups import Group

_MAX_IDS = 20_000
_MIN_OVERLAP = 0.5


@dataclass(frozen=True)
class Key:
    """A column with a table's ids.

    Attributes:
        column: Its name.
        overlap: Share of the events' ids (of their first rows) that it holds; None without events.
        others: The same of other columns that could be it.
    """

    column: str
    overlap: float | None
    others: dict[str, float]


def name_rank(column: Column, group: frozenset[str]) -> int:
    """Returns how surely a name is that of an id: 3 sure, 0 not."""
    if not column.has(group):
        return 0
    if column.consists_of(group, words.ID):
        return 3
    if column.words[-1] in words.ID or column.words[-1] in ("asin", "sku"):
        return 2
    return 1 if column.words[-1] in ("name", "login") and column.share_distinct < 0.5 else 0


def best_named(columns: Iterable[Column], group: frozenset[str]) -> list[Column]:
    """Returns columns with ids by name, surest first."""
    ranked = [
        (name_rank(column, group), column)
        for column in columns
        if column.form in ("number", "text") and not (column.form == "number" and not column.is_id)
    ]
    ranked = [pair for pair in ranked if pair[0]]
    return [column for _, column in sorted(ranked, key=lambda pair: -pair[0])]


def unnamed_ids(columns: Iterable[Column]) -> list[Column]:
    """Returns columns that could hold ids of events by their cells: short, and standing twice."""
    return [
        column
        for column in columns
        if column.is_id
        and not column.time_unit
        and not column.is_flag
        and column.distinct > (5 if len(column.raw) > 50 else 1)
        and column.distinct < len(column.raw)
    ]


def key_columns(group: Group) -> list[Column]:
    """Returns columns that could be the ids of a table: hardly a value stands twice."""
    return [column for column in group.columns.values() if column.is_unique and column.is_id]


def overlap(ids: pl.Series, key: Column) -> float:
    """Returns the share of distinct ids that a table's column holds."""
    known = ids.drop_nulls().unique().head(_MAX_IDS)
    if not len(known):
        return 0.0
    return as_float(known.is_in(key.text.unique().implode()).mean())


def find_key(group: Group, ids: pl.Series | None, named: frozenset[str]) -> Key | None:
    """Finds the column of a table whose values are the events' ids.

    Args:
        group: The table.
        ids: Ids of the first events, as text; None where no events are known.
        named: Words of the thing that the table lists.
    """
    columns = list(group.columns.values())
    candidates = key_columns(group)
    # An id that stands twice is still an id where its name is sure.
    by_name = [column for column in best_named(columns, named) if name_rank(column, named) > 1]
    candidates += [column for column in by_name if column not in candidates]
    candidates += [c for c in columns if c.words == ["id"] and c not in candidates]
    if not candidates:
        return None
    ranks = {column.name: _rank(column, by_name) for column in candidates}
    if ids is None or not len(ids):
        return Key(max(ranks, key=lambda name: ranks[name]), None, {})
    shares = {column.name: overlap(ids, column) for column in candidates}
    best = max(shares, key=lambda name: (round(shares[name], 3), ranks[name]))
    others = {name: share for name, share in shares.items() if name != best}
    return Key(best, shares[best], others)


def _rank(column: Column, by_name: Sequence[Column]) -> int:
    if column in by_name:
        return 3 - by_name.index(column)
    return 2 if column.words == ["id"] else 0


def item_likeness(group: Group) -> float:
    """Returns how much a table looks like a list of items."""
    columns = list(group.columns.values())
    score = 2.0 * bool(group.file_words & words.ITEM_FILE)
    score += 2.0 * bool(best_named(columns, words.ITEM))
    score += sum(column.has(words.ITEM_ATTRIBUTE | words.TITLE) for column in columns) * 0.5
    return score + sum(column.form == "text" and column.num_words >= 2 for column in columns)


def user_likeness(group: Group) -> float:
    """Returns how much a table looks like a list of users."""
    columns = list(group.columns.values())
    score = 3.0 * bool(group.file_words & words.USER)
    score += 3.0 * bool(best_named(columns, words.USER))
    return score + sum(bool(c.personal) or c.has(words.ATTRIBUTE) for c in columns) * 0.5


def is_overlapping(key: Key | None) -> bool:
    """Tells whether a table's ids are the events' ids."""
    return key is not None and (key.overlap is None or key.overlap >= _MIN_OVERLAP)
