"""From the configuration to the parts of training that come in by doors."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from tfrec.config import Loss, Negatives
from tfrec.config.retrieval import Optimizer
from tfrec.losses.retrieval import RetrievalLoss, check_retrieval_loss
from tfrec.registry import NEGATIVE_SAMPLERS, OPTIMIZERS, RETRIEVAL_LOSSES
from tfrec.training.negatives import DrawnNegatives
from tfrec.training.optimizers import MakeOptimizer, check_optimizer
from tfrec.training.samplers import NegativeSampler, check_negative_sampler


def new_loss(settings: Loss) -> RetrievalLoss:
    """Makes the loss of retrieval.

    Raises:
        ConfigError: It is somebody else's and breaks the contract.
    """
    key = "retrieval.loss.kind"
    of_ours: dict[str, dict[str, Any]] = {
        "softmax": {
            "corrects_target": settings.log_q == "all",
            "label_smoothing": settings.label_smoothing,
        },
        "tfrs": {"corrects_target": settings.log_q == "all"},
        "full_softmax": {"label_smoothing": settings.label_smoothing},
    }
    options = of_ours.get(settings.kind, settings.options)
    loss: RetrievalLoss = RETRIEVAL_LOSSES.make(settings.kind, key, options)
    if not settings.is_ours:
        check_retrieval_loss(loss, key)
    return loss


def new_negatives(settings: Negatives, item_counts: np.ndarray) -> DrawnNegatives:
    """Makes all samplers of a step.

    Args:
        settings: How many items each draws.
        item_counts: int64 [num_items + 1], training targets of each item.

    Raises:
        ConfigError: One is somebody else's and breaks the contract.
    """
    key = "retrieval.loss.negatives.samplers"
    draws = [
        (NEGATIVE_SAMPLERS.make(kind, key, {}, item_counts=item_counts), count)
        for kind, count in (("uniform", settings.uniform), ("popular", settings.popular))
    ]
    for number, section in enumerate(settings.samplers):
        place = f"{key}.{number}.kind"
        sampler: NegativeSampler = NEGATIVE_SAMPLERS.make(
            section.kind, place, section.options, item_counts=item_counts
        )
        if not section.is_ours:
            check_negative_sampler(sampler, place)
        draws.append((sampler, section.count))
    return DrawnNegatives(draws, per_target=settings.per_target)


def new_optimizer(settings: Optimizer, key: str) -> MakeOptimizer | None:
    """Returns what makes the optimiser of a group; None for our AdamW.

    Args:
        settings: Which one.
        key: Of `settings`, for messages.

    Raises:
        ConfigError: It is somebody else's and breaks the contract.
    """
    if settings.kind == "adamw":
        return None

    def make() -> keras.optimizers.Optimizer:
        optimizer: keras.optimizers.Optimizer = OPTIMIZERS.make(
            settings.kind, f"{key}.kind", settings.options, learning_rate=0.0
        )
        return optimizer

    check_optimizer(make, f"{key}.kind")
    return make
