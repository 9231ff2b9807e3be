"""Click prediction on the test rows: ours beside popularity, chance and, if known, truth."""

from __future__ import annotations

import numpy as np

from tfrec.data.dataset import PreparedData
from tfrec.metrics.ranking import ranking_metrics
from tfrec.training.ranked_rows import RankedRows, chosen_rate


def evaluate_ranking(
    train: RankedRows,
    test: RankedRows,
    probabilities: np.ndarray,
    true_probabilities: np.ndarray | None,
    num_items: int,
) -> dict[str, dict[str, float]]:
    """Measures predicted click probabilities against the answers.

    Args:
        train: Rows from which the baselines count.
        test: Rows to predict.
        probabilities: float32 [n], ours.
        true_probabilities: float32 [n] of generated data, or None.
        num_items: Size of the catalogue.

    Returns:
        Metrics by model: ``ours``, ``popularity`` (each item's share of clicks in train, drawn
        towards the overall share as if it had been seen 20 times more), ``random`` (the overall
        share for everything) and ``oracle``.
    """
    rate, overall = chosen_rate(train, num_items)
    predictions = {
        "ours": probabilities,
        "popularity": rate[test.item_index],
        "random": np.full(len(test.label), overall),
    }
    if true_probabilities is not None:
        predictions["oracle"] = true_probabilities
    return {
        name: ranking_metrics(test.label, values) | {"rows": float(len(test.label))}
        for name, values in predictions.items()
    }


def true_probabilities(data: PreparedData, split: str) -> np.ndarray | None:
    """Returns float32 [n], the truth of the logged rows of `split`, or None where it is unknown."""
    truth = data.examples["true_probability"].to_numpy()[data.ranked_rows(split)]
    return None if np.isnan(truth).any() else truth
