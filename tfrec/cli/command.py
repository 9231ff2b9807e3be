"""The command itself, and what its verbs share."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from tfrec import environment, log
from tfrec.errors import TfrecError

app = typer.Typer(
    name="tfrec",
    help="Two-tower retrieval and ranking, from an event log to a SavedModel for TF Serving.\n\n"
    "Start with `tfrec train configs/shop.yaml`: it needs no data and no network.\n\n"
    "With your own data: `tfrec init data/ --output mine.yaml`, `tfrec validate mine.yaml`, "
    "`tfrec train mine.yaml`.",
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
        help="Overrides one key, as retrieval.loss.temperature=0.05. Repeatable.",
    ),
]


@app.callback(invoke_without_command=True)
def begin(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Implements ``tfrec --version``, and has the log printed while a verb runs."""
    environment.quiet()
    log.show()
    context.call_on_close(log.hide)
    if version:
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


def command_name() -> str:
    """Returns how this command was called, so that a printed line can be pasted."""
    called = Path(sys.argv[0])
    if shutil.which("tfrec") == str(called):
        return "tfrec"
    if called.name == "__main__.py":
        return "python -m tfrec"
    return os.path.relpath(called)


def open_pipeline(config: Path, overrides: list[str] | None) -> Any:
    """Loads the configuration and returns its `Pipeline`."""
    from tfrec.config import load_config
    from tfrec.pipeline import Pipeline

    return Pipeline(load_config(config, overrides or []))


def _fail(message: str) -> None:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)
