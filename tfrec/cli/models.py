"""Verbs that train, measure and export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tfrec.cli.command import ConfigPath, Overrides, app, command_name, open_pipeline
from tfrec.cli.show import request_title, show_items, show_table


@app.command()
def train(config: ConfigPath, overrides: Overrides = None) -> None:
    """Run every stage: data, training, evaluation, export, verification.

    Stages whose inputs have not changed are skipped; a killed run continues where it was.
    """
    pipeline = open_pipeline(config, overrides)
    pipeline.run()
    if pipeline.works_along:
        return
    _show_report(pipeline)
    _show_sample(pipeline.sample())
    version, sample = Path(pipeline.exported_folder()), pipeline.sample()
    typer.echo(f"Report and pictures: {pipeline.artefacts.report_page}")
    _show_exports(pipeline)
    typer.echo(
        f"Ask it: {command_name()} recommend --model {version.parent} --user {sample['user_id']} "
        f"--history {','.join(sample['history_ids'])}"
    )


@app.command()
def evaluate(config: ConfigPath, overrides: Overrides = None) -> None:
    """Measure the model on the test requests, training first what is missing."""
    pipeline = open_pipeline(config, overrides)
    pipeline.run(until="evaluation")
    if not pipeline.works_along:
        _show_report(pipeline)


@app.command()
def export(config: ConfigPath, overrides: Overrides = None) -> None:
    """Write and verify a SavedModel, running first what is missing."""
    pipeline = open_pipeline(config, overrides)
    pipeline.run()
    if not pipeline.works_along:
        _show_exports(pipeline)


@app.command("cross-validate")
def cross_validation(config: ConfigPath, overrides: Overrides = None) -> None:
    """Train and measure on each fold of the data.

    Prints the mean of every metric and how much it changes from fold to fold: a difference between
    two models that is smaller than that may be chance. The configuration needs
    `data.split.kind: k_fold`. Each fold is a run of its own in runs/<name>/fold-<k>; a killed
    command continues where it was.
    """
    from tfrec.config import load_config
    from tfrec.pipeline.cross_validation import cross_validate, metric_rows

    loaded = load_config(config, overrides or [])
    summary = cross_validate(loaded)
    for part in (part for part in ("retrieval", "ranking") if part in summary):
        names, rows = metric_rows(summary[part])
        title = f"{part.capitalize()}: mean ± standard deviation over {summary['folds']} folds"
        show_table(title, ["model", *names], rows)
    folder = Path(loaded.runs) / loaded.name
    typer.echo(f"Report: {folder / 'cross_validation.md'}")


@app.command("tune")
def tune_settings(
    config: ConfigPath,
    overrides: Overrides = None,
    trials: Annotated[
        int | None, typer.Option(min=1, help="In place of `tuning.trials`; earlier ones count.")
    ] = None,
) -> None:
    """Search better settings by what they reach on validation.

    The configuration declares in `tuning.ranges` what to search. Each trial is a run of its own in
    runs/<name>/trials; stages that no setting touches run once. A killed command continues where it
    was. The test split is never looked at.
    """
    from tfrec.pipeline.tuning import leaderboard_table, tune

    search = tune(config, overrides or [], trials=trials)
    columns, rows = leaderboard_table(search)
    show_table(f"{search.name}: {len(search.trials)} trials", columns, rows[:20])
    folder = open_pipeline(config, overrides).folder / "trials"
    typer.echo(f"Leaderboard: {folder / 'leaderboard.md'}")
    if search.best() is not None:
        typer.echo(f"Train the best: {command_name()} train {folder / 'best.yaml'}")


@app.command()
def compare(
    run_a: Annotated[Path, typer.Argument(help="Folder of an evaluated run.", metavar="RUN_A")],
    run_b: Annotated[Path, typer.Argument(help="Folder of another.", metavar="RUN_B")],
    output: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where the page goes; by default beside RUN_B."),
    ] = None,
    resamples: Annotated[int, typer.Option(min=100, help="Drawn sets of requests.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Of the draws.")] = 0,
) -> None:
    """Compare two runs on the same test: is a difference more than chance?

    Both must have been evaluated on the same data and split. Requests are drawn again and again,
    the same for both, so that what is hard for both cancels out; p-values count how many metrics
    are looked at. Example: tfrec compare runs/shop runs/hybrid
    """
    from tfrec.evaluation.comparison import compare_runs, comparison_table, write_comparison
    from tfrec.files import write_folder

    comparison = compare_runs(run_a, run_b, resamples=resamples, seed=seed)
    columns, rows = comparison_table(comparison)
    show_table(f"a: {comparison.a}, b: {comparison.b}", columns, rows)
    for note in comparison.notes:
        typer.echo(note)
    folder = output or run_b.parent / f"{run_b.name}-against-{run_a.name}"
    write_folder(folder, lambda beside: write_comparison(beside, comparison))
    typer.echo(f"Table and picture: {folder / 'comparison.md'}")


def _show_exports(pipeline: Any) -> None:
    for version, note in pipeline.exports().items():
        typer.echo(f"Exported and verified: {version}\n  {note}")


def _show_report(pipeline: Any) -> None:
    from tfrec.evaluation.tables import shown_metrics, table_rows

    report = pipeline.report()
    titles = {
        "retrieval": "Retrieval: test items found in the whole catalogue",
        "ranking": "Ranking: clicks predicted on shown test items",
    }
    for part, title in titles.items():
        if part not in report:  # without towers nothing is retrieved
            continue
        names = shown_metrics(report[part])
        show_table(title, ["model", *names], table_rows(report[part], names))


def _show_sample(sample: dict[str, Any]) -> None:
    title = request_title(sample["user_id"], sample["query"], sample["history"])
    show_items(sample["items"], title)
