"""Builds an index and measures it against exact search before anyone relies on it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfrec.errors import ArtefactError
from tfrec.files import read_json, write_arrays, write_json
from tfrec.index.exact import ExactIndex
from tfrec.index.item_index import ItemIndex, check_index
from tfrec.index.table import Precision
from tfrec.registry import INDEXES

_MAX_STRENGTH = 20
"""The last one searches everything, whatever the number of items."""
_MAX_SCORES = 2**27
"""Scores that exact search holds at once while an index is measured: half a gigabyte."""


@dataclass(frozen=True)
class IndexReport:
    """How good and how fast an index is.

    Attributes:
        kind: ``exact``, ``scann``, ``portable`` or the place of a class.
        num_items: Rows in the index.
        k: Rows asked for.
        recall_at_k: Share of exact search's rows that the index finds.
        latency_ms: Median time of one query, milliseconds, one query at a time.
        parameters: Settings of the index.
    """

    kind: str
    num_items: int
    k: int
    recall_at_k: float
    latency_ms: float
    parameters: dict[str, Any]


def build_index(
    kind: str,
    embeddings: np.ndarray,
    sample_queries: np.ndarray,
    k: int,
    min_recall: float,
    precision: Precision = "float32",
    options: Mapping[str, Any] | None = None,
) -> tuple[ItemIndex, IndexReport]:
    """Builds an index; an approximate one is made stronger until it reaches `min_recall`.

    Args:
        kind: ``exact``, ``scann``, ``portable`` or ``package.module:Class`` of your own.
        embeddings: float32 [num_items, embedding_dim].
        sample_queries: float32 [n, embedding_dim], user embeddings to measure with.
        k: Rows that searches want.
        min_recall: Smallest recall at `k` against exact search that is accepted.
        precision: What the index keeps embeddings in; ScaNN always has float32.
        options: Of an index of your own, further keywords of its `build`.

    Raises:
        ArtefactError: The recall stays below `min_recall`.
        ConfigError: There is no such index, or it keeps not to `ItemIndex`.

    Example:
        >>> items = np.eye(4, dtype=np.float32)
        >>> index, report = build_index("exact", items, items, k=1, min_recall=0.9)
        >>> report.kind, report.recall_at_k
        ('exact', 1.0)
    """
    k = min(k, len(embeddings))
    wanted = _nearest(ExactIndex(embeddings), sample_queries, k)
    index = _make(kind, embeddings, k, precision, options or {})
    if kind == "exact":  # what others are measured against, whatever it is kept in
        return index, _measure(kind, index, wanted, sample_queries, k)
    for _ in range(_MAX_STRENGTH):
        report = _measure(kind, index, wanted, sample_queries, k)
        if report.recall_at_k >= min_recall:
            return index, report
        if not index.strengthen():
            break
    raise ArtefactError(
        f"index: recall@{k} is {report.recall_at_k:.3f} with the strongest settings "
        f"{report.parameters}, wanted at least index.min_recall = {min_recall}. "
        "Lower it or set index.kind: exact."
    )


def try_index(kind: str, options: Mapping[str, Any]) -> None:
    """Builds an index of a few rows and searches it, long before the real one is built.

    Raises:
        ConfigError: There is no such index, or it keeps not to `ItemIndex`.
    """
    rows = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)
    built = _make(kind, rows, 3, "float32", options)
    again = type(built).restore(built.tensors(), built.num_items, built.parameters)
    check_index(again, "index.kind", rows.shape[1])


def _make(
    kind: str, embeddings: np.ndarray, k: int, precision: Precision, options: Mapping[str, Any]
) -> ItemIndex:
    key = "index.kind"
    build = INDEXES.load(kind, key).build
    given = {"embeddings": embeddings, "k": k, "precision": precision}
    index: ItemIndex = INDEXES.call(build, kind, key, options, **given)
    check_index(index, key, embeddings.shape[1])
    return index


def save_index(folder: Path, index: ItemIndex, report: IndexReport) -> None:
    """Writes ``index.npz`` and ``index.json`` into an existing folder."""
    arrays = {str(number): tensor for number, tensor in enumerate(index.tensors())}
    write_arrays(folder / "index.npz", arrays)
    write_json(folder / "index.json", asdict(report))


def load_index(folder: Path) -> ItemIndex:
    """Reads what `save_index` wrote.

    Raises:
        ArtefactError: The folder holds no index.
    """
    try:
        report = read_json(folder / "index.json")
    except FileNotFoundError:
        raise ArtefactError(f"{folder}: holds no index; run `tfrec train`.") from None
    with np.load(folder / "index.npz") as saved:
        tensors = [saved[str(number)] for number in range(len(saved.files))]
    kind = INDEXES.load(report["kind"], "index.kind")
    index: ItemIndex = kind.restore(tensors, report["num_items"], report["parameters"])
    return index


def _nearest(index: ItemIndex, queries: np.ndarray, k: int) -> np.ndarray:
    """Searches block by block; int32 [n, k]."""
    block = max(1, _MAX_SCORES // index.num_items)
    spec = tf.TensorSpec([None, queries.shape[1]])
    search = tf.function(lambda asked: index.search(asked, k)[0], [spec], autograph=False)
    found = [np.zeros((0, k), np.int32)]
    for start in range(0, len(queries), block):
        found.append(search(tf.constant(queries[start : start + block])).numpy())
    return np.concatenate(found)


def _measure(
    kind: str, index: ItemIndex, wanted: np.ndarray, queries: np.ndarray, k: int
) -> IndexReport:
    found = _nearest(index, queries, k)
    hits = [len(np.intersect1d(f, w)) for f, w in zip(found, wanted, strict=True)]
    search = tf.function(lambda query: index.search(query, k), autograph=False)
    times_ms = []
    for query in queries[:50]:
        start = time.perf_counter()
        search(tf.constant(query[None]))
        times_ms.append(1e3 * (time.perf_counter() - start))
    return IndexReport(
        kind=kind,
        num_items=index.num_items,
        k=k,
        recall_at_k=float(np.mean(hits) / k) if hits else 1.0,
        latency_ms=float(np.median(times_ms)) if times_ms else 0.0,
        parameters=index.parameters,
    )
