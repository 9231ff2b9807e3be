"""What the columns of the item and user tables are good for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import polars as pl

from tfrec.autoconfig import words
from tfrec.autoconfig.columns import PER_SECOND, Column, as_float
from tfrec.autoconfig.declaration import sql_name, sql_text
from tfrec.autoconfig.page import Entry

_MAX_TEXTS = 4
_MAX_FLAGS = 30
_MAX_CATEGORIES = 2000
_FEW_VALUES = 50
_MANY_VALUES = 100
_SEPARATORS = ("|", " > ", ";", ", ", ",")
_MIN_SKEW = 2.0
_FLAG = "0 and 1"
_RARE = "hardly a value stands twice, like ids"


@dataclass
class Attributes:
    """What is done with the columns of a table of items or users.

    Attributes:
        is_users: Whether rows are people: names are personal, and there is no title.
        title: Column that people see; None for none.
        text: Columns that BERT reads, with the reason of each.
        features: Declarations by column.
        computed: Columns that steps have to make by SQL.
        left_out: Reason by column.
        personal: Columns that must not be written, with the reason.
    """

    is_users: bool = False
    title: Column | None = None
    text: dict[str, str] = field(default_factory=dict)
    features: dict[str, Entry] = field(default_factory=dict)
    computed: list[Entry] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    personal: dict[str, str] = field(default_factory=dict)


def guess_attributes(
    columns: Iterable[Column], reserved: Iterable[str] = (), is_users: bool = False
) -> Attributes:
    """Guesses features and texts.

    Args:
        columns: The columns beside the id.
        reserved: Names that no feature may have.
        is_users: Whether rows are people.
    """
    found, columns, reserved = Attributes(is_users), list(columns), set(reserved)
    if not is_users and (title := find_title(columns)):
        found.title, found.text[title.name] = title, "the title"
    num_flags = 0
    for column in columns:
        if column is found.title:
            continue
        guess = _guess_column(found, column)
        if isinstance(guess, Entry) and guess.key in reserved:
            guess = "tfrec uses this name itself; a step `compute` can give another"
        if isinstance(guess, Entry) and guess.why == _FLAG:
            num_flags += 1
            if num_flags > _MAX_FLAGS:
                guess = f"more than {_MAX_FLAGS} columns of 0 and 1; better one list column"
        if isinstance(guess, Entry):
            found.features[guess.key] = guess
        elif guess:
            found.left_out[column.name] = guess
    return found


def find_title(columns: Iterable[Column]) -> Column | None:
    """Returns the column that people see: by its name, or without names the first with words."""
    texts = [column for column in columns if column.form == "text" and not column.is_url]
    named = [c for c in texts if c.has(words.TITLE) and not c.has(words.BRAND)]
    if named:
        # "title" before "original_title", and both before "brand_name".
        return min(named, key=lambda column: (len(column.words), column.words[-1] != "title"))
    unnamed = (c for c in texts if not c.words and _is_prose(c) and c.share_distinct > 0.5)
    return next(unnamed, None)


def _is_prose(column: Column) -> bool:
    return column.form == "text" and not column.is_url and column.num_words >= 1.5


def _guess_column(found: Attributes, column: Column) -> Entry | str:
    """Returns the feature that a column is, or why it is none; empty for a text."""
    is_name = column.form == "text" and column.has(words.PERSON_NAME)
    if column.personal or (found.is_users and is_name and column.share_distinct > 0.2):
        found.personal[column.name] = column.personal or "names of people"
        return "personal"
    if column.form == "empty":
        return "empty in the first rows"
    if column.form == "list":
        return _guess_list(column)
    if column.form == "other":
        return "nested cells"
    if column.distinct == 1:
        return "one value in all of the first rows"
    if column.is_url:
        return "addresses of pages or pictures"
    if column.form == "time" or (column.time_unit and column.has(words.TIME)):
        found.computed += _compute_date(column)
        return Entry(column.name, "date", "dates or times")
    if column.is_flag:
        return Entry(column.name, "category", _FLAG)
    if column.form == "number":
        return _guess_number(column, found.is_users)
    return _guess_text(found, column)


def _guess_list(column: Column) -> Entry | str:
    lists = column.known
    values, lengths = lists.explode().drop_nulls(), lists.list.len().unique()
    is_whole, is_number = values.dtype.is_integer(), values.dtype.is_numeric()
    are_ids = is_whole and bool((values > 100).all())
    if is_number and len(lengths) == 1 and lengths[0] > 3 and not are_ids:
        return Entry(column.name, "vector", f"{lengths[0]} numbers in each row")
    if values.dtype != pl.String and not is_whole:
        return "lists of numbers of differing length" if is_number else "nested cells"
    if values.is_empty():
        return "empty in the first rows"
    if values.n_unique() > 0.5 * len(values) and len(values) > 50:
        return "lists of values that hardly stand twice"
    return _list_feature(column.name, values)


def _list_feature(name: str, values: pl.Series, separator: str = "") -> Entry:
    distinct = values.n_unique()
    form: dict[str, object] = {"type": "category_list"}
    if separator not in ("", "|"):
        form["separator"] = separator
    if distinct > _MANY_VALUES:
        form["min_count"] = 5
    why = f"{distinct:,} values in lists" + (f", {separator!r} between" if separator else "")
    return Entry(name, form if len(form) > 1 else "category_list", why)


def _compute_date(column: Column) -> list[Entry]:
    """Returns the column by SQL where dates are not read as they are."""
    name = sql_name(column.name)
    if column.time_format:
        sql = f"STRPTIME({name}, {sql_text(column.time_format)})"
        return [Entry(column.name, sql, f"dates of the form {column.known[0]!r}")]
    if column.time_unit not in (None, "s"):
        sql = f"CAST({name} AS DOUBLE) / {PER_SECOND[column.time_unit]}"
        return [Entry(column.name, sql, "dates are read in seconds")]
    return []


def _guess_number(column: Column, is_users: bool) -> Entry | str:
    name, numbers, distinct = column.name, column.numbers.drop_nulls(), column.distinct
    if not is_users and column.has(words.BEHAVIOUR):
        return "counts what people did, perhaps after the events to be told"
    is_code, skew = column.has(words.CODE) or not column.words, as_float(numbers.skew())
    if column.is_whole:
        early, late = (as_float(numbers.quantile(share)) for share in (0.1, 0.9))
        levels = 10 if is_users or is_code or column.has(words.BRAND) else 5
        if is_code and column.share_distinct > 0.5 and distinct > 20:
            return _RARE
        if early > 1900 and late < 2100:
            form = {"type": "number", "clip": "quantile", "missing": "median"}
            return Entry(name, form, "years; wrong ones are moved to the bounds")
        if distinct <= levels:
            return Entry(name, "category", f"{distinct} whole numbers, taken as names")
        if not column.words and is_users and distinct <= _FEW_VALUES:
            return Entry(name, "category", f"{distinct} whole numbers: codes? else number")
        if column.has(words.CODE) and distinct <= _MAX_CATEGORIES:
            category = {"type": "category", "min_count": 5}
            return Entry(name, category, f"ids of {distinct:,} groups")
    bounds = f"{column.low:g} to {column.high:g}"
    if skew > _MIN_SKEW and column.low >= 0:
        why = f"{bounds} with a long tail (skewness {skew:.1f})"
        return Entry(name, {"type": "number", "scale": "log"}, why)
    return Entry(name, "number", bounds)


def _guess_text(found: Attributes, column: Column) -> Entry | str:
    name, distinct, rows = column.name, column.distinct, len(column.known)
    if separator := _find_separator(column):
        return _list_feature(name, _split(column, separator), separator)
    category: object = {"type": "category", "min_count": 5}
    why = f"{distinct:,} values in {rows:,} rows"
    is_few = distinct <= _MAX_CATEGORIES
    is_repeated = distinct <= max(_FEW_VALUES, 0.2 * rows) and distinct < 0.9 * rows
    if is_repeated and is_few and column.num_words < 6:
        return Entry(name, category if distinct > _MANY_VALUES else "category", why)
    if column.has(words.BRAND) and column.num_words < 3 and column.share_distinct < 0.6:
        return Entry(name, category, why)
    if not _is_prose(column):
        is_category = is_few and distinct <= 0.9 * rows and not column.is_unique
        return Entry(name, category, why) if is_category else _RARE
    if found.title and _stands_in(column, found.title):
        return f"says mostly what {found.title.name!r} says"
    if len(found.text) >= _MAX_TEXTS:
        return f"a text; {_MAX_TEXTS} stand before it"
    found.text[name] = f"{column.num_words:.0f} words a cell"
    return ""


def _split(column: Column, separator: str) -> pl.Series:
    return column.known.str.split(separator).explode().str.strip_chars()


def _find_separator(column: Column) -> str:
    """Returns what stands between the values of list cells; empty for cells of one value."""
    for separator in _SEPARATORS:
        if as_float(column.known.str.contains(separator, literal=True).mean()) < 0.2:
            continue
        values = _split(column, separator)
        is_short = as_float(values.str.count_matches(r"\S+").quantile(0.9)) <= 4
        # Prose has commas, too; its pieces do not come again.
        if is_short and values.n_unique() < min(0.35 * len(values), 0.9 * len(column.known)):
            return separator
    return ""


def _stands_in(column: Column, title: Column) -> bool:
    """Tells whether a text is mostly a part of the title."""
    cells = pl.DataFrame({"part": column.raw, "whole": title.raw}).drop_nulls()
    lower = cells.select(pl.all().str.to_lowercase())
    stands = lower.select(pl.col("whole").str.contains(pl.col("part"), literal=True).mean())
    return as_float(stands.item()) > 0.5
