"""Models: towers and what is learned with them."""

from tfrec.models.ranking import RankingModel
from tfrec.models.retrieval import RetrievalModel

__all__ = ["RankingModel", "RetrievalModel"]
