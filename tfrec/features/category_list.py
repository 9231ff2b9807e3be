"""Lists of categories: any number of text values of one vocabulary."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import polars as pl

from tfrec.features.cells import RawCells, plain_cells, text_of
from tfrec.features.feature_type import FeatureInput
from tfrec.features.vocabulary import VocabularyFeature

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class CategoryList(VocabularyFeature):
    """Several text values; an empty list is missing.

    >>> tags = CategoryList("tags").fit(pl.Series([["a", "b"], []]))
    >>> tags.encode_column(pl.Series([["b"], ["a", "b"]])).tolist()
    [[2, 0], [1, 2]]

    Attributes:
        separator: In text cells, what stands between the values.
    """

    separator: str = "|"

    uses: ClassVar[frozenset[str]] = frozenset({"relations", "attributes"})
    column_type: ClassVar[Any] = pl.List(pl.String)

    def parse(self, cells: RawCells) -> pl.Series:
        """Reads list cells, or text with `separator` between the values.

        Returns:
            List(String) [n]; nulls become empty lists, and empty values are left out.
        """
        wanted = f"lists, or text with {self.separator!r} between the values"
        raw = cells.frame[self.name]
        if isinstance(raw.dtype, pl.Array):
            raw = raw.arr.to_list()
        if not isinstance(raw.dtype, pl.List):
            raw = plain_cells(cells, self.name, wanted)
            if raw.dtype != pl.String:
                raise cells.fail(self.name, wanted, str(raw.dtype))
            raw = raw.str.split(self.separator)
        inner = raw.dtype.inner  # type: ignore[attr-defined]
        if inner.is_nested() or inner == pl.Object:
            raise cells.fail(self.name, "lists of text", str(raw.dtype))
        value = text_of(pl.element(), inner).str.strip_chars()
        try:
            lists = raw.list.eval(value.filter(value != ""))
        except pl.exceptions.ComputeError:
            raise cells.fail(self.name, "lists of text", "bytes that are no UTF-8") from None
        return lists.cast(pl.List(pl.String)).fill_null([])

    def fit(self, column: pl.Series) -> Self:
        """Learns the vocabulary."""
        return dataclasses.replace(self, vocabulary=sorted(self._count(column.explode())["value"]))

    def encode_column(self, column: pl.Series) -> np.ndarray:
        """Returns int32 [n, longest], the index of each value, padded with 0."""
        lengths = column.list.len().fill_null(0).to_numpy()
        encoded = np.zeros((len(column), max(1, int(lengths.max(initial=0)))), np.int32)
        is_cell = np.arange(encoded.shape[1]) < lengths[:, None]
        non_empty = column.filter(column.list.len() > 0)
        if len(non_empty):
            encoded[is_cell] = self._look_up(non_empty.explode())
        return encoded

    def layer(self, dim: int, name: str) -> keras.layers.Layer:
        """Makes a table of embeddings that averages the known values of each row."""
        from tfrec.features.mean_embedding import MeanEmbedding

        embedding = MeanEmbedding(self.num_rows, dim, name=name)
        embedding.build(None)
        return embedding

    def signature(self) -> FeatureInput:
        """Says what a request brings."""
        return FeatureInput("string", [None, None], f"Categories {self.name!r}; '' pads.", "")

    def request_values(self, column: pl.Series) -> np.ndarray:
        """Writes text [n, longest], padded with ""."""
        lengths = column.list.len().fill_null(0).to_numpy()
        width = max(1, int(lengths.max(initial=0)))
        cells = np.full((len(column), width), "", dtype=object)
        values = column.filter(column.list.len() > 0).explode().fill_null("")
        cells[np.arange(width) < lengths[:, None]] = values.to_list()
        return cells

    def describe(self, column: pl.Series) -> dict[str, Any]:
        """Counts rows without a value and values out of the vocabulary.

        Returns:
            ``missing``, ``out_of_vocabulary``, ``vocabulary`` (its size), ``oov_buckets``.
        """
        return self._describe(column.list.len() > 0, column.explode())
