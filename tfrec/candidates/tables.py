"""Candidate sources as tables: from a key (an item of the history, a token) to weighted items."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import asdict, dataclass

import numpy as np
import tensorflow as tf
from scipy import sparse

from tfrec.candidates.lists import best_allowed, sum_by_item
from tfrec.candidates.neighbours import ease_weights, item_similarity, recent_counts, train_choices
from tfrec.candidates.source import Asked, CandidateSource, SourceData
from tfrec.errors import ConfigError
from tfrec.schema import UNKNOWN_INDEX

_BLOCK = 1024
_BM25_K1, _BM25_B = 1.2, 0.75


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


class TableSource(CandidateSource):
    """Sums over a request's keys what a table proposes for each.

    Args:
        depth: Items that each key proposes.
    """

    keeps_filters = True

    def __init__(self, depth: int = 100) -> None:
        super().__init__()
        self.depth = depth

    @abstractmethod
    def table(self, data: SourceData) -> CandidateTable:
        """Learns the table."""

    def keys(self, asked: Asked) -> tf.Tensor:
        """Returns what requests look up, int32 [batch, n]: by default the items of the history."""
        return asked.recent

    def build(self, data: SourceData) -> dict[str, np.ndarray]:
        """Learns the table; ``items`` and ``weights``."""
        return asdict(self.table(data))

    def propose(self, asked: Asked, k: int) -> tf.Tensor:
        """Adds up the weights of each item over all keys; of equal sums the lower index first."""
        items, weights = self.arrays["items"], self.arrays["weights"]
        keys = self.keys(asked)
        # Items that came after the training are no keys.
        keys = tf.where(keys < tf.shape(items)[0], keys, UNKNOWN_INDEX)
        shape = [tf.shape(asked.recent)[0], -1]
        proposed, sums = sum_by_item(
            tf.reshape(tf.gather(items, keys), shape), tf.reshape(tf.gather(weights, keys), shape)
        )
        return best_allowed(proposed, sums, asked.is_allowed(proposed), k)


class ItemKnn(TableSource):
    """Items that users chose together with those of the history.

    Args:
        depth: Items that each item of the history proposes.
        neighbours: Most similar items kept of each item.
        shrinkage: Added to the divisor of the cosine.
    """

    def __init__(self, depth: int = 100, neighbours: int = 200, shrinkage: float = 20.0) -> None:
        super().__init__(depth)
        self._neighbours, self._shrinkage = neighbours, shrinkage

    def table(self, data: SourceData) -> CandidateTable:
        """See `item_similarity`."""
        chosen = train_choices(data.data)
        return top_of_rows(item_similarity(chosen, self._neighbours, self._shrinkage), self.depth)


class Ease(TableSource):
    """Items that a linear model predicts from those of the history.

    Args:
        depth: Items that each item of the history proposes.
        penalty: On squared weights.
        max_items: Larger catalogues are refused.
    """

    def __init__(self, depth: int = 100, penalty: float = 300.0, max_items: int = 8000) -> None:
        super().__init__(depth)
        self._penalty, self._max_items = penalty, max_items

    def table(self, data: SourceData) -> CandidateTable:
        """See `ease_weights`.

        Raises:
            ConfigError: The catalogue is too large.
        """
        if data.data.num_items > self._max_items:
            raise ConfigError(
                f"candidates.sources.ease: the catalogue has {data.data.num_items:,} items, more "
                f"than `candidates.ease.max_items` = {self._max_items:,}; raise that, or take "
                "item_knn."
            )
        weights = ease_weights(train_choices(data.data), self._penalty)
        return top_of_rows(sparse.csr_matrix(np.maximum(weights, 0.0)), self.depth)


class Content(TableSource):
    """Items whose texts are like those of the history."""

    def table(self, data: SourceData) -> CandidateTable:
        """See `text_neighbours`."""
        weights = token_weights(data.item_tokens, data.num_tokens, data.first_word)
        return text_neighbours(weights, self.depth)


class Search(TableSource):
    """Items whose text matches the query."""

    reads_query = True

    def table(self, data: SourceData) -> CandidateTable:
        """See `token_weights`: for each token the items that it describes best."""
        weights = token_weights(data.item_tokens, data.num_tokens, data.first_word)
        return top_of_rows(weights.T.tocsr(), self.depth)

    def keys(self, asked: Asked) -> tf.Tensor:
        """Returns the tokens of the query."""
        return asked.query


class Popularity(TableSource):
    """The items that were chosen most, the same for all requests."""

    def table(self, data: SourceData) -> CandidateTable:
        """Counts training targets."""
        return _one_list(data.data.item_counts(), self.depth)

    def keys(self, asked: Asked) -> tf.Tensor:
        """Returns the number of the only row."""
        return tf.zeros([tf.shape(asked.recent)[0], 1], tf.int32)


class RecentPopularity(Popularity):
    """The items that were chosen most of late."""

    def table(self, data: SourceData) -> CandidateTable:
        """See `recent_counts`."""
        return _one_list(recent_counts(data.data), self.depth)


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


def _one_list(counts: np.ndarray, depth: int) -> CandidateTable:
    """Returns the table of one row: the items that were chosen most."""
    return top_of_rows(sparse.csr_matrix(np.asarray(counts, np.float32)[None]), depth)


def _widen(values: np.ndarray, width: int) -> np.ndarray:
    return np.pad(values, ((0, 0), (0, width - values.shape[1])))
