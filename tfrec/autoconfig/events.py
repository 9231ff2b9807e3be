"""What the columns of a log mean: who, what, when, wanted or not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from tfrec.autoconfig import words
from tfrec.autoconfig.columns import Column, as_float
from tfrec.autoconfig.kinds import is_kind, mean_of_kinds
from tfrec.autoconfig.lists import CLICKED, HISTORY, SHOWN, ItemLists
from tfrec.autoconfig.page import Entry
from tfrec.autoconfig.table import Table

_MAX_CONTEXT = 200
_MAX_LEVELS = 21
_UPPER_PART = 0.7
_SPLITS = {"train", "validation", "valid", "val", "dev", "test"}


@dataclass(frozen=True)
class Role:
    """The column that plays a role, and why."""

    column: Column
    why: str

    @property
    def name(self) -> str:
        """The column's name."""
        return self.column.name


@dataclass(eq=False)
class EventPart:
    """One part of the event table.

    Attributes:
        table: Its files.
        roles: By their keys in `data.events`: user_id and item_id, and those that were found.
        lists: How rows hold lists of items; None where a row is an event.
        is_before: Whether the events are older than the row that lists them.
        settings: Keys that belong to roles: time_format, time_unit, positive_rating.
        kinds: Kinds of events.
        context: Features of the request.
        left_out: Columns that no role takes, with the reason.
        numbers: Which of the table's files; None for all.
        split: Split that its files' names speak of, where it has to be declared.
    """

    table: Table
    roles: dict[str, Role]
    lists: ItemLists | None = None
    is_before: bool = False
    settings: dict[str, Entry] = field(default_factory=dict)
    kinds: dict[str, Entry] = field(default_factory=dict)
    context: dict[str, Entry] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    numbers: list[int] | None = None
    split: str = ""

    @property
    def user(self) -> Column:
        """The column of the user, after the steps."""
        return self.roles["user_id"].column

    @property
    def item(self) -> Column:
        """The column of the item, after the steps."""
        return self.roles["item_id"].column

    @property
    def is_shown(self) -> bool:
        """Whether its rows list what was shown and clicked."""
        return self.lists is not None and self.lists.kind == SHOWN

    def set(self, key: str, value: object, why: str) -> None:
        """Sets a key that belongs to a role."""
        self.settings[key] = Entry(key, value, why)


Free = dict[str, Column]
Rules = Sequence[tuple[str, Callable[[Column, EventPart], bool], str]]


def assign_roles(part: EventPart, others: Iterable[str] = ()) -> EventPart:
    """Fills in the roles beside user and item.

    Args:
        part: The part.
        others: Columns that other parts of the same files use.
    """
    taken = {part.user.name, part.item.name, *others, *(part.lists.taken if part.lists else ())}
    rest = {name: column for name, column in part.table.columns.items() if name not in taken}
    if part.is_before:  # nothing of the row holds for what came before it
        rest = {}
    free = {
        n: column for n, column in rest.items() if column.form not in ("empty", "list", "other")
    }
    _find_time(part, free)
    _find_by_name(part, free, _OF_ANY_ROW)
    _find_label(part, free)
    _find_by_name(part, free, _OF_AN_EVENT)
    if part.lists and part.lists.watch_time:
        column = part.table.columns[part.lists.watch_time]
        part.roles["watch_time"] = Role(column, "a list of seconds beside the items")
    for name, column in free.items():
        if _is_context(column):
            why = f"known when the request comes; {column.distinct} values in the first rows"
            part.context[name] = Entry(name, "category", why)
        else:
            part.left_out[name] = _reason_to_leave(column)
    for name, column in rest.items():
        if column.form == "empty":
            part.left_out[name] = "empty in the first rows"
        elif column.form in ("list", "other"):
            part.left_out[name] = "lists or nested cells that no role takes"
    return part


def _take(part: EventPart, free: Free, key: str, column: Column, why: str) -> None:
    part.roles[key] = Role(column, why)
    free.pop(column.name, None)


def _find_time(part: EventPart, free: Free) -> None:
    if part.lists and part.lists.time:
        column, why = part.lists.time, "a list of times beside the items"
    else:
        column = max(free.values(), key=lambda c: (_time_rank(c), c.distinct), default=part.user)
        if _time_rank(column) <= 0:
            return
        first, last = (str(moment)[:10] for moment in (column.times.min(), column.times.max()))
        why = f"the first rows tell {first} to {last}"
    _take(part, free, "time", column, why)
    if column.time_format:
        part.set("time_format", column.time_format, f"cells look like {column.known[0]!r}")
    elif column.time_unit and column.time_unit != "s":
        part.set("time_unit", column.time_unit, "so the numbers are times of our days")


def _time_rank(column: Column) -> int:
    rank = 3 if column.form == "time" else 0
    if column.time_unit and (not column.words or column.has(words.TIME)):
        rank = 2
    return rank and rank + 2 * column.has(words.TIME) - 4 * column.has(words.OTHER_TIME)


def _find_by_name(part: EventPart, free: Free, rules: Rules) -> None:
    """Gives each role the first column whose name and cells fit."""
    for key, is_meant, why in rules:
        if found := next((column for column in free.values() if is_meant(column, part)), None):
            _take(part, free, key, found, why)


def _find_label(part: EventPart, free: Free) -> None:
    """Finds what says whether the user wanted the item; one source of labels at most."""
    if part.is_shown:
        part.kinds[SHOWN] = Entry(SHOWN, {"label": 0}, "in the list, not clicked")
        part.kinds[CLICKED] = Entry(CLICKED, {"label": 1}, "in the list and clicked")
    elif part.lists and part.lists.kind == HISTORY:
        why = "wanted, but nothing tells what else was shown, so it trains no ranking"
        part.kinds[HISTORY] = Entry(HISTORY, {"label": 1, "ranked": False}, why)
    if part.lists:
        return
    for column in free.values():
        if column.is_flag and column.has(words.LABEL) and column.distinct == 2:
            rate = as_float(column.text.is_in(["1", "true", "True"]).mean())
            why = f"0 and 1; {rate:.1%} of the first rows are 1"
            return _take(part, free, "label", column, why)
    kinds = [column for column in free.values() if is_kind(column)]
    kinds.sort(key=lambda column: (-column.has(words.KIND), column.distinct))
    ratings = [column for column in free.values() if _is_rating(column)]
    if kinds and (kinds[0].distinct > 1 or not ratings):
        counts = kinds[0].text.value_counts(sort=True, name="rows").rows()
        part.kinds = mean_of_kinds(dict(counts))
        _take(part, free, "kind", kinds[0], f"{len(counts)} kinds in the first rows")
    elif ratings:
        column = ratings[0]
        low, high = column.low, column.high
        levels = column.numbers.drop_nulls()
        positive = as_float(levels.filter(levels >= low + _UPPER_PART * (high - low)).min())
        _take(part, free, "rating", column, f"numbers from {low:g} to {high:g}")
        share = f"{as_float((levels >= positive).mean()):.0%} of the first rows"
        why = f"the upper part; {share}, the others are seen and not liked"
        part.set("positive_rating", positive, why)


def _is_rating(column: Column) -> bool:
    if column.form != "number" or column.distinct < 2:
        return False
    if column.words and not column.has(words.RATING):
        return False
    low, high = column.low, column.high
    is_small = column.distinct <= _MAX_LEVELS and low >= 0 and 1 < high <= 10
    return is_small or (bool(column.words) and column.distinct <= 101 and -10 <= low < high <= 100)


def _is_split(column: Column, part: EventPart) -> bool:
    if column.words and not column.has(words.SPLIT):
        return False
    values = {value.lower() for value in column.text.unique()}
    return len(values) > 1 and values <= _SPLITS


def _is_impression(column: Column, part: EventPart) -> bool:
    if not column.words:
        return part.is_shown and column.is_id and column.is_unique
    is_whole_name = column.words[0] in ("impression", "request", "slate")
    is_named = column.has(words.IMPRESSION) and (column.has(words.ID) or is_whole_name)
    return is_named and column.is_id and column.distinct > 1


def _is_query(column: Column, part: EventPart) -> bool:
    return column.form == "text" and column.has(words.QUERY) and not column.has(words.CODE)


def _is_position(column: Column, part: EventPart) -> bool:
    is_named = column.is_whole and column.has(words.POSITION)
    return not part.lists and is_named and column.low >= 1 and column.high <= 10_000


def _is_watch_time(column: Column, part: EventPart) -> bool:
    is_named = column.has(words.WATCH, words.SECONDS) and not column.has(words.NO_SECONDS)
    return not part.lists and column.form == "number" and is_named and column.low >= 0


def _is_weight(column: Column, part: EventPart) -> bool:
    is_named = column.form == "number" and column.has(words.WEIGHT)
    return not part.lists and is_named and column.low > 0


def _is_sequence(column: Column, part: EventPart) -> bool:
    return not part.lists and column.is_whole and column.has(words.SEQUENCE)


_OF_ANY_ROW: Rules = (
    ("split", _is_split, "tells train, validation and test"),
    ("impression", _is_impression, "rows with the same one were shown in one list"),
)
_OF_AN_EVENT: Rules = (
    ("query", _is_query, "what the user searched"),
    ("position", _is_position, "the place in the list, from 1"),
    ("watch_time", _is_watch_time, "seconds with the item"),
    ("weight", _is_weight, "numbers above 0; what weighs more counts more"),
    ("sequence", _is_sequence, "orders the events of a user"),
)


def _is_context(column: Column) -> bool:
    is_named = column.has(words.CONTEXT) and not column.personal and not column.is_url
    return is_named and 1 < column.distinct <= _MAX_CONTEXT and column.num_words <= 4


def _reason_to_leave(column: Column) -> str:
    if column.personal:
        return f"personal ({column.personal})"
    if column.is_url:
        return "addresses"
    if column.distinct == 1:
        return "one value in the first rows"
    return "no role known; if it is known before the event, `context` may take it"
