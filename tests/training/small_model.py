"""The retrieval model of the small data set, for tests that build one themselves."""

from collections.abc import Sequence

from tfrec.config import Config
from tfrec.data.dataset import PreparedData
from tfrec.encoders.adaptation import adapt
from tfrec.encoders.bert import BertEncoder, build_backbone
from tfrec.environment import start_tensorflow
from tfrec.models.build import new_retrieval
from tfrec.models.retrieval import RetrievalModel

NOTHING_HIDDEN = {"item": {"id_dropout": 0.0}, "user": {"id_dropout": 0.0, "dropout": 0.0}}
"""Settings of `retrieval` with which a step draws nothing in the towers."""


def small_model(data: PreparedData, vocabulary: Sequence[str], config: Config) -> RetrievalModel:
    """Builds the model from the seed on, with a nano encoder that drops out nothing."""
    start_tensorflow(config.seed)
    encoder = BertEncoder(build_backbone("nano", len(vocabulary), 16, dropout=0.0))
    model = new_retrieval(config, data, encoder)
    adapt(model.encoder, config.encoder.adaptation)
    return model
