"""What the columns of the item and user tables are good for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import polars as pl

from tfrec.autoconfig import words
from tfrec.autoconfig.columns import Column, as_float
from tfrec.autoconfig.page import sql_name, sql_text

_MAX_TEXTS = 4
_MAX_FLAGS = 30
_MAX_CATEGORIES = 2000
_FEW_VALUES = 50
_MANY_VALUES = 100
_SEPARATORS = ("|", " > ", ";", ", ", ",")
_MIN_SKEW = 2.0


@dataclass
class Guessed:
    """What is done with the columns of a table.

    Attributes:
        title: Column that people see; None for none.
        title_why: Why.
        text: Columns that BERT reads, with the reason of each.
        features: Declaration and reason by column.
        computed: SQL expressions that steps have to make, with the reason.
        left_out: Reason by column.
        personal: Columns that must not be written.
    """

    title: str | None = None
    title_why: str = ""
    text: dict[str, str] = field(default_factory=dict)
    features: dict[str, tuple[object, str]] = field(default_factory=dict)
    computed: dict[str, tuple[str, str]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    personal: dict[str, str] = field(default_factory=dict)


def guess_table(
    columns: Sequence[Column], reserved: Sequence[str], is_users: bool = False
) -> Guessed:
    """Guesses features and texts.

    Args:
        columns: The columns beside the id.
        reserved: Names that no feature may have.
        is_users: Whether rows are people: names are personal, and there is no title.
    """
    guessed = Guessed()
    rest = list(columns)
    title = None if is_users else _find_title(rest)
    if title:
        guessed.title, guessed.text[title.name] = title.name, "the title"
        guessed.title_why = (
            "by its name" if title.has(words.TITLE) else "the first column of several words"
        )
        rest.remove(title)
    for column in rest:
        _guess_column(guessed, column, title, is_users)
    flags = [name for name, (_, why) in guessed.features.items() if why == _FLAG]
    for name in flags[_MAX_FLAGS:]:
        del guessed.features[name]
        guessed.left_out[name] = (
            f"more than {_MAX_FLAGS} columns of 0 and 1; better one list column"
        )
    for name in [name for name in guessed.features if name in reserved]:
        del guessed.features[name]
        guessed.left_out[name] = "tfrec uses this name itself; a step `compute` can give another"
    return guessed


_FLAG = "0 and 1"


def _find_title(columns: Sequence[Column]) -> Column | None:
    named = [
        column for column in columns
        if column.form == "text" and column.has(words.TITLE) and not column.is_url
        and not column.has(words.BRAND)
    ]  # fmt: skip
    if named:
        # "title" before "original_title", and both before "brand_name".
        return min(named, key=lambda column: (len(column.words), column.words[-1] != "title"))
    for column in columns:
        if not column.words and _is_prose(column) and column.share_distinct > 0.5:
            return column
    return None


def _is_prose(column: Column) -> bool:
    return column.form == "text" and not column.is_url and column.num_words >= 1.5


def _guess_column(guessed: Guessed, column: Column, title: Column | None, is_users: bool) -> None:
    name = column.name
    if column.personal or (is_users and column.form == "text" and _is_person_name(column)):
        guessed.left_out[name] = "personal"
        guessed.personal[name] = column.personal or "names of people"
    elif column.form == "empty":
        guessed.left_out[name] = "empty in the first rows"
    elif column.form == "list":
        _guess_list(guessed, column)
    elif column.form == "other":
        guessed.left_out[name] = "nested cells"
    elif column.distinct == 1:
        guessed.left_out[name] = "one value in all of the first rows"
    elif column.is_url:
        guessed.left_out[name] = "addresses of pages or pictures"
    elif column.form == "time" or (column.time_unit and column.has(words.TIME)):
        _guess_date(guessed, column)
    elif column.is_flag:
        guessed.features[name] = ("category", _FLAG)
    elif column.form == "number":
        _guess_number(guessed, column, is_users)
    else:
        _guess_text(guessed, column, title)


def _is_person_name(column: Column) -> bool:
    return column.has(words.PERSON_NAME) and column.share_distinct > 0.2


def _guess_list(guessed: Guessed, column: Column) -> None:
    name, known = column.name, column.known
    inner = known.dtype.inner  # type: ignore[attr-defined]
    lengths = known.list.len().unique()
    if inner.is_numeric() and len(lengths) == 1 and lengths[0] > 3 and not _is_list_of_ids(known):
        guessed.features[name] = ("vector", f"{lengths[0]} numbers in each row")
    elif inner == pl.String or inner.is_integer():
        values = known.explode().drop_nulls()
        if not len(values):
            guessed.left_out[name] = "empty in the first rows"
        elif values.n_unique() > 0.5 * len(values) and len(values) > 50:
            guessed.left_out[name] = "lists of values that hardly stand twice"
        else:
            guessed.features[name] = _list_feature(values, None)
    elif inner.is_numeric():
        guessed.left_out[name] = "lists of numbers of differing length"
    else:
        guessed.left_out[name] = "nested cells"


def _is_list_of_ids(known: pl.Series) -> bool:
    values = known.explode().drop_nulls()
    return values.dtype.is_integer() and bool((values > 100).all())


def _list_feature(values: pl.Series, separator: str | None) -> tuple[object, str]:
    distinct = values.n_unique()
    form: dict[str, object] = {"type": "category_list"}
    if separator and separator != "|":
        form["separator"] = separator
    if distinct > _MANY_VALUES:
        form["min_count"] = 5
    why = f"{distinct:,} values in lists" + (f", {separator!r} between" if separator else "")
    return (form if len(form) > 1 else "category_list"), why


def _guess_date(guessed: Guessed, column: Column) -> None:
    name = column.name
    if column.time_format:
        expression = f"STRPTIME({sql_name(name)}, {sql_text(column.time_format)})"
        guessed.computed[name] = (expression, f"dates of the form {column.known[0]!r}")
    elif column.form == "number" and column.time_unit != "s":
        divisor = {"ms": 10**3, "us": 10**6, "ns": 10**9}[column.time_unit or "ms"]
        expression = f"CAST({sql_name(name)} AS DOUBLE) / {divisor}"
        guessed.computed[name] = (expression, "dates are read in seconds")
    guessed.features[name] = ("date", "dates or times")


def _guess_number(guessed: Guessed, column: Column, is_users: bool) -> None:
    name, numbers = column.name, column.numbers.drop_nulls()
    if not is_users and column.has(words.BEHAVIOUR):
        guessed.left_out[name] = "counts what people did, perhaps after the events to be told"
        return
    is_code = column.has(words.CODE) or not column.words
    if column.is_whole and is_code and column.share_distinct > 0.5 and column.distinct > 20:
        guessed.left_out[name] = "hardly a value stands twice, like ids"
        return
    earliest, latest = (as_float(numbers.quantile(share)) for share in (0.1, 0.9))
    form: object
    if column.is_whole and earliest > 1900 and latest < 2100:
        form = {"type": "number", "clip": "quantile", "missing": "median"}
        guessed.features[name] = (form, "years; wrong ones are moved to the bounds")
        return
    levels = 10 if is_users or is_code or column.has(words.BRAND) else 5
    if column.is_whole and column.distinct <= levels:
        guessed.features[name] = ("category", f"{column.distinct} whole numbers, taken as names")
        return
    if column.is_whole and not column.words and is_users and column.distinct <= _FEW_VALUES:
        guessed.features[name] = (
            "category",
            f"{column.distinct} whole numbers: codes? else number",
        )
        return
    if column.is_whole and column.has(words.CODE) and column.distinct <= _MAX_CATEGORIES:
        form = {"type": "category", "min_count": 5}
        guessed.features[name] = (form, f"ids of {column.distinct:,} groups")
        return
    skew, low, high = as_float(numbers.skew()), column.low, column.high
    bounds = f"{low:g} to {high:g}"
    if skew > _MIN_SKEW and low >= 0:
        form = {"type": "number", "scale": "log"}
        guessed.features[name] = (form, f"{bounds} with a long tail (skewness {skew:.1f})")
    else:
        guessed.features[name] = ("number", bounds)


def _guess_text(guessed: Guessed, column: Column, title: Column | None) -> None:
    name, distinct = column.name, column.distinct
    rows = len(column.known)
    separator = _find_separator(column)
    if separator:
        values = column.known.str.split(separator).explode().str.strip_chars()
        guessed.features[name] = _list_feature(values, separator)
        return
    is_repeated = distinct <= max(_FEW_VALUES, 0.2 * rows) and distinct < 0.9 * rows
    if is_repeated and distinct <= _MAX_CATEGORIES and column.num_words < 6:
        form = {"type": "category", "min_count": 5} if distinct > _MANY_VALUES else "category"
        guessed.features[name] = (form, f"{distinct:,} values in {rows:,} rows")
    elif column.has(words.BRAND) and column.num_words < 3 and column.share_distinct < 0.6:
        form = {"type": "category", "min_count": 5}
        guessed.features[name] = (form, f"{distinct:,} values in {rows:,} rows")
    elif _is_prose(column):
        if title is not None and _stands_in(column, title):
            guessed.left_out[name] = f"says mostly what {title.name!r} says"
        elif len(guessed.text) >= _MAX_TEXTS:
            guessed.left_out[name] = f"a text; {_MAX_TEXTS} stand before it"
        else:
            guessed.text[name] = f"{column.num_words:.0f} words a cell"
    elif distinct <= 0.9 * rows and distinct <= _MAX_CATEGORIES and not column.is_unique:
        form = {"type": "category", "min_count": 5}
        guessed.features[name] = (form, f"{distinct:,} values in {rows:,} rows")
    else:
        guessed.left_out[name] = "hardly a value stands twice, like ids"


def _find_separator(column: Column) -> str | None:
    """Returns what stands between the values of list cells; None for cells of one value."""
    for separator in _SEPARATORS:
        with_it = as_float(column.known.str.contains(separator, literal=True).mean())
        if with_it < 0.2:
            continue
        values = column.known.str.split(separator).explode().str.strip_chars()
        sizes = values.str.count_matches(r"\S+")
        is_short = as_float(sizes.quantile(0.9)) <= 4
        # Prose has commas, too; its pieces do not come again.
        if is_short and values.n_unique() < min(0.35 * len(values), 0.9 * len(column.known)):
            return separator
    return None


def _stands_in(column: Column, title: Column) -> bool:
    """Tells whether a text is mostly a part of the title."""
    frame = pl.DataFrame({"a": column.raw, "b": title.raw}).drop_nulls()
    if not frame.height:
        return False
    contains = pl.col("b").str.to_lowercase().str.contains(
        pl.col("a").str.to_lowercase(), literal=True
    )  # fmt: skip
    return as_float(frame.select(contains.mean()).item()) > 0.5
