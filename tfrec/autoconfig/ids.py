"""Which column names the user and which the item, and which table's ids they are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import polars as pl

from tfrec.autoconfig import words
from tfrec.autoconfig.columns import Column, as_float
from tfrec.autoconfig.table import Table

_MAX_IDS = 20_000


@dataclass(frozen=True)
class IdColumn:
    """The ids of a table of items or users.

    Attributes:
        name: The column.
        overlap: Share of the events' ids (of their first rows) that it holds; None without events.
        others: The same of other columns that could be it.
    """

    name: str
    overlap: float | None
    others: dict[str, float]


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


def find_ids(table: Table, ids: pl.Series | None, thing: frozenset[str]) -> IdColumn | None:
    """Finds the column of a table whose values are the events' ids.

    Args:
        table: A list of things.
        ids: Ids of the first events, as text; None where no events are known.
        thing: Words of what the table lists.
    """
    columns = table.columns.values()
    # An id that stands twice is still an id where its name is sure.
    by_name = [column for column in named_ids(columns, thing) if name_rank(column, thing) > 1]
    ranks = {column.name: 3 - at for at, column in enumerate(by_name)}
    ranks |= {c.name: 2 for c in columns if c.words == ["id"] and c.name not in ranks}
    unique = [c.name for c in columns if c.is_unique and c.is_id]
    names = [*unique, *(name for name in ranks if name not in unique)]
    if not names:
        return None
    if ids is None or not len(ids):
        return IdColumn(max(names, key=lambda name: ranks.get(name, 0)), None, {})
    shares = {name: overlap(ids, table.columns[name]) for name in names}
    best = max(names, key=lambda name: (round(shares[name], 3), ranks.get(name, 0)))
    share = shares.pop(best)
    return IdColumn(best, share, shares)


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
