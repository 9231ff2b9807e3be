"""What each table is: which hold events, which lists items, which lists users."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product

import polars as pl

from tfrec.autoconfig import words
from tfrec.autoconfig.events import EventPart, Role, assign_roles
from tfrec.autoconfig.ids import IdColumn, find_ids, likeness, named_ids, overlap, unnamed_ids
from tfrec.autoconfig.kinds import mean_of_kinds
from tfrec.autoconfig.logs import find_log, is_unnamed, name_columns, row_part, swap
from tfrec.autoconfig.page import Entry
from tfrec.autoconfig.table import Table

# Ids that count from 0 or 1 share much by chance.
_CLEARLY_MORE = 0.15
_MIN_OVERLAP = 0.5


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
    items: tuple[Table, IdColumn] | None = None
    users: tuple[Table, IdColumn] | None = None
    left_out: list[tuple[Table, str]] = field(default_factory=list)


def sort_tables(tables: Sequence[Table]) -> SortedTables:
    """Tells events, items and users apart; without events, `events` is empty."""
    found = [(table, find_log(table)) for table in tables]
    logs = [parts for _, parts in found if parts]
    lists = [table.whole() for table, parts in found if not parts]
    score, chosen = _choose_lists(logs, lists)
    if any(is_unnamed(part) for parts in logs for part in parts):
        swapped = [[swap(part) for part in parts] for parts in logs]
        swapped_score, swapped_chosen = _choose_lists(swapped, lists)
        if swapped_score > score + _CLEARLY_MORE:
            logs, chosen = swapped, swapped_chosen
    logs = [[_with_item(part, chosen) for part in parts] for parts in logs]
    kept = _choose_logs(logs, chosen)
    for parts in kept:
        taken = [name for part in parts if part.lists for name in part.lists.taken]
        named = [name_columns(_with_shares(part, chosen)) for part in parts]
        chosen.events += [assign_roles(part, taken) for part in named]
    if len(kept) > 1:
        _add_file_kinds(chosen.events)
    # The ids of the events that are kept, not those of any log that was seen.
    _, final = _choose_lists([chosen.events], lists)
    final.events = chosen.events
    reason = "another log; its labels would mix with those of the first"
    final.left_out = [(parts[0].table, reason) for parts in logs if parts not in kept]
    reason = "neither events nor a list of items or users whose ids the events name"
    used = [pair[0] for pair in (final.items, final.users) if pair]
    final.left_out += [(table, reason) for table in lists if table not in used]
    return final


def _choose_lists(
    logs: Sequence[list[EventPart]], lists: Sequence[Table]
) -> tuple[float, SortedTables]:
    """Finds the lists of items and users by the ids that they share with the events.

    Returns:
        How well they fit: the shares of the events' ids that they hold, and a little for names;
        and the lists.
    """
    parts = [part for parts in logs for part in parts]
    likes = [likeness(table) for table in lists]
    item_ids, user_ids = (
        pl.concat([column.text for column in columns]).unique() if columns else None
        for columns in ([part.item for part in parts], [part.user for part in parts])
    )
    items = [_rate(*rated, item_ids, words.ITEM) for rated in zip(lists, likes, strict=True)]
    users = [_rate(t, -like, user_ids, words.USER) for t, like in zip(lists, likes, strict=True)]
    items.append((0.0, None))
    users.append((0.0, None))
    best, best_score = SortedTables(), 0.0
    for (at, item), (of, user) in product(enumerate(items), enumerate(users)):
        score = item[0] + user[0]
        if score > best_score and (at != of or at == len(lists)):
            best, best_score = SortedTables([], item[1], user[1]), score
    return best_score, best


def _rate(
    table: Table, like: float, known: pl.Series | None, thing: frozenset[str]
) -> tuple[float, tuple[Table, IdColumn] | None]:
    """Rates a table as a list of things; below 0 where it cannot be one."""
    ids = find_ids(table, known, thing)
    share = None if ids is None else ids.overlap
    if ids is None or like <= 0 or (share is not None and share < _MIN_OVERLAP):
        return -1.0, None
    return (0.5 if share is None else share) + min(like, 10.0) / 100, (table, ids)


def _share_in(ids: pl.Series, listed: tuple[Table, IdColumn]) -> float:
    table, column = listed
    return overlap(ids, table.columns[column.name])


def _with_item(part: EventPart, chosen: SortedTables) -> EventPart:
    """Chooses the item column again, now that a catalogue may tell which ids are meant."""
    if part.lists or not chosen.items:
        return part
    free = [column for column in part.table.columns.values() if column is not part.user]
    rivals = named_ids(free, words.ITEM) or unnamed_ids(free)
    shares = [round(_share_in(rival.text, chosen.items), 3) for rival in rivals]
    now = _share_in(part.item.text, chosen.items) if part.item in rivals else 0.0
    best = max(shares, default=0.0)
    if best <= now + 0.05:
        return part
    role = Role(rivals[shares.index(best)], f"{best:.0%} of its values are ids of the item table")
    return row_part(part.table, part.roles["user_id"], role)


def _choose_logs(logs: list[list[EventPart]], chosen: SortedTables) -> list[list[EventPart]]:
    """Keeps the logs that belong together; others would contradict each other's labels."""
    shared = [
        parts for parts in logs
        if not chosen.items or any(_share_in(p.item.text, chosen.items) > 0.3 for p in parts)
    ] or logs  # fmt: skip
    # What was shown says most, then what has more bytes.
    shared.sort(key=lambda p: (any(q.is_shown for q in p), p[0].table.num_bytes), reverse=True)
    main, kept = (shared or [[]])[0], shared[:1]
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


def _with_shares(part: EventPart, chosen: SortedTables) -> EventPart:
    """Says for columns without names how many of their values the other tables know."""
    if is_unnamed(part):
        for key, listed, name in (
            ("user_id", chosen.users, "user"), ("item_id", chosen.items, "item")
        ):  # fmt: skip
            if listed:
                share = _share_in(part.roles[key].column.text, listed)
                why = f"{share:.0%} of its values are ids of the {name} table"
                part.roles[key] = Role(part.roles[key].column, why)
    return part
