"""How the files of a table are declared: which they are, how they are read, and steps."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence

from tfrec.autoconfig.page import Block, Entry
from tfrec.autoconfig.table import Table

_WHY = {
    "format": "the name's ending does not tell",
    "delimiter": "none: a line is one cell",
    "quote": "quotes stand inside of texts, so they are ordinary characters",
    "encoding": "the file is no UTF-8; if letters look odd, try another",
    "columns": "names for a file without a header line, after what the cells look like",
}


def declare(
    table: Table,
    steps: Sequence[Block] = (),
    reason: str = "",
    numbers: Sequence[int] | None = None,
) -> Block:
    """Returns the keys of `TableFile`.

    Args:
        table: The files.
        steps: What is done with their rows, once lines are cut into cells.
        reason: Why they are declared; by default that they are the files.
        numbers: Which of the files; None for all.
    """
    paths = table.paths if numbers is None else [table.paths[number] for number in numbers]
    why = reason or (f"{len(paths)} files of the same columns" if len(paths) > 1 else "the file")
    sample = next((sample for sample in table.samples if sample.cut), table.samples[0])
    keys = [Entry("path", _pattern(paths, table.siblings), why)]
    for key, value in sample.form.items():
        why = _WHY[key]
        if value == ["line"]:
            why = "the whole line; steps take it apart"
        elif key == "delimiter" and value:
            why = f"splits the lines into {table.frame.width} cells"
        keys.append(Entry(key, value, why))
    steps = [*_cutting(table), *steps]
    if steps:
        keys.append(Entry("steps", steps, "changes of the rows, in order"))
    return keys


def _cutting(table: Table) -> list[Block]:
    """Returns steps that cut lines into cells, where their number differs."""
    sample = next((sample for sample in table.samples if sample.cut), None)
    if sample is None:
        return []
    names = sample.frame.columns
    cells = [
        Entry(name, f"split_part(line, {sql_text(sample.cut)}, {number})", f"cell {number}")
        for number, name in enumerate(names, 1)
    ]
    odd = f"{sample.num_odd:,}"
    steps = [compute(cells, f"lines of not just {len(names)} cells are there ({odd}): cut here")]
    if sample.has_header:
        condition = f"{sql_name(names[0])} <> {sql_text(names[0])}"
        steps.append([Entry("where", condition, "the header is no row")])
    return steps


def _pattern(paths: list[str], siblings: Sequence[str]) -> str | list[str]:
    """Returns one pattern that names these files and no others, else their list."""
    if len(paths) == 1:
        return paths[0]
    start = _shared_start(paths)
    end = _shared_start([path[len(start) :][::-1] for path in paths])[::-1]
    # "train_log.csv" and "validation_log.csv" are "*_log.csv" rather than "*n_log.csv".
    short_start = re.sub(r"[^\W_]+$", "", start)
    short_end = re.sub(r"^[^\W_]+", "", end)
    for pattern in (f"{short_start}*{short_end}", f"{start}*{end}"):
        found = [
            path for path in siblings
            if fnmatch.fnmatchcase(path, pattern) and path.count("/") == pattern.count("/")
        ]  # fmt: skip
        if sorted(found) == sorted(paths) and not re.search(r"[\[\]?]", pattern):
            return pattern
    return paths


def _shared_start(texts: Sequence[str]) -> str:
    low, high = min(texts), max(texts)
    return next((low[:at] for at, c in enumerate(low) if c != high[at]), low)


def compute(columns: Sequence[Entry], why: str = "new columns") -> Block:
    """Returns a step that makes columns; the value of each is SQL."""
    return [Entry("compute", list(columns), why)]


def explode(columns: Sequence[str], is_text: bool) -> list[Block]:
    """Returns steps that make one row of each value of lists of one length."""
    condition = f"{sql_name(columns[0])} IS NOT NULL"
    condition += f" AND {sql_name(columns[0])} <> ''" if is_text else ""
    why = "one row for each item" + ("; the lists stand side by side" if len(columns) > 1 else "")
    where = Entry("where", condition, "no rows without an item")
    return [[Entry("explode", list(columns), why)], [where]]


def sql_name(name: str) -> str:
    """Writes a column's name for SQL, in quotes where it needs them."""
    if re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)+|shown|clicked|history|item|line", name):
        return name
    escaped = name.replace('"', '""')
    return f'"{escaped}"'


def sql_text(text: str) -> str:
    """Writes text for SQL."""
    escaped = text.replace("'", "''")
    return f"'{escaped}'"
