"""Numbers: scaled, standardised, and told from what is missing."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import polars as pl

from tfrec.features.cells import RawCells, to_numbers
from tfrec.features.feature_type import LEARNED, FeatureInput, FeatureType
from tfrec.features.numbers import (
    SMALLEST_NUMBER,
    finite_numbers,
    known_numbers,
    learn_bounds,
    learn_fill,
    learn_moments,
    scale_numbers,
)

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

# Keeps one absurd value of a request from overflowing a tower.
_MAX_NUMBER = 10.0
_FILLED = ("interpolate", "nearest")
_METHODS = ("unknown", "constant", "mean", "median", "most_frequent", *_FILLED)
_WIDTH = 2


@dataclass(frozen=True)
class Number(FeatureType):
    """A number. Null, NaN and infinity are missing; 0 is a number like any other.

    >>> price = Number("price", missing="median").fit(pl.Series([1.0, 3.0, None]))
    >>> price.encode_column(pl.Series([3.0, 0.0, None])).tolist()
    [[1.0, 0.0], [-2.0, 0.0], [0.0, 1.0]]

    Attributes:
        scale: ``linear``, or ``log``: sign(x) * log(1 + |x|).
        clip: How bounds of outliers are found: ``quantile``, ``z_score``, or None.
        low_quantile, high_quantile: For ``quantile``.
        max_deviations: For ``z_score``, standard deviations from the mean.
        missing: What stands in for a missing value: ``unknown``, ``constant``, ``mean``,
            ``median``, ``most_frequent``; what preparation finds, ``interpolate``, ``nearest``.
        missing_value: For ``constant``.
        neighbours: For ``nearest``, how many rows.
        indicator: Whether an encoded number says that it was missing.
        low, high: Raw numbers beyond are moved here; None: no bounds.
        fill: Raw number that stands in for a missing one; None: the mean.
        mean: Of the known numbers, after bounds and scale.
        std: Of the same; 1 for a constant.
    """

    scale: str = "linear"
    clip: str | None = None
    low_quantile: float = 0.01
    high_quantile: float = 0.99
    max_deviations: float = 4.0
    missing: str = "unknown"
    missing_value: float | None = None
    neighbours: int = 5
    indicator: bool = True
    low: float | None = field(default=None, metadata=LEARNED)
    high: float | None = field(default=None, metadata=LEARNED)
    fill: float | None = field(default=None, metadata=LEARNED)
    mean: float = field(default=0.0, metadata=LEARNED)
    std: float = field(default=1.0, metadata=LEARNED)

    uses: ClassVar[frozenset[str]] = frozenset({"context", "available", "unsafe"})
    column_type: ClassVar[Any] = pl.Float64

    def __post_init__(self) -> None:
        for option, value, known in (
            ("scale", self.scale, ("linear", "log")),
            ("clip", self.clip, (None, "quantile", "z_score")),
            ("missing", self.missing, _METHODS),
        ):
            if value not in known:
                raise ValueError(f"wanted `{option}` to be one of {known}, got {value!r}")
        if (self.missing == "constant") != (self.missing_value is not None):
            raise ValueError("a value goes with `missing: constant`, and only there")
        if isinstance(self.missing_value, str):
            raise ValueError(f"wanted a number for missing values, got {self.missing_value!r}")

    def parse(self, cells: RawCells) -> pl.Series:
        """Reads numbers; Float64 [n], finite or null."""
        return to_numbers(cells, self.name)

    def fit(self, column: pl.Series) -> Self:
        """Learns bounds, fill and moments.

        With nothing known there is no fill: no scale is known to put it on.
        """
        numbers, is_known = known_numbers(column)
        known = numbers[is_known]
        low, high, fill, mean, std = None, None, None, 0.0, 1.0
        if known.size:
            if self.clip is not None:
                quantiles = (self.low_quantile, self.high_quantile)
                low, high = learn_bounds(known, self.clip, quantiles, self.max_deviations)
            known = np.clip(known, low, high)
            if self.missing_value is None:
                fill = learn_fill(known, self.missing)
            else:
                fill = float(self.missing_value)
            mean, std = learn_moments(scale_numbers(known, self.scale))
        return dataclasses.replace(self, low=low, high=high, fill=fill, mean=mean, std=std)

    @property
    def reads_filled(self) -> bool:
        """Whether preparation looks for missing values."""
        return self.missing in _FILLED

    def encode_column(self, column: pl.Series, filled: pl.Series | None = None) -> np.ndarray:
        """Encodes n rows.

        Args:
            column: Raw values.
            filled: Numbers that stand for missing ones, as preparing finds them; null where `fill`
                does. What is missing in `column` stays marked as missing.

        Returns:
            float32 [n, 2]: the value moved into [`low`, `high`], scaled and standardised, at most
            10 deviations from the mean, and 0; or 0 or the standardised fill, and 1 (with
            `indicator`) where it is missing.
        """
        values, is_known = known_numbers(column)
        has_value = is_known
        if filled is not None:
            found, is_found = finite_numbers(filled)
            values = np.where(is_known, values, found)
            has_value = is_known | is_found
        encoded = np.zeros((len(values), _WIDTH), np.float32)
        standardised = self._standardise(np.clip(values, self.low, self.high))
        encoded[:, 0] = np.where(has_value, standardised, self._fill_number)
        if self.indicator:
            encoded[:, 1] = ~is_known
        return encoded

    def encode_tensor(self, tensor: tf.Tensor, table: Any = None) -> tf.Tensor:
        """Encodes float32 [batch], NaN where missing, to float32 [batch, 2]."""
        import tensorflow as tf

        # In float64, as numpy computes: days since 1970 lose their digits in float32.
        values = tf.cast(tensor, tf.float64)
        is_known = tf.math.is_finite(values)
        values = tf.where(is_known & (tf.abs(values) >= SMALLEST_NUMBER), values, 0.0)
        if self.low is not None:
            values = tf.clip_by_value(values, self.low, self.high)
        scaled = tf.sign(values) * tf.math.log1p(tf.abs(values)) if self.scale == "log" else values
        standardised = (scaled - self.mean) / self.std
        bounded = tf.clip_by_value(standardised, -_MAX_NUMBER, _MAX_NUMBER)
        number = tf.cast(tf.where(is_known, bounded, self._fill_number), tf.float32)
        missing = ~is_known if self.indicator else tf.zeros_like(is_known)
        return tf.stack([number, tf.cast(missing, tf.float32)], axis=-1)

    def layer(self, dim: int, name: str) -> keras.layers.Layer:
        """Makes a projection of both numbers."""
        import keras

        projection = keras.layers.Dense(dim, name=name)
        projection.build((None, _WIDTH))
        return projection

    def signature(self) -> FeatureInput:
        """Says what a request brings."""
        meaning = f"Number {self.name!r}; NaN for unknown."
        return FeatureInput("float32", [None], meaning, float("nan"))

    def request_values(self, column: pl.Series) -> np.ndarray:
        """Writes float32 [n], NaN where missing."""
        values, is_known = known_numbers(column)
        return np.where(is_known, values, np.nan).astype(np.float32)

    def describe(self, column: pl.Series, filled: pl.Series | None = None) -> dict[str, Any]:
        """Counts rows that are missing, filled, moved into the bounds, more than 10 deviations off.

        Returns:
            ``missing``, ``filled`` (missing rows with a value in `filled`), ``clipped`` (outside of
            `low` and `high`), ``bounded`` (still more than 10 deviations from the mean), and
            ``mean``, ``std``, ``low``, ``high``, ``fill``.
        """
        values, is_known = known_numbers(column)
        known = values[is_known]
        clipped = np.clip(known, self.low, self.high)
        beyond = np.abs((scale_numbers(clipped, self.scale) - self.mean) / self.std) > _MAX_NUMBER
        is_filled = np.zeros(len(column), bool) if filled is None else finite_numbers(filled)[1]
        return {
            "missing": int((~is_known).sum()),
            "filled": int((is_filled & ~is_known).sum()),
            "clipped": int((clipped != known).sum()),
            "bounded": int(beyond.sum()),
            **{name: getattr(self, name) for name in ("mean", "std", "low", "high", "fill")},
        }

    @property
    def _fill_number(self) -> float:
        # The fill is not clipped: a constant is what the user wants.
        return 0.0 if self.fill is None else float(self._standardise(np.float64(self.fill)))

    def _standardise(self, values: Any) -> Any:
        standardised = (scale_numbers(values, self.scale) - self.mean) / self.std
        return np.clip(standardised, -_MAX_NUMBER, _MAX_NUMBER)
