"""Runs every fold of a configuration and sums up what they measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfrec.config import Config
from tfrec.errors import ConfigError
from tfrec.files import write_file, write_json
from tfrec.log import tell
from tfrec.pipeline import Pipeline

# Of each model and metric: the mean, the deviation and the numbers of the folds.
Summary = dict[str, dict[str, dict[str, Any]]]

_PARTS = ("retrieval", "ranking")


def fold_config(config: Config, fold: int) -> Config:
    """Returns the run of one fold; its artefacts go to ``<runs>/<name>/fold-<fold>``."""
    split = config.data.split.model_copy(update={"fold": fold})
    return config.model_copy(
        update={
            "name": f"fold-{fold}",
            "runs": str(Path(config.runs) / config.name),
            "data": config.data.model_copy(update={"split": split}),
        }
    )


def cross_validate(
    config: Config,
    announce: Callable[[str], None] = tell,
    tables: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Trains and measures on each fold; stages that are done already are not repeated.

    Args:
        config: With ``data.split.kind: k_fold``; its ``fold`` does not matter.
        announce: Called with lines for people.
        tables: For the source `tables`, see `Pipeline`.

    Returns:
        What stands in ``<runs>/<name>/cross_validation.json``: name, folds (their number), and the
        summaries ``retrieval`` and ``ranking``. Beside it, the same as a page for people.

    Raises:
        ConfigError: The split is of another kind.
    """
    split = config.data.split
    if split.kind != "k_fold":
        raise ConfigError(
            f"data.split.kind: wanted k_fold for cross-validation, got {split.kind!r}. "
            "Add --set data.split.kind=k_fold."
        )
    reports = []
    for fold in range(split.folds):
        announce(f"fold {fold + 1} of {split.folds}")
        pipeline = Pipeline(fold_config(config, fold), announce, tables)
        pipeline.run(until="evaluation")
        reports.append(pipeline.report())
    summary = {
        "name": config.name,
        "folds": split.folds,
        **{
            part: summarise([report[part] for report in reports])
            for part in _PARTS
            if part in reports[0]
        },
    }
    folder = Path(config.runs) / config.name
    write_json(folder / "cross_validation.json", summary)
    write_file(folder / "cross_validation.md", _page(summary))
    return summary


def summarise(folds: Sequence[Mapping[str, Mapping[str, float]]]) -> Summary:
    """Sums up the metrics of several folds.

    Args:
        folds: Of each fold the metrics by model.

    Returns:
        By model and metric: ``mean``; ``std``, the standard deviation of a sample (divisor: number
        of folds - 1); ``folds``, the numbers themselves. A metric that a fold lacks is left out.
    """
    summary: Summary = {}
    for model, metrics in folds[0].items():
        summary[model] = {}
        for name in metrics:
            numbers = [fold.get(model, {}).get(name) for fold in folds]
            present = [float(number) for number in numbers if number is not None]
            if len(present) < len(folds):
                continue
            std = float(np.std(present, ddof=1)) if len(present) > 1 else 0.0
            facts = {"mean": float(np.mean(present)), "std": std, "folds": present}
            summary[model][name] = facts
    return summary


def metric_rows(summary: Summary) -> tuple[list[str], list[list[str]]]:
    """Lays out a summary.

    Returns:
        Names of the metrics, and for each model a row: its name, then ``mean ± std`` of each.
    """
    names = list(dict.fromkeys(name for metrics in summary.values() for name in metrics))
    names = [name for name in names if name not in ("targets", "rows")]
    rows = [
        [model, *(_format(metrics[name]) if name in metrics else "" for name in names)]
        for model, metrics in summary.items()
    ]
    return names, rows


def _format(facts: Mapping[str, Any]) -> str:
    return f"{facts['mean']:.4f} ± {facts['std']:.4f}"


def _page(summary: Mapping[str, Any]) -> str:
    lines = [f"# {summary['name']}: {summary['folds']} folds", ""]
    lines += ["Mean ± standard deviation over the folds.", ""]
    for part in (part for part in _PARTS if part in summary):
        names, rows = metric_rows(summary[part])
        lines += [f"## {part.capitalize()}", "", "| model | " + " | ".join(names) + " |"]
        lines += ["|---" * (len(names) + 1) + "|"]
        lines += ["| " + " | ".join(row) + " |" for row in rows]
        lines += [""]
    return "\n".join(lines)
