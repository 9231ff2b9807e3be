"""Measures click prediction: trains as committed files say, prints ours beside the baselines.

Usage: TFREC_DATA=folder python benchmarks/ranking_quality.py [shop tabular_mlp ebnerd mind ...]
           [--runs folder] [--set KEY=VALUE ...]

A name is a file of `configs/`. Public data sets are read in place, from the folder that TFREC_DATA
names. Baselines learn from the same rows and features; GAUC is the mean AUC over impressions with
both answers. Below the table: ours less LightGBM on the same test rows, and the NDCG of what is
recommended (candidates, ranked) less that of retrieval alone, for the same test targets.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import os
import platform
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tfrec
from tfrec.config import load_config
from tfrec.pipeline import Pipeline

CONFIGS = Path(__file__).parents[1] / "configs"
FOLDERS = {"ebnerd": "ebnerd-demo", "mind": "mind-small", "movielens": "ml-100k"}
"""Folders below TFREC_DATA; other configurations generate their data."""
NAMES = ("tabular_mlp", "shop", "hybrid", "movielens", "ebnerd", "mind")
METRICS = ("auc", "gauc", "log_loss", "ece")


def main() -> None:
    """Runs what the command line names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("names", nargs="*", default=NAMES, help=", ".join(NAMES))
    parser.add_argument("--runs", help="folder of the runs; by default a temporary one")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        for name in asked.names:
            overrides = [f"runs={asked.runs or scratch}", *asked.set]
            if name in FOLDERS:
                overrides.append(f"data.path={data_folder(FOLDERS[name])}")
            pipeline = Pipeline(load_config(CONFIGS / f"{name}.yaml", overrides))
            start = time.perf_counter()
            pipeline.run(until="evaluation")
            minutes = (time.perf_counter() - start) / 60
            print("\n".join([f"\n{name}: {versions()}; {minutes:.1f} minutes\n", *table(pipeline)]))


def data_folder(name: str) -> Path:
    """Returns a public data set's folder.

    Raises:
        SystemExit: It is not there.
    """
    folder = Path(os.environ.get("TFREC_DATA", "")) / name
    if "TFREC_DATA" not in os.environ or not folder.is_dir():
        sys.exit(f"TFREC_DATA: wanted a folder that holds {name}, got {folder.parent}.")
    return folder


def table(pipeline: Pipeline) -> list[str]:
    """Lays out the report's metrics, and ours less LightGBM with 95% intervals."""
    report = pipeline.report()
    lines = rows(["model", *METRICS], report["ranking"])
    difference = report["ranking_details"]["differences"].get("lightgbm", {})
    for metric, facts in difference.items():
        low, high = facts["low"], facts["high"]
        lines.append(
            f"ours less lightgbm, {metric}: {facts['difference']:+.4f} ({low:+.4f} to {high:+.4f})"
        )
    return lines + two_stages(report) if "retrieval" in report else lines


def two_stages(report: Mapping[str, Any]) -> list[str]:
    """Compares what is recommended with retrieval alone."""
    k = report["retrieval_details"]["k"]
    metric = f"ndcg_at_{k}"
    found = report["retrieval"]
    facts = report["retrieval_details"]["differences"]["ours, re-ranked"][metric]
    return [
        f"{metric}: retrieval {found['ours'][metric]:.4f}, recommended "
        f"{found['ours, re-ranked'][metric]:.4f}, difference {-facts['difference']:+.4f} "
        f"({-facts['high']:+.4f} to {-facts['low']:+.4f})"
    ]


def rows(heads: Sequence[str], metrics: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Lays out metrics by model as a Markdown table."""
    return [
        "| " + " | ".join(heads) + " |",
        "|---" * len(heads) + "|",
        *(
            f"| {model} | " + " | ".join(f"{values[name]:.4f}" for name in heads[1:]) + " |"
            for model, values in metrics.items()
        ),
        "",
    ]


def versions() -> str:
    """Returns date, versions and machine in one line."""
    packages = ("tensorflow", "keras", "lightgbm", "scikit-learn")
    found = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    return (
        f"{datetime.date.today()}, tfrec {tfrec.__version__}, {found}, "
        f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} CPUs"
    )


if __name__ == "__main__":
    main()
