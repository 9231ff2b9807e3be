"""Verbs that change the catalogue of a trained model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tfrec.cli.command import ConfigPath, Overrides, app, open_pipeline
from tfrec.cli.show import show_table

index = typer.Typer(
    name="index",
    help="Change the catalogue of a trained model, without training.\n\n"
    "New items are embedded by the item tower and searched exactly beside the index; removed ones "
    "are never answered. Each command exports a new version of the model, which TensorFlow Serving "
    "takes up by itself. When a tenth of the items has been added, the index is built anew.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(index)

Items = Annotated[
    Path, typer.Argument(help="Table of items, with the columns of `data.items`.", metavar="FILE")
]


@index.command()
def add(config: ConfigPath, items: Items, overrides: Overrides = None) -> None:
    """Add items that the model was not trained on."""
    _tell(_editor(config, overrides).add(items))


@index.command()
def update(config: ConfigPath, items: Items, overrides: Overrides = None) -> None:
    """Change texts or features of items that are there."""
    _tell(_editor(config, overrides).add(items, update=True))


@index.command()
def remove(
    config: ConfigPath,
    ids: Annotated[list[str], typer.Argument(help="Ids of items.", metavar="ID...")],
    overrides: Overrides = None,
) -> None:
    """Never answer with these items again."""
    _tell(_editor(config, overrides).remove(ids))


@index.command()
def rebuild(config: ConfigPath, overrides: Overrides = None) -> None:
    """Build the index over all items, the added ones too."""
    _tell(_editor(config, overrides).rebuild())


@index.command()
def stats(config: ConfigPath, overrides: Overrides = None) -> None:
    """Say how far the catalogue has gone from the index that was built."""
    found = _editor(config, overrides).stats()
    rows = [
        ["items of the training", str(found.trained)],
        ["rows of the index", str(found.in_index)],
        ["rows beside it, searched exactly", str(found.added)],
        ["rows that are gone", str(found.gone)],
        ["items that answers may hold", str(found.present)],
        ["changes since the training", str(found.changes)],
        ["kind of index", found.index["kind"]],
        [f"recall at {found.index['k']}", f"{found.index['recall_at_k']:.4f}"],
        ["settings", ", ".join(f"{k} {v}" for k, v in found.index["parameters"].items())],
    ]
    show_table("Catalogue and index", ["what", "value"], rows)


def _editor(config: Path, overrides: list[str] | None) -> Any:
    from tfrec.pipeline.catalogue_editor import CatalogueEditor

    return CatalogueEditor(open_pipeline(config, overrides))


def _tell(versions: list[str]) -> None:
    for version in versions:
        typer.echo(f"Exported and verified: {version}")
