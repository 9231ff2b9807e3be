"""Measures what makes a model smaller: its cost in quality, its gain in size and latency.

Usage: python benchmarks/compression.py [--config configs/shop.yaml] [--requests 2000]
           [--runs folder] [--set KEY=VALUE ...]

The configuration is trained and exported once as it is and once for each row of the table; stages
that are the same are shared. All figures are of the exported models, which are asked with the same
test requests: NDCG@10 and recall@50 of what `recommend` answers, and AUC and log loss of `rank` on
the items that were shown. Latency is that of one request, all models in turns.

The index is the portable one: ScaNN keeps a copy in float32 of its own.
"""

from __future__ import annotations

import argparse
import gzip
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ranking_quality import CONFIGS, versions

from tfrec.config import load_config
from tfrec.export.replay import raw_requests
from tfrec.inference.pair_scorer import RowsByRequest
from tfrec.inputs.ranked_rows import ranked_rows
from tfrec.metrics.ranking import ranking_metrics
from tfrec.metrics.retrieval import request_values
from tfrec.pipeline import Pipeline
from tfrec.progress import progress_bar
from tfrec.serving.saved_recommender import SavedRecommender

import numpy as np  # isort: skip  behind tfrec, which comes before TensorFlow

BLOCK, NOT_FOUND = 100, 10**6
FIRST = "float32, as configured"
VARIANTS: dict[str, list[str]] = {
    FIRST: [],
    "tables of embeddings in float16": ["index.precision=float16"],
    "tables of embeddings in int8": ["index.precision=int8"],
    "BERT in int8": ["export.encoder=int8"],
    "both in int8": ["index.precision=int8", "export.encoder=int8"],
    "ranking layers, half zeros": ["ranking.sparsity=0.5"],
    "ranking layers, 90% zeros": ["ranking.sparsity=0.9"],
    "one ranking layer of 16": ["ranking.hidden=[16]"],
    "the same, taught by the first": ["ranking.hidden=[16]", "ranking.teacher.run={first}"],
    "BERT nano in place of tiny": ["encoder.source=nano"],
}


@dataclass(frozen=True)
class Questions:
    """Test requests, what they chose, and what was shown to them and clicked.

    Attributes:
        request: Inputs of `recommend`, [n, ...].
        request_of: int [num_targets], the request of each item that one chose; ascending.
        target: bytes [num_targets], its id.
        shown: string [n, most shown], "" pads.
        label: float [n, most shown], NaN pads.
    """

    request: dict[str, np.ndarray]
    request_of: np.ndarray
    target: np.ndarray
    shown: np.ndarray
    label: np.ndarray


def main() -> None:
    """Runs what the command line names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--config", type=Path, default=CONFIGS / "shop.yaml")
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--runs", help="folder of the runs; by default a temporary one")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(asked.runs or scratch)
        pipelines = train_all(asked.config, folder, asked.set)
        first = pipelines[FIRST]
        questions = ask(first, asked.requests)
        models = {
            name: SavedRecommender(pipeline.exported_folder())
            for name, pipeline in pipelines.items()
        }
        times = latencies(models, questions)
        print(f"{versions()}\n{len(questions.shown):,} requests\n")
        names = ("ndcg@10", "recall@50", "auc", "log_loss")
        print(f"| model | {' | '.join(names)} | MB | MB, gzip | recommend, ms | encode_item, ms |")
        print("|---" * (len(names) + 5) + "|")
        for name, saved in models.items():
            found = quality(saved, questions)
            cells = [f"{found[metric]:.4f}" for metric in names]
            cells += [f"{size:.2f}" for size in sizes(pipelines[name].exported_folder())]
            cells += [f"{value:.2f}" for value in times[name]]
            print(f"| {name} | {' | '.join(cells)} |", flush=True)


def train_all(config: Path, folder: Path, settings: list[str]) -> dict[str, Pipeline]:
    """Trains and exports every variant."""
    pipelines: dict[str, Pipeline] = {}
    first = folder / "variant-0"
    for number, (name, overrides) in enumerate(VARIANTS.items()):
        every = [
            f"runs={folder}",
            f"name=variant-{number}",
            f"export.folder={folder / 'models'}",
            "index.kind=portable",
            "evaluation.baselines=[]",
            "evaluation.ranking_baselines=[]",
            "evaluation.bootstrap=0",
            *settings,
            *(override.format(first=first) for override in overrides),
        ]
        print(f"{name}:")
        donors = [first] if number else []
        pipelines[name] = Pipeline(load_config(config, every), donors=donors)
        pipelines[name].run()
    return pipelines


def ask(pipeline: Pipeline, count: int) -> Questions:
    """Draws test requests that were shown items."""
    data, config = pipeline.data, pipeline.config
    shown = ranked_rows(data, "test", config)
    chosen = data.target_rows("test")
    contexts = data.examples["context"].to_numpy()[chosen]
    items = data.examples["item_index"].to_numpy()[chosen]
    both = np.intersect1d(contexts, shown.context)
    both = np.sort(np.random.default_rng(0).permutation(both)[:count])
    ids = np.array(["", *data.items["item_id"].to_list()], dtype=object)
    grouped = RowsByRequest(shown)
    at, request = grouped.rows_of(np.searchsorted(grouped.contexts, both))
    place = np.arange(len(at)) - np.searchsorted(request, request)
    cells = np.full((len(both), place.max() + 1), "", object)
    label = np.full(cells.shape, np.nan)
    cells[request, place], label[request, place] = ids[shown.item_index[at]], shown.label[at]
    is_asked = np.isin(contexts, both)
    pairs = np.unique(np.stack([contexts[is_asked], items[is_asked]], axis=1), axis=0)
    return Questions(
        raw_requests(data, config, both),
        np.searchsorted(both, pairs[:, 0]),
        np.char.encode(ids[pairs[:, 1]].astype(str)),
        cells,
        label,
    )


def quality(saved: SavedRecommender, questions: Questions) -> dict[str, float]:
    """Asks an exported model everything."""
    answers, probabilities = [], []
    for start in progress_bar(range(0, len(questions.shown), BLOCK), desc="requests"):
        block = slice(start, start + BLOCK)
        request = {name: values[block] for name, values in questions.request.items()}
        answers.append(saved.call("recommend", request)["item_id"])
        given = {**request, "item_id": questions.shown[block]}
        probabilities.append(saved.call("rank", given)["probability"])
    lists = np.concatenate(answers).astype(bytes)[questions.request_of]
    is_target = lists == questions.target[:, None]
    ranks = np.where(is_target.any(axis=1), 1 + is_target.argmax(axis=1), NOT_FOUND)
    ndcg, recall = (
        request_values(questions.request_of, ranks, k)[name].mean()
        for name, k in (("ndcg", 10), ("recall", 50))
    )
    is_shown = ~np.isnan(questions.label)
    metrics = ranking_metrics(
        questions.label[is_shown], np.concatenate(probabilities)[is_shown].astype(float)
    )
    return {"ndcg@10": float(ndcg), "recall@50": float(recall), **metrics}


def latencies(
    models: dict[str, SavedRecommender], questions: Questions, count: int = 100
) -> dict[str, list[float]]:
    """Returns median milliseconds of `recommend` and `encode_item`, one row at a time."""
    times: dict[str, list[list[float]]] = {name: [[], []] for name in models}
    titles = list(next(iter(models.values())).titles.values())
    for number in range(count + 5):
        row = number % len(questions.shown)
        request = {name: values[row : row + 1] for name, values in questions.request.items()}
        for name, saved in models.items():
            asked: list[tuple[str, dict[str, Any]]] = [
                ("recommend", request),
                ("encode_item", {"item_id": ["new"], "title": [titles[number]]}),
            ]
            for own, (signature, inputs) in zip(times[name], asked, strict=True):
                start = time.perf_counter()
                saved.call(signature, inputs)
                own.append(1e3 * (time.perf_counter() - start))
    return {name: [float(np.median(part[5:])) for part in own] for name, own in times.items()}


def sizes(folder: str) -> tuple[float, float]:
    """Returns a version's megabytes: of its files, and of each of them compressed."""
    files = [path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()]
    packed = [gzip.compress(content, 6) for content in files]
    return sum(map(len, files)) / 1e6, sum(map(len, packed)) / 1e6


if __name__ == "__main__":
    main()
