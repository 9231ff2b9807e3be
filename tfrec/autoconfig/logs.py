"""Which tables are logs, and which of their columns name the user and the item."""

from __future__ import annotations

from collections.abc import Sequence

from tfrec.autoconfig import ids, words
from tfrec.autoconfig.columns import Column
from tfrec.autoconfig.events import EventPart, Role, guess_roles
from tfrec.autoconfig.groups import Group
from tfrec.autoconfig.heads import rename_columns
from tfrec.autoconfig.lists import CLICKED, SHOWN, Lists, find_lists, sequence_lines


def find_events(group: Group) -> list[EventPart]:
    """Returns the parts that a group of files gives; none if it is no log."""
    if group.first.is_sequence:
        lists = sequence_lines(group.frame)
        role = Role("user_id", "the first id of a line")
        return [EventPart(group, role, Role(lists.item, "the ids behind it"), lists=lists)]
    columns = list(group.columns.values())
    user = _find_user(columns)
    found = find_lists(group.columns) if user and not _is_catalogue(group, user) else []
    if user and found:
        if not group.first.has_names and user.name != "user_id":
            return find_events(_named_lists(group, user, found))
        parts = [_list_part(group, user, lists) for lists in found]
        if parts[0].lists and parts[0].lists.kind == SHOWN:
            for part in parts[1:]:
                part.is_before = True
        return parts
    if not group.first.has_names:
        return _find_unnamed_events(group)
    items = [column for column in ids.best_named(columns, words.ITEM) if column is not user]
    if user and items:
        return [] if _is_catalogue(group, user) else [_row_part(group, user, items[0])]
    has_answer = any(
        column.form == "time" or column.has(words.RATING) or column.has(words.KIND)
        for column in columns
    )
    free = [c for c in ids.unnamed_ids(columns) if c is not user and not c.has(words.KIND)]
    free = [c for c in free if c.has(words.ID) or c.form == "text"]
    if has_answer and user and free:
        return [_row_part(group, user, max(free, key=lambda c: c.distinct), "not by its name")]
    return []


def _is_catalogue(group: Group, user: Column) -> bool:
    """Tells a list of items or users, whose ids stand once, from a log."""
    named = ids.best_named(group.columns.values(), words.ITEM)
    sure = [column for column in named if column is not user and column.is_unique]
    has_time = any(column.form == "time" or column.time_unit for column in group.columns.values())
    is_log_name = bool(group.file_words & {"event", "log", "interaction", "rating", "click"})
    if has_time or is_log_name or len(group.frame) < 20:
        return False
    if sure and not user.is_unique:
        return ids.item_likeness(group) > ids.user_likeness(group)
    return user.is_unique and ids.user_likeness(group) > 3 and not _has_list(group)


def _has_list(group: Group) -> bool:
    return any(column.form == "list" for column in group.columns.values())


def _find_user(columns: Sequence[Column]) -> Column | None:
    named = ids.best_named(columns, words.USER) or ids.best_named(columns, words.SESSION)
    if named:
        return named[0]
    unnamed = [column for column in ids.unnamed_ids(columns) if not column.words]
    return unnamed[0] if unnamed and all(not column.words for column in columns) else None


def _row_part(group: Group, user: Column, item: Column, how: str = "by its name") -> EventPart:
    why = f"{how}; {user.distinct:,} in the first {len(user.raw):,} rows"
    if user.has(words.SESSION) and not user.has(words.USER):
        why += "; no column names users, so each session stands for one"
    item_why = f"{how}; {item.distinct:,} in the first rows"
    return EventPart(group, Role(user.name, why), Role(item.name, item_why))


def _list_part(group: Group, user: Column, lists: Lists) -> EventPart:
    how = "by its name" if user.words else "the first column of ids that come again"
    return EventPart(group, Role(user.name, how), Role(lists.item, lists.why), lists=lists)


def _find_unnamed_events(group: Group) -> list[EventPart]:
    """Reads a file without a header as a log where two columns hold ids that come again."""
    columns = list(group.columns.values())
    found = ids.unnamed_ids(columns)
    is_table = any(column.is_unique and column.is_id and not column.time_unit for column in columns)
    is_table = is_table or any(c.form == "text" and c.num_words >= 2 for c in columns)
    if len(found) < 2 or is_table:
        return []
    user, item = found[:2]
    why = "a guess by position: the first column of ids; swap it with the item if it is not so"
    return [EventPart(group, Role(user.name, why), Role(item.name, "the second column of ids"))]


def is_unnamed(part: EventPart) -> bool:
    """Tells whether the user and the item of a part are guessed by their places."""
    return not part.group.first.has_names and not part.lists


def swap(part: EventPart) -> EventPart:
    """Swaps user and item where their columns have no names."""
    if not is_unnamed(part):
        return part
    why = "more of its values are ids of the other table"
    user, item = Role(part.item.column, why), Role(part.user.column, why)
    return EventPart(part.group, user, item)


def name_columns(part: EventPart) -> EventPart:
    """Names the columns of a file without a header after their roles."""
    group = part.group
    if group.first.has_names or part.lists:
        return part
    trial = guess_roles(EventPart(group, part.user, part.item))
    names = {part.user.column: "user_id", part.item.column: "item_id"}
    names |= {role.column: key for key, role in trial.roles.items()}
    user = Role(names[part.user.column], part.user.why)
    item = Role(names[part.item.column], part.item.why)
    return EventPart(rename_group(group, names), user, item)


def _named_lists(group: Group, user: Column, found: Sequence[Lists]) -> Group:
    """Names the columns of a file without a header that holds lists of items."""
    trial = guess_roles(_list_part(group, user, found[0]))
    names = {user.name: "user_id"}
    for lists in found:
        names |= dict(zip(lists.taken, (lists.kind, CLICKED), strict=False))
    names |= {role.column: key for key, role in trial.roles.items()}
    return rename_group(group, names)


def rename_group(group: Group, names: dict[str, str]) -> Group:
    """Returns a group of files without headers with other names for its columns."""
    heads = tuple(rename_columns(head, names) for head in group.heads)
    return Group(heads, group.folder, group.siblings)
