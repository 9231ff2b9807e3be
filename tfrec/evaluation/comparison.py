"""Two runs on one test: every metric of both, and whether the difference is more than chance."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from tfrec.errors import ArtefactError, ConfigError
from tfrec.evaluation.answers import (
    KEY,
    PROBABILITY,
    RANK,
    RANKING_FILE,
    RECOMMENDED_RANK,
    RETRIEVAL_FILE,
)
from tfrec.files import write_file, write_json
from tfrec.metrics.intervals import percentile_interval, resample_means
from tfrec.metrics.ranking_tally import METRICS, tally_requests
from tfrec.metrics.retrieval import target_values
from tfrec.metrics.significance import holm_adjusted, two_sided_p
from tfrec.schema import Columns

LOWER_IS_BETTER = ("log_loss", "ece")

_STAGES = {RANK: "retrieval", RECOMMENDED_RANK: "recommended lists"}
_CLICKS = "clicks"
_LEVEL = 0.05


@dataclass(frozen=True)
class Difference:
    """One metric of two runs.

    Attributes:
        part: ``retrieval``, ``recommended lists`` or ``clicks``.
        metric: Its name.
        a, b: Its values.
        difference: b - a.
        low, high: 95% interval of the difference, requests drawn.
        p: Two-sided p-value.
        p_adjusted: The same for all metrics of the comparison together, by Holm's method.
        verdict: ``a is better``, ``b is better`` or ``no difference shown``, by `p_adjusted`.
    """

    part: str
    metric: str
    a: float
    b: float
    difference: float
    low: float
    high: float
    p: float
    p_adjusted: float
    verdict: str


@dataclass(frozen=True)
class Comparison:
    """Two runs held against each other.

    Attributes:
        a, b: Their names.
        targets: Test targets of both; 0 where not both retrieve.
        rows: Ranked test rows of both.
        resamples: Drawn sets of requests.
        differences: By part and metric.
        notes: What could not be compared.
    """

    a: str
    b: str
    targets: int
    rows: int
    resamples: int
    differences: list[Difference]
    notes: list[str]


def compare_runs(a: Path, b: Path, *, resamples: int = 2000, seed: int = 0) -> Comparison:
    """Compares two evaluated runs on the same test rows, by drawing requests.

    Args:
        a: Folder of a run, ``runs/<name>``.
        b: Of another.
        resamples: Drawn sets of requests.
        seed: Of the draws.

    Raises:
        ArtefactError: A folder holds no evaluated run.
        ConfigError: The runs were tested on different rows.
    """
    runs = [_read_run(Path(a)), _read_run(Path(b))]
    notes, found = [], []
    ranks = [run["ranks"] for run in runs]
    sizes = {"targets": 0, "rows": 0}
    if all(frame is not None for frame in ranks):
        aligned = _align(ranks, runs, "test targets", [Columns.ITEM_ID])
        sizes["targets"] = len(aligned[0])
        depths = [d for d in runs[0]["depths"] if d in runs[1]["depths"]]
        found += list(_compare_ranks(aligned, depths, resamples, seed))
    else:
        notes.append("retrieval: not both runs have towers")
    predictions = [run["predictions"] for run in runs]
    row_key = [Columns.ITEM_ID, Columns.POSITION, Columns.LABEL, Columns.WEIGHT]
    aligned = _align(predictions, runs, "ranked test rows", row_key)
    sizes["rows"] = len(aligned[0])
    found += list(_compare_clicks(aligned, resamples, seed))
    adjusted = holm_adjusted(np.array([entry["p"] for entry in found]))
    names = [run["name"] for run in runs]
    if names[0] == names[1]:
        names = [str(a), str(b)]
    differences = [
        Difference(**entry, p_adjusted=p, verdict=_verdict(entry, p))
        for entry, p in zip(found, adjusted.tolist(), strict=True)
    ]
    return Comparison(names[0], names[1], **sizes, resamples=resamples,
                      differences=differences, notes=notes)  # fmt: skip


def write_comparison(folder: Path, comparison: Comparison) -> None:
    """Writes ``comparison.json``, ``comparison.md`` and ``comparison.png`` into `folder`."""
    write_json(folder / "comparison.json", asdict(comparison))
    columns, rows = comparison_table(comparison)
    lines = [
        f"# {comparison.b} against {comparison.a}",
        "",
        f"a: {comparison.a}. b: {comparison.b}. {comparison.targets:,} test targets, "
        f"{comparison.rows:,} ranked test rows, the same for both. Differences are b - a, with 95% "
        f"intervals of {comparison.resamples:,} draws of requests; p is adjusted for the number of "
        f"metrics (Holm). Lower is better for {' and '.join(LOWER_IS_BETTER)}.",
        "",
        "| " + " | ".join(columns) + " |",
        "|" + "---|" * len(columns),
        *("| " + " | ".join(row) + " |" for row in rows),
        "",
        *(f"- {note}" for note in comparison.notes),
        "![differences with their intervals](comparison.png)",
    ]
    write_file(folder / "comparison.md", "\n".join(lines) + "\n")
    _draw(folder / "comparison.png", comparison)


def comparison_table(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Lays a comparison out; the columns, and a row for each metric."""
    columns = ["metric", "part", "a", "b", "b - a", "95% interval", "p", "verdict"]
    rows = [
        [
            d.metric,
            d.part,
            f"{d.a:.4f}",
            f"{d.b:.4f}",
            f"{d.difference:+.4f}",
            f"{d.low:+.4f} to {d.high:+.4f}",
            f"{d.p_adjusted:.4f}",
            d.verdict,
        ]
        for d in comparison.differences
    ]
    return columns, rows


def _read_run(folder: Path) -> dict[str, Any]:
    evaluation = folder / "evaluation"
    report, predictions = evaluation / "report.json", evaluation / RANKING_FILE
    for path in (report, predictions):
        if not path.is_file():
            raise ArtefactError(
                f"{path}: wanted an evaluated run, there is no such file; run `tfrec evaluate` "
                "with its configuration first."
            )
    numbers = json.loads(report.read_text(encoding="utf-8"))
    ranks = evaluation / RETRIEVAL_FILE
    of_targets = numbers.get("retrieval", {}).get("ours", {})
    return {
        "folder": folder,
        "name": numbers["name"],
        "depths": [int(n.rsplit("_", 1)[1]) for n in of_targets if n.startswith("recall_at_")],
        "ranks": pl.read_parquet(ranks) if ranks.is_file() else None,
        "predictions": pl.read_parquet(predictions),
    }


def _align(
    frames: Sequence[pl.DataFrame], runs: Sequence[dict[str, Any]], what: str, row_key: list[str]
) -> list[pl.DataFrame]:
    """Sorts the rows of both runs alike and numbers their requests."""
    key = [*KEY, *row_key]
    first, second = (frame.sort(key, maintain_order=True) for frame in frames)
    if not first.select(key).equals(second.select(key)):
        missing = [
            one.join(other, on=key, how="anti").height
            for one, other in ((first, second), (second, first))
        ]
        raise ConfigError(
            f"{runs[1]['folder']}: wanted the {what} of {runs[0]['folder']}, got others: "
            f"{first.height:,} against {second.height:,} rows, {missing[0]:,} only in the first, "
            f"{missing[1]:,} only in the second. Runs compare on the same data, split and "
            "`evaluation.max_contexts`; logs without shown items also need the same `seed` and "
            "`ranking.negatives`."
        )
    request = first.select(pl.struct(KEY).rle_id().alias("request")).to_series()
    return [frame.with_columns(request) for frame in (first, second)]


def _compare_ranks(
    frames: list[pl.DataFrame], depths: list[int], resamples: int, seed: int
) -> Iterator[dict[str, Any]]:
    request = frames[0]["request"].to_numpy()
    counts = np.bincount(request).astype(np.float64)
    for column, part in _STAGES.items():
        if any(column not in frame.columns for frame in frames):
            continue
        values = [target_values(frame[column].to_numpy(), depths) for frame in frames]
        names = list(values[0])
        difference = np.column_stack(
            [np.bincount(request, weights=values[1][n] - values[0][n]) for n in names]
        )
        drawn = resample_means(difference, counts, resamples=resamples, seed=seed)
        means = [[float(value[n].mean()) for n in names] for value in values]
        yield from _entries(part, names, means, drawn)


def _compare_clicks(
    frames: list[pl.DataFrame], resamples: int, seed: int
) -> Iterator[dict[str, Any]]:
    labels, request, weights = (
        frames[0][name].to_numpy() for name in (Columns.LABEL, "request", Columns.WEIGHT)
    )
    if not len(labels):
        return
    tallies = [tally_requests(labels, f[PROBABILITY].to_numpy(), request, weights) for f in frames]
    once = np.ones((1, len(tallies[0].weights)))
    means = [[float(tally.measure(once)[n][0]) for n in METRICS] for tally in tallies]
    drawn = tallies[1].resample(resamples, seed) - tallies[0].resample(resamples, seed)
    yield from _entries(_CLICKS, METRICS, means, drawn)


def _entries(
    part: str, names: Sequence[str], means: list[list[float]], drawn: np.ndarray
) -> Iterator[dict[str, Any]]:
    bounds, p_values = percentile_interval(drawn), two_sided_p(drawn)
    for column, name in enumerate(names):
        first, second = (values[column] for values in means)
        yield {
            "part": part,
            "metric": name,
            "a": first,
            "b": second,
            "difference": second - first,
            "low": float(bounds[column, 0]),
            "high": float(bounds[column, 1]),
            "p": float(p_values[column]),
        }


def _verdict(entry: dict[str, Any], p: float) -> str:
    if not p < _LEVEL:
        return "no difference shown"
    b_is_better = (entry["difference"] > 0) != (entry["metric"] in LOWER_IS_BETTER)
    return "b is better" if b_is_better else "a is better"


def _draw(path: Path, comparison: Comparison) -> None:
    """Draws the difference of each metric in percent of a's value, better to the right."""
    from matplotlib.figure import Figure

    shown = [d for d in comparison.differences if d.a and np.isfinite(d.low)]
    figure = Figure(figsize=(8, 1.2 + 0.28 * len(shown)), layout="constrained")
    axes = figure.subplots()
    colours = {"a is better": "tab:red", "b is better": "tab:green"}
    for row, d in enumerate(shown):
        sign = -1.0 if d.metric in LOWER_IS_BETTER else 1.0
        middle, *ends = (100.0 * sign * v / abs(d.a) for v in (d.difference, d.low, d.high))
        colour = colours.get(d.verdict, "tab:gray")
        axes.plot([min(ends), max(ends)], [row, row], color=colour)
        axes.plot([middle], [row], "o", color=colour)
    axes.axvline(0.0, color="black", linewidth=0.8)
    axes.set_yticks(range(len(shown)), [f"{d.part}: {d.metric}" for d in shown])
    axes.invert_yaxis()
    axes.set_xlabel(f"{comparison.b} better than {comparison.a} by, in percent of its value")
    figure.savefig(path, dpi=120)
