"""Measures how long an exported model takes for one request, in the process that loads it.

Usage: python benchmarks/graph_latency.py saved_models/shop [saved_models/shop-portable ...]
           [--requests 300] [--batch 1 16]

Requests are histories of the model's own items and queries of their titles' words, as drawn with a
fixed seed. Each signature is called with one request (or a batch) after the other.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from ranking_quality import versions

from tfrec.serving.saved_recommender import SavedRecommender

import numpy as np  # isort: skip  behind tfrec, which comes before TensorFlow
import tensorflow as tf

SIGNATURES = ("recommend", "search", "retrieve", "rank", "similar_items", "encode_user")


def main() -> None:
    """Runs what the command line names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 16])
    asked = parser.parse_args()
    print(versions())
    for folder in asked.models:
        saved = SavedRecommender(folder)
        print(f"\n{folder.name}: {len(saved.titles):,} items, index {saved.manifest['index']}\n")
        print("| signature | rows | p50, ms | p90, ms | p99, ms |")
        print("|---|---|---|---|---|")
        for name in (n for n in SIGNATURES if n in saved.manifest["signatures"]):
            for batch in asked.batch:
                times = measure(saved, name, asked.requests, batch)
                numbers = " | ".join(f"{np.percentile(times, p):.2f}" for p in (50, 90, 99))
                print(f"| `{name}` | {batch} | {numbers} |", flush=True)


def measure(saved: SavedRecommender, name: str, count: int, batch: int) -> np.ndarray:
    """Returns the milliseconds of each call, after ten that are not counted."""
    rng = np.random.default_rng(0)
    infos = saved.manifest["signatures"][name]["inputs"]
    times = []
    for number in range(count + 10):
        feeds = {info["name"]: feed(info, batch, saved, rng) for info in infos}
        start = time.perf_counter()
        answer = saved.signature(name)(**feeds)
        next(iter(answer.values())).numpy()
        if number >= 10:
            times.append(1e3 * (time.perf_counter() - start))
    return np.array(times)


def feed(
    info: dict[str, Any], batch: int, saved: SavedRecommender, rng: np.random.Generator
) -> tf.Tensor:
    """Draws an input: a history of ten items, a query of three words, else what is unknown."""
    ids, titles = list(saved.titles), list(saved.titles.values())
    name = info["name"]
    if name == "history":
        return tf.constant(rng.choice(ids, (batch, 10)).tolist())
    if name == "item_id":
        shape = (batch, 100) if len(info["shape"]) > 1 else batch
        return tf.constant(rng.choice(ids, shape).tolist())
    if name == "query":
        return tf.constant([" ".join(t.split()[:3]) for t in rng.choice(titles, batch)])
    shape = [batch, *(1 if size is None else size for size in info["shape"][1:])]
    neutral = info["neutral"] if info["dtype"] == "string" else float(info["neutral"])
    return tf.fill(shape, tf.cast(neutral, tf.as_dtype(info["dtype"])))


if __name__ == "__main__":
    main()
