"""Tables on the terminal."""

from __future__ import annotations

from typing import Any

_TEXT_COLUMNS = (
    "item_id", "title", "model", "what", "state", "found",
    "table", "column", "kind", "values", "step", "split",
)  # fmt: skip


def show_table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """Prints a table; the first column names the row, columns of numbers stand to the right."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    table = Table(box=SIMPLE_HEAD)
    for number, column in enumerate(columns):
        justify = "left" if not column or column in _TEXT_COLUMNS else "right"
        table.add_column(column, justify=justify, no_wrap=number == 0)  # type: ignore[arg-type]
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    console.print()
    console.print(escape(title), style="bold", highlight=False, soft_wrap=True)
    wide = console if console.is_terminal else Console(width=max(120, console.width))
    wide.print(table)


def show_items(items: list[dict[str, Any]], title: str) -> None:
    """Prints ranked items with the numbers of the answer."""
    columns = list(items[0]) if items else ["rank", "item_id", "title"]
    rows = [
        [f"{value:.4f}" if isinstance(value, float) else str(value) for value in item.values()]
        for item in items
    ]
    show_table(title, ["" if name == "rank" else name for name in columns], rows)


def request_title(user: str, query: str, history: list[str]) -> str:
    """Returns a line about who asks for what."""
    parts = [f"user {user}" if user else "an unknown user"]
    if query:
        parts.append(f"searching {query!r}")
    if history:
        parts.append("who last chose " + "; ".join(history[:3]))
    return "Recommendations for " + " ".join(parts)
