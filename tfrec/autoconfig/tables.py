"""Which files are events, which are items, which are users."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product

import polars as pl

from tfrec.autoconfig import ids, words
from tfrec.autoconfig.columns import as_float
from tfrec.autoconfig.events import EventPart, Role, guess_roles
from tfrec.autoconfig.groups import Group
from tfrec.autoconfig.kinds import mean_of_kinds
from tfrec.autoconfig.lists import SHOWN
from tfrec.autoconfig.logs import find_events, is_unnamed, name_columns, swap

# Ids that count from 0 or 1 share much by chance.
_CLEARLY_MORE = 0.15


@dataclass
class Tables:
    """What each file is.

    Attributes:
        events: Parts of the event table, the most telling first.
        items: The catalogue and its id; None where no file is one.
        users: Likewise.
        left_out: Groups that fit no role, with the reason.
    """

    events: list[EventPart]
    items: tuple[Group, ids.Key] | None = None
    users: tuple[Group, ids.Key] | None = None
    left_out: list[tuple[Group, str]] = field(default_factory=list)


def sort_tables(groups: Sequence[Group]) -> Tables:
    """Tells events, items and users apart; without events, `events` is empty."""
    logs: list[tuple[Group, list[EventPart]]] = []
    others: list[Group] = []
    for group in groups:
        found = find_events(group)
        if found:
            logs.append((group, found))
        else:
            others.append(group)
    tables = Tables([])
    others = [group.whole() for group in others]
    parts = [part for _, found in logs for part in found]
    score = _choose_tables(tables, parts, others)
    if any(is_unnamed(part) for part in parts):
        turned = Tables([])
        if _choose_tables(turned, [swap(part) for part in parts], others) > score + _CLEARLY_MORE:
            logs = [(group, [swap(part) for part in found]) for group, found in logs]
            tables = turned
    logs = [(group, [_with_item(part, tables) for part in found]) for group, found in logs]
    _choose_events(tables, logs)
    # The ids of the events that are kept, not those of any log that was seen.
    _choose_tables(tables, tables.events, others)
    chosen = [pair[0] for pair in (tables.items, tables.users) if pair]
    for group in others:
        if group not in chosen:
            reason = "neither events nor a list of items or users whose ids the events name"
            tables.left_out.append((group, reason))
    return tables


def _choose_tables(tables: Tables, parts: Sequence[EventPart], others: Sequence[Group]) -> float:
    """Finds the list of items and the list of users by the ids that they share with the events.

    Returns:
        How well they fit: the shares of the events' ids that they hold, and a little for names.
    """
    item_ids, user_ids = _joined([p.item_ids for p in parts]), _joined([p.user_ids for p in parts])
    likeness = [ids.item_likeness(group) - ids.user_likeness(group) for group in others]
    rated = list(zip(others, likeness, strict=True))
    items = [_rate(group, item_ids, words.ITEM, like) for group, like in rated]
    users = [_rate(group, user_ids, words.USER, -like) for group, like in rated]
    nothing: tuple[float, ids.Key | None] = (0.0, None)
    best, best_score = (-1, -1), 0.0
    for at, of in product(range(-1, len(others)), repeat=2):
        if at == of != -1:
            continue
        score = (items[at] if at >= 0 else nothing)[0] + (users[of] if of >= 0 else nothing)[0]
        if score > best_score:
            best, best_score = (at, of), score
    tables.items, tables.users = (
        (others[at], key) if at >= 0 and (key := ratings[at][1]) else None
        for at, ratings in zip(best, (items, users), strict=True)
    )
    return best_score


def _rate(
    group: Group, known: pl.Series | None, named: frozenset[str], likeness: float
) -> tuple[float, ids.Key | None]:
    """Rates a table for a role; below 0 where it cannot play it."""
    key = ids.find_key(group, known, named)
    if key is None or not ids.is_overlapping(key) or likeness <= 0:
        return -1.0, None
    return (0.5 if key.overlap is None else key.overlap) + min(likeness, 10.0) / 100, key


def _joined(series: Sequence[pl.Series]) -> pl.Series | None:
    return pl.concat(series).unique() if series else None


def _with_item(part: EventPart, tables: Tables) -> EventPart:
    """Chooses the item column again, now that a catalogue may tell which ids are meant."""
    if part.lists or not tables.items:
        return part
    group, key = tables.items
    column = group.columns[key.column]
    columns = list(part.group.columns.values())
    free = [c for c in columns if c.name != part.user.column]
    rivals = ids.best_named(free, words.ITEM) or ids.unnamed_ids(free)
    shares = {rival.name: ids.overlap(rival.text, column) for rival in rivals}
    if not shares:
        return part
    best = max(shares, key=lambda name: round(shares[name], 3))
    if shares[best] > shares.get(part.item.column, 0.0) + 0.05:
        why = f"{shares[best]:.0%} of its values are ids of the item table"
        return EventPart(part.group, part.user, Role(best, why))
    return part


def _choose_events(tables: Tables, logs: list[tuple[Group, list[EventPart]]]) -> None:
    """Keeps the logs that belong together; others would contradict each other's labels."""
    if not logs:
        return
    shared = [
        (group, parts) for group, parts in logs if _matches_items(parts, tables)
    ] or logs  # fmt: skip
    ranked = sorted(shared, key=lambda log: -_telling(*log))
    main_group, main_parts = ranked[0]
    kept = [(main_group, main_parts)]
    for group, parts in ranked[1:]:
        is_list = any(part.lists for part in (*parts, *main_parts))
        if (is_list and _share_items(parts, main_parts)) or _both_tell_kind(group, main_group):
            kept.append((group, parts))
    for _, parts in kept:
        lists = [name for part in parts if part.lists for name in part.lists.taken]
        tables.events += [
            guess_roles(name_columns(_with_shares(part, tables)), lists) for part in parts
        ]
    if len(kept) > 1:
        _add_file_kinds(tables.events)
    for group, _ in logs:
        if all(group is not other for other, _ in kept):
            reason = "another log; its labels would mix with those of the first"
            tables.left_out.append((group, reason))


def _matches_items(parts: list[EventPart], tables: Tables) -> bool:
    if not tables.items:
        return True
    group, key = tables.items
    column = group.columns[key.column]
    return any(ids.overlap(part.item_ids, column) > 0.3 for part in parts)


def _telling(group: Group, parts: list[EventPart]) -> float:
    """Rates a log: what was shown says most, then what has more bytes."""
    size = sum(head.path.stat().st_size for head in group.heads)
    is_shown = any(part.lists and part.lists.kind == SHOWN for part in parts)
    return size + (1e18 if is_shown else 0.0)


def _share_items(parts: list[EventPart], main: list[EventPart]) -> bool:
    known = main[0].item_ids.unique()
    return any(
        as_float(part.item_ids.unique().is_in(known.implode()).mean()) > 0.02 for part in parts
    )


def _both_tell_kind(group: Group, main: Group) -> bool:
    return all(_file_kind(each) for each in (group, main)) and _file_kind(group) != _file_kind(main)


def _file_kind(group: Group) -> str:
    """Returns the word of a kind of event in a file's name: ``purchase`` in purchases.csv."""
    found = sorted(word for word in group.file_words if words.KINDS.get(word))
    return found[0] if found else ""


def _add_file_kinds(parts: list[EventPart]) -> None:
    """Gives parts without a source of labels the kind that their file's name tells."""
    plain = [part for part in parts if not part.lists and "kind" not in part.roles]
    plain = [part for part in plain if _file_kind(part.group)]
    names = [_file_kind(part.group) for part in plain]
    meanings = mean_of_kinds(names, [len(part.group.frame) for part in plain])
    for part, name in zip(plain, names, strict=True):
        for role in ("label", "rating"):
            dropped = part.roles.pop(role, None)
            if dropped:
                part.left_out[dropped.column] = "the kind of event gives the label"
        part.settings.pop("positive_rating", None)
        meaning, why = meanings[name]
        part.kinds[name] = (meaning, f"the file's name says so; {why}")


def _with_shares(part: EventPart, tables: Tables) -> EventPart:
    """Says for columns without names how many of their values the other tables know."""
    if not is_unnamed(part):
        return part
    user, item = part.user, part.item
    if tables.users:
        group, key = tables.users
        share = ids.overlap(part.user_ids, group.columns[key.column])
        user = Role(user.column, f"{share:.0%} of its values are ids of the user table")
    if tables.items:
        group, key = tables.items
        share = ids.overlap(part.item_ids, group.columns[key.column])
        item = Role(item.column, f"{share:.0%} of its values are ids of the item table")
    return EventPart(part.group, user, item)
