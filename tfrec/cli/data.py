"""Verbs about data: describe it, check it, prepare it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from tfrec.cli.command import ConfigPath, Overrides, app, command_name, open_pipeline
from tfrec.cli.show import show_table
from tfrec.errors import ConfigError


@app.command()
def init(
    paths: Annotated[
        list[Path],
        typer.Argument(help="Files of tables, or one folder that holds them.", metavar="PATH..."),
    ],
    name: Annotated[str | None, typer.Option(help="Name of the run.")] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to write; else it is printed.")
    ] = None,
    force: Annotated[bool, typer.Option(help="Replace an existing FILE.")] = False,
) -> None:
    """Look at tables and write a first configuration.

    It guesses which file holds events, items and users, and which column is the user, the item, the
    time, the label and the features, and says in comments what it was unsure of. Read the result,
    correct it, then run `tfrec validate`.
    """
    from tfrec.autoconfig import guess_config

    if output and output.exists() and not force:
        raise ConfigError(f"{output}: exists already; give --force to replace it.")
    text = guess_config(paths, name)
    if output is None:
        typer.echo(text, nl=False)
        return
    _write_whole(output, text)
    typer.echo(
        f"Written: {output}. Read it and correct what is wrong, then:\n"
        f"  {command_name()} validate {output}\n"
        f"  {command_name()} train {output}"
    )


@app.command()
def validate(
    config: ConfigPath,
    overrides: Overrides = None,
    json_file: Annotated[
        str | None,
        typer.Option(
            "--json", metavar="FILE", help="Also write the report as JSON; - prints it alone."
        ),
    ] = None,
) -> None:
    """Check all data before any training.

    Reads every row, as training would, and shows what each column holds, every cell that does not
    fit with its file and row, what cleaning removes, what each split gets, and what may make
    results poor or too good. Keeps nothing, but needs room for temporary files (TMPDIR) until it
    ends. Exit code 0: training accepts the data. 1: it does not.
    """
    from tfrec.config import load_config
    from tfrec.data.validation.validate import validate as check

    loaded = load_config(config, overrides or [])
    report = check(loaded)
    if json_file:
        text = json.dumps(report, indent=1, ensure_ascii=False) + "\n"
        if json_file == "-":
            typer.echo(text, nl=False)
        else:
            _write_whole(Path(json_file), text)
    if json_file != "-":
        _show_validation(report)
    if not report["ok"]:
        raise typer.Exit(1)


@app.command()
def prepare(config: ConfigPath, overrides: Overrides = None) -> None:
    """Read, clean and split the data, and stop there.

    It is the first stage of `train`, which will not repeat it. The tables go to
    runs/<name>/prepare: Parquet files to look at.
    """
    from tfrec.data.validation.report import report_tables

    pipeline = open_pipeline(config, overrides)
    pipeline.run(until="prepare")
    report = pipeline.data.report
    shown = {part: report[part] for part in ("rows", "cleaning", "split") if part in report}
    for table in report_tables(shown):
        show_table(table.title, table.columns, table.rows)
    _show_warnings(report)
    typer.echo(f"Prepared: {pipeline.artefacts.path('prepare')}")


def _show_validation(report: dict[str, Any]) -> None:
    from tfrec.data.validation.report import finding_lines, report_tables

    for table in report_tables(report):
        show_table(table.title, table.columns, table.rows)
    if report["findings"]:
        typer.echo("\nCells that do not fit")
        for line in finding_lines(report["findings"]):
            typer.echo(line)
    _show_warnings(report)
    for error in report["errors"]:
        typer.echo(f"\nerror: {error}")
    typer.echo(f"\n{_verdict(report)}")


def _show_warnings(report: dict[str, Any]) -> None:
    if report["warnings"]:
        typer.echo("\nWarnings")
    for warning in report["warnings"]:
        typer.echo(f"- {warning}.")


def _verdict(report: dict[str, Any]) -> str:
    if not report["ok"]:
        number = report["refused"] + len(report["errors"])
        verdict = f"not valid: {number} kind{'s' * (number > 1)} of problems; training would stop."
        if not report["errors"] and not any(f["is_refused"] for f in report["findings"]):
            verdict += " Mend the files, or set data.cleaning.bad_cells: repair."
        return verdict
    rows = report["rows"]
    warnings = len(report["warnings"])
    noted = f"; {warnings} warning{'s' * (warnings > 1)}" if warnings else ""
    return (
        f"valid: {rows['events']['kept']:,} events, {rows['items']:,} items, "
        f"{rows['users']:,} users{noted}."
    )


def _write_whole(path: Path, text: str) -> None:
    """Writes beside, then renames, so that `path` is never half written."""
    beside = path.with_name(f".{path.name}.partial")
    try:
        beside.write_text(text, encoding="utf-8")
        beside.replace(path)
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no folder {path.parent}.") from None
    finally:
        beside.unlink(missing_ok=True)
