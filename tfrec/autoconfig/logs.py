"""Which tables are logs, and which of their columns name the user and the item."""

from __future__ import annotations

from collections.abc import Sequence

from tfrec.autoconfig import words
from tfrec.autoconfig.columns import Column
from tfrec.autoconfig.events import EventPart, Role, assign_roles
from tfrec.autoconfig.ids import likeness, named_ids, unnamed_ids
from tfrec.autoconfig.lists import CLICKED, ItemLists, find_lists, read_sequences
from tfrec.autoconfig.table import Table

_LOG_WORDS = {"event", "log", "interaction", "rating", "click"}


def find_log(table: Table) -> list[EventPart]:
    """Returns the parts that a table gives; none if it is no log."""
    if table.samples[0].is_sequence:
        return [_list_part(table, None, read_sequences(table.frame))]
    columns = list(table.columns.values())
    user = _find_user(columns)
    if user and _is_catalogue(table, user):
        return []
    found = find_lists(table.columns) if user else []
    if user and found:
        return _list_parts(table, user, found)
    if all(not column.words for column in columns):
        return _find_unnamed_log(table)
    items = [column for column in named_ids(columns, words.ITEM) if column is not user]
    how = "by its name"
    if not items:
        is_log = any(c.form == "time" or c.has(words.RATING) or c.has(words.KIND) for c in columns)
        free = [c for c in unnamed_ids(columns) if c is not user and not c.has(words.KIND)]
        free = [c for c in free if is_log and (c.has(words.ID) or c.form == "text")]
        items, how = sorted(free, key=lambda column: -column.distinct), "not by its name"
    if not user or not items:
        return []
    user_why = f"{how}; {user.distinct:,} in the first {len(user.raw):,} rows"
    if user.has(words.SESSION) and not user.has(words.USER):
        user_why += "; no column names users, so each session stands for one"
    item_why = f"{how}; {items[0].distinct:,} in the first rows"
    return [row_part(table, Role(user, user_why), Role(items[0], item_why))]


def row_part(table: Table, user: Role, item: Role) -> EventPart:
    """Returns a part whose rows are events."""
    return EventPart(table, {"user_id": user, "item_id": item})


def is_unnamed(part: EventPart) -> bool:
    """Tells whether the user and the item of a part are guessed by their places."""
    return not part.lists and not part.user.words and not part.item.words


def swap(part: EventPart) -> EventPart:
    """Swaps user and item where their columns have no names."""
    if not is_unnamed(part):
        return part
    why = "more of its values are ids of the other table"
    return row_part(part.table, Role(part.item, why), Role(part.user, why))


def name_columns(part: EventPart) -> EventPart:
    """Names the columns of a file without a header after their roles."""
    if part.table.has_header or part.lists:
        return part
    trial = assign_roles(row_part(part.table, *part.roles.values()))
    names = {role.name: key for key, role in trial.roles.items()}
    table = part.table.rename(names)
    user, item = (Role(table.columns[key], part.roles[key].why) for key in ("user_id", "item_id"))
    return row_part(table, user, item)


def _find_user(columns: Sequence[Column]) -> Column | None:
    named = named_ids(columns, words.USER) or named_ids(columns, words.SESSION)
    if not named and all(not column.words for column in columns):
        named = unnamed_ids(columns)
    return named[0] if named else None


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


def _list_parts(table: Table, user: Column, found: Sequence[ItemLists]) -> list[EventPart]:
    if not table.has_header and user.name != "user_id":
        trial = assign_roles(_list_part(table, user, found[0]))
        names = {user.name: "user_id"}
        for lists in found:
            names |= dict(zip(lists.taken, (lists.kind, CLICKED), strict=False))
        names |= {role.name: key for key, role in trial.roles.items()}
        return find_log(table.rename(names))
    parts = [_list_part(table, user, lists) for lists in found]
    for part in parts[1:]:
        part.is_before = parts[0].is_shown
    return parts


def _list_part(table: Table, user: Column | None, lists: ItemLists) -> EventPart:
    item = Role(Column("item_id", lists.ids), lists.why)
    if user is None:
        users = Role(Column("user_id", lists.users), "the first id of a line")
        return EventPart(table, {"user_id": users, "item_id": item}, lists)
    how = "by its name" if user.words else "the first column of ids that come again"
    return EventPart(table, {"user_id": Role(user, how), "item_id": item}, lists)


def _find_unnamed_log(table: Table) -> list[EventPart]:
    """Reads a file without a header as a log where two columns hold ids that come again."""
    columns = table.columns.values()
    found = unnamed_ids(columns)
    is_list = any(column.is_unique and column.is_id and not column.time_unit for column in columns)
    if len(found) < 2 or is_list or any(c.form == "text" and c.num_words >= 2 for c in columns):
        return []
    why = "a guess by position: the first column of ids; swap it with the item if it is not so"
    return [row_part(table, Role(found[0], why), Role(found[1], "the second column of ids"))]
