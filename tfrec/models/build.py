"""From the configuration and the prepared data to models: the only translator between the two."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import keras

from tfrec.config import Config, History, Ranking, Retrieval
from tfrec.config.retrieval import OwnPart
from tfrec.data.dataset import PreparedData
from tfrec.encoders.bert import BertEncoder, build_backbone
from tfrec.encoders.text_encoder import TextEncoder, check_text_encoder
from tfrec.features.feature_type import FeatureType
from tfrec.features.time_gaps import NUM_GAP_BUCKETS
from tfrec.inputs.item_statistics import live_statistics
from tfrec.models.calibration import Calibrator, check_calibrator
from tfrec.models.cross import CrossNetwork
from tfrec.models.ranking import NUM_CLICK_TERMS, RankingModel
from tfrec.models.ranking_head import RankingHead, check_ranking_head
from tfrec.models.ranking_layer import RankingLayer, check_ranking_layer
from tfrec.models.retrieval import RetrievalModel
from tfrec.registry import (
    CALIBRATORS,
    FUSIONS,
    HISTORY_READERS,
    RANKING_HEADS,
    RANKING_LAYERS,
    TEXT_ENCODERS,
    TOWER_PARTS,
)
from tfrec.schema import CLICK
from tfrec.towers.fusion import Fusion, check_fusion
from tfrec.towers.history import HistoryReader, check_history_reader
from tfrec.towers.item import ItemTower
from tfrec.towers.part import TowerPart, check_tower_part
from tfrec.towers.user import UserTower


def new_backbone(config: Config, vocabulary_size: int) -> Any:
    """Builds the BERT that `encoder.source` names, its weights those of the source."""
    limits = config.text
    return build_backbone(
        config.encoder.source,
        vocabulary_size=vocabulary_size,
        max_tokens=max(limits.max_item_tokens, limits.max_query_tokens),
        dropout=config.encoder.dropout,
    )


def new_encoder(config: Config, vocabulary_size: int) -> TextEncoder:
    """Builds the text encoder, one of BERT with the weights of its source.

    Raises:
        ConfigError: It is somebody else's and breaks the contract.
    """
    settings, limits = config.encoder, config.text
    with _precision(config):
        if settings.kind == "bert":
            return BertEncoder(new_backbone(config, vocabulary_size), settings.pooling)
        encoder: TextEncoder = TEXT_ENCODERS.make(
            settings.kind,
            "encoder.kind",
            settings.options,
            vocabulary_size=vocabulary_size,
            max_tokens=max(limits.max_item_tokens, limits.max_query_tokens),
        )
        check_text_encoder(encoder, "encoder.kind", vocabulary_size)
        return encoder


def new_retrieval(config: Config, data: PreparedData, encoder: TextEncoder) -> RetrievalModel:
    """Builds both towers on an encoder.

    Raises:
        ConfigError: A part is somebody else's and breaks its contract.
    """
    loss = config.retrieval.loss
    with _precision(config):
        return RetrievalModel(
            encoder,
            _item_tower(config.retrieval, data, encoder.hidden_dim),
            _user_tower(config.retrieval, data, encoder.hidden_dim),
            temperature=loss.temperature,
            learn_temperature=loss.learn_temperature,
        )


def _item_tower(settings: Retrieval, data: PreparedData, text_dim: int) -> ItemTower:
    side = settings.item
    given: dict[str, Any] = {
        "num_ids": int(data.item_id_rows.max()),
        "features": data.item_features,
        "text_dim": text_dim,
        "embedding_dim": settings.embedding_dim,
    }
    num_parts = 2 + len(data.item_features) + len(side.parts)
    return ItemTower(
        **given,
        fusion=_fusion(settings, num_parts),
        parts=_own_parts(side.parts, "retrieval.item.parts", given),
        use_id=side.use_id,
        text_scale=side.text_scale,
        id_dropout=side.id_dropout,
        feature_dropout=side.feature_dropout,
        is_unit=settings.loss.similarity == "cosine",
        name="item_tower",
    )


def _user_tower(settings: Retrieval, data: PreparedData, text_dim: int) -> UserTower:
    side = settings.user
    given: dict[str, Any] = {
        "num_ids": int(data.user_id_rows.max()),
        "features": [*data.user_features, *data.context_features],
        "text_dim": text_dim,
        "embedding_dim": settings.embedding_dim,
    }
    return UserTower(
        **given,
        history=_history_reader(side.history, settings.embedding_dim, data.max_history),
        parts=_own_parts(side.parts, "retrieval.user.parts", given),
        num_event_kinds=len(data.event_kinds) if side.history.event_kinds else None,
        num_gaps=NUM_GAP_BUCKETS if side.history.time_gaps else None,
        use_id=side.use_id,
        id_dropout=side.id_dropout,
        dropout=side.dropout,
        hidden_layer=side.hidden_layer,
        is_unit=settings.loss.similarity == "cosine",
        name="user_tower",
    )


def try_layers(config: Config) -> None:
    """Makes the layers of the towers that need no data, to see that they keep their contracts.

    Raises:
        ConfigError: One does not.
    """
    settings = config.retrieval
    with _precision(config):
        _fusion(settings, num_parts=3)
        _history_reader(settings.user.history, settings.embedding_dim, config.data.max_history)


def _fusion(settings: Retrieval, num_parts: int) -> Fusion:
    key, section = "retrieval.item.fusion.kind", settings.item.fusion
    fusion: Fusion = FUSIONS.make(section.kind, key, section.options, name="fusion")
    if not section.is_ours:
        check_fusion(fusion, key, num_parts, settings.embedding_dim)
    return fusion


def _history_reader(settings: History, dim: int, max_history: int) -> HistoryReader:
    key, options = "retrieval.user.history.kind", settings.options
    if settings.kind == "transformer":
        options = settings.model_dump(include={"layers", "heads", "dropout"})
    reader: HistoryReader = HISTORY_READERS.make(
        settings.kind, key, options, dim=dim, max_history=max_history, name="history"
    )
    if not settings.is_ours:
        check_history_reader(reader, key)
    return reader


def _own_parts(
    sections: Mapping[str, OwnPart], key: str, given: Mapping[str, Any]
) -> dict[str, TowerPart]:
    parts = {}
    for number, (name, section) in enumerate(sections.items()):
        place = f"{key}.{name}.kind"
        # A name of the user's own may hold what Keras forbids in names.
        layer_name = f"part_{number}"
        parts[name] = TOWER_PARTS.make(
            section.kind, place, section.options, **given, name=layer_name
        )
        check_tower_part(parts[name], place)
    return parts


@contextmanager
def _precision(config: Config) -> Iterator[None]:
    """Layers made inside compute in 16 bits if the configuration says so."""
    policy = keras.config.dtype_policy()
    if config.retrieval.mixed_precision:
        keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(policy)


def new_ranking(config: Config, data: PreparedData) -> RankingModel:
    """Builds the ranking model, on embeddings of towers where there are any."""
    settings = config.ranking
    num_statistics = 0 if settings.item_statistics == "none" else 1
    statistics = live_statistics(data, config)
    if statistics is not None:
        num_statistics = len(statistics.names)
    return ranking_model(
        data.item_features,
        [*data.user_features, *data.context_features],
        settings,
        num_items=data.num_items,
        embedding_dim=config.retrieval.embedding_dim if settings.towers != "none" else 0,
        max_history=data.max_history,
        num_statistics=num_statistics,
    )


def ranking_model(
    item_features: Sequence[FeatureType],
    request_features: Sequence[FeatureType],
    settings: Ranking,
    **sizes: int,
) -> RankingModel:
    """Builds a ranking model of a section of the configuration.

    Args:
        item_features: Fitted.
        request_features: Fitted, of users and of requests.
        settings: The section `ranking`.
        sizes: What the data and the towers say; see `RankingModel`.

    Raises:
        ConfigError: A part is somebody else's and breaks its contract.
    """
    heads = ranking_heads(settings)
    attention = settings.attention
    layers: dict[str, RankingLayer] = {}
    if settings.cross_layers:
        layers["cross"] = CrossNetwork(settings.cross_layers, settings.cross_rank, name="cross")
    for number, (name, section) in enumerate(settings.layers.items()):
        key = f"ranking.layers.{name}"
        made = [
            RANKING_LAYERS.make(section.kind, f"{key}.kind", section.options, name=layer_name)
            for layer_name in (f"trial_{number}", f"layer_{number}")
        ]
        check_ranking_layer(made[0], f"{key}.kind", 8)
        layers[f"own_{name}"] = made[1]
    return RankingModel(
        item_features,
        request_features,
        **sizes,
        hidden=settings.hidden,
        dropout=settings.dropout,
        layers=layers,
        heads=heads,
        calibrators=_calibrators(settings, heads),
        feature_dim=settings.feature_dim,
        attention=attention.model_dump(include={"heads", "units"}) if attention.use else None,
        time_features=settings.time_features,
    )


def ranking_heads(settings: Ranking) -> dict[str, RankingHead]:
    """Makes what the model predicts beside the click.

    Raises:
        ConfigError: A head is somebody else's and breaks the contract.
    """
    heads: dict[str, RankingHead] = {}
    for name, section in settings.heads.items():
        key, given = f"ranking.heads.{name}.kind", section.model_dump(exclude={"kind", "options"})
        heads[name] = RANKING_HEADS.make(section.kind, key, section.options, **given)
        if not section.is_ours:
            check_ranking_head(heads[name], key)
    return heads


def _calibrators(settings: Ranking, heads: Mapping[str, RankingHead]) -> dict[str, Calibrator]:
    section, key = settings.calibration, "ranking.calibration.kind"

    def make(name: str, num_terms: int) -> Calibrator:
        calibrator: Calibrator = CALIBRATORS.make(
            section.kind, key, section.options, num_terms=num_terms, name=name
        )
        return calibrator

    terms = {CLICK: NUM_CLICK_TERMS}
    terms |= {name: 1 for name, head in heads.items() if head.is_probability}
    if not section.is_ours:
        for num_terms in sorted(set(terms.values())):
            check_calibrator(make("trial", num_terms), key)
    return {name: make(f"calibration_{name}", num_terms) for name, num_terms in terms.items()}
