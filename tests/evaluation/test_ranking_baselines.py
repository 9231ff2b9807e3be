from dataclasses import dataclass

import numpy as np
import pytest

from tfrec.config import parse_config
from tfrec.evaluation.ranking_baselines import RowFeatures, predict_baselines


@dataclass(frozen=True)
class Rows:
    """What baselines read of labelled rows."""

    label: np.ndarray
    weights: np.ndarray

    def __len__(self) -> int:
        return len(self.label)


def draw(count: int, num_categories: int, seed: int) -> tuple[RowFeatures, Rows]:
    """Draws rows whose first number, and first category, tell of the label."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, count).astype(np.float32)
    numbers = rng.normal(size=(count, 3)).astype(np.float32)
    numbers[:, 0] += label
    categories = rng.integers(0, 4, (count, num_categories + 2)).astype(np.int32)
    return RowFeatures(numbers, categories), Rows(label, np.ones(count, np.float32))


@pytest.mark.parametrize("num_categories", [0, 2])
def test_every_baseline_learns_from_numbers_with_and_without_categories(num_categories):
    names = ["logistic_regression", "lightgbm", "factorization_machine"]
    config = parse_config({"name": "x", "data": {"source": "shop"}})
    config = config.model_copy(
        update={"evaluation": config.evaluation.model_copy(update={"ranking_baselines": names})}
    )
    train, validation, (test, rows) = (draw(4000, num_categories, seed) for seed in range(3))
    found = dict(predict_baselines(train, validation, test, config))
    assert list(found) == names
    for name, probabilities in found.items():
        assert ((probabilities >= 0) & (probabilities <= 1)).all()
        clicked, passed = (probabilities[rows.label == label].mean() for label in (1, 0))
        assert clicked > passed + 0.01, name
