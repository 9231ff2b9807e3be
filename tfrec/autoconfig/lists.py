"""Logs that keep several items in one row: what was shown and clicked, histories, sequences."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import permutations

import polars as pl

from tfrec.autoconfig import words
from tfrec.autoconfig.columns import Column, as_float
from tfrec.autoconfig.declaration import compute, explode, sql_name, sql_text
from tfrec.autoconfig.page import Block, Entry

SHOWN, CLICKED, HISTORY, SEQUENCE = "shown", "clicked", "history", "sequence"
_MAX_ROWS = 2000
_ALIKE = 0.98
_SEPARATORS = (" ", ",", "|", ";")
_ID = r"[A-Za-z_]{0,6}\d[\w-]*"


@dataclass(frozen=True, eq=False)
class ListColumn:
    """A column of lists.

    Attributes:
        column: The column.
        lists: Its lists, of the first rows.
        sql: What makes the lists where cells are text; empty for lists.
    """

    column: Column
    lists: pl.Series
    sql: str = ""

    @property
    def name(self) -> str:
        """Its name."""
        return self.column.name

    @cached_property
    def values(self) -> Column:
        """The values of all lists, below the name of the lists."""
        return Column(self.name, self.lists.explode().drop_nulls(), self.column.has_name)

    @cached_property
    def holds_items(self) -> bool:
        """Whether the values could be ids."""
        cells = self.values.raw
        is_text = cells.dtype == pl.String and self.values.share(rf"^{_ID}$") > _ALIKE
        return is_text or cells.dtype.is_integer()


@dataclass(frozen=True, eq=False)
class ItemLists:
    """One way in which rows hold lists of items.

    Attributes:
        kind: ``shown``: a list of shown items that says which were clicked. ``history``: items that
            a user turned to, in other rows or before the log. ``sequence``: the same, and all
            there is.
        why: What was measured.
        taken: Columns that the lists use up, that of the items first.
        steps: What makes one row of each item, `item_id`.
        ids: Item ids of the first rows, as text.
        time: Column with the time of each item, where a list tells it.
        watch_time: Likewise, with seconds.
    """

    kind: str
    why: str
    taken: list[str]
    steps: list[Block]
    ids: pl.Series
    time: Column | None = None
    watch_time: Column | None = None


def read_sequences(frame: pl.DataFrame) -> tuple[Column, ItemLists]:
    """Reads lines ``user item item ...``: the users, which the steps make a column, and items."""
    cells = frame["line"].head(_MAX_ROWS).str.replace_all(r"\s+", " ").str.split(" ")
    separator = "\t" if frame["line"].str.contains("\t", literal=True).all() else " "
    written = sql_text(separator)
    items = f"string_to_array(substr(line, strpos(line, {written}) + 1), {written})"
    made = [
        Entry("user_id", f"split_part(line, {written}, 1)", "a line begins with a user"),
        Entry("item_id", items, "the items behind it, taken as oldest first"),
    ]
    steps = [compute(made), *explode(["item_id"], True)]
    ids = cells.list.slice(1).explode().drop_nulls()
    lists = ItemLists(SEQUENCE, "lines of ids of differing number", ["line"], steps, ids)
    return Column("user_id", cells.list.first()), lists


def find_lists(columns: dict[str, Column]) -> list[ItemLists]:
    """Finds lists of items in the rows of a table that names a user in each."""
    columns_of_lists = [each for column in columns.values() if (each := _as_lists(column))]
    marked = [c for c in columns_of_lists if c.sql and c.values.share(r"^.+-[01]$") > 0.99]
    found = [_marked(column) for column in marked] or _shown_and_clicked(columns_of_lists)
    used = [name for lists in found for name in lists.taken]
    rest = [column for column in columns_of_lists if column.name not in used]
    alone = [_of_each_row(c, f"{c.name!r} holds a list of ids") for c in rest if c.holds_items]
    return found + (_side_by_side(rest) or alone[:1])


def _as_lists(column: Column) -> ListColumn | None:
    cells = column.raw.head(_MAX_ROWS)
    if isinstance(cells.dtype, pl.List):
        inner = cells.dtype.inner
        is_plain = inner == pl.String or inner.is_numeric() or inner.is_temporal()
        return ListColumn(column, cells) if is_plain else None
    if column.form != "text" or column.share(r"^\d+(,\d{1,2})?$") > _ALIKE:  # 4,50 is a number
        return None
    name, separators = sql_name(column.name), [*_SEPARATORS]
    if cells.drop_nulls().str.contains(r"^\[.*\]$").all():
        cells, separators = cells.str.replace_all(r"[\[\]' ]", ""), [","]
        for mark in "[] '":
            name = f"REPLACE({name}, {sql_text(mark)}, '')"
    for separator in separators:
        between = re.escape(separator)
        known = cells.drop_nulls()
        is_ids = as_float(known.str.contains(rf"^{_ID}({between}{_ID})*$").mean()) > _ALIKE
        if is_ids and as_float(known.str.count_matches(between).mean()) >= 0.5:
            sql = f"string_to_array({name}, {sql_text(separator)})"
            return ListColumn(column, cells.str.split(separator), sql)
    return None


def _item_lists(
    kind: str, why: str, columns: list[ListColumn], made: list[Entry], exploded: int = 1
) -> ItemLists:
    """Returns lists whose rows are made of the first `exploded` columns, that of items first."""
    cells = columns[0].values.raw
    texts = [
        Entry(column.name, column.sql, "ids with a separator between become a list")
        for column in columns if column.sql
    ]  # fmt: skip
    names = [column.name for column in columns]
    steps = [compute(texts)] if texts else []
    steps += [*explode(names[:exploded], cells.dtype == pl.String), compute(made)]
    return ItemLists(kind, why, names, steps, cells.cast(pl.String))


def _marked(column: ListColumn) -> ItemLists:
    name = sql_name(column.name)
    kind = f"CASE WHEN RIGHT({name}, 1) = '1' THEN '{CLICKED}' ELSE '{SHOWN}' END"
    made = [
        Entry("item_id", f"LEFT({name}, LENGTH({name}) - 2)", "what stands before -1 or -0"),
        Entry("kind", kind, "-1: clicked, -0: not clicked"),
    ]
    why = f"{column.name!r} holds items with -1 or -0: clicked or not"
    lists = _item_lists(SHOWN, why, [column], made)
    return replace(lists, ids=lists.ids.str.replace(r"-[01]$", ""))


def _shown_and_clicked(found: list[ListColumn]) -> list[ItemLists]:
    """Finds two columns of which one holds, row by row, a part of what the other holds."""
    best, pair = _ALIKE, None
    for shown, clicked in permutations([column for column in found if column.holds_items], 2):
        lengths = [column.lists.list.len().sum() for column in (clicked, shown)]
        if shown.lists.dtype == clicked.lists.dtype and 0 < lengths[0] < lengths[1]:
            frame = pl.DataFrame({"part": clicked.lists, "whole": shown.lists}).drop_nulls()
            frame = frame.filter(pl.col("part").list.len() > 0)
            outside = pl.col("part").list.set_difference("whole").list.len()
            share = as_float(frame.select((outside == 0).mean()).item())
            if share > best:
                best, pair = share, (shown, clicked)
    if pair is None:
        return []
    shown, clicked = pair
    left, right = sql_name(clicked.name), sql_name(shown.name)
    kind = f"CASE WHEN array_contains({left}, {right}) THEN '{CLICKED}' ELSE '{SHOWN}' END"
    made = [
        Entry("item_id", right, "the item of each row"),
        Entry("kind", kind, "clicked, if it stands in the other list too"),
    ]
    why = f"{clicked.name!r} is a part of {shown.name!r} in {best:.1%} of the rows"
    return [_item_lists(SHOWN, why, [shown, clicked], made)]


def _side_by_side(found: list[ListColumn]) -> list[ItemLists]:
    """Finds lists of one length in each row, one of items."""
    for items in found:
        lengths = items.lists.list.len().fill_null(0)
        others = [
            other for other in found
            if other is not items and (other.lists.list.len().fill_null(0) == lengths).all()
        ]  # fmt: skip
        is_better = any(o.column.has(words.ITEM) and o.holds_items for o in others)
        if not others or not items.holds_items or (is_better and not items.column.has(words.ITEM)):
            continue
        times = [o for o in others if o.values.form == "time"]
        times += [o for o in others if o.values.time_unit and o.column.has(words.TIME)]
        watch = [
            o.column for o in others
            if o.values.form == "number" and o.column.has(words.WATCH, frozenset(["time"]))
            and o not in times
        ]  # fmt: skip
        names = ", ".join(repr(each.name) for each in (items, *others))
        lists = _of_each_row(items, f"{names} have the same length in each row", others)
        time = times[0].values if times else None
        return [replace(lists, time=time, watch_time=watch[0] if watch else None)]
    return []


def _of_each_row(items: ListColumn, why: str, others: Sequence[ListColumn] = ()) -> ItemLists:
    """Returns the lists of items that a user turned to, with lists of the same length."""
    made = [Entry("item_id", sql_name(items.name), "the item of each row")]
    return _item_lists(HISTORY, why, [items, *others], made, 1 + len(others))
