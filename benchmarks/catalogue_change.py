"""Measures how long a change of a large catalogue takes: from a file of items to loadable versions.

Usage: python benchmarks/catalogue_change.py [--items 1000000] [--added 1000] [--runs folder]
           [--set KEY=VALUE ...]

Trains a small model over a catalogue of made-up titles (a few minutes, most of them for the index),
then adds items, removes some and loads the new version. With `--runs` a second call goes on where
the first one stopped.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from ranking_quality import versions

from tfrec.config import load_config
from tfrec.pipeline import Pipeline
from tfrec.pipeline.catalogue_editor import CatalogueEditor
from tfrec.serving.saved_recommender import SavedRecommender

import numpy as np  # isort: skip  behind tfrec, which comes before TensorFlow
import polars as pl

NUM_EVENTS, NUM_USERS, NUM_WORDS = 40_000, 4_000, 5_000
NUM_TOPICS, WORDS_OF_TOPIC = 2_000, 12


def main() -> None:
    """Runs what the command line names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--added", type=int, default=1000)
    parser.add_argument("--runs", help="folder of the run; by default a temporary one")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(asked.runs or scratch)
        write_tables(folder, asked.items)
        (folder / "changing.yaml").write_text(configuration(folder, asked.items))
        pipeline = Pipeline(load_config(folder / "changing.yaml", asked.set))
        start = time.perf_counter()
        pipeline.run()
        print(
            f"{versions()}\n{asked.items:,} items, trained in {time.perf_counter() - start:.0f} s"
        )
        (folder / "added").mkdir(exist_ok=True)
        newest = len(list((folder / "added").iterdir()))
        new = folder / "added" / f"{newest}.parquet"
        write_items(new, asked.added, f"new-{newest}", seed=100 + newest)
        start = time.perf_counter()
        made = CatalogueEditor(pipeline).add(new)
        seconds = time.perf_counter() - start
        print(f"add {asked.added:,} items: {seconds:.1f} s to {len(made)} loadable versions")
        start = time.perf_counter()
        CatalogueEditor(pipeline).remove([f"new-{newest}-{n}" for n in range(10)])
        print(f"remove 10 items: {time.perf_counter() - start:.1f} s")
        start = time.perf_counter()
        saved = SavedRecommender(made[0])
        answer = saved.call("similar_items", {"item_id": [f"new-{newest}-20"]})
        print(f"load: {time.perf_counter() - start:.1f} s; {answer['item_id'][0][:3]}")


def configuration(folder: Path, num_items: int) -> str:
    """Returns the YAML of a small model over many items."""
    return f"""
    name: changing-{num_items}
    runs: {folder / "runs"}
    data:
      source: files
      path: {folder}
      tables: {{events: events.parquet, items: items.parquet}}
      items: {{text: [title]}}
      split: {{validation: 0.01, test: 0.01}}
    text: {{vocabulary_size: 6000, max_item_tokens: 12}}
    encoder: {{source: nano, pretraining: {{steps: 0}}}}
    retrieval: {{embedding_dim: 64, epochs: 1}}
    run: {{health_alarm: "off"}}
    ranking: {{epochs: 1, towers: frozen}}
    evaluation: {{max_contexts: 200, bootstrap: 0, baselines: [], ranking_baselines: []}}
    index: {{min_recall: 0.3}}
    export: {{folder: {folder / "models"}, replay_rows: 16}}
    """


def write_tables(folder: Path, num_items: int) -> None:
    """Writes items and the events of users who like words; once."""
    if (folder / "events.parquet").is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    write_items(folder / "items.parquet", num_items, "item", seed=0)
    rng = np.random.default_rng(1)
    events = pl.DataFrame(
        {
            "user_id": [f"u{n}" for n in rng.integers(0, NUM_USERS, NUM_EVENTS)],
            "item_id": [f"item-{n}" for n in (num_items * rng.random(NUM_EVENTS) ** 3).astype(int)],
            "time": 1_700_000_000 + np.sort(rng.integers(0, 10_000_000, NUM_EVENTS)),
        }
    )
    events.write_parquet(folder / "events.parquet")


def write_items(path: Path, count: int, prefix: str, seed: int) -> None:
    """Writes items with titles of four words, of those of a topic."""
    rng = np.random.default_rng(seed)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words_rng = np.random.default_rng(2)
    words = np.array(["".join(words_rng.choice(letters, 6)) for _ in range(NUM_WORDS)], object)
    of_topic = words_rng.integers(0, NUM_WORDS, (NUM_TOPICS, WORDS_OF_TOPIC))
    topic = rng.integers(0, NUM_TOPICS, (count, 1))
    drawn = words[of_topic[topic, rng.integers(0, WORDS_OF_TOPIC, (count, 4))]]
    titles = pl.DataFrame(drawn.tolist(), schema=list("abcd"), orient="row")
    frame = pl.DataFrame({"item_id": [f"{prefix}-{n}" for n in range(count)]})
    title = titles.select(pl.concat_str(pl.all(), separator=" ").alias("title"))
    frame.with_columns(title["title"]).write_parquet(path)


if __name__ == "__main__":
    main()
