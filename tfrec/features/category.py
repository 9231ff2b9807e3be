"""Categories: one text value of a vocabulary."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import polars as pl

from tfrec.features.cells import RawCells, to_text
from tfrec.features.feature_type import LEARNED, FeatureInput
from tfrec.features.vocabulary import VocabularyFeature

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

_METHODS = ("unknown", "constant", "most_frequent")


@dataclass(frozen=True)
class Category(VocabularyFeature):
    """A text value; null and "" are missing.

    >>> brand = Category("brand").fit(pl.Series(["b", "a", None]))
    >>> brand.encode_column(pl.Series(["a", "b", "new", None])).tolist()
    [1, 2, 0, 0]

    Attributes:
        missing: What stands in for a missing value: ``unknown`` (index 0), ``constant``,
            ``most_frequent``.
        missing_value: For ``constant``.
        fill: Value of the vocabulary that stands in; None: index 0.
    """

    missing: str = "unknown"
    missing_value: str | None = None
    fill: str | None = field(default=None, metadata=LEARNED)

    uses: ClassVar[frozenset[str]] = frozenset({"context", "attributes", "caps"})

    def __post_init__(self) -> None:
        if self.missing not in _METHODS:
            raise ValueError(
                f"wanted `missing` to be one of {', '.join(_METHODS)}, got {self.missing!r}"
            )
        if (self.missing == "constant") != (self.missing_value is not None):
            raise ValueError("a value goes with `missing: constant`, and only there")
        if self.missing_value is not None and not isinstance(self.missing_value, str):
            raise ValueError(f"wanted text for missing values, got {self.missing_value!r}")

    def parse(self, cells: RawCells) -> pl.Series:
        """Reads text; String [n], "" where unknown."""
        return to_text(cells, self.name)

    def fit(self, column: pl.Series) -> Self:
        """Learns the vocabulary and what stands in for a missing value."""
        counts = self._count(column)
        vocabulary, fill = set(counts["value"]), None
        if self.missing_value is not None:
            fill = self.missing_value
            vocabulary.add(fill)
        elif self.missing == "most_frequent" and vocabulary:  # of several, the first in order
            fill = counts.sort("count", "value", descending=[True, False])["value"][0]
        return dataclasses.replace(self, vocabulary=sorted(vocabulary), fill=fill)

    def encode_column(self, column: pl.Series) -> np.ndarray:
        """Looks up n rows.

        Returns:
            int32 [n]: 1 to V of the vocabulary, then the buckets; 0, or the fill's index, for null,
            "" and, without buckets, values out of the vocabulary.
        """
        return self._look_up(column, self._fill_index)

    def encode_tensor(self, tensor: tf.Tensor, table: Any) -> tf.Tensor:
        """Encodes string [batch] to int32 [batch]."""
        import tensorflow as tf

        found = super().encode_tensor(tensor, table)
        return tf.where(found == 0, self._fill_index, found) if self._fill_index else found

    def layer(self, dim: int, name: str) -> keras.layers.Layer:
        """Makes a table of embeddings."""
        import keras

        embedding = keras.layers.Embedding(self.num_rows, dim, name=name)
        embedding.build(None)
        return embedding

    def signature(self) -> FeatureInput:
        """Says what a request brings."""
        return FeatureInput("string", [None], f"Category {self.name!r}.", "")

    def request_values(self, column: pl.Series) -> np.ndarray:
        """Writes text [n], "" where missing."""
        return np.array(column.fill_null("").to_list(), dtype=object)

    def describe(self, column: pl.Series) -> dict[str, Any]:
        """Counts rows without a value and values out of the vocabulary.

        Returns:
            ``missing``, ``out_of_vocabulary``, ``vocabulary`` (its size), ``oov_buckets``,
            ``fill``.
        """
        return {**self._describe(column != "", column), "fill": self.fill}

    @property
    def _fill_index(self) -> int:
        return 0 if self.fill is None else self.vocabulary.index(self.fill) + 1
