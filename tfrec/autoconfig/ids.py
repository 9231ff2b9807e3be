"""Which column names the user and which the item, and which table's ids they are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import polars as pl

from tfrec.autoconfig import words
from tfrec.autoconfig.columns import Column, as_float
from tfrec.autoconfig.table import Table

_MAX_IDS = 20_000
_MIN_SHARE = 0.5


@dataclass(frozen=True)
class ListedIds:
    """The ids of a table that lists items or users.

    Attributes:
        table: The table.
        name: The column.
        share: Share of the events' ids (of their first rows) that it holds.
        others: The same of other columns that could be it.
        score: How well the table fits: the share, and a little for names.
    """

    table: Table
    name: str
    share: float
    others: dict[str, float]
    score: float


def name_rank(column: Column, thing: frozenset[str]) -> int:
    """Returns how surely a name is that of a thing's id: 3 sure, 0 not."""
    if not column.has(thing):
        return 0
    if column.consists_of(thing, words.ID):
        return 3
    if column.words[-1] in words.ID or column.words[-1] in ("asin", "sku"):
        return 2
    return 1 if column.words[-1] in ("name", "login") and column.share_distinct < 0.5 else 0


def named_ids(columns: Iterable[Column], thing: frozenset[str]) -> list[Column]:
    """Returns columns with ids of a thing by their names, surest first."""
    found = [
        column for column in columns
        if name_rank(column, thing)
        and (column.is_id if column.form == "number" else column.form == "text")
    ]  # fmt: skip
    return sorted(found, key=lambda column: -name_rank(column, thing))


def unnamed_ids(columns: Iterable[Column]) -> list[Column]:
    """Returns columns that could hold ids of events by their cells: short, and standing twice."""
    return [
        column
        for column in columns
        if column.is_id
        and not column.time_unit
        and not column.is_flag
        and (5 if len(column.raw) > 50 else 1) < column.distinct < len(column.raw)
    ]


def overlap(ids: pl.Series, column: Column) -> float:
    """Returns the share of distinct ids that a table's column holds."""
    known = ids.drop_nulls().unique().head(_MAX_IDS)
    return as_float(known.is_in(column.text.unique().implode()).mean())


def find_list(tables: Iterable[Table], ids: pl.Series, thing: frozenset[str]) -> ListedIds | None:
    """Finds the list of the things that events name; None where no table is one.

    Args:
        tables: Tables that hold no events.
        ids: Ids of the first events, as text.
        thing: Words of the things: `words.ITEM` or `words.USER`.
    """
    sign = 1 if thing is words.ITEM else -1
    found = [
        _rate_list(table, ids, thing, sign * likeness(table)) for table in tables
        if sign * likeness(table) > 0
    ]  # fmt: skip
    fitting = (listed for listed in found if listed and listed.share >= _MIN_SHARE)
    return max(fitting, key=lambda listed: listed.score, default=None)


def _rate_list(
    table: Table, ids: pl.Series, thing: frozenset[str], like: float
) -> ListedIds | None:
    """Finds the column of a table whose values are the events' ids."""
    columns = table.columns.values()
    # An id that stands twice is still an id where its name is sure.
    by_name = [column for column in named_ids(columns, thing) if name_rank(column, thing) > 1]
    ranks = {c.name: 2 for c in columns if c.words == ["id"]}
    ranks |= {column.name: 3 - at for at, column in enumerate(by_name)}
    unique = [c.name for c in columns if c.is_unique and c.is_id]
    shares = {name: overlap(ids, table.columns[name]) for name in (*unique, *ranks)}
    if not shares:
        return None
    best = max(shares, key=lambda name: (round(shares[name], 3), ranks.get(name, 0)))
    share = shares.pop(best)
    return ListedIds(table, best, share, shares, share + min(like, 10.0) / 100)


def likeness(table: Table) -> float:
    """Returns how much more a table looks like a list of items than like one of users."""
    columns = list(table.columns.values())
    score = 2.0 * bool(table.file_words & words.ITEM_FILE) + 2.0 * bool(
        named_ids(columns, words.ITEM)
    )
    score -= 3.0 * bool(table.file_words & words.USER) + 3.0 * bool(named_ids(columns, words.USER))
    for column in columns:
        score += 0.5 * column.has(words.ITEM_ATTRIBUTE | words.TITLE)
        score += column.form == "text" and column.num_words >= 2
        score -= 0.5 * (bool(column.personal) or column.has(words.ATTRIBUTE))
    return score
