"""Steps that change the rows of a table, and the SQL in them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tfrec.autoconfig.page import Block, Entry


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
