"""Candidate sources as tables: from a key (an item of the history, a token) to weighted items."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import sparse

from tfrec.candidates.neighbours import ease_weights, item_similarity, recent_counts, train_choices
from tfrec.config.candidates import TWO_TOWER, Candidates
from tfrec.data.dataset import PreparedData
from tfrec.errors import ConfigError

_BLOCK = 1024
_BM25_K1, _BM25_B = 1.2, 0.75

HISTORY, QUERY, NOTHING = "history", "query", "nothing"
KEYS = {
    "item_knn": HISTORY,
    "ease": HISTORY,
    "content": HISTORY,
    "search": QUERY,
    "popularity": NOTHING,
    "recent_popularity": NOTHING,
}
"""What each source looks up: items of the history, tokens of the query, or its one row."""


@dataclass(frozen=True)
class CandidateTable:
    """What a source proposes for each key; a request sums over its keys.

    Attributes:
        items: int32 [num_keys, depth], item indices, best first; 0 fills up. Row 0 is that of no
            key, except in tables of one row.
        weights: float32 [num_keys, depth], above 0; 0 where there is no item.
    """

    items: np.ndarray
    weights: np.ndarray


def build_tables(
    data: PreparedData,
    item_tokens: np.ndarray,
    num_tokens: int,
    first_word: int,
    config: Candidates,
) -> dict[str, CandidateTable]:
    """Builds the table of every declared source other than the towers, from training data alone.

    Args:
        data: The prepared data set.
        item_tokens: int32 [num_items + 1, length], the items' texts.
        num_tokens: Size of the vocabulary.
        first_word: First token id above the special ones.
        config: Sources and their settings.

    Raises:
        ConfigError: The catalogue is too large for a source.
    """

    def by_ease() -> CandidateTable:
        if data.num_items > config.ease.max_items:
            raise ConfigError(
                f"candidates.sources.ease: the catalogue has {data.num_items:,} items, more than "
                f"`candidates.ease.max_items` = {config.ease.max_items:,}; raise that, or take "
                "item_knn."
            )
        weights = ease_weights(train_choices(data), config.ease.penalty)
        return top_of_rows(sparse.csr_matrix(np.maximum(weights, 0.0)), config.neighbours)

    def by_items() -> CandidateTable:
        settings = config.item_knn
        similarity = item_similarity(train_choices(data), settings.neighbours, settings.shrinkage)
        return top_of_rows(similarity, config.neighbours)

    build: dict[str, Callable[[], CandidateTable]] = {
        "item_knn": by_items,
        "ease": by_ease,
        "content": lambda: text_neighbours(
            token_weights(item_tokens, num_tokens, first_word), config.neighbours
        ),
        "search": lambda: top_of_rows(
            token_weights(item_tokens, num_tokens, first_word).T.tocsr(), config.matches
        ),
        "popularity": lambda: _one_list(data.item_counts(), config.matches),
        "recent_popularity": lambda: _one_list(recent_counts(data), config.matches),
    }
    return {name: build[name]() for name in config.sources if name != TWO_TOWER}


def token_weights(tokens: np.ndarray, num_tokens: int, first_word: int) -> sparse.csr_matrix:
    """Weighs the tokens of texts by BM25.

    Source: Robertson and Zaragoza, The Probabilistic Relevance Framework: BM25 and Beyond (2009),
        equation 3.15, with the idf raised above 0 as in Lucene: log(1 + (n - m + .5) / (m + .5)).

    Args:
        tokens: int32 [n, length], one row a text; special tokens count for nothing.
        num_tokens: Size of the vocabulary.
        first_word: First token id above the special ones.

    Returns:
        float32 CSR [n, num_tokens].
    """
    rows, columns = np.nonzero(tokens >= first_word)
    counts = sparse.csr_matrix(
        (np.ones(len(rows), np.float64), (rows, tokens[rows, columns])),
        shape=(len(tokens), num_tokens),
    )
    counts.sum_duplicates()
    lengths = np.asarray(counts.sum(axis=1)).ravel()
    num_texts = max(1, int(np.count_nonzero(lengths)))
    mean_length = max(1.0, float(lengths.sum()) / num_texts)
    containing = np.bincount(counts.indices, minlength=num_tokens)
    idf = np.log1p((num_texts - containing + 0.5) / (containing + 0.5))
    row = np.repeat(np.arange(len(tokens)), np.diff(counts.indptr))
    saturation = _BM25_K1 * (1 - _BM25_B + _BM25_B * lengths[row] / mean_length)
    counts.data = idf[counts.indices] * counts.data * (_BM25_K1 + 1) / (counts.data + saturation)
    return counts.astype(np.float32)


def text_neighbours(weights: sparse.csr_matrix, depth: int) -> CandidateTable:
    """Finds for each text those that are most like it, by the cosine of their weighed tokens.

    Args:
        weights: CSR [n, num_tokens].
        depth: Neighbours of each; a text is none of its own.
    """
    norms = np.sqrt(np.asarray(weights.multiply(weights).sum(axis=1)).ravel())
    scale = np.divide(1.0, norms, out=np.zeros_like(norms), where=norms > 0)
    scaled = (sparse.diags_array(scale) @ weights).tocsr().astype(np.float32)
    parts = []
    for start in range(0, scaled.shape[0], _BLOCK):
        similar = (scaled[start : start + _BLOCK] @ scaled.T).tocoo()
        similar.data[similar.col == similar.row + start] = 0.0
        parts.append(top_of_rows(similar.tocsr(), depth))
    width = max(part.items.shape[1] for part in parts)
    return CandidateTable(
        *(
            np.concatenate([_widen(getattr(part, name), width) for part in parts])
            for name in ("items", "weights")
        )
    )


def top_of_rows(matrix: sparse.csr_matrix, depth: int) -> CandidateTable:
    """Keeps the largest positive entries of each row; of equal ones the lower column.

    Args:
        matrix: CSR [num_keys, num_items + 1].
        depth: Entries kept of each row.
    """
    matrix = matrix.tocoo()
    keep = (matrix.data > 0) & (matrix.col > 0)
    row, column, value = matrix.row[keep], matrix.col[keep], matrix.data[keep]
    order = np.lexsort((column, -value, row))
    row, column, value = row[order], column[order], value[order]
    counts = np.bincount(row, minlength=matrix.shape[0])
    place = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    inside = place < depth
    width = max(1, min(depth, int(counts.max(initial=0))))
    items = np.zeros((matrix.shape[0], width), np.int32)
    weights = np.zeros((matrix.shape[0], width), np.float32)
    items[row[inside], place[inside]] = column[inside]
    weights[row[inside], place[inside]] = value[inside]
    return CandidateTable(items, weights)


def save_tables(path: Path, tables: Mapping[str, CandidateTable]) -> None:
    """Writes tables into one file."""
    arrays: dict[str, np.ndarray] = {}
    for name, table in tables.items():
        arrays |= {f"{name}/items": table.items, f"{name}/weights": table.weights}
    np.savez(path, allow_pickle=False, **arrays)


def load_tables(path: Path) -> dict[str, CandidateTable]:
    """Reads what `save_tables` wrote."""
    with np.load(path) as saved:
        names = dict.fromkeys(key.split("/")[0] for key in saved.files)
        return {
            name: CandidateTable(saved[f"{name}/items"], saved[f"{name}/weights"]) for name in names
        }


def _one_list(counts: np.ndarray, depth: int) -> CandidateTable:
    """Returns the table of one row: the items that were chosen most."""
    return top_of_rows(sparse.csr_matrix(np.asarray(counts, np.float32)[None]), depth)


def _widen(values: np.ndarray, width: int) -> np.ndarray:
    return np.pad(values, ((0, 0), (0, width - values.shape[1])))
