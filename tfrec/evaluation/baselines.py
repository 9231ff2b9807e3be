"""Models that ours has to beat, learned from the same training targets.

Each scores all items for a request from what its user chose: in training, and in the request's
history. A user who chose nothing gets what is popular, and popularity orders equal scores, so that
no baseline looks bad only because it has nothing to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy import linalg, sparse

from tfrec.config import Config
from tfrec.data.dataset import PreparedData
from tfrec.metrics.retrieval import ScoreBlock
from tfrec.schema import Columns

_RECENT_SHARE = 0.1
_TIE_WEIGHT = 1e-6


@dataclass(frozen=True)
class Choices:
    """What was chosen: all that a baseline may know.

    Attributes:
        train: float32 CSR [num_users + 1, num_items + 1], 1 where the pair is a training target.
        requests: float32 CSR [num_requests, num_items + 1], 1 where the request's user chose the
            item in training or in the request's history.
        popularity: float32 [num_items + 1], training targets of each item; items of equal
            popularity are told apart by less than 1, drawn by the seed.
    """

    train: sparse.csr_matrix
    requests: sparse.csr_matrix
    popularity: np.ndarray

    def with_popularity(self, scores: np.ndarray) -> np.ndarray:
        """Adds a little popularity, which orders equal scores: at most a millionth."""
        return scores + self.popularity * (_TIE_WEIGHT / max(1.0, float(self.popularity.max())))


def read_choices(data: PreparedData, contexts: np.ndarray, seed: int) -> Choices:
    """Gathers what baselines learn from and what they are asked.

    Args:
        data: The prepared data set.
        contexts: int [num_requests], rows of `data.contexts`.
        seed: Draws the order of items of equal popularity.
    """
    examples = data.examples[data.target_rows("train")]
    users = data.contexts["user_index"].to_numpy()
    num_items = data.num_items
    train = _binary(
        users[examples["context"].to_numpy()],
        examples["item_index"].to_numpy(),
        (data.num_users + 1, num_items + 1),
    )
    rows, items = data.seen_pairs(contexts)
    history = _binary(rows, items, (len(contexts), num_items + 1))
    requests = history.maximum(train[users[contexts]]).tocsr()
    # Items of equal popularity come in a random order, not all before the target.
    jitter = np.random.default_rng(seed).random(num_items + 1, np.float32)
    return Choices(train, requests, data.item_counts().astype(np.float32) + 0.5 * jitter)


def build_baselines(
    data: PreparedData, choices: Choices, contexts: np.ndarray, config: Config
) -> Iterator[tuple[str, ScoreBlock | str]]:
    """Learns the baselines of `evaluation.baselines`, one after the other.

    Args:
        data: The prepared data set.
        choices: From `read_choices` for the same contexts.
        contexts: int [num_requests], rows of `data.contexts`.
        config: `evaluation` and the seed.

    Yields:
        Name, and the baseline's scores of a slice of the requests or, where it cannot be had, a
        line that says why.
    """
    settings = config.evaluation

    def by_recent_popularity() -> ScoreBlock:
        if config.data.events.time is None:
            return _same_for_all(choices.popularity)
        return _same_for_all(choices.with_popularity(recent_counts(data)))

    def by_items(weights: sparse.csr_matrix | np.ndarray) -> ScoreBlock:
        def score(block: slice) -> np.ndarray:
            scores = choices.requests[block] @ weights
            dense = scores.toarray() if sparse.issparse(scores) else scores
            return choices.with_popularity(dense)

        return score

    def by_ease() -> ScoreBlock | str:
        num_known = np.count_nonzero(data.item_counts())
        if num_known > settings.ease.max_items:
            return (
                f"ease: left out, {num_known:,} items are more than "
                f"`evaluation.ease.max_items` = {settings.ease.max_items:,}"
            )
        return by_items(ease_weights(choices.train, settings.ease.penalty))

    def by_ials() -> ScoreBlock:
        users, items = ials_factors(choices, config)
        return lambda block: choices.with_popularity(users[block] @ items.T)

    def by_content() -> ScoreBlock:
        requests, items = text_vectors(data, choices, contexts)
        return lambda block: choices.with_popularity((requests[block] @ items.T).toarray())

    build: dict[str, Callable[[], ScoreBlock | str]] = {
        "recent_popularity": by_recent_popularity,
        "item_knn": lambda: by_items(
            item_similarity(
                choices.train, settings.item_knn.neighbours, settings.item_knn.shrinkage
            )
        ),
        "ease": by_ease,
        "ials": by_ials,
        "content": by_content,
    }
    for name in dict.fromkeys(settings.baselines):
        yield name, build[name]()


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


def ials_factors(choices: Choices, config: Config) -> tuple[np.ndarray, np.ndarray]:
    """Factorises who chose what, all that was not chosen being a weak no.

    Users' factors are solved anew from all that a request may know, items' factors staying.

    Source: Hu, Koren and Volinsky, Collaborative Filtering for Implicit Feedback Datasets (2008).

    Args:
        choices: Training choices and requests.
        config: `evaluation.ials` and the seed.

    Returns:
        float32 [num_requests, factors] and [num_items + 1, factors].
    """
    from implicit.cpu.als import AlternatingLeastSquares
    from threadpoolctl import threadpool_limits

    settings = config.evaluation.ials
    with threadpool_limits(1, "blas"):  # `implicit` runs threads of its own
        model = AlternatingLeastSquares(
            factors=settings.factors,
            regularization=settings.regularization,
            alpha=settings.alpha,
            iterations=settings.iterations,
            random_state=config.seed,
        )
        model.fit(choices.train, show_progress=False)
        users = model.recalculate_user(np.arange(choices.requests.shape[0]), choices.requests)
    return np.asarray(users), np.asarray(model.item_factors)


def text_vectors(
    data: PreparedData, choices: Choices, contexts: np.ndarray
) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
    """Describes items and requests by their words.

    An item is the tf-idf vector of its text, of length 1; a request is the mean of its items plus
    the vector of its search text.

    Source: Lops, de Gemmis and Semeraro, Content-based Recommender Systems (2011), section 3.3.1.

    Returns:
        float32 CSR [num_requests, words] and [num_items + 1, words].
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(dtype=np.float32, token_pattern=r"(?u)\b\w+\b")
    try:
        items = vectorizer.fit_transform(["", *data.items[Columns.TEXT].to_list()])
    except ValueError:  # no word in any text
        nothing = sparse.csr_matrix((1, 1), dtype=np.float32)
        return nothing[np.zeros(len(contexts), int)], nothing[np.zeros(data.num_items + 1, int)]
    # The empty query stands for a request that is not there: scikit-learn wants at least one.
    queries = vectorizer.transform([*data.contexts[contexts][Columns.QUERY].to_list(), ""])[:-1]
    sizes = np.maximum(np.asarray(choices.requests.sum(axis=1)).ravel(), 1.0)
    history = sparse.diags_array(1.0 / sizes, dtype=np.float32) @ (choices.requests @ items)
    return (queries + history).tocsr(), items.tocsr()


def _binary(rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> sparse.csr_matrix:
    matrix = sparse.csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), shape=shape)
    matrix.data[:] = 1.0  # repeated pairs were added up
    return matrix


def _same_for_all(scores: np.ndarray) -> ScoreBlock:
    return lambda block: np.broadcast_to(scores, (block.stop - block.start, len(scores)))
