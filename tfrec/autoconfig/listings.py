"""The tables beside the events as they will be declared: items and users."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import polars as pl

from tfrec.autoconfig import words
from tfrec.autoconfig.attributes import Attributes, find_title, guess_attributes
from tfrec.autoconfig.columns import Column, as_float
from tfrec.autoconfig.events import EventPart
from tfrec.autoconfig.parts import shared_context
from tfrec.autoconfig.sorting import ListedIds
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
        ids: Its files and its id.
        attributes: What its other columns are good for.
        is_from_events: Whether it is the log, which repeats what it says of an item or user.
    """

    ids: ListedIds
    attributes: Attributes
    is_from_events: bool = False


def list_things(
    found: ListedIds | None, parts: Sequence[EventPart], is_users: bool
) -> Listing | None:
    """Returns the catalogue or the user table; None where no table tells more than ids.

    Args:
        found: The table that lists them; None where the log may tell the same of them.
        parts: The events.
        is_users: Whether users are listed, not items.
    """
    key = "user_id" if is_users else "item_id"
    reserved = (*_RESERVED_OF_USERS, *shared_context(parts)) if is_users else _RESERVED_OF_ITEMS
    if found is None:
        main = parts[0]
        tied = [
            column for column in _tied_columns(main, main.roles[key].column)
            if (column.has(words.ATTRIBUTE) if is_users
                else column.has(words.ITEM_ATTRIBUTE) and not column.has(words.USER))
        ]  # fmt: skip
        for column in tied:
            del main.left_out[column.name]
        ids = ListedIds(main.table, main.roles[key].name, 1.0, {}, 0.0)
        attributes = guess_attributes(tied, reserved, is_users)
        return Listing(ids, attributes, is_from_events=True) if tied else None
    if not found.table.has_header:
        names = {found.name: key}
        rest = [column for name, column in found.table.columns.items() if name != found.name]
        if not is_users and (title := find_title(rest)):
            names[title.name] = "title"
        others = {names.get(other, other): share for other, share in found.others.items()}
        found = replace(found, table=found.table.rename(names), name=key, others=others)
    columns = [column for name, column in found.table.columns.items() if name != found.name]
    return Listing(found, guess_attributes(columns, reserved, is_users))


def _tied_columns(part: EventPart, key: Column) -> list[Column]:
    """Returns columns that the log repeats with each event of a user or of an item."""
    if part.table.num_bytes > _MAX_TABLE_BYTES or part.table.columns.get(key.name) is not key:
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
