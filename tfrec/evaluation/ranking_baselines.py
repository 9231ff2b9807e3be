"""Models that the ranking model has to beat, trained on the same rows from the same features."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from tfrec.config import Config
from tfrec.data.dataset import PreparedData
from tfrec.evaluation.factorization_machine import FactorizationMachine
from tfrec.inference.embeddings import Embeddings
from tfrec.inputs.ranked_rows import RankedRows

MAX_ROWS = 300_000
"""Training rows of a baseline; more are sampled with the run's seed."""


@dataclass(frozen=True)
class RowFeatures:
    """What baselines read of n rows.

    Attributes:
        numbers: float32 [n, num_numbers].
        categories: int32 [n, num_categories]; the last two are the user and the item.
    """

    numbers: np.ndarray
    categories: np.ndarray

    @property
    def without_ids(self) -> np.ndarray:
        """Categories but for user and item, int32 [n, num_categories - 2]."""
        return self.categories[:, :-2]


def read_features(
    data: PreparedData, rows: RankedRows, embeddings: Embeddings | None, statistics: np.ndarray
) -> RowFeatures:
    """Gathers what the ranking model reads, as plain columns.

    Numbers: the position, the length of the history (its logarithm), the item's past, numbers and
    vectors among the features and, with towers, the retrieval score. Lists of categories stand for
    their first member.

    Args:
        data: The prepared data set.
        rows: Rows to describe.
        embeddings: From the finished towers; None without.
        statistics: float [n, any], the items' past.
    """
    start, end = data.history_ranges(rows.context)
    numbers = [rows.position, np.log1p(end - start), statistics]
    if embeddings is not None:
        pairs = zip(
            np.array_split(rows.context, max(1, len(rows) // 100_000)),
            np.array_split(rows.item_index, max(1, len(rows) // 100_000)),
            strict=True,
        )
        numbers.append(
            np.concatenate(
                [np.einsum("nd,nd->n", embeddings.requests[c], embeddings.items[i])
                 for c, i in pairs]
            )
        )  # fmt: skip
    user = data.contexts["user_index"].to_numpy()[rows.context]
    categories = []
    for features, table, at in (
        (data.user_features, data.user_inputs, user),
        (data.context_features, data.context_inputs, rows.context),
        (data.item_features, data.item_inputs, rows.item_index),
    ):
        for feature in features:
            values = table[feature.name][at]
            if np.issubdtype(values.dtype, np.integer):
                categories.append(values if values.ndim == 1 else values[:, 0])
            else:
                numbers.append(values)
    columns = [*categories, user, rows.item_index]
    return RowFeatures(
        np.column_stack(numbers).astype(np.float32), np.column_stack(columns).astype(np.int32)
    )


def predict_baselines(
    train: tuple[RowFeatures, RankedRows],
    validation: tuple[RowFeatures, RankedRows],
    test: RowFeatures,
    config: Config,
) -> Iterator[tuple[str, np.ndarray]]:
    """Trains each of `evaluation.ranking_baselines` and predicts the test rows.

    Args:
        train: Features and rows; at most `MAX_ROWS` of them are used.
        validation: Likewise: the trees stop where its log loss does not fall any more.
        test: Features to predict from.
        config: `evaluation.ranking_baselines` and the seed.

    Yields:
        Name and probabilities, float64 [num_test]; nothing where train has one class only.
    """
    features, rows = train
    if len(np.unique(rows.label)) < 2:
        return
    rng = np.random.default_rng(config.seed)
    chosen = np.arange(len(rows))
    if len(rows) > MAX_ROWS:
        chosen = np.sort(rng.choice(len(rows), MAX_ROWS, replace=False))
    labels, weights = rows.label[chosen], rows.weights[chosen]
    known = RowFeatures(features.numbers[chosen], features.categories[chosen])
    build: dict[str, Callable[[], np.ndarray]] = {
        "logistic_regression": lambda: _logistic_regression(known, labels, weights, test),
        "lightgbm": lambda: _lightgbm(known, labels, weights, validation, test, config.seed),
        "factorization_machine": lambda: _factorization_machine(
            known, labels, weights, test, config.seed
        ),
    }
    for name in config.evaluation.ranking_baselines:
        yield name, build[name]()


def _logistic_regression(
    train: RowFeatures, labels: np.ndarray, weights: np.ndarray, test: RowFeatures
) -> np.ndarray:
    scaler = StandardScaler().fit(train.numbers)
    encoder = OneHotEncoder(handle_unknown="ignore", dtype=np.float32)
    has_categories = train.without_ids.shape[1] > 0
    if has_categories:
        encoder.fit(train.without_ids)

    def design(features: RowFeatures) -> sparse.csr_matrix:
        numbers = sparse.csr_matrix(scaler.transform(features.numbers))
        if not has_categories:
            return numbers
        return sparse.hstack([numbers, encoder.transform(features.without_ids)]).tocsr()

    model = LogisticRegression(max_iter=200, tol=1e-3).fit(design(train), labels, weights)
    return model.predict_proba(design(test))[:, 1]


def _lightgbm(
    train: RowFeatures,
    labels: np.ndarray,
    weights: np.ndarray,
    validation: tuple[RowFeatures, RankedRows],
    test: RowFeatures,
    seed: int,
) -> np.ndarray:
    import lightgbm

    def table(features: RowFeatures) -> np.ndarray:
        return np.column_stack([features.numbers, features.without_ids])

    first = train.numbers.shape[1]
    columns = list(range(first, first + train.without_ids.shape[1]))
    data = lightgbm.Dataset(
        table(train), labels, weight=weights, categorical_feature=columns, params={"verbose": -1}
    )
    held_out, rows = validation
    watched = lightgbm.Dataset(table(held_out), rows.label, weight=rows.weights, reference=data)
    model = lightgbm.train(
        {
            "objective": "binary",
            "learning_rate": 0.05,
            "num_leaves": 31,
            "min_data_in_leaf": 100,
            "seed": seed,
            "deterministic": True,
            "force_row_wise": True,
            "verbose": -1,
        },
        data,
        num_boost_round=500,
        valid_sets=[watched],
        callbacks=[lightgbm.early_stopping(20, verbose=False)],
    )
    return np.asarray(model.predict(table(test), num_iteration=model.best_iteration))


def _factorization_machine(
    train: RowFeatures, labels: np.ndarray, weights: np.ndarray, test: RowFeatures, seed: int
) -> np.ndarray:
    """Reads categories, user and item ids, and numbers, standardised and cut at 5 deviations."""
    scaler = StandardScaler().fit(train.numbers)
    sizes = np.maximum(train.categories.max(axis=0), test.categories.max(axis=0)) + 1
    offsets = np.concatenate([[0], np.cumsum(sizes)[:-1]])

    def inputs(features: RowFeatures) -> tuple[np.ndarray, np.ndarray]:
        scaled = scaler.transform(features.numbers).astype(np.float32)
        return (features.categories + offsets).astype(np.int32), np.clip(scaled, -5, 5)

    num_numbers = train.numbers.shape[1]
    model = FactorizationMachine(int(sizes.sum()), num_numbers, float(labels.mean()), seed)
    model.fit(*inputs(train), labels, weights)
    return model.predict(*inputs(test))
