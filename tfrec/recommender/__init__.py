"""The only place where the stages meet: raw requests in, ranked items out."""

from tfrec.recommender.catalogue import Catalogue, Inputs
from tfrec.recommender.reading import last_items, last_values
from tfrec.recommender.recommender import Recommender

__all__ = ["Catalogue", "Inputs", "Recommender", "last_items", "last_values"]
