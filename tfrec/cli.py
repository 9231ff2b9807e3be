"""The ``tfrec`` command. Each verb parses, loads the configuration and calls the library."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from tfrec.errors import TfrecError

app = typer.Typer(
    name="tfrec",
    help="Two-tower retrieval and ranking, from an event log to a SavedModel for TF Serving.\n\n"
    "Start with `tfrec train configs/shop.yaml`: it needs no data and no network.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

ConfigPath = Annotated[Path, typer.Argument(help="YAML file of the run.", metavar="CONFIG")]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Overrides one key, as retrieval.temperature=0.05. Repeatable.",
    ),
]


@app.command()
def train(config: ConfigPath, overrides: Overrides = None) -> None:
    """Run every stage: data, training, evaluation, export, verification.

    Stages whose inputs have not changed are skipped; a killed run continues where it was.
    """
    pipeline = _pipeline(config, overrides)
    pipeline.run()
    _show_report(pipeline)
    _show_sample(pipeline.sample())
    version, sample = Path(pipeline.exported_folder()), pipeline.sample()
    typer.echo(
        f"Report and pictures: {pipeline.folder / 'evaluation' / 'report.md'}\n"
        f"Exported and verified: {version}\n"
        f"Ask it: {_command()} recommend --model {version.parent} --user {sample['user_id']} "
        f"--history {','.join(sample['history_ids'])}"
    )


@app.command()
def evaluate(config: ConfigPath, overrides: Overrides = None) -> None:
    """Measure the model on the test requests, training first what is missing."""
    pipeline = _pipeline(config, overrides)
    pipeline.run(until="evaluation")
    _show_report(pipeline)


@app.command()
def export(config: ConfigPath, overrides: Overrides = None) -> None:
    """Write and verify a SavedModel, running first what is missing."""
    pipeline = _pipeline(config, overrides)
    pipeline.run()
    typer.echo(f"Exported and verified: {pipeline.exported_folder()}")


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
    _show_items(
        [row | {"rank": rank} for rank, row in enumerate(answer.iter_rows(named=True), start=1)],
        _request_title(user, query, names[::-1]),
    )


@app.command()
def doctor() -> None:
    """Check that the installed packages work together and name the fix where they do not."""
    from tfrec.environment import check_installation

    checks = check_installation()
    rows = [[check.name, "ok" if check.is_ok else "WRONG", check.found] for check in checks]
    _show_table("Installation", ["what", "state", "found"], rows)
    wrong = [check for check in checks if not check.is_ok]
    for check in wrong:
        typer.echo(f"{check.name}: {check.fix}")
    if wrong:
        raise typer.Exit(1)


@app.callback(invoke_without_command=True)
def version(
    show: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Implements ``tfrec --version``."""
    if show:
        import tfrec

        typer.echo(f"tfrec {tfrec.__version__}")
        raise typer.Exit


def main() -> None:
    """Runs the command; errors that the user can mend end with one line and exit code 2."""
    try:
        app()
    except TfrecError as error:
        _fail(str(error))
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        _fail(f"no space left on the disk{f' for {error.filename}' if error.filename else ''}.")


def _command() -> str:
    """Returns how this command was called, so that a printed line can be pasted."""
    called = Path(sys.argv[0])
    if shutil.which("tfrec") == str(called):
        return "tfrec"
    return os.path.relpath(called)


def _fail(message: str) -> None:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def _pipeline(config: Path, overrides: list[str] | None) -> Any:
    from tfrec.config import load_config
    from tfrec.pipeline import Pipeline

    return Pipeline(load_config(config, overrides or []), announce=typer.echo)


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


def _show_report(pipeline: Any) -> None:
    from tfrec.evaluation.report import shown_metrics, table_rows

    report = pipeline.report()
    titles = {
        "retrieval": "Retrieval: test items found in the whole catalogue",
        "ranking": "Ranking: clicks predicted on shown test items",
    }
    for part, title in titles.items():
        names = shown_metrics(report[part])
        _show_table(title, ["model", *names], table_rows(report[part], names))


def _show_sample(sample: dict[str, Any]) -> None:
    title = _request_title(sample["user_id"], sample["query"], sample["history"])
    _show_items(sample["items"], title)


def _request_title(user: str, query: str, history: list[str]) -> str:
    parts = [f"user {user}" if user else "an unknown user"]
    if query:
        parts.append(f"searching {query!r}")
    if history:
        parts.append("who last chose " + "; ".join(history[:3]))
    return "Recommendations for " + " ".join(parts)


def _show_items(items: list[dict[str, Any]], title: str) -> None:
    rows = [
        [
            str(item["rank"]),
            item["item_id"],
            item["title"],
            f"{item['score']:.4f}",
            f"{item['probability']:.4f}",
        ]
        for item in items
    ]
    _show_table(title, ["", "item_id", "title", "score", "probability"], rows)


def _show_table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    table = Table(box=SIMPLE_HEAD)
    for number, column in enumerate(columns):
        is_text = column in ("", "item_id", "title", "what", "state", "found", "model")
        table.add_column(column, justify="left" if is_text else "right", no_wrap=number == 0)
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    console.print()
    console.print(escape(title), style="bold", highlight=False, soft_wrap=True)
    wide = console if console.is_terminal else Console(width=max(120, console.width))
    wide.print(table)
