"""Which requests the evaluation measures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tfrec.config import Config
from tfrec.data.dataset import PreparedData


@dataclass(frozen=True)
class MeasuredRequests:
    """The requests that are measured, and what each has to find.

    Attributes:
        contexts: int [num_requests], rows of `PreparedData.contexts`, ascending.
        request: int [num_targets], position in `contexts` of each target, ascending.
        target: int [num_targets], item indices.
    """

    contexts: np.ndarray
    request: np.ndarray
    target: np.ndarray


def read_requests(data: PreparedData, config: Config, split: str = "test") -> MeasuredRequests:
    """Returns the requests of `split` with their targets; of many, `max_contexts` are drawn."""
    examples = data.examples[data.target_rows(split)]
    context, target = examples["context"].to_numpy(), examples["item_index"].to_numpy()
    contexts = np.unique(context)
    if len(contexts) > config.evaluation.max_contexts:
        rng = np.random.default_rng(config.seed)
        contexts = np.sort(rng.choice(contexts, config.evaluation.max_contexts, replace=False))
    is_measured = np.isin(context, contexts)
    request = np.searchsorted(contexts, context[is_measured])
    order = np.argsort(request, kind="stable")
    return MeasuredRequests(contexts, request[order], target[is_measured][order])
