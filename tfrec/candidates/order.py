"""What candidates are sorted by: a weighted sum of what both stages and all sources say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

CLICK_LOG_ODDS, SCORE = "click log-odds", "retrieval score"

_MIN_CHOICES = 50
_RIDGE = 1e-3


@dataclass(frozen=True)
class ListOrder:
    """Weights of what candidates are sorted by.

    Attributes:
        names: `CLICK_LOG_ODDS`, `SCORE` and, where several sources propose, their names, for
            their reciprocal ranks.
        weights: One for each, of the raw values.
        num_choices: Validation targets that they were learned from; 0 for given ones.
    """

    names: list[str]
    weights: list[float]
    num_choices: int = 0

    def order(self, values: np.ndarray) -> np.ndarray:
        """Returns float64 [...] from values [..., num_names]; the highest comes first."""
        return values.astype(np.float64) @ np.array(self.weights)


def given_order(names: Sequence[str], score_weight: float) -> ListOrder:
    """Sorts by click log-odds + `score_weight` * score."""
    weights = {CLICK_LOG_ODDS: 1.0, SCORE: score_weight}
    return ListOrder(list(names), [weights.get(name, 0.0) for name in names])


def learned_order(
    names: Sequence[str], values: np.ndarray, is_item: np.ndarray, chosen: np.ndarray
) -> ListOrder | None:
    """Learns weights from which of its candidates each request chose.

    The choice is a softmax over the candidates' weighted sums. The weight of the click log-odds is
    at least 0: that an item is more likely clicked never moves it down. A small penalty on weights
    of standardised values keeps those of equal ones apart.

    Source: McFadden, Conditional Logit Analysis of Qualitative Choice Behavior (1974).

    Args:
        names: What the values are.
        values: float32 [n, num_candidates, num_names].
        is_item: bool [n, num_candidates], False on padding.
        chosen: int [n], place of the chosen candidate.

    Returns:
        None where fewer than 50 choices tell too little.
    """
    if len(chosen) < _MIN_CHOICES:
        return None
    mean, deviation = values[is_item].mean(axis=0), values[is_item].std(axis=0)
    scale = np.where(deviation > 0, deviation, 1.0)
    scaled = np.where(is_item[..., None], (values - mean) / scale, 0.0).astype(np.float32)
    at = np.arange(len(chosen))
    of_chosen = scaled[at, chosen]

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        logits = np.where(is_item, scaled @ weights.astype(np.float32), -np.inf)
        logits -= logits.max(axis=1, keepdims=True)
        odds = np.exp(logits)
        total = odds.sum(axis=1)
        likelihood = (logits[at, chosen] - np.log(total)).mean()
        expected = np.einsum("nc,ncf->nf", odds / total[:, None], scaled)
        gradient = (expected - of_chosen).mean(axis=0) + _RIDGE * weights
        return float(_RIDGE * (weights @ weights) / 2 - likelihood), gradient.astype(np.float64)

    bounds = [(0.0 if name == CLICK_LOG_ODDS else None, None) for name in names]
    found = minimize(loss, np.zeros(len(names)), jac=True, method="L-BFGS-B", bounds=bounds)
    return ListOrder(list(names), (found.x / scale).tolist(), len(chosen))
