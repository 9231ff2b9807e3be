"""The tables beside the events as they will be declared: items and users."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from tfrec.autoconfig import words
from tfrec.autoconfig.catalogue import Guessed, guess_table
from tfrec.autoconfig.columns import Column, as_float
from tfrec.autoconfig.events import EventPart
from tfrec.autoconfig.groups import Group
from tfrec.autoconfig.ids import Key
from tfrec.autoconfig.logs import rename_group
from tfrec.autoconfig.parts import shared_context
from tfrec.autoconfig.tables import Tables
from tfrec.schema import Columns, Tensors

_RESERVED_OF_ITEMS = (Columns.ITEM_ID, Columns.TITLE, Columns.TEXT)
_RESERVED_OF_USERS = (
    Columns.USER_ID, Columns.TEXT, Columns.ITEM_ID, Tensors.HISTORY, Tensors.HISTORY_KIND,
    Tensors.HISTORY_TIME, Tensors.TIME, Tensors.QUERY,
)  # fmt: skip
# A table is held in memory as a whole; a log of this size is none.
_MAX_TABLE_BYTES = 200_000_000
_MIN_TIED, _MIN_KNOWN = 0.9, 0.02


class ItemTable:
    """The catalogue as it will be declared.

    Args:
        tables: What each file is.
        parts: The events.
    """

    group: Group | None = None
    key: str = ""
    guessed = Guessed()
    overlap: float | None = None
    others: dict[str, float] = {}
    is_from_events = False

    def __init__(self, tables: Tables, parts: list[EventPart]) -> None:
        if tables.items:
            self.group, key = _with_names(*tables.items, "item_id")
            self.key, self.overlap, self.others = key.column, key.overlap, key.others
            columns = [c for c in self.group.columns.values() if c.name != self.key]
            self.guessed = guess_table(columns, _RESERVED_OF_ITEMS)
            return
        main = parts[0]
        columns = [] if main.lists else _tied_columns(main, main.item.column, _is_item_attribute)
        if columns:
            self.group, self.key, self.is_from_events = main.group, main.item.column, True
            self.guessed = guess_table(columns, _RESERVED_OF_ITEMS)
            for column in columns:
                main.left_out.pop(column.name, None)


class UserTable:
    """The user table as it will be declared.

    Args:
        tables: What each file is.
        parts: The events.
    """

    group: Group | None = None
    key: str = ""
    guessed = Guessed()
    overlap: float | None = None
    is_from_events = False

    def __init__(self, tables: Tables, parts: list[EventPart]) -> None:
        main = parts[0]
        reserved = (*_RESERVED_OF_USERS, *shared_context(parts))
        if tables.users:
            self.group, key = _with_names(*tables.users, "user_id")
            self.key, self.overlap = key.column, key.overlap
            columns = [c for c in self.group.columns.values() if c.name != self.key]
            self.guessed = guess_table(columns, reserved, is_users=True)
            return
        if main.lists and main.lists.user:
            return
        columns = _tied_columns(main, main.user.column, _is_user_attribute)
        if columns:
            self.group, self.key, self.is_from_events = main.group, main.user.column, True
            self.guessed = guess_table(columns, reserved, is_users=True)
            for column in columns:
                main.left_out.pop(column.name, None)


def _with_names(group: Group, key: Key, name: str) -> tuple[Group, Key]:
    """Names the columns of a table without a header."""
    if group.first.has_names:
        return group, key
    names = {key.column: name}
    if name == "item_id":
        columns = [c for c in group.columns.values() if c.name != key.column]
        title = guess_table(columns, ()).title
        names |= {title: "title"} if title else {}
    others = {names.get(other, other): share for other, share in key.others.items()}
    return rename_group(group, names), Key(name, key.overlap, others)


def _is_user_attribute(column: Column) -> bool:
    return column.has(words.ATTRIBUTE)


def _is_item_attribute(column: Column) -> bool:
    return column.has(words.ITEM_ATTRIBUTE) and not column.has(words.USER)


def _tied_columns(part: EventPart, key: str, test: Callable[[Column], bool]) -> list[Column]:
    """Returns columns that the log repeats with each event of a user or of an item."""
    size = sum(head.path.stat().st_size for head in part.group.heads)
    if size > _MAX_TABLE_BYTES:
        return []
    found = []
    for name in part.left_out:
        column = part.group.columns[name]
        plain = column.form in ("text", "number", "boolean") and not column.personal
        known = len(column.known) > _MIN_KNOWN * len(column.raw)
        if plain and known and column.distinct > 1 and test(column):
            pairs = part.group.frame.select(key=key, value=name).drop_nulls()
            values = pairs.group_by("key").agg(pl.len(), pl.col("value").n_unique().alias("values"))
            again = values.filter(pl.col("len") > 1)["values"]
            if len(again) and as_float((again == 1).mean()) >= _MIN_TIED:
                found.append(column)
    return found
