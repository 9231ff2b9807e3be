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
_PLAIN_KIND = Entry("event", {"label": 1, "ranked": False}, "wanted")


def shared_roles(parts: Sequence[EventPart]) -> dict[str, Role]:
    """Returns the roles that all parts will have, each with the column of the first that has it."""
    roles = _merge(part.roles for part in parts)
    # One list of wanted items needs no labels.
    if len(parts) == 1 and parts[0].lists and not parts[0].is_shown:
        return roles
    if any(part.kinds for part in parts):
        made = Role(Column("kind", pl.Series(dtype=pl.String)), "made by the steps above")
        kind = roles.pop("kind", made)
        roles = {key: role for key, role in roles.items() if key not in ("rating", "label")}
        roles["kind"] = kind
    return roles


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
    made = []
    timed = next((part for part in parts if "time" in part.roles), part)
    for key, role in shared_roles(parts).items():
        own = part.roles.get(key)
        if key == "split" and part.split:
            sql, why = sql_text(part.split), "the file's name says so"
        elif key == "kind" and own is None and part.is_shown:
            sql, why = sql_name("kind"), "the name of another part"
        elif key == "kind" and own is None:
            kind = next(iter(part.kinds), _PLAIN_KIND.key)
            sql, why = sql_text(kind), "one kind for all of these rows"
        elif key == "time" and own is None:
            sql, why = _time_before(timed)
        elif key == "time" and own:
            sql, why = _time_of(part, timed, own)
        elif own is None:
            sql, why = _NOTHING.get(key, _UNKNOWN), "not told here"
        else:
            sql, why = sql_name(own.name), "the name that it has in another part"
        if sql not in (role.name, sql_name(role.name)):
            made.append(Entry(role.name, sql, why))
    missing = [name for name in shared_context(parts) if name not in part.context]
    return made + [Entry(name, _UNKNOWN, "not told here") for name in missing]


def _time_of(part: EventPart, main: EventPart, time: Role) -> tuple[str, str]:
    """Returns the times of a part as the first part writes them."""
    form, main_form = (p.roles["time"].column.time_format or "" for p in (part, main))
    unit, main_unit = (p.roles["time"].column.time_unit or "s" for p in (part, main))
    name = sql_name(time.name)
    if form and form != main_form:
        return f"STRPTIME({name}, {sql_text(form)})", "times of another form"
    if unit != main_unit and not form:
        factor = PER_SECOND[main_unit] / PER_SECOND[unit]
        return f"CAST({name} AS DOUBLE) * {factor:g}", "times of another unit"
    return name, "the time of each item"


def _time_before(main: EventPart) -> tuple[str, str]:
    """Returns a moment before the log begins, written as the log writes its times."""
    column = main.roles["time"].column
    first = column.times.min()
    assert isinstance(first, datetime)
    # A week before the first rows: the log may begin a little earlier than they do.
    moment = datetime(first.year, first.month, first.day) - timedelta(days=7)
    why = "no times here: a moment before the log begins (it must be before its first event)"
    if column.time_unit:
        seconds = int((moment - datetime(1970, 1, 1)).total_seconds())
        return str(seconds * PER_SECOND[column.time_unit]), why
    text = sql_text(moment.strftime(column.time_format or "%Y-%m-%d %H:%M:%S"))
    return (text if column.known.dtype == pl.String else f"CAST({text} AS TIMESTAMP)"), why
