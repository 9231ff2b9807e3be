"""A first configuration for files that tfrec has never seen."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from tfrec.autoconfig.attributes import ItemTable, UserTable
from tfrec.autoconfig.groups import Group, find_groups
from tfrec.autoconfig.page import Entry, Remark, write_page
from tfrec.autoconfig.sections import data_section, model_sections
from tfrec.autoconfig.splitting import guess_split
from tfrec.autoconfig.tables import sort_tables
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
    folder, groups, left_out = find_groups([Path(path) for path in paths])
    tables = sort_tables(groups)
    if not tables.events:
        raise DataError(_describe_nothing(folder, groups, left_out))
    for group, reason in tables.left_out:
        shown = ", ".join(group.paths[:3]) + (" ..." if len(group.paths) > 3 else "")
        left_out[shown] = f"{reason} (columns {', '.join(group.frame.columns[:6])})"
    parts, split, order = guess_split(tables.events)
    items = ItemTable(tables, parts)
    users = UserTable(tables, parts)
    run_name = name or re.sub(r"[^A-Za-z0-9_.-]+", "-", folder.resolve().name).strip("-._")
    page: list[Entry | Remark] = [
        Remark(f"A first configuration, guessed from the first rows of the files in {folder}."),
        Remark("Each line says why it is there: read them and mend what is wrong."),
        Remark(
            "`tfrec validate FILE.yaml` checks the data against it, `tfrec train FILE.yaml` trains."
        ),
        *(Remark(f"Left out: {file}: {reason}.") for file, reason in left_out.items()),
        Entry("name", run_name or "first", "names the run and the exported model"),
        Entry(
            "data", data_section(folder, parts, items, users, split, order), "the files, by meaning"
        ),
        *model_sections(parts, items, users),
    ]
    return write_page(page)


def _describe_nothing(folder: Path, groups: Sequence[Group], left_out: dict[str, str]) -> str:
    seen = [
        f"{group.paths[0]} ({', '.join(group.frame.columns[:5])}"
        f"{', ...' if group.frame.width > 5 else ''})"
        for group in groups
    ]
    seen += [f"{file} ({reason})" for file, reason in left_out.items()]
    shown = "; ".join(seen[:6]) + (f"; {len(seen) - 6} more" if len(seen) > 6 else "")
    return (
        f"{folder}: wanted a log: a table with a column of users and a column of items (as user_id "
        f"and item_id), one row an event or lists of items in a row; got {shown or 'no file'}."
    )
