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

    def add(self, name: str, form: object, why: str) -> None:
        """Makes a column a feature."""
        self.features[name] = Entry(name, form, why)


def guess_attributes(
    columns: Iterable[Column], reserved: Iterable[str] = (), is_users: bool = False
) -> Attributes:
    """Guesses features and texts.

    Args:
        columns: The columns beside the id.
        reserved: Names that no feature may have.
        is_users: Whether rows are people.
    """
    found, columns = Attributes(is_users), list(columns)
    if not is_users and (title := find_title(columns)):
        found.title, found.text[title.name] = title, "the title"
    for column in columns:
        if column is not found.title:
            _guess_column(found, column)
    flags = [name for name, feature in found.features.items() if feature.why == _FLAG]
    why = f"more than {_MAX_FLAGS} columns of 0 and 1; better one list column"
    dropped = dict.fromkeys(flags[_MAX_FLAGS:], why)
    why = "tfrec uses this name itself; a step `compute` can give another"
    dropped |= {name: why for name in reserved if name in found.features}
    found.features = {n: entry for n, entry in found.features.items() if n not in dropped}
    found.left_out |= dropped
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


def _guess_column(found: Attributes, column: Column) -> None:
    name, reason = column.name, ""
    is_name = column.form == "text" and column.has(words.PERSON_NAME)
    if column.personal or (found.is_users and is_name and column.share_distinct > 0.2):
        reason, found.personal[name] = "personal", column.personal or "names of people"
    elif column.form == "empty":
        reason = "empty in the first rows"
    elif column.form == "list":
        reason = _guess_list(found, column)
    elif column.form == "other":
        reason = "nested cells"
    elif column.distinct == 1:
        reason = "one value in all of the first rows"
    elif column.is_url:
        reason = "addresses of pages or pictures"
    elif column.form == "time" or (column.time_unit and column.has(words.TIME)):
        _guess_date(found, column)
    elif column.is_flag:
        found.add(name, "category", _FLAG)
    elif column.form == "number":
        reason = _guess_number(found, column)
    else:
        reason = _guess_text(found, column)
    if reason:
        found.left_out[name] = reason


def _guess_list(found: Attributes, column: Column) -> str:
    """Makes lists a feature, or returns why they are none; likewise below."""
    lists = column.known
    values, lengths = lists.explode().drop_nulls(), lists.list.len().unique()
    are_ids = values.dtype.is_integer() and bool((values > 100).all())
    if values.dtype.is_numeric() and len(lengths) == 1 and lengths[0] > 3 and not are_ids:
        found.add(column.name, "vector", f"{lengths[0]} numbers in each row")
    elif values.dtype != pl.String and not values.dtype.is_integer():
        return (
            "lists of numbers of differing length" if values.dtype.is_numeric() else "nested cells"
        )
    elif values.is_empty():
        return "empty in the first rows"
    elif values.n_unique() > 0.5 * len(values) and len(values) > 50:
        return "lists of values that hardly stand twice"
    else:
        _add_list(found, column.name, values.n_unique())
    return ""


def _add_list(found: Attributes, name: str, distinct: int, separator: str = "") -> None:
    form: dict[str, object] = {"type": "category_list"}
    if separator not in ("", "|"):
        form["separator"] = separator
    if distinct > _MANY_VALUES:
        form["min_count"] = 5
    why = f"{distinct:,} values in lists" + (f", {separator!r} between" if separator else "")
    found.add(name, form if len(form) > 1 else "category_list", why)


def _guess_date(found: Attributes, column: Column) -> None:
    name = sql_name(column.name)
    if column.time_format:
        sql = f"STRPTIME({name}, {sql_text(column.time_format)})"
        why = f"dates of the form {column.known[0]!r}"
        found.computed.append(Entry(column.name, sql, why))
    elif column.time_unit not in (None, "s"):
        sql = f"CAST({name} AS DOUBLE) / {PER_SECOND[column.time_unit]}"
        found.computed.append(Entry(column.name, sql, "dates are read in seconds"))
    found.add(column.name, "date", "dates or times")


def _guess_number(found: Attributes, column: Column) -> str:
    name, numbers, distinct = column.name, column.numbers.drop_nulls(), column.distinct
    if not found.is_users and column.has(words.BEHAVIOUR):
        return "counts what people did, perhaps after the events to be told"
    is_code = column.has(words.CODE) or not column.words
    if column.is_whole and is_code and column.share_distinct > 0.5 and distinct > 20:
        return _RARE
    early, late = (as_float(numbers.quantile(share)) for share in (0.1, 0.9))
    levels = 10 if found.is_users or is_code or column.has(words.BRAND) else 5
    skew, bounds = as_float(numbers.skew()), f"{column.low:g} to {column.high:g}"
    if column.is_whole and early > 1900 and late < 2100:
        form = {"type": "number", "clip": "quantile", "missing": "median"}
        found.add(name, form, "years; wrong ones are moved to the bounds")
    elif column.is_whole and distinct <= levels:
        found.add(name, "category", f"{distinct} whole numbers, taken as names")
    elif column.is_whole and not column.words and found.is_users and distinct <= _FEW_VALUES:
        found.add(name, "category", f"{distinct} whole numbers: codes? else number")
    elif column.is_whole and column.has(words.CODE) and distinct <= _MAX_CATEGORIES:
        found.add(name, {"type": "category", "min_count": 5}, f"ids of {distinct:,} groups")
    elif skew > _MIN_SKEW and column.low >= 0:
        why = f"{bounds} with a long tail (skewness {skew:.1f})"
        found.add(name, {"type": "number", "scale": "log"}, why)
    else:
        found.add(name, "number", bounds)
    return ""


def _guess_text(found: Attributes, column: Column) -> str:
    name, distinct, rows = column.name, column.distinct, len(column.known)
    why = f"{distinct:,} values in {rows:,} rows"
    category: dict[str, object] = {"type": "category", "min_count": 5}
    is_repeated = distinct <= max(_FEW_VALUES, 0.2 * rows) and distinct < 0.9 * rows
    is_few = distinct <= _MAX_CATEGORIES
    is_brand = column.has(words.BRAND) and column.num_words < 3 and column.share_distinct < 0.6
    separator = _find_separator(column)
    if separator:
        _add_list(found, name, _split(column, separator).n_unique(), separator)
    elif is_repeated and is_few and column.num_words < 6:
        found.add(name, category if distinct > _MANY_VALUES else "category", why)
    elif is_brand:
        found.add(name, category, why)
    elif _is_prose(column):
        if found.title and _stands_in(column, found.title):
            return f"says mostly what {found.title.name!r} says"
        if len(found.text) >= _MAX_TEXTS:
            return f"a text; {_MAX_TEXTS} stand before it"
        found.text[name] = f"{column.num_words:.0f} words a cell"
    elif is_few and distinct <= 0.9 * rows and not column.is_unique:
        found.add(name, category, why)
    else:
        return _RARE
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
