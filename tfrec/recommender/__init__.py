"""The only place where the stages meet: raw requests in, ranked items out."""

from tfrec.recommender.catalogue import Catalogue, Inputs
from tfrec.recommender.recommender import Recommender

__all__ = ["Catalogue", "Inputs", "Recommender"]
