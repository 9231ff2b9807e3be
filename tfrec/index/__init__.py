"""Search for the items nearest to an embedding. Knows arrays, never models."""

from tfrec.index.build import IndexReport, build_index
from tfrec.index.exact import ExactIndex
from tfrec.index.item_index import ItemIndex, Searcher

__all__ = ["ExactIndex", "IndexReport", "ItemIndex", "Searcher", "build_index"]
