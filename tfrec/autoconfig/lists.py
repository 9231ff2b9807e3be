"""Logs that keep several items in one row: what was shown and clicked, histories, sequences."""

from __future__ import annotations

from dataclasses import dataclass, field

import polars as pl

from tfrec.autoconfig import words
from tfrec.autoconfig.columns import Column, as_float
from tfrec.autoconfig.list_columns import (
    ALIKE,
    MAX_ROWS,
    ListColumn,
    as_lists,
    holds_items,
    share_matching,
)
from tfrec.autoconfig.page import Block, Entry, sql_name, sql_text

SHOWN, CLICKED, HISTORY = "shown", "clicked", "history"


@dataclass(frozen=True)
class Lists:
    """One way in which rows hold lists of items.

    Attributes:
        kind: ``shown``: a list of shown items that says which were clicked. ``history``: items that
            a user turned to, in other rows or before the log. ``sequence``: the same, and all
            there is.
        steps: What makes one row of each item.
        item: Column with the item id, after the steps.
        time: Column with the time of each item, where a list tells it.
        watch_time: Likewise, in seconds.
        user: Column that the steps make, where the file has no columns.
        ids: Item ids of the first rows, as text.
        num_items: Items of a row, on average.
        taken: Columns that the lists use up.
        why: What was measured.
    """

    kind: str
    steps: list[Block]
    item: str
    ids: pl.Series
    num_items: float
    taken: tuple[str, ...]
    why: str
    time: str | None = None
    watch_time: str | None = None
    user: str | None = None
    users: pl.Series = field(default_factory=lambda: pl.Series([], dtype=pl.String))


def compute(**columns: tuple[str, str]) -> Block:
    """Returns a step that makes columns by SQL, each with the reason."""
    made = [Entry(name, text, why) for name, (text, why) in columns.items()]
    return [Entry("compute", made, "new columns")]


def sequence_lines(frame: pl.DataFrame) -> Lists:
    """Reads lines ``user item item ...``."""
    text = frame["line"].head(MAX_ROWS).str.strip_chars().str.replace_all(r"\s+", " ")
    cells = text.str.split(" ")
    items = cells.list.slice(1)
    separator = "\t" if frame["line"].str.contains("\t", literal=True).all() else " "
    written = sql_text(separator)
    steps = [
        compute(
            user_id=(f"split_part(line, {written}, 1)", "a line begins with a user"),
            item_id=(
                f"string_to_array(substr(line, strpos(line, {written}) + 1), {written})",
                "the items behind it, taken as oldest first",
            ),
        ),
        [Entry("explode", ["item_id"], "one row for each item")],
        [Entry("where", "item_id <> ''", "no rows without an item")],
    ]
    return Lists(
        "sequence", steps, "item_id", _flat(items), as_float(items.list.len().mean()),
        ("line",), "lines of ids of differing number", user="user_id", users=cells.list.first(),
    )  # fmt: skip


def find_lists(columns: dict[str, Column]) -> list[Lists]:
    """Finds lists of items in the rows of a table that names a user in each."""
    found = [lists for column in columns.values() if (lists := as_lists(column)) is not None]
    parts: list[Lists] = []
    used: set[str] = set()
    for column in found:
        if column.expression and share_matching(column, r"^.+-[01]$") > 0.99:
            parts.append(_marked(column))
            used.add(column.name)
    pair = None if parts else _find_pair(found)
    if pair:
        parts.append(_shown_and_clicked(*pair))
        used |= {column.name for column in pair}
    rest = [column for column in found if column.name not in used]
    parts += _parallel(rest) or [_alone(column) for column in rest if holds_items(column)][:1]
    return parts


def _find_pair(found: list[ListColumn]) -> tuple[ListColumn, ListColumn] | None:
    """Finds two columns of which one holds, row by row, a part of what the other holds."""
    best: tuple[float, ListColumn, ListColumn] | None = None
    for shown in found:
        for clicked in found:
            if shown is clicked or shown.inner != clicked.inner or not holds_items(shown):
                continue
            lengths = shown.lists.list.len().sum(), clicked.lists.list.len().sum()
            if not 0 < lengths[1] < lengths[0]:
                continue
            share = _share_within(clicked.lists, shown.lists)
            if share > ALIKE and (best is None or share > best[0]):
                best = (share, shown, clicked)
    return best[1:] if best else None


def _share_within(part: pl.Series, whole: pl.Series) -> float:
    """Returns the share of known lists whose values all stand in the other column's list."""
    frame = pl.DataFrame({"part": part, "whole": whole}).drop_nulls()
    frame = frame.filter(pl.col("part").list.len() > 0)
    outside = pl.col("part").list.set_difference("whole").list.len()
    return as_float(frame.select((outside == 0).mean()).item())


def _made_lists(*columns: ListColumn) -> list[Block]:
    why = "ids with a separator between become a list"
    texts = {column.name: (column.expression, why) for column in columns if column.expression}
    return [compute(**texts)] if texts else []


def _exploded(*columns: ListColumn) -> list[Block]:
    names = [column.name for column in columns]
    condition = f"{sql_name(names[0])} IS NOT NULL"
    if columns[0].inner == pl.String:
        condition += f" AND {sql_name(names[0])} <> ''"
    why = "one row for each item" + ("; the lists stand side by side" if len(names) > 1 else "")
    where: Block = [Entry("where", condition, "no rows without an item")]
    return [[Entry("explode", names, why)], where]


def _marked(column: ListColumn) -> Lists:
    name = sql_name(column.name)
    steps = [
        *_made_lists(column),
        *_exploded(column),
        compute(
            item_id=(f"LEFT({name}, LENGTH({name}) - 2)", "what stands before -1 or -0"),
            kind=(
                f"CASE WHEN RIGHT({name}, 1) = '1' THEN '{CLICKED}' ELSE '{SHOWN}' END",
                "-1: clicked, -0: not clicked",
            ),
        ),
    ]
    ids = _flat(column.lists).str.replace(r"-[01]$", "")
    why = f"{column.name!r} holds items with -1 or -0: clicked or not"
    return Lists(SHOWN, steps, "item_id", ids, _mean_length(column), (column.name,), why)


def _shown_and_clicked(shown: ListColumn, clicked: ListColumn) -> Lists:
    share = _share_within(clicked.lists, shown.lists)
    left, right = sql_name(clicked.name), sql_name(shown.name)
    steps = [
        *_made_lists(shown, clicked),
        *_exploded(shown),
        compute(
            item_id=(right, "the item of each row"),
            kind=(
                f"CASE WHEN array_contains({left}, {right}) THEN '{CLICKED}' ELSE '{SHOWN}' END",
                "clicked, if it stands in the other list too",
            ),
        ),
    ]
    why = f"{clicked.name!r} is a part of {shown.name!r} in {share:.1%} of the rows"
    taken = (shown.name, clicked.name)
    return Lists(SHOWN, steps, "item_id", _flat(shown.lists), _mean_length(shown), taken, why)


def _parallel(found: list[ListColumn]) -> list[Lists]:
    """Finds lists of one length in each row, one of items."""
    for items in found:
        if not holds_items(items):
            continue
        others = [
            other for other in found
            if other is not items
            and (_lengths(other) == _lengths(items)).all()
        ]  # fmt: skip
        if not others:
            continue
        times = [o for o in others if o.inner.is_temporal() or _holds_seconds(o)]
        watch = [o for o in others if o.inner.is_numeric() and _is_watch_time(o) and o not in times]
        if any(_is_item_name(o) and holds_items(o) for o in others) and not _is_item_name(items):
            continue
        names = tuple(column.name for column in (items, *others))
        steps = [
            *_made_lists(items, *others),
            *_exploded(items, *others),
            compute(item_id=(sql_name(items.name), "the item of each row")),
        ]
        why = f"{', '.join(map(repr, names))} have the same length in each row"
        return [
            Lists(
                HISTORY, steps, "item_id", _flat(items.lists), _mean_length(items), names, why,
                time=times[0].name if times else None,
                watch_time=watch[0].name if watch else None,
            )
        ]  # fmt: skip
    return []


def _alone(column: ListColumn) -> Lists:
    steps = [
        *_made_lists(column),
        *_exploded(column),
        compute(item_id=(sql_name(column.name), "the item of each row")),
    ]
    why = f"{column.name!r} holds a list of ids"
    mean = _mean_length(column)
    return Lists(HISTORY, steps, "item_id", _flat(column.lists), mean, (column.name,), why)


def _is_item_name(column: ListColumn) -> bool:
    return any(word in words.ITEM for word in column.words)


def _is_watch_time(column: ListColumn) -> bool:
    return any(word in words.WATCH for word in column.words) and "time" in column.words


def _holds_seconds(column: ListColumn) -> bool:
    if not column.inner.is_integer() or not any(w in words.TIME for w in column.words):
        return False
    return Column(column.name, column.lists.explode()).time_unit is not None


def _flat(lists: pl.Series) -> pl.Series:
    return lists.explode().drop_nulls().cast(pl.String)


def _lengths(column: ListColumn) -> pl.Series:
    return column.lists.list.len().fill_null(0)


def _mean_length(column: ListColumn) -> float:
    return as_float(column.lists.list.len().mean())
