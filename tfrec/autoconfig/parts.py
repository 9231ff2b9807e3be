"""Parts of the event table brought to the same columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TypeVar

import polars as pl

from tfrec.autoconfig.columns import PER_SECOND, Column
from tfrec.autoconfig.declaration import compute, declare, sql_name, sql_text
from tfrec.autoconfig.events import EventPart, Role
from tfrec.autoconfig.lists import HISTORY, SHOWN
from tfrec.autoconfig.page import Block, Entry

_Value = TypeVar("_Value")
_UNKNOWN = "CAST(NULL AS VARCHAR)"
_NOTHING = {
    "query": "''",
    "watch_time": "CAST(NULL AS FLOAT)",
    "position": "CAST(NULL AS INT)",
    "weight": "1",
    "sequence": "0",
}
_RENAMED = "the name that it has in another part"
_PLAIN_KIND = Entry("event", {"label": 1, "ranked": False}, "wanted")


def shared_roles(parts: Sequence[EventPart]) -> dict[str, Role]:
    """Returns the roles that all parts will have, each with the column of the first that has it."""
    roles = _merge(part.roles for part in parts)
    # One list of wanted items needs no labels.
    is_wanted = len(parts) == 1 and parts[0].lists and not parts[0].is_shown
    if is_wanted or not any(part.kinds for part in parts):
        return roles
    made = Role(Column("kind", pl.Series(dtype=pl.String)), "made by the steps above")
    others = {key: role for key, role in roles.items() if key not in ("rating", "label", "kind")}
    return others | {"kind": roles.get("kind", made)}


def shared_context(parts: Sequence[EventPart]) -> dict[str, Entry]:
    """Returns the features of the request that any part has."""
    return _merge(part.context for part in parts)


def shared_kinds(parts: Sequence[EventPart]) -> list[Entry]:
    """Returns all kinds of events."""
    plain = {_PLAIN_KIND.key: _PLAIN_KIND}
    return list(_merge(part.kinds or plain for part in parts).values())


def _merge(mappings: Iterable[Mapping[str, _Value]]) -> dict[str, _Value]:
    """Returns the entries of all; of those with one key, the first."""
    merged: dict[str, _Value] = {}
    for mapping in mappings:
        merged |= {key: value for key, value in mapping.items() if key not in merged}
    return merged


def declare_parts(parts: Sequence[EventPart]) -> list[Block]:
    """Returns the declaration of each part's files, with steps that give it the shared columns."""
    blocks = []
    for part in parts:
        steps = [*part.lists.steps] if part.lists else []
        if made := _missing_columns(part, parts):
            steps.append(compute(made, "columns that the other parts have"))
        why = "the log"
        if part.lists:
            what = {SHOWN: "what was shown and clicked", HISTORY: "what users turned to"}
            why = f"{what.get(part.lists.kind, 'sequences of items')}: {part.lists.why}"
        why += f"; {part.split} by the file's name" if part.split else ""
        blocks.append(declare(part.table, steps, why, part.numbers))
    return blocks


def _missing_columns(part: EventPart, parts: Sequence[EventPart]) -> list[Entry]:
    """Returns each column that this part has to make, by SQL."""
    kind = next(iter(part.kinds), _PLAIN_KIND.key)
    made = {"kind": (sql_text(kind), "one kind for all of these rows")}
    made |= {key: (sql_name(role.name), _RENAMED) for key, role in part.roles.items()}
    if part.is_shown:
        made["kind"] = sql_name("kind"), "the name of another part"
    if part.split:
        made["split"] = sql_text(part.split), "the file's name says so"
    times = [each.roles["time"].column for each in parts if "time" in each.roles]
    if "time" in part.roles:
        made["time"] = _time_as(part.roles["time"].column, times[0])
    elif times:
        made["time"] = _time_before(times[0])
    entries = [
        Entry(role.name, *made.get(key, (_NOTHING.get(key, _UNKNOWN), "not told here")))
        for key, role in shared_roles(parts).items()
    ]
    missing = [name for name in shared_context(parts) if name not in part.context]
    entries += [Entry(name, _UNKNOWN, "not told here") for name in missing]
    return [entry for entry in entries if entry.value not in (entry.key, sql_name(entry.key))]


def _time_as(column: Column, main: Column) -> tuple[str, str]:
    """Returns times written as those of another part."""
    name, form = sql_name(column.name), column.time_format
    if form and form != main.time_format:
        return f"STRPTIME({name}, {sql_text(form)})", "times of another form"
    unit, main_unit = column.time_unit or "s", main.time_unit or "s"
    if unit != main_unit and not form:
        factor = PER_SECOND[main_unit] / PER_SECOND[unit]
        return f"CAST({name} AS DOUBLE) * {factor:g}", "times of another unit"
    return name, "the time of each item"


def _time_before(column: Column) -> tuple[str, str]:
    """Returns a moment before the log begins, written as the log writes its times."""
    first = column.times.min()
    assert isinstance(first, datetime)
    # A week before the first rows: the log may begin a little earlier than they do.
    moment = datetime(first.year, first.month, first.day) - timedelta(days=7)
    why = "no times here: a moment before the log begins (it must be before its first event)"
    if column.time_unit:
        seconds = (moment - datetime(1970, 1, 1)) // timedelta(seconds=1)
        return str(seconds * PER_SECOND[column.time_unit]), why
    text = sql_text(moment.strftime(column.time_format or "%Y-%m-%d %H:%M:%S"))
    return (text if column.known.dtype == pl.String else f"CAST({text} AS TIMESTAMP)"), why
