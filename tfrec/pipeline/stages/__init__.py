"""The stages of a run, one file each."""

from tfrec.pipeline.stages.candidates import Candidates
from tfrec.pipeline.stages.evaluation import Evaluation
from tfrec.pipeline.stages.export import Export
from tfrec.pipeline.stages.index import Index
from tfrec.pipeline.stages.order import Order
from tfrec.pipeline.stages.prepare import Prepare
from tfrec.pipeline.stages.pretraining import Pretraining
from tfrec.pipeline.stages.ranking import Ranking
from tfrec.pipeline.stages.retrieval import Retrieval
from tfrec.pipeline.stages.tokens import Tokens
from tfrec.pipeline.stages.vocabulary import Vocabulary

__all__ = [
    "Candidates",
    "Evaluation",
    "Export",
    "Index",
    "Order",
    "Prepare",
    "Pretraining",
    "Ranking",
    "Retrieval",
    "Tokens",
    "Vocabulary",
]
