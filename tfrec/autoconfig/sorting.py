"""What each table is: which hold events, which lists items, which lists users."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import polars as pl

from tfrec.autoconfig import words
from tfrec.autoconfig.columns import Column
from tfrec.autoconfig.events import EventPart, Role, assign_roles, mean_of_kinds
from tfrec.autoconfig.logs import (
    find_log,
    likeness,
    name_columns,
    name_rank,
    named_ids,
    new_part,
    overlap,
    possible_pairs,
)  # fmt: skip
from tfrec.autoconfig.page import Entry
from tfrec.autoconfig.table import Table

# Ids that count from 0 or 1 share much by chance.
_CLEARLY_MORE = 0.15
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


@dataclass
class SortedTables:
    """What each table is.

    Attributes:
        events: Parts of the event table, the most telling first.
        items: The catalogue and its id; None where no file is one.
        users: Likewise.
        left_out: Tables that are none of these, with the reason.
    """

    events: list[EventPart] = field(default_factory=list)
    items: ListedIds | None = None
    users: ListedIds | None = None
    left_out: list[tuple[Table, str]] = field(default_factory=list)


def sort_tables(tables: Sequence[Table]) -> SortedTables:
    """Tells events, items and users apart; without events, `events` is empty."""
    found = [(table, find_log(table)) for table in tables]
    lists = [table.whole() for table, parts in found if not parts]
    logs = [[_choose_pair(part, lists) for part in parts] for _, parts in found if parts]
    if not logs:
        return SortedTables()
    kept = _choose_logs(logs, _find_items([part for parts in logs for part in parts], lists))
    events: list[EventPart] = []
    for parts in map(name_columns, kept):
        taken = [name for part in parts if part.lists for name in part.lists.taken]
        events += [assign_roles(part, taken) for part in parts]
    if len(kept) > 1:
        _add_file_kinds(events)
    items = _find_items(events, lists)
    users = _find_list(lists, _ids_of([part.user for part in events]), words.USER)
    reason = "another log; its labels would mix with those of the first"
    left_out = [(parts[0].table, reason) for parts in logs if parts not in kept]
    reason = "neither events nor a list of items or users whose ids the events name"
    used = [listed.table for listed in (items, users) if listed]
    left_out += [(table, reason) for table in lists if table not in used]
    return SortedTables(events, items, users, left_out)


def _find_items(parts: Sequence[EventPart], lists: Sequence[Table]) -> ListedIds | None:
    return _find_list(lists, _ids_of([part.item for part in parts]), words.ITEM)


def _ids_of(columns: Sequence[Column]) -> pl.Series:
    return pl.concat([column.text for column in columns]).unique()


def _find_list(tables: Iterable[Table], ids: pl.Series, thing: frozenset[str]) -> ListedIds | None:
    """Finds the list of the things that events name; None where no table is one.

    Args:
        tables: Tables that hold no events.
        ids: Ids of the first events, as text.
        thing: Words of the things: `words.ITEM` or `words.USER`.
    """
    sign = 1 if thing is words.ITEM else -1
    found = [_rate_list(table, ids, thing, sign * likeness(table)) for table in tables]
    fitting = (listed for listed in found if listed and listed.share >= _MIN_SHARE)
    return max(fitting, key=lambda listed: listed.score, default=None)


def _rate_list(
    table: Table, ids: pl.Series, thing: frozenset[str], like: float
) -> ListedIds | None:
    """Finds the column of a table whose values are the events' ids; None if it looks unlike."""
    if like <= 0:
        return None
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


def _choose_pair(part: EventPart, lists: Sequence[Table]) -> EventPart:
    """Chooses user and item again, now that lists may tell which ids are meant."""
    if part.lists or not lists:
        return part
    pairs = possible_pairs(part)
    found = [
        (_find_list(lists, user.text, words.USER), _find_list(lists, item.text, words.ITEM))
        for user, item in pairs
    ]
    scores = [sum(listed.score for listed in each if listed) for each in found]
    best = scores.index(max(scores))
    best = best if scores[best] > scores[0] + _CLEARLY_MORE else 0
    roles = dict(part.roles)
    for key, column, listed in zip(roles, pairs[best], found[best], strict=True):
        if listed and not (best == 0 and column.words):
            why = f"{listed.share:.0%} of its values are ids of the {key[:4]} table"
            roles[key] = Role(column, why)
        elif column is not roles[key].column:
            roles[key] = Role(column, "more of the other one's values are ids of a table")
    return new_part(part.table, roles["user_id"], roles["item_id"])


def _choose_logs(logs: list[list[EventPart]], items: ListedIds | None) -> list[list[EventPart]]:
    """Keeps the logs that belong together; others would contradict each other's labels."""
    shared = [
        parts for parts in logs
        if not items
        or any(overlap(p.item.text, items.table.columns[items.name]) > 0.3 for p in parts)
    ] or logs  # fmt: skip
    # What was shown says most, then what has more bytes.
    shared.sort(key=lambda p: (any(q.is_shown for q in p), p[0].table.num_bytes), reverse=True)
    main, kept = shared[0], shared[:1]
    for parts in shared[1:]:
        has_lists = any(part.lists for part in (*parts, *main))
        shares = [overlap(part.item.text, main[0].item) for part in parts]
        kinds = {parts[0].table.kind, main[0].table.kind}
        if (has_lists and max(shares) > 0.02) or (len(kinds) == 2 and "" not in kinds):
            kept.append(parts)
    return kept


def _add_file_kinds(parts: list[EventPart]) -> None:
    """Gives parts without a source of labels the kind that their file's name tells."""
    plain = [p for p in parts if not p.lists and "kind" not in p.roles and p.table.kind]
    kinds = mean_of_kinds({part.table.kind: len(part.table.frame) for part in plain})
    for part in plain:
        for role in ("label", "rating"):
            if dropped := part.roles.pop(role, None):
                part.left_out[dropped.name] = "the kind of event gives the label"
        part.settings.pop("positive_rating", None)
        kind = kinds[part.table.kind]
        why = f"the file's name says so; {kind.why}"
        part.kinds[kind.key] = Entry(kind.key, kind.value, why)
