"""Verbs about exported models and the installation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tfrec.cli.command import app
from tfrec.cli.show import request_title, show_items, show_table


@app.command()
def recommend(
    model: Annotated[Path, typer.Option(help="Folder of a model or of one of its versions.")],
    user: Annotated[str, typer.Option(help="User id; unknown ones are answered too.")] = "",
    history: Annotated[
        list[str] | None,
        typer.Option(help="Item ids, oldest first, separated by commas or repeated."),
    ] = None,
    query: Annotated[str, typer.Option(help="Search text.")] = "",
    k: Annotated[int, typer.Option("-k", min=1, help="Number of items.")] = 10,
    feature: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="An attribute or request feature. Repeatable."),
    ] = None,
) -> None:
    """Ask an exported model and print ranked items with their probabilities of a click."""
    from tfrec.serving.saved_recommender import SavedRecommender

    saved = SavedRecommender(model)
    given = [item for part in history or [] for item in part.split(",") if item]
    for item in given:
        if not saved.title(item):
            typer.echo(f"note: {item!r} is not in the catalogue and is passed over", err=True)
    if k > saved.k:
        typer.echo(f"note: the model was exported to answer with at most {saved.k} items", err=True)
    answer = saved.recommend(user, given, query, k, _features(saved.manifest, feature or []))
    names = [saved.title(item) for item in given if saved.title(item)]
    show_items(
        [{"rank": rank} | row for rank, row in enumerate(answer.iter_rows(named=True), start=1)],
        request_title(user, query, names[::-1]),
    )


@app.command()
def doctor() -> None:
    """Check that the installed packages work together and name the fix where they do not."""
    from tfrec.environment import check_installation

    checks = check_installation()
    rows = [[check.name, "ok" if check.is_ok else "WRONG", check.found] for check in checks]
    show_table("Installation", ["what", "state", "found"], rows)
    wrong = [check for check in checks if not check.is_ok]
    for check in wrong:
        typer.echo(f"{check.name}: {check.fix}")
    if wrong:
        raise typer.Exit(1)


def _features(manifest: dict[str, Any], given: list[str]) -> dict[str, Any]:
    """Reads NAME=VALUE pairs by the dtypes of the manifest."""
    from tfrec.serving.saved_recommender import RequestError

    inputs = {info["name"]: info for info in manifest["signatures"]["recommend"]["inputs"]}
    features: dict[str, Any] = {}
    for pair in given:
        name, separator, value = pair.partition("=")
        if not separator:
            raise RequestError(f"--feature {pair}: wanted NAME=VALUE.")
        info = inputs.get(name)
        parts: list[Any] = value.split(",") if info and len(info["shape"]) > 1 else [value]
        if info and info["dtype"] == "float32":
            try:
                parts = [float(part) for part in parts]
            except ValueError:
                raise RequestError(f"--feature {pair}: wanted a number.") from None
        features[name] = parts if info and len(info["shape"]) > 1 else parts[0]
    return features
