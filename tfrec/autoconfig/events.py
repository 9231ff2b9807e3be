"""What the columns of a log mean: who, what, when, wanted or not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tfrec.autoconfig import words
from tfrec.autoconfig.columns import Column, as_float
from tfrec.autoconfig.lists import CLICKED, HISTORY, SHOWN, ItemLists
from tfrec.autoconfig.page import Entry
from tfrec.autoconfig.table import Table

_MAX_CONTEXT = 200
_MAX_LEVELS = 21
_MAX_KINDS = 30
_STEPS_BACK = {"remove", "removed", "unfollow", "return", "refund", "unlike"}
_UPPER_PART = 0.7
_NO_ROLE = {
    "empty": "empty in the first rows",
    "list": "lists or nested cells that no role takes",
    "other": "lists or nested cells that no role takes",
}
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


def assign_roles(part: EventPart, others: Iterable[str] = ()) -> EventPart:
    """Fills in the roles beside user and item.

    Args:
        part: The part.
        others: Columns that other parts of the same files use.
    """
    taken = {part.user.name, part.item.name, *others, *(part.lists.taken if part.lists else ())}
    # Nothing of a row holds for what came before it.
    rest = [] if part.is_before else [c for n, c in part.table.columns.items() if n not in taken]
    free = {column.name: column for column in rest if column.form not in _NO_ROLE}
    _find_time(part, free)
    _find_by_name(part, free, _OF_ANY_ROW)
    _find_label(part, free)
    # A row of lists may hold a query, but what else it tells is not of each item.
    _find_by_name(part, free, _OF_AN_EVENT[:1] if part.lists else _OF_AN_EVENT)
    if part.lists and part.lists.watch_time:
        part.roles["watch_time"] = Role(part.lists.watch_time, "a list of seconds beside the items")
    for column in (*free.values(), *(column for column in rest if column.form in _NO_ROLE)):
        if _is_context(column):
            why = f"known when the request comes; {column.distinct} values in the first rows"
            part.context[column.name] = Entry(column.name, "category", why)
        else:
            part.left_out[column.name] = _reason_to_leave(column)
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
    kinds = [column for column in free.values() if _is_kind(column)]
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


def _is_kind(column: Column) -> bool:
    """Tells whether cells name kinds of events."""
    if column.form != "text" or column.distinct > _MAX_KINDS or column.num_words > 3:
        return False
    values = column.known.unique().to_list()
    known = sum(words.stage_of(value) is not None for value in values)
    if column.has(words.KIND):
        return known >= len(values) / 3
    return known >= len(values) / 2 and (known > 1 or not column.words)


def mean_of_kinds(counts: Mapping[str, int]) -> dict[str, Entry]:
    """Says what each kind of event means by words that shops and publishers use."""
    stages = {name: words.stage_of(name) for name in counts}
    first = min((stage for stage in stages.values() if stage), default=1)
    kinds: dict[str, Entry] = {}
    for name, stage in stages.items():
        meaning: dict[str, object] = {"label": 1}
        if stage is None:
            why = "no word that is known here; is it wanted (1) or not (0)?"
        elif stage == 0 and _STEPS_BACK.intersection(words.words_of(name)):
            meaning, why = {"label": 0, "ranked": False}, "a step back; no answer to a list"
        elif stage == 0:
            meaning, why = {"label": 0}, "seen, not wanted"
        elif stage == first:
            why = "wanted"
        else:
            meaning |= {"weight": float(stage), "ranked": False, "target": False}
            why = "says more, but follows an earlier event, so it is no row to learn twice"
        kinds[name] = Entry(name, meaning, f"{why}; {counts[name]:,} of the first rows")
    return kinds


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


Free = dict[str, Column]
Rules = Sequence[tuple[str, Callable[[Column, EventPart], bool], str]]
_OF_ANY_ROW: Rules = (
    ("split", _is_split, "tells train, validation and test"),
    ("impression", _is_impression, "rows with the same one were shown in one list"),
)
_OF_AN_EVENT: Rules = (
    (
        "query",
        lambda c, _: c.form == "text" and c.has(words.QUERY) and not c.has(words.CODE),
        "what the user searched",
    ),
    (
        "position",
        lambda c, _: c.is_whole and c.has(words.POSITION) and 1 <= c.low <= c.high <= 10_000,
        "the place in the list, from 1",
    ),
    (
        "watch_time",
        lambda c, _: c.has(words.WATCH, words.SECONDS) and not c.has(words.NO_SECONDS)
        and c.form == "number" and c.low >= 0,
        "seconds with the item",
    ),
    (
        "weight",
        lambda c, _: c.form == "number" and c.has(words.WEIGHT) and c.low > 0,
        "numbers above 0; what weighs more counts more",
    ),
    (
        "sequence",
        lambda c, _: c.is_whole and c.has(words.SEQUENCE),
        "orders the events of a user",
    ),
)  # fmt: skip


def _is_context(column: Column) -> bool:
    is_named = column.has(words.CONTEXT) and column.form not in _NO_ROLE
    is_public = not column.personal and not column.is_url
    return is_named and is_public and 1 < column.distinct <= _MAX_CONTEXT and column.num_words <= 4


def _reason_to_leave(column: Column) -> str:
    if column.form in _NO_ROLE:
        return _NO_ROLE[column.form]
    if column.personal:
        return f"personal ({column.personal})"
    if column.is_url:
        return "addresses"
    if column.distinct == 1:
        return "one value in the first rows"
    return "no role known; if it is known before the event, `context` may take it"
