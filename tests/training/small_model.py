"""The retrieval model of the small data set, for tests that build one themselves."""

from collections.abc import Sequence

from tfrec.config import Config
from tfrec.data.dataset import PreparedData
from tfrec.encoders.adaptation import adapt
from tfrec.encoders.bert import TextEncoder, build_backbone
from tfrec.environment import start_tensorflow
from tfrec.features.time_gaps import NUM_GAP_BUCKETS
from tfrec.models.retrieval import RetrievalModel

NOTHING_HIDDEN = {"item": {"id_dropout": 0.0}, "user": {"id_dropout": 0.0, "dropout": 0.0}}
"""Settings of `retrieval` with which a step draws nothing in the towers."""


def small_model(data: PreparedData, vocabulary: Sequence[str], config: Config) -> RetrievalModel:
    """Builds the model from the seed on, with a nano encoder that drops out nothing."""
    start_tensorflow(config.seed)
    model = RetrievalModel(
        TextEncoder(build_backbone("nano", len(vocabulary), 16, dropout=0.0)),
        num_item_ids=int(data.item_id_rows.max()),
        num_user_ids=int(data.user_id_rows.max()),
        item_features=data.item_features,
        request_features=[*data.user_features, *data.context_features],
        max_history=data.max_history,
        config=config.retrieval,
        num_event_kinds=len(data.event_kinds),
        num_gaps=NUM_GAP_BUCKETS,
    )
    adapt(model.encoder, config.encoder.adaptation)
    return model
