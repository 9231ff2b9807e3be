"""Measures what pushing embeddings against the model while it learns does to retrieval (FGM, PGD).

Usage: TFREC_DATA=folder python benchmarks/adversarial.py [shop movielens]
           [--epsilon 0.05 0.2] [--runs folder]

A name is a file of `configs/`. Each method trains the towers from the same stages before and with
the same seed. Differences are those of `tfrec compare`: the same test targets, 95% intervals from
drawing requests.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from ranking_quality import CONFIGS, FOLDERS, data_folder, versions

from tfrec.config import load_config
from tfrec.evaluation.comparison import compare_runs
from tfrec.pipeline import Pipeline

NAMES = ("shop", "movielens")
METRIC = "ndcg_at_10"


def main() -> None:
    """Runs what the command line names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("names", nargs="*", default=NAMES, help=", ".join(NAMES))
    parser.add_argument("--epsilon", nargs="+", type=float, default=[0.05, 0.2])
    parser.add_argument("--runs", help="folder of the runs; by default a temporary one")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        for name in asked.names:
            print(f"\n{name}: {versions()}\n")
            print("\n".join(table(name, asked.epsilon, Path(asked.runs or scratch))), flush=True)


def table(name: str, epsilons: Sequence[float], runs: Path) -> list[str]:
    """Trains without and with each method; returns a Markdown table."""
    lines = [
        f"| pushed | {METRIC} | less without | 95% interval | training |",
        "|---|---|---|---|---|",
    ]
    plain, seconds = train(name, "none", 0.05, runs, donors=[])
    for method in ("fgm", "pgd"):
        for epsilon in epsilons:
            pushed, pushed_seconds = train(name, method, epsilon, runs, donors=[plain.folder])
            found = compare_runs(plain.folder, pushed.folder)
            (entry,) = [d for d in found.differences if (d.part, d.metric) == ("retrieval", METRIC)]
            if not lines[2:]:
                lines.append(f"| not | {entry.a:.4f} | | | {seconds:.0f} s |")
            lines.append(
                f"| {method}, {epsilon:g} of the length | {entry.b:.4f} | {entry.difference:+.4f} "
                f"| {entry.low:+.4f} to {entry.high:+.4f} | {pushed_seconds:.0f} s |"
            )
    return lines


def train(
    name: str, method: str, epsilon: float, runs: Path, donors: Sequence[Path]
) -> tuple[Pipeline, float]:
    """Trains and measures one run; returns it and the seconds that retrieval took."""
    overrides = [
        f"runs={runs}",
        f"name={name}-{method}-{epsilon:g}",
        f"retrieval.loss.adversarial.method={method}",
        f"retrieval.loss.adversarial.epsilon={epsilon}",
        "ranking.epochs=1",
        "evaluation.baselines=[]",
        "evaluation.ranking_baselines=[]",
    ]
    if name in FOLDERS:
        overrides.append(f"data.path={data_folder(FOLDERS[name])}")
    pipeline = Pipeline(load_config(CONFIGS / f"{name}.yaml", overrides), donors=donors)
    pipeline.run(until="pretraining")
    start = time.perf_counter()
    pipeline.run(until="retrieval")
    seconds = time.perf_counter() - start
    pipeline.run(until="evaluation")
    return pipeline, seconds


if __name__ == "__main__":
    main()
