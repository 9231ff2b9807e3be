"""Models that ours has to beat, learned from the same training targets.

Each scores all items for a request from what its user chose: in training, and in the request's
history. A user who chose nothing gets what is popular, and popularity orders equal scores, so that
no baseline looks bad only because it has nothing to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from tfrec.candidates.neighbours import (
    binary_matrix,
    ease_weights,
    item_similarity,
    recent_counts,
    train_choices,
)
from tfrec.config import Config
from tfrec.data.dataset import PreparedData
from tfrec.metrics.retrieval import ScoreBlock
from tfrec.schema import Columns

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
    users, num_items = data.contexts["user_index"].to_numpy(), data.num_items
    train = train_choices(data)
    rows, items = data.seen_pairs(contexts)
    history = binary_matrix(rows, items, (len(contexts), num_items + 1))
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


def _same_for_all(scores: np.ndarray) -> ScoreBlock:
    return lambda block: np.broadcast_to(scores, (block.stop - block.start, len(scores)))
