"""From the configuration and the prepared data to models: the only translator between the two."""

from __future__ import annotations

from typing import Any

import keras

from tfrec.config import Config
from tfrec.data.dataset import PreparedData
from tfrec.encoders.bert import TextEncoder, build_backbone
from tfrec.features.time_gaps import NUM_GAP_BUCKETS
from tfrec.inputs.item_statistics import live_statistics
from tfrec.models.ranking import RankingModel
from tfrec.models.retrieval import RetrievalModel


def new_backbone(config: Config, vocabulary_size: int) -> Any:
    """Builds the BERT that `encoder.source` names, its weights those of the source."""
    limits = config.text
    return build_backbone(
        config.encoder.source,
        vocabulary_size=vocabulary_size,
        max_tokens=max(limits.max_item_tokens, limits.max_query_tokens),
        dropout=config.encoder.dropout,
    )


def new_retrieval(config: Config, data: PreparedData, encoder: TextEncoder) -> RetrievalModel:
    """Builds both towers on an encoder."""
    policy = keras.config.dtype_policy()
    if config.retrieval.mixed_precision:
        keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        return RetrievalModel(
            encoder,
            num_item_ids=int(data.item_id_rows.max()),
            num_user_ids=int(data.user_id_rows.max()),
            item_features=data.item_features,
            request_features=[*data.user_features, *data.context_features],
            max_history=data.max_history,
            config=config.retrieval,
            num_event_kinds=len(data.event_kinds),
            num_gaps=NUM_GAP_BUCKETS,
        )
    finally:
        keras.config.set_dtype_policy(policy)


def new_ranking(config: Config, data: PreparedData) -> RankingModel:
    """Builds the ranking model, on embeddings of towers where there are any."""
    settings = config.ranking
    num_statistics = 0 if settings.item_statistics == "none" else 1
    statistics = live_statistics(data, config)
    if statistics is not None:
        num_statistics = len(statistics.names)
    return RankingModel(
        data.item_features,
        [*data.user_features, *data.context_features],
        settings,
        num_items=data.num_items,
        embedding_dim=config.retrieval.embedding_dim if settings.towers != "none" else 0,
        max_history=data.max_history,
        num_statistics=num_statistics,
    )
