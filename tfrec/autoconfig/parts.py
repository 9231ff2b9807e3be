"""Parts of the event table brought to the same columns."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import polars as pl

from tfrec.autoconfig.columns import Column
from tfrec.autoconfig.events import EventPart, Role
from tfrec.autoconfig.lists import HISTORY, SHOWN
from tfrec.autoconfig.page import Block, Entry, sql_name, sql_text

_NOTHING = {
    "impression": "CAST(NULL AS VARCHAR)",
    "query": "''",
    "watch_time": "CAST(NULL AS FLOAT)",
    "position": "CAST(NULL AS INT)",
    "weight": "1",
    "sequence": "0",
}
_PLAIN_KIND = "event"


def is_labelled_by_kind(parts: Sequence[EventPart]) -> bool:
    """Tells whether kinds give the labels: one list of wanted items needs none."""
    if len(parts) == 1 and parts[0].lists:
        return parts[0].lists.kind == SHOWN
    return any(part.kinds for part in parts)


def shared_roles(parts: Sequence[EventPart]) -> dict[str, Role]:
    """Returns the role columns that all parts will have, named as the first part that has them."""
    roles: dict[str, Role] = {}
    for part in parts:
        for key, role in part.roles.items():
            roles.setdefault(key, role)
    if is_labelled_by_kind(parts):
        why = "made by the steps above" if "kind" not in roles else roles["kind"].why
        roles["kind"] = Role(roles["kind"].column if "kind" in roles else "kind", why)
        roles.pop("rating", None)
        roles.pop("label", None)
    return roles


def shared_context(parts: Sequence[EventPart]) -> dict[str, str]:
    """Returns context columns of any part, with the reason."""
    context: dict[str, str] = {}
    for part in parts:
        for name, why in part.context.items():
            context.setdefault(name, why)
    return context


def write_parts(parts: Sequence[EventPart]) -> list[Block]:
    """Returns the declaration of each part's files, with steps that give it the shared columns."""
    blocks: list[Block] = []
    for part in parts:
        keys = part.group.part(part.numbers, _describe(part))
        steps = [*part.group.cutting, *(part.lists.steps if part.lists else ())]
        made = _missing_columns(part, parts)
        if made:
            entries = [Entry(name, text, why) for name, (text, why) in made.items()]
            steps.append([Entry("compute", entries, "columns that the other parts have")])
        if steps:
            steps = [list(step) for step in steps]
            keys.append(Entry("steps", steps, "changes of the rows, in order"))
        blocks.append(keys)
    return blocks


def _describe(part: EventPart) -> str:
    what = {SHOWN: "what was shown and clicked", HISTORY: "what users turned to"}
    text = what.get(part.lists.kind, "sequences of items") if part.lists else "the log"
    if part.lists:
        text += f": {part.lists.why}"
    if part.split:
        text += f"; {part.split} by the file's name"
    return text


def _missing_columns(part: EventPart, parts: Sequence[EventPart]) -> dict[str, tuple[str, str]]:
    """Returns SQL and reason of each column that this part has to make."""
    main = parts[0]
    made: dict[str, tuple[str, str]] = {}
    if part.split:
        made["split"] = (sql_text(part.split), "the file's name says so")
    for own, shared in ((part.user.column, main.user.column), (part.item.column, main.item.column)):
        if own != shared:
            made[shared] = (sql_name(own), "the name that it has in the first part")
    for key, role in shared_roles(parts).items():
        if key == "kind":
            kind = _kind_of(part, role.column)
            if kind:
                made[role.column] = kind
        elif key == "time":
            time = _time_of(part, main, role.column)
            if time:
                made[role.column] = time
        elif key not in part.roles:
            made[role.column] = (_NOTHING.get(key, "CAST(NULL AS VARCHAR)"), "not told here")
        elif part.roles[key].column != role.column:
            name = sql_name(part.roles[key].column)
            made[role.column] = (name, "the name that it has in another part")
    for name in shared_context(parts):
        if name not in part.context:
            made[name] = ("CAST(NULL AS VARCHAR)", "not told here")
    return made


def _kind_of(part: EventPart, column: str) -> tuple[str, str] | None:
    if part.lists and part.lists.kind == SHOWN:
        return None if column == "kind" else ("kind", "the name of another part")
    if "kind" in part.roles:
        own = part.roles["kind"].column
        return None if own == column else (sql_name(own), "the name of another part")
    name = next(iter(part.kinds), _PLAIN_KIND)
    return sql_text(name), "one kind for all of these rows"


def kinds_of(parts: Sequence[EventPart]) -> dict[str, tuple[dict[str, object], str]]:
    """Returns all kinds of events with what they mean and why."""
    kinds: dict[str, tuple[dict[str, object], str]] = {}
    for part in parts:
        own = part.kinds or {_PLAIN_KIND: ({"label": 1, "ranked": False}, "wanted")}
        for name, meaning in own.items():
            kinds.setdefault(name, meaning)
    return kinds


def _time_of(part: EventPart, main: EventPart, column: str) -> tuple[str, str] | None:
    if "time" not in part.roles:
        return _time_before(main)
    own = part.roles["time"].column
    form, main_form = (p.settings.get("time_format", ("", ""))[0] for p in (part, main))
    unit, main_unit = (p.settings.get("time_unit", ("s", ""))[0] for p in (part, main))
    if form and form != main_form:
        why = "times of another form"
        return f"STRPTIME({sql_name(own)}, {sql_text(str(form))})", why
    if unit != main_unit and not form:
        sizes = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
        factor = sizes[str(main_unit)] / sizes[str(unit)]
        return f"CAST({sql_name(own)} AS DOUBLE) * {factor:g}", "times of another unit"
    return None if own == column else (sql_name(own), "the time of each item")


def _time_before(main: EventPart) -> tuple[str, str] | None:
    """Returns a moment before the log begins, written as the log writes its times."""
    if "time" not in main.roles:
        return None
    column = time_column(main)
    first = column.times.min()
    assert isinstance(first, datetime)
    # A week before the first rows: the log may begin a little earlier than they do.
    moment = datetime(first.year, first.month, first.day) - timedelta(days=7)
    why = "no times here: a moment before the log begins (it must be before its first event)"
    if column.time_format:
        return sql_text(moment.strftime(column.time_format)), why
    if column.time_unit:
        size = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[column.time_unit]
        return str(int((moment - datetime(1970, 1, 1)).total_seconds()) * size), why
    text = sql_text(moment.isoformat(" "))
    is_text = column.known.dtype == pl.String
    return (text if is_text else f"CAST({text} AS TIMESTAMP)"), why


def time_column(part: EventPart, frame: pl.DataFrame | None = None) -> Column:
    """Returns the times of a part's first rows; those of lists are taken out of them."""
    name = part.roles["time"].column
    cells = (part.group.frame if frame is None else frame)[name]
    if isinstance(cells.dtype, pl.List):
        cells = cells.head(2000).explode()
    return Column(name, cells)
