"""Which tables are logs, and which of their columns name the user and the item."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import permutations

import polars as pl

from tfrec.autoconfig import words
from tfrec.autoconfig.columns import Column, as_float
from tfrec.autoconfig.events import EventPart, Role, assign_roles
from tfrec.autoconfig.lists import CLICKED, ItemLists, find_lists, read_sequences
from tfrec.autoconfig.table import Table

_LOG_WORDS = {"event", "log", "interaction", "rating", "click"}
_MAX_IDS = 20_000


def find_log(table: Table) -> list[EventPart]:
    """Returns the parts that a table gives; none if it is no log."""
    if table.samples[0].is_sequence:
        users, lists = read_sequences(table.frame)
        return [new_part(table, Role(users, "the first id of a line"), lists)]
    columns = list(table.columns.values())
    is_unnamed = all(not column.words for column in columns)
    ids = named_ids(columns, words.USER) or named_ids(columns, words.SESSION)
    ids = ids or (unnamed_ids(columns) if is_unnamed else [])
    if not ids or _is_catalogue(table, ids[0]):
        return []
    user = ids[0]
    if found := find_lists(table.columns):
        how = "by its name" if user.words else "the first column of ids that come again"
        parts = [new_part(table, Role(user, how), lists) for lists in found]
        for part in parts[1:]:
            part.is_before = parts[0].is_shown
        return parts
    if is_unnamed:
        is_list = any(c.is_unique and c.is_id and not c.time_unit for c in columns)
        if len(ids) < 2 or is_list or any(c.form == "text" and c.num_words >= 2 for c in columns):
            return []
        why = "a guess by position: the first column of ids; swap it with the item if it is not so"
        return [new_part(table, Role(user, why), Role(ids[1], "the second column of ids"))]
    items = [column for column in named_ids(columns, words.ITEM) if column is not user]
    how = "by its name"
    if not items:
        is_log = any(c.form == "time" or c.has(words.RATING) or c.has(words.KIND) for c in columns)
        free = [c for c in unnamed_ids(columns) if c is not user and not c.has(words.KIND)]
        free = [c for c in free if is_log and (c.has(words.ID) or c.form == "text")]
        items, how = sorted(free, key=lambda column: -column.distinct)[:1], "not by its name"
    if not items:
        return []
    user_why = f"{how}; {user.distinct:,} in the first {len(user.raw):,} rows"
    if user.has(words.SESSION) and not user.has(words.USER):
        user_why += "; no column names users, so each session stands for one"
    item_why = f"{how}; {items[0].distinct:,} in the first rows"
    return [new_part(table, Role(user, user_why), Role(items[0], item_why))]


def new_part(table: Table, user: Role, items: Role | ItemLists) -> EventPart:
    """Returns a part whose rows are events, or hold lists of items."""
    if isinstance(items, Role):
        return EventPart(table, {"user_id": user, "item_id": items})
    item = Role(Column("item_id", items.ids), items.why)
    return EventPart(table, {"user_id": user, "item_id": item}, items)


def possible_pairs(part: EventPart) -> list[tuple[Column, Column]]:
    """Returns the columns that could be user and item, the pair that is so far first."""
    user, item = part.user, part.item
    columns = part.table.columns.values()
    if user.words or item.words:
        free = [column for column in columns if column is not user]
        pairs = [(user, other) for other in named_ids(free, words.ITEM) or unnamed_ids(free)]
    else:
        pairs = list(permutations(unnamed_ids(columns), 2))
    return [(user, item), *(pair for pair in pairs if pair != (user, item))]


def name_columns(parts: list[EventPart]) -> list[EventPart]:
    """Names the columns of a file without a header after their roles.

    Args:
        parts: All parts of one table, of which the first one's roles count.
    """
    first = parts[0]
    if first.table.has_header or first.table.samples[0].is_sequence:
        return parts
    names = {first.user.name: "user_id"}
    for lists in [part.lists for part in parts if part.lists]:
        names |= dict(zip(lists.taken, (lists.kind, CLICKED), strict=False))
    why = {key: role.why for key, role in first.roles.items()}
    names |= {role.name: key for key, role in assign_roles(first).roles.items()}
    table = first.table.rename(names)
    if first.lists:
        return find_log(table)
    user, item = (Role(table.columns[key], why[key]) for key in ("user_id", "item_id"))
    return [new_part(table, user, item)]


def _is_catalogue(table: Table, user: Column) -> bool:
    """Tells a list of items or users, whose ids stand once, from a log."""
    columns = table.columns.values()
    has_time = any(column.form == "time" or column.time_unit for column in columns)
    if has_time or table.file_words & _LOG_WORDS or len(table.frame) < 20:
        return False
    items = [c for c in named_ids(columns, words.ITEM) if c is not user and c.is_unique]
    if items and not user.is_unique:
        return likeness(table) > 0
    return user.is_unique and likeness(table) < 0 and all(c.form != "list" for c in columns)


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
