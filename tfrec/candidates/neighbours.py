"""Items that go with items, from who chose what: closed forms, no gradient."""

from __future__ import annotations

import numpy as np
from scipy import linalg, sparse

from tfrec.data.dataset import PreparedData
from tfrec.schema import Columns

_RECENT_SHARE = 0.1


def train_choices(data: PreparedData) -> sparse.csr_matrix:
    """Returns who chose what in training, float32 CSR [num_users + 1, num_items + 1] of 0 and 1."""
    examples = data.examples[data.target_rows("train")]
    users = data.contexts["user_index"].to_numpy()[examples["context"].to_numpy()]
    return binary_matrix(
        users, examples["item_index"].to_numpy(), (data.num_users + 1, data.num_items + 1)
    )


def binary_matrix(
    rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]
) -> sparse.csr_matrix:
    """Returns float32 CSR with 1 at each pair, however often it is named."""
    matrix = sparse.csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), shape=shape)
    matrix.data[:] = 1.0  # repeated pairs were added up
    return matrix


def recent_counts(data: PreparedData) -> np.ndarray:
    """Counts the training targets of each item in the last tenth of them by time.

    Source: Ji et al., A Re-visit of the Popularity Baseline in Recommender Systems (2020): what
        counts is popularity at the time of the request.

    Returns:
        float32 [num_items + 1].
    """
    examples = data.examples[data.target_rows("train")]
    time = data.contexts[Columns.TIME].to_physical().to_numpy()[examples["context"].to_numpy()]
    items = examples["item_index"].to_numpy()
    if len(time):
        items = items[time >= np.quantile(time, 1.0 - _RECENT_SHARE, method="lower")]
    return np.bincount(items, minlength=data.num_items + 1).astype(np.float32)


def item_similarity(
    train: sparse.csr_matrix, neighbours: int, shrinkage: float
) -> sparse.csr_matrix:
    """Measures how alike items are by the users they share.

    The similarity of items i and j, chosen by n_i and n_j users, n_ij of them the same, is
    n_ij / (sqrt(n_i n_j) + shrinkage).

    Source: Deshpande and Karypis, Item-Based Top-N Recommendation Algorithms (2004), section 4 (of
        each item the most similar ones are kept); Ferrari Dacrema, Cremonesi and Jannach, Are We
        Really Making Much Progress? (2019), for the shrunk cosine.

    Args:
        train: CSR [num_users, num_items], 0 or 1.
        neighbours: Items kept of each item; of equal ones those with the lower index.
        shrinkage: At least 0.

    Returns:
        float32 CSR [num_items, num_items]: row i holds the neighbours of item i; an item is no
        neighbour of itself.
    """
    norms = np.sqrt(np.asarray(train.sum(axis=0), np.float64).ravel())
    columns = train.T.tocsr()
    indices, values, lengths = [], [], [0]
    for start in range(0, train.shape[1], 1024):
        shared = (columns[start : start + 1024] @ train).tocsr()
        shared.sort_indices()
        for number in range(shared.shape[0]):
            row = slice(shared.indptr[number], shared.indptr[number + 1])
            other, item = shared.indices[row], start + number
            value = shared.data[row] / (norms[item] * norms[other] + shrinkage)
            value[other == item] = 0.0
            best = np.argsort(-value, kind="stable")[:neighbours]
            best = best[value[best] > 0]
            indices.append(other[best])
            values.append(value[best])
            lengths.append(len(best))
    return sparse.csr_matrix(
        (np.concatenate(values).astype(np.float32), np.concatenate(indices), np.cumsum(lengths)),
        shape=(train.shape[1], train.shape[1]),
    )


def ease_weights(train: sparse.csr_matrix, penalty: float) -> np.ndarray:
    """Learns to predict each item of a user from the user's other items, in closed form.

    With G = X'X and P = (G + penalty I)^-1, the weights are B = I - P / diag(P) by columns, so
    the diagonal is 0.

    Source: Steck, Embarrassingly Shallow Autoencoders for Sparse Data (2019), equations 7 and 8.

    Args:
        train: CSR [num_users, num_items], 0 or 1. Items that nobody chose get weights 0.
        penalty: Above 0.

    Returns:
        float32 [num_items, num_items]: column j weighs a user's items for item j.
    """
    known = np.flatnonzero(np.asarray(train.sum(axis=0)).ravel())
    weights = np.zeros((train.shape[1], train.shape[1]), np.float32)
    if not known.size:
        return weights
    chosen = train[:, known]
    gram = (chosen.T @ chosen).toarray().astype(np.float64)
    gram[np.diag_indices_from(gram)] += penalty
    factor, _ = linalg.lapack.dpotrf(gram.T, lower=False, overwrite_a=True)
    upper, _ = linalg.lapack.dpotri(factor, lower=False, overwrite_c=True)
    inverse = np.triu(upper) + np.triu(upper, 1).T
    found = -inverse / np.diag(inverse)
    np.fill_diagonal(found, 0.0)
    weights[np.ix_(known, known)] = found
    return weights
