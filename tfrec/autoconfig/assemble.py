"""A first configuration for files that tfrec has never seen."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from tfrec.autoconfig.listings import list_things
from tfrec.autoconfig.page import Entry, write_page
from tfrec.autoconfig.sections import data_section, model_sections
from tfrec.autoconfig.sorting import sort_tables
from tfrec.autoconfig.splitting import guess_split
from tfrec.autoconfig.table import Table, find_tables
from tfrec.errors import DataError


def guess_config(paths: Sequence[Path], name: str | None = None) -> str:
    """Looks at files and writes a configuration that says why each line is there.

    Args:
        paths: A folder, or files.
        name: Of the run; by default the folder's.

    Returns:
        YAML that `tfrec.config.load_config` accepts.

    Raises:
        DataError: A path does not exist, or no file is a log of events.
    """
    folder, tables, left_out = find_tables([Path(path) for path in paths])
    found = sort_tables(tables)
    if not found.events:
        raise DataError(_describe_nothing(folder, tables, left_out))
    for table, reason in found.left_out:
        shown = ", ".join(table.paths[:3]) + (" ..." if len(table.paths) > 3 else "")
        left_out[shown] = f"{reason} (columns {', '.join(table.frame.columns[:6])})"
    parts, split, order = guess_split(found.events)
    items = list_things(found.items, parts, is_users=False)
    users = list_things(found.users, parts, is_users=True)
    run_name = name or re.sub(r"[^A-Za-z0-9_.-]+", "-", folder.resolve().name).strip("-._")
    data = data_section(folder, parts, items, users, split, order)
    return write_page([
        f"A first configuration, guessed from the first rows of the files in {folder}.",
        "Each line says why it is there: read them and mend what is wrong.",
        "`tfrec validate FILE.yaml` checks the data against it, `tfrec train FILE.yaml` trains.",
        *(f"Left out: {file}: {reason}." for file, reason in left_out.items()),
        Entry("name", run_name or "first", "names the run and the exported model"),
        Entry("data", data, "the files, by meaning"),
        *model_sections(parts, items, users),
    ])  # fmt: skip


def _describe_nothing(folder: Path, tables: Sequence[Table], left_out: dict[str, str]) -> str:
    seen = []
    for table in tables:
        more = ", ..." if table.frame.width > 5 else ""
        seen.append(f"{table.paths[0]} ({', '.join(table.frame.columns[:5])}{more})")
    seen += [f"{file} ({reason})" for file, reason in left_out.items()]
    shown = "; ".join(seen[:6]) + (f"; {len(seen) - 6} more" if len(seen) > 6 else "")
    return (
        f"{folder}: wanted a log: a table with a column of users and a column of items (as user_id "
        f"and item_id), one row an event or lists of items in a row; got {shown or 'no file'}."
    )
