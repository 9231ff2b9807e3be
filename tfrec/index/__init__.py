"""Search for the items nearest to an embedding. Knows arrays, never models."""

from tfrec.index.build import IndexReport, build_index
from tfrec.index.exact import ExactIndex, ItemIndex

__all__ = ["ExactIndex", "IndexReport", "ItemIndex", "build_index"]
