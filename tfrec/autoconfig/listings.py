"""The tables beside the events as they will be declared: items and users."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from tfrec.autoconfig import words
from tfrec.autoconfig.attributes import Attributes, find_title, guess_attributes
from tfrec.autoconfig.columns import Column, as_float
from tfrec.autoconfig.events import EventPart
from tfrec.autoconfig.ids import IdColumn
from tfrec.autoconfig.parts import shared_context
from tfrec.autoconfig.table import Table
from tfrec.schema import Columns, Tensors

_RESERVED_OF_ITEMS = (Columns.ITEM_ID, Columns.TITLE, Columns.TEXT)
_RESERVED_OF_USERS = (
    Columns.USER_ID, Columns.TEXT, Columns.ITEM_ID, Tensors.HISTORY, Tensors.HISTORY_KIND,
    Tensors.HISTORY_TIME, Tensors.TIME, Tensors.QUERY,
)  # fmt: skip
# A table is held in memory as a whole; a log of this size is none.
_MAX_TABLE_BYTES = 200_000_000
_MIN_TIED, _MIN_KNOWN = 0.9, 0.02


@dataclass(frozen=True)
class Listing:
    """A table of items or of users.

    Attributes:
        table: Its files.
        ids: Its id.
        attributes: What its other columns are good for.
        is_from_events: Whether it is the log, which repeats what it says of an item or user.
    """

    table: Table
    ids: IdColumn
    attributes: Attributes
    is_from_events: bool = False


def list_items(found: tuple[Table, IdColumn] | None, parts: Sequence[EventPart]) -> Listing | None:
    """Returns the catalogue; None where no table tells more than ids."""
    main = parts[0]
    if found:
        return _listing(*found, "item_id", _RESERVED_OF_ITEMS, is_users=False)
    if main.lists:
        return None
    tied = [
        column for column in _tied_columns(main, main.item)
        if column.has(words.ITEM_ATTRIBUTE) and not column.has(words.USER)
    ]  # fmt: skip
    return _from_events(main, main.item, guess_attributes(tied, _RESERVED_OF_ITEMS), tied)


def list_users(found: tuple[Table, IdColumn] | None, parts: Sequence[EventPart]) -> Listing | None:
    """Returns the user table; None where no table tells more than ids."""
    main = parts[0]
    reserved = (*_RESERVED_OF_USERS, *shared_context(parts))
    if found:
        return _listing(*found, "user_id", reserved, is_users=True)
    tied = [column for column in _tied_columns(main, main.user) if column.has(words.ATTRIBUTE)]
    return _from_events(main, main.user, guess_attributes(tied, reserved, is_users=True), tied)


def _listing(
    table: Table, ids: IdColumn, name: str, reserved: Sequence[str], is_users: bool
) -> Listing:
    if not table.has_header:
        names = {ids.name: name}
        rest = [column for column in table.columns.values() if column.name != ids.name]
        if not is_users and (title := find_title(rest)):
            names[title.name] = "title"
        others = {names.get(other, other): share for other, share in ids.others.items()}
        table, ids = table.rename(names), IdColumn(name, ids.overlap, others)
    columns = [column for column in table.columns.values() if column.name != ids.name]
    return Listing(table, ids, guess_attributes(columns, reserved, is_users))


def _from_events(
    part: EventPart, key: Column, attributes: Attributes, tied: Sequence[Column]
) -> Listing | None:
    for column in tied:
        part.left_out.pop(column.name, None)
    ids = IdColumn(key.name, None, {})
    return Listing(part.table, ids, attributes, is_from_events=True) if tied else None


def _tied_columns(part: EventPart, key: Column) -> list[Column]:
    """Returns columns that the log repeats with each event of a user or of an item."""
    if part.table.num_bytes > _MAX_TABLE_BYTES or key.name not in part.table.columns:
        return []
    found = []
    for name in part.left_out:
        column = part.table.columns[name]
        is_plain = column.form in ("text", "number", "boolean") and not column.personal
        is_known = len(column.known) > _MIN_KNOWN * len(column.raw)
        if is_plain and is_known and column.distinct > 1:
            pairs = pl.DataFrame({"key": key.raw, "value": column.raw}).drop_nulls()
            values = pairs.group_by("key").agg(pl.len(), pl.col("value").n_unique().alias("values"))
            again = values.filter(pl.col("len") > 1)["values"]
            if as_float((again == 1).mean()) >= _MIN_TIED:
                found.append(column)
    return found
