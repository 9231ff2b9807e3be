"""Losses of retrieval, and the contract of one of your own."""

from tfrec.losses.full_softmax import FullSoftmax
from tfrec.losses.rating import SquaredError
from tfrec.losses.retrieval import Pairs, RetrievalLoss, Sampled
from tfrec.losses.sampled_softmax import SampledSoftmax

__all__ = ["FullSoftmax", "Pairs", "RetrievalLoss", "Sampled", "SampledSoftmax", "SquaredError"]
