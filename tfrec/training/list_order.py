"""Learning the order of candidates from what validation requests chose."""

from __future__ import annotations

import numpy as np

from tfrec.candidates.order import ListOrder, given_order, learned_order
from tfrec.config import Config
from tfrec.data.dataset import PreparedData
from tfrec.progress import progress_bar
from tfrec.recommender.candidate_lists import CandidateLists

_MAX_REQUESTS = 5000
_BLOCK = 256


def learn_order(lists: CandidateLists, data: PreparedData, config: Config) -> ListOrder:
    """Learns the order of candidates on validation, where the configuration gives none.

    Of more than 5,000 requests as many are drawn with the seed. Too few targets among the
    candidates lead to click log-odds + score / temperature.
    """
    temperature = lists.temperature
    weight = config.ranking.retrieval_weight
    if weight is not None:
        return given_order(lists.names, weight / temperature)
    examples = data.examples[data.target_rows("validation")]
    context, target = examples["context"].to_numpy(), examples["item_index"].to_numpy()
    contexts = np.unique(context)
    if len(contexts) > _MAX_REQUESTS:
        rng = np.random.default_rng(config.seed)
        contexts = np.sort(rng.choice(contexts, _MAX_REQUESTS, replace=False))
    values, is_item, chosen = [], [], []
    for start in progress_bar(range(0, len(contexts), _BLOCK), desc="order", unit="block"):
        block = contexts[start : start + _BLOCK]
        found = lists.of(block)
        inside = np.isin(context, block)
        request = np.searchsorted(block, context[inside])
        is_target = found.items[request] == target[inside][:, None]
        hit = is_target.any(axis=1)
        values.append(found.values[request[hit]])
        is_item.append(found.items[request[hit]] > 0)
        chosen.append(is_target[hit].argmax(axis=1))
    learned = None
    if values:
        learned = learned_order(
            lists.names, np.concatenate(values), np.concatenate(is_item), np.concatenate(chosen)
        )
    return learned or given_order(lists.names, 1.0 / temperature)
