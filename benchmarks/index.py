"""Measures search: every index against exact search and against hnswlib and faiss, in one process.

Usage: python benchmarks/index.py [--items 1000000] [--k 100] [--queries 200] [--threads 2]
           [--recall 0.99] [--portable-recall 0.95] [--embeddings file.npz]

The vectors are learned: the towers of `configs/shop.yaml`, trained with 64 dimensions, embed items
and test requests. A larger catalogue is made of them by going a random part of the way from each
item to one of its ten nearest neighbours (as SMOTE does) and adding a little noise; queries stay as
they are. `--embeddings` takes any other ``items`` [n, dim] and ``requests`` [m, dim].

Every method answers one query at a time, in rounds of all queries that take turns with exact
search, and is made stronger until it reaches the recall asked for. Ours are timed inside the graph,
by a loop of it over the queries, as they run in an exported model; the others as calls of their
Python functions. hnswlib and faiss come with `pip install -e '.[benchmarks]'`.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ranking_quality import CONFIGS, versions

from tfrec.config import load_config
from tfrec.pipeline import Pipeline

import faiss  # isort: skip  behind tfrec, which comes before TensorFlow
import hnswlib
import numpy as np
import tensorflow as tf
from sklearn.neighbors import NearestNeighbors

from tfrec.index import ExactIndex, ItemIndex
from tfrec.index.allowed import search_allowed
from tfrec.index.portable import PortableIndex
from tfrec.index.scann import ScannIndex

Search = Callable[[np.ndarray], np.ndarray]
"""From queries, float32 [n, dim], answered one after the other, to the rows found, [n, k]."""

ROUNDS = 5


def main() -> None:
    """Runs what the command line names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--k", type=int, default=100)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--recall", type=float, default=0.99)
    parser.add_argument("--portable-recall", type=float, default=0.95)
    parser.add_argument("--embeddings", type=Path, help="npz with `items` and `requests`")
    asked = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(asked.threads)
    faiss.omp_set_num_threads(asked.threads)
    learned = np.load(asked.embeddings) if asked.embeddings else train_shop()
    items = spread(learned["items"][1:], asked.items)
    queries = learned["requests"]
    rng = np.random.default_rng(0)
    queries = queries[rng.choice(len(queries), asked.queries, replace=False)].astype(np.float32)
    print(f"{versions()}\n{len(items):,} x {items.shape[1]}, top {asked.k}, one query at a time\n")
    print("| search | settings | recall | ms | exact beside it, ms | faster | built in |")
    print("|---|---|---|---|---|---|---|")
    exact = graph(ExactIndex(items), asked.k)
    wanted = exact(queries)
    kept: dict[str, Search] = {}
    for name, floor, tries in methods(items, asked):
        settings, seconds, search, recall = strong_enough(tries, queries, wanted, floor)
        ours, theirs = in_turns(search, exact, queries)
        if name.startswith("tfrec"):
            kept[name] = search
        print(
            f"| {name} | {settings} | {recall:.3f} | {ours:.3f} | {theirs:.2f} "
            f"| {theirs / ours:.1f}x | {seconds:.0f} s |",
            flush=True,
        )
    print("\nA filter that leaves one item in ten:\n")
    print("| search | unfiltered, ms | filtered, ms | times | recall | answers with k rows |")
    print("|---|---|---|---|---|---|")
    is_allowed = np.random.default_rng(1).random(len(items)) < 0.1
    best = filtered(ExactIndex(items), items, is_allowed, asked.k)
    wanted = best(queries)
    for name, search in {"exact": exact, **kept}.items():
        index = search.index  # type: ignore[attr-defined]
        with_filter = filtered(index, items, is_allowed, asked.k)
        found = with_filter(queries)
        hits = [
            len(np.intersect1d(one, other)) / asked.k
            for one, other in zip(found, wanted, strict=True)
        ]
        assert all(is_allowed[rows].all() for rows in found)
        full = np.mean([(rows >= 0).all() and len(set(rows)) == asked.k for rows in found])
        ours, theirs = in_turns(with_filter, search, queries)
        print(
            f"| {name} | {theirs:.3f} | {ours:.3f} | {ours / theirs:.1f} | {np.mean(hits):.3f} "
            f"| {full:.0%} |",
            flush=True,
        )


def filtered(index: ItemIndex, items: np.ndarray, is_allowed: np.ndarray, k: int) -> Search:
    """Returns a search for allowed rows, as the recommender does it."""
    mask, table = tf.constant(is_allowed), tf.constant(items)
    sample = tf.constant(np.random.default_rng(2).choice(len(items), 1024, replace=False))

    def best_of_all(query: tf.Tensor, number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        scores = tf.where(mask, tf.linalg.matvec(table, query), -np.inf)
        best = tf.math.top_k(scores, k=k)
        return tf.where(tf.math.is_finite(best.values), best.indices, -1), best.values

    def search(query: tf.Tensor) -> tf.Tensor:
        share = tf.reduce_mean(tf.cast(tf.gather(mask, sample), tf.float32))[None]
        return search_allowed(
            index,
            query,
            k,
            is_allowed=lambda rows: (rows >= 0) & tf.gather(mask, tf.maximum(rows, 0)),
            best_of_all=best_of_all,
            share=share,
        )[0]

    return one_by_one(search)


def strong_enough(
    tries: Iterator[tuple[str, float, Search]],
    queries: np.ndarray,
    wanted: np.ndarray,
    floor: float,
) -> tuple[str, float, Search, float]:
    """Returns the first settings that reach the recall, or the last ones; and their recall."""
    best = None
    for settings, seconds, search in tries:
        hits = [
            len(np.intersect1d(one, other)) / len(other)
            for one, other in zip(search(queries), wanted, strict=True)
        ]
        best = settings, seconds, search, float(np.mean(hits))
        if np.mean(hits) >= floor:
            break
    assert best is not None
    return best


def methods(
    items: np.ndarray, asked: argparse.Namespace
) -> Iterator[tuple[str, float, Iterator[tuple[str, float, Search]]]]:
    """Yields each method with its recall and its settings from weak to strong."""
    yield "tfrec, scann", asked.recall, ours(ScannIndex, items, asked.k)
    yield "hnswlib", asked.recall, of_hnswlib(items, asked)
    yield "faiss, IVF", asked.recall, of_faiss(items, asked.k)
    yield "tfrec, portable", asked.portable_recall, ours(PortableIndex, items, asked.k)
    yield "tfrec, portable", asked.recall, ours(PortableIndex, items, asked.k)


def ours(of_kind: type, items: np.ndarray, k: int) -> Iterator[tuple[str, float, Search]]:
    """Builds one of our indexes and makes it stronger."""
    start = time.perf_counter()
    index = of_kind.build(items, k)
    seconds = time.perf_counter() - start
    for _ in range(12):
        facts = ", ".join(f"{name} {value}" for name, value in index.parameters.items())
        yield facts, seconds, graph(index, k)
        index.strengthen()


def of_hnswlib(items: np.ndarray, asked: argparse.Namespace) -> Iterator[tuple[str, float, Search]]:
    """Builds one graph and searches it with growing `ef`."""
    start = time.perf_counter()
    index = hnswlib.Index("ip", items.shape[1])
    index.init_index(len(items), ef_construction=100, M=16, random_seed=0)
    index.set_num_threads(asked.threads)
    index.add_items(items)
    seconds = time.perf_counter() - start
    for ef in (100, 200, 400, 800, 1600):
        index.set_ef(max(ef, asked.k))
        yield (
            f"M 16, ef {ef}",
            seconds,
            lambda queries: np.stack([index.knn_query(q, asked.k)[0][0] for q in queries]),
        )


def of_faiss(items: np.ndarray, k: int) -> Iterator[tuple[str, float, Search]]:
    """Builds one inverted file and searches it with growing `nprobe`."""
    start = time.perf_counter()
    num_cells = int(4 * np.sqrt(len(items)))
    index = faiss.IndexIVFFlat(
        faiss.IndexFlatIP(items.shape[1]), items.shape[1], num_cells, faiss.METRIC_INNER_PRODUCT
    )
    rng = np.random.default_rng(0)
    index.train(items[rng.permutation(len(items))[: 64 * num_cells]])
    index.add(items)
    seconds = time.perf_counter() - start
    for nprobe in (4, 8, 16, 32, 64, 128, 256, 512):
        index.nprobe = nprobe
        yield (
            f"{num_cells} cells, nprobe {nprobe}",
            seconds,
            lambda queries: np.stack([index.search(q[None], k)[1][0] for q in queries]),
        )


def graph(index: ItemIndex, k: int) -> Search:
    """Returns a search inside a graph."""
    search = one_by_one(lambda query: index.search(query, k)[0])
    search.index = index  # type: ignore[attr-defined]
    return search


def one_by_one(search_one: Callable[[tf.Tensor], tf.Tensor]) -> Search:
    """Returns a graph that answers queries, float32 [1, dim] each, in a loop."""

    def search_all(queries: tf.Tensor) -> tf.Tensor:
        return tf.map_fn(
            lambda query: search_one(query[None])[0],
            queries,
            fn_output_signature=tf.TensorSpec([None], tf.int32),
            parallel_iterations=1,
        )

    spec = tf.TensorSpec([None, None])
    traced = tf.function(search_all, input_signature=[spec], autograph=False)
    return lambda queries: traced(tf.constant(queries)).numpy()


def in_turns(one: Search, other: Search, queries: np.ndarray) -> tuple[float, float]:
    """Returns the milliseconds of a query, medians of rounds over all queries, in turns."""
    times: list[list[float]] = [[], []]
    for _ in range(ROUNDS):
        for own, search in zip(times, (one, other), strict=True):
            start = time.perf_counter()
            search(queries)
            own.append(1e3 * (time.perf_counter() - start) / len(queries))
    return float(np.median(times[0])), float(np.median(times[1]))


def spread(items: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """Makes float32 [count, dim] of learned vectors, of the length 1 that theirs have."""
    rng = np.random.default_rng(seed)
    if count <= len(items):
        return items[:count].astype(np.float32)
    near = NearestNeighbors(n_neighbors=11).fit(items).kneighbors(items, return_distance=False)
    start = rng.integers(0, len(items), count)
    end = near[start, rng.integers(1, 11, count)]
    share = rng.random((count, 1), np.float32)
    found = (1 - share) * items[start] + share * items[end]
    found += rng.normal(0, 0.02, found.shape).astype(np.float32)
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def train_shop() -> dict[str, np.ndarray]:
    """Trains the shop's towers with 64 dimensions; returns all embeddings."""
    with tempfile.TemporaryDirectory() as folder:
        overrides = [f"runs={folder}", "retrieval.embedding_dim=64"]
        pipeline = Pipeline(load_config(CONFIGS / "shop.yaml", overrides))
        pipeline.run(until="retrieval")
        return dict(np.load(pipeline.folder / "retrieval" / "embeddings.npz"))


if __name__ == "__main__":
    main()
