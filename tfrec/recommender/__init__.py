"""The only place where the stages meet: raw requests in, ranked items out."""

from tfrec.recommender.catalogue import Catalogue, Inputs
from tfrec.recommender.recommender import Recommender
from tfrec.recommender.request_reader import last_items, last_values

__all__ = ["Catalogue", "Inputs", "Recommender", "last_items", "last_values"]
