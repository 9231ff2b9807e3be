"""What the columns of a log mean: who, what, when, wanted or not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import polars as pl

from tfrec.autoconfig import words
from tfrec.autoconfig.columns import Column, as_float
from tfrec.autoconfig.groups import Group
from tfrec.autoconfig.kinds import is_kind, mean_of_kinds
from tfrec.autoconfig.lists import CLICKED, HISTORY, SHOWN, Lists

_MAX_CONTEXT = 200
_MAX_LEVELS = 21
_UPPER_PART = 0.7


@dataclass(frozen=True)
class Role:
    """What one column plays, and why."""

    column: str
    why: str


@dataclass
class EventPart:
    """One part of the event table.

    Attributes:
        group: Its files.
        user: Column of the user, in the rows as they are read.
        item: Column of the item.
        roles: Further roles by their key.
        settings: Keys that belong to roles: time_format, time_unit, positive_rating.
        kinds: Kinds of events with what they mean and why.
        context: Features of the request.
        lists: How rows hold lists of items; None where a row is an event.
        left_out: Columns that no role takes, with the reason.
        is_before: Whether the events are older than the row that lists them.
        numbers: Which of the group's files; None for all.
        split: Split that its files' names speak of, where it has to be declared.
    """

    group: Group
    user: Role
    item: Role
    roles: dict[str, Role] = field(default_factory=dict)
    settings: dict[str, tuple[object, str]] = field(default_factory=dict)
    kinds: dict[str, tuple[dict[str, object], str]] = field(default_factory=dict)
    context: dict[str, str] = field(default_factory=dict)
    lists: Lists | None = None
    left_out: dict[str, str] = field(default_factory=dict)
    is_before: bool = False
    numbers: list[int] | None = None
    split: str = ""

    @property
    def item_ids(self) -> pl.Series:
        """Items of the first rows, as text."""
        return self.lists.ids if self.lists else self.group.columns[self.item.column].text

    @property
    def user_ids(self) -> pl.Series:
        """Users of the first rows, as text."""
        if self.lists and self.lists.user:
            return self.lists.users
        return self.group.columns[self.user.column].text


def guess_roles(part: EventPart, others: Iterable[str] = ()) -> EventPart:
    """Fills in the roles beside user and item.

    Args:
        part: The part.
        others: Columns that other parts of the same files use.
    """
    taken = {part.user.column, part.item.column, *others}
    taken |= {*(part.lists.taken if part.lists else ())}
    free = {
        name: column
        for name, column in part.group.columns.items()
        if name not in taken and column.form not in ("empty", "list", "other")
    }
    if part.is_before:  # nothing of the row holds for what came before it
        free = {}
    _guess_time(part, free)
    _guess_split(part, free)
    _guess_impression(part, free)
    _guess_label(part, free)
    _guess_rest(part, free)
    for name, column in free.items():
        if words_context := _context_reason(column):
            part.context[name] = words_context
        elif name not in part.left_out:
            part.left_out[name] = _reason_to_leave(column)
    if part.is_before:
        return part
    for name, column in part.group.columns.items():
        if column.form == "empty" and name not in taken:
            part.left_out[name] = "empty in the first rows"
        elif column.form in ("list", "other") and name not in taken:
            part.left_out[name] = "lists or nested cells that no role takes"
    return part


def _take(part: EventPart, free: dict[str, Column], role: str, column: Column, why: str) -> None:
    part.roles[role] = Role(column.name, why)
    del free[column.name]


def _guess_time(part: EventPart, free: dict[str, Column]) -> None:
    if part.lists and part.lists.time:
        part.roles["time"] = Role(part.lists.time, "a list of times beside the items")
        lists = part.group.frame[part.lists.time].head(2000)
        _set_unit(part, Column(part.lists.time, lists.explode()))
        return
    ranked = [(_time_rank(column), column) for column in free.values()]
    ranked = [pair for pair in ranked if pair[0] > 0]
    if not ranked:
        return
    column = max(ranked, key=lambda pair: (pair[0], pair[1].distinct))[1]
    first, last = (str(moment)[:10] for moment in (column.times.min(), column.times.max()))
    _take(part, free, "time", column, f"the first rows tell {first} to {last}")
    _set_unit(part, column)


def _set_unit(part: EventPart, column: Column) -> None:
    if column.time_format:
        example = column.known[0]
        part.settings["time_format"] = (column.time_format, f"cells look like {example!r}")
    elif column.time_unit and column.time_unit != "s":
        part.settings["time_unit"] = (column.time_unit, "so the numbers are times of our days")


def _time_rank(column: Column) -> int:
    if column.form == "time":
        rank = 3
    elif column.time_unit and (not column.words or column.has(words.TIME)):
        rank = 2
    else:
        return 0
    return rank + 2 * column.has(words.TIME) - 4 * column.has(words.OTHER_TIME)


def _guess_split(part: EventPart, free: dict[str, Column]) -> None:
    for column in free.values():
        if column.form != "text" or not (column.has(words.SPLIT) or not column.words):
            continue
        values = set(column.known.str.to_lowercase().unique())
        if values <= {"train", "validation", "valid", "val", "dev", "test"} and len(values) > 1:
            _take(part, free, "split", column, "tells train, validation and test")
            return


def _guess_impression(part: EventPart, free: dict[str, Column]) -> None:
    named = [
        column
        for column in free.values()
        if column.is_id
        and column.has(words.IMPRESSION)
        and (column.has(words.ID) or column.words[0] in ("impression", "request", "slate"))
        and column.distinct > 1
    ]
    is_shown = part.lists is not None and part.lists.kind == SHOWN
    if not named and is_shown:
        named = [c for c in free.values() if not c.words and c.is_id and c.is_unique]
    if named:
        why = "rows with the same one were shown in one list"
        _take(part, free, "impression", named[0], why)


def _guess_label(part: EventPart, free: dict[str, Column]) -> None:
    """Finds what says whether the user wanted the item; one source of labels at most."""
    if part.lists:
        if part.lists.kind == SHOWN:
            part.kinds[SHOWN] = ({"label": 0}, "in the list, not clicked")
            part.kinds[CLICKED] = ({"label": 1}, "in the list and clicked")
        elif part.lists.kind == HISTORY:
            part.kinds[HISTORY] = (
                {"label": 1, "ranked": False},
                "wanted, but nothing tells what else was shown, so it trains no ranking",
            )
        return
    for column in free.values():
        if column.is_flag and column.has(words.LABEL) and column.distinct == 2:
            rate = as_float(column.text.is_in(["1", "true", "True"]).mean())
            _take(part, free, "label", column, f"0 and 1; {rate:.1%} of the first rows are 1")
            return
    kinds = [column for column in free.values() if is_kind(column)]
    kinds.sort(key=lambda column: (-column.has(words.KIND), column.distinct))
    ratings = [column for column in free.values() if _is_rating(column)]
    if kinds and (kinds[0].distinct > 1 or not ratings):
        _take(part, free, "kind", kinds[0], f"{kinds[0].distinct} kinds in the first rows")
        counts = part.group.columns[kinds[0].name].text.value_counts(sort=True)
        part.kinds = mean_of_kinds(counts[kinds[0].name], counts["count"])
        return
    if ratings:
        column = ratings[0]
        levels = column.numbers.drop_nulls().unique().sort()
        low, high = float(levels[0]), float(levels[-1])
        positive = float(levels.filter(levels >= low + _UPPER_PART * (high - low))[0])
        share = as_float((column.numbers >= positive).mean())
        _take(part, free, "rating", column, f"numbers from {low:g} to {high:g}")
        why = f"the upper part; {share:.0%} of the first rows, the others are seen and not liked"
        part.settings["positive_rating"] = (positive, why)


def _is_rating(column: Column) -> bool:
    if column.form != "number" or not column.distinct >= 2:
        return False
    if column.words and not column.has(words.RATING):
        return False
    low, high = column.low, column.high
    is_small = column.distinct <= _MAX_LEVELS and low >= 0 and 1 < high <= 10
    return is_small or (bool(column.words) and column.distinct <= 101 and -10 <= low < high <= 100)


def _guess_rest(part: EventPart, free: dict[str, Column]) -> None:
    for role, test, why in (
        ("query", _is_query, "what the user searched"),
        ("position", _is_position, "the place in the list, from 1"),
        ("watch_time", _is_watch_time, "seconds with the item"),
        ("weight", _is_weight, "numbers above 0; what weighs more counts more"),
        ("sequence", _is_sequence, "orders the events of a user"),
    ):
        if role in part.roles or (part.lists and role != "query"):
            continue
        found = [column for column in free.values() if test(column)]
        if found:
            _take(part, free, role, found[0], why)
    if part.lists and part.lists.watch_time:
        part.roles["watch_time"] = Role(part.lists.watch_time, "a list of seconds beside the items")


def _is_query(column: Column) -> bool:
    return column.form == "text" and column.has(words.QUERY) and not column.has(words.CODE)


def _is_position(column: Column) -> bool:
    if not column.is_whole or not column.has(words.POSITION):
        return False
    return column.low >= 1 and column.high <= 10_000


def _is_watch_time(column: Column) -> bool:
    if column.form != "number" or column.has(frozenset({"next", "ms"})):
        return False
    named = column.has(words.WATCH, frozenset(["time", "seconds", "sec", "secs", "duration", "s"]))
    return named and column.low >= 0


def _is_weight(column: Column) -> bool:
    return column.form == "number" and column.has(words.WEIGHT) and column.low > 0


def _is_sequence(column: Column) -> bool:
    return column.is_whole and column.has(words.SEQUENCE)


def _context_reason(column: Column) -> str:
    if not column.has(words.CONTEXT) or column.personal or column.is_url:
        return ""
    if not 1 < column.distinct <= _MAX_CONTEXT or column.num_words > 4:
        return ""
    return f"known when the request comes; {column.distinct} values in the first rows"


def _reason_to_leave(column: Column) -> str:
    if column.personal:
        return f"personal ({column.personal})"
    if column.is_url:
        return "addresses"
    if column.distinct == 1:
        return "one value in the first rows"
    return "no role known; if it is known before the event, `context` may take it"
