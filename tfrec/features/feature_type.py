"""The contract of a feature type: how one column becomes input of a tower."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import polars as pl

from tfrec.errors import place_of
from tfrec.features.cells import RawCells
from tfrec.registry import FEATURE_TYPES

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

LEARNED = {"learned": True}
"""Metadata of a field that `FeatureType.fit` fills; the configuration cannot."""


@dataclass(frozen=True)
class FeatureInput:
    """What a request has to bring for a feature.

    Attributes:
        dtype: ``string``, ``float32`` or ``int64``.
        shape: Dimensions, the batch first; None where any size is allowed.
        meaning: For people.
        neutral: Value that says "unknown".
    """

    dtype: str
    shape: list[int | None]
    meaning: str
    neutral: str | float


@dataclass(frozen=True)
class FeatureType(ABC):
    """How one column becomes input of a tower: read, learned, encoded, embedded, described.

    A feature type is a frozen dataclass. Its fields are the options of the configuration and, with
    the metadata `LEARNED`, what is learned on train; JSON can hold each. A value passes through it
    twice: in training from the raw cells by `parse` and `encode_column` (polars to numpy), in
    serving from a request by `encode_tensor` (in the graph). Both must give the same array.
    TensorFlow is imported inside the methods that need it: preparing data does not load it.

    A type of your own is named in the configuration by its place, ``type: my_package.flags:Flag``,
    with its options under ``options``. What behaves like one of ours extends it and says only what
    is different:

    >>> from tfrec.features import Number
    >>> class Rounded(Number):
    ...     '''A number of which only the whole part counts.'''
    ...     def parse(self, cells):
    ...         return super().parse(cells).floor()
    >>> Rounded("price").fit(pl.Series([1.0, 3.0])).mean
    2.0

    Attributes:
        name: Column, and key in requests.
        uses: Where the configuration may name such a feature beside the tables of items and users:
            ``context`` (of events), ``relations``, and the filters ``attributes``, ``available``,
            ``unsafe`` and ``caps``.
        column_type: Of the typed column.
    """

    name: str

    uses: ClassVar[frozenset[str]] = frozenset()
    column_type: ClassVar[Any] = pl.String

    @abstractmethod
    def parse(self, cells: RawCells) -> pl.Series:
        """Gives the raw cells of column `name` their type.

        Args:
            cells: n raw rows; cells that do not fit are reported to it.

        Returns:
            `column_type` [n]; null where unknown.
        """

    @abstractmethod
    def fit(self, column: pl.Series) -> Self:
        """Returns a copy that has learned from the typed column of the training rows."""

    @abstractmethod
    def encode_column(self, column: pl.Series) -> np.ndarray:
        """Encodes a typed column.

        Returns:
            int32 [n] or [n, any], indices of which 0 stands for unknown and pads; or float32 [n,
            any], numbers.
        """

    @abstractmethod
    def encode_tensor(self, tensor: tf.Tensor, table: Any) -> tf.Tensor:
        """Does in the graph to the values of requests what `encode_column` does to a column.

        Args:
            tensor: Of the form that `signature` gives.
            table: What `table` made.
        """

    @abstractmethod
    def layer(self, dim: int, name: str) -> keras.layers.Layer:
        """Makes the built layer that embeds encoded rows: [n] or [n, any] to float [n, dim]."""

    @abstractmethod
    def signature(self) -> FeatureInput:
        """Says what a request brings."""

    @abstractmethod
    def request_values(self, column: pl.Series) -> np.ndarray:
        """Writes a typed column the way a request does; text as an object array."""

    def table(self) -> Any:
        """Makes what `encode_tensor` looks values up in, so that an export keeps it; or None."""
        return None

    def seen(self, column: pl.Series) -> Self:
        """Returns the type that parses the next batch of a table after this one."""
        return self

    def describe(self, column: pl.Series) -> dict[str, Any]:
        """Counts for the report what encoding changes, and says what was learned, for JSON."""
        return {"missing": column.null_count()}

    @property
    def reads_filled(self) -> bool:
        """Whether preparation looks for missing values (`filled_column`).

        Then `encode_column` and `describe` take them as a second argument.
        """
        return False

    def unknown_row(self) -> np.ndarray:
        """Encodes one row of which nothing is known; the first dimension is 1."""
        return self.encode_column(pl.Series([None], dtype=self.column_type))

    def to_dict(self) -> dict[str, Any]:
        """Returns a form that JSON can hold; `load_feature` reads it."""
        place = place_of(self)
        names = {ours: name for name, ours in FEATURE_TYPES.ours.items()}
        return {"type": names.get(place, place), **dataclasses.asdict(self)}


def load_feature(saved: dict[str, Any]) -> FeatureType:
    """Returns the feature that `FeatureType.to_dict` wrote.

    >>> from tfrec.features import Number
    >>> price = Number("price").fit(pl.Series([1.0, 3.0]))
    >>> load_feature(price.to_dict()) == price
    True
    """
    fields = dict(saved)
    kind = fields.pop("type")
    feature: FeatureType = FEATURE_TYPES.load(kind, f"feature {fields['name']!r}")(**fields)
    return feature
