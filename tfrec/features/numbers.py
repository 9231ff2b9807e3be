"""Numbers of one column: which are known, on what scale, and what is learned about them."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

# What is nearer to 0 counts as 0: TensorFlow may flush it to 0, so numpy must too.
SMALLEST_NUMBER = float(np.finfo(np.float32).tiny)
# A smaller deviation, relative to the values, is rounding: the feature is a constant.
_SMALLEST_DEVIATION = 1e-9


def known_numbers(column: pl.Series) -> tuple[np.ndarray, np.ndarray]:
    """Reads numbers the way a request carries them, as float32.

    Returns:
        Values, float64 [n], 0 where unknown; is_known, bool [n]: neither null, NaN nor infinite.
    """
    with np.errstate(over="ignore"):
        rounded = column.cast(pl.Float64).fill_null(np.nan).to_numpy().astype(np.float32)
    values = rounded.astype(np.float64)
    is_known = np.isfinite(values)
    return np.where(is_known & (np.abs(values) >= SMALLEST_NUMBER), values, 0.0), is_known


def finite_numbers(column: pl.Series) -> tuple[np.ndarray, np.ndarray]:
    """Reads numbers in full precision.

    Returns:
        Values, float64 [n], 0 where null, NaN or infinite; is_finite, bool [n].
    """
    values = column.cast(pl.Float64).fill_null(np.nan).to_numpy()
    is_finite = np.isfinite(values)
    return np.where(is_finite, values, 0.0), is_finite


def scale_numbers(values: Any, scale: str) -> Any:
    """Returns values on the ``linear`` or ``log`` scale, sign(x) * log(1 + |x|)."""
    return np.sign(values) * np.log1p(np.abs(values)) if scale == "log" else values


def unscale_numbers(scaled: Any, scale: str) -> Any:
    """Takes `scale_numbers` back."""
    return np.sign(scaled) * np.expm1(np.abs(scaled)) if scale == "log" else scaled


def learn_bounds(
    known: np.ndarray, clip: str, quantiles: tuple[float, float], max_deviations: float
) -> tuple[float, float]:
    """Returns between which numbers float64 [n], n > 0, are no outliers."""
    if clip == "quantile":
        low, high = np.quantile(known, quantiles)
    else:
        spread = max_deviations * known.std()
        low, high = known.mean() - spread, known.mean() + spread
    return float(low), float(high)


def learn_fill(known: np.ndarray, missing: str) -> float | None:
    """Returns the number that stands in for a missing one; None for ``unknown``."""
    if missing == "unknown":
        return None
    if missing == "mean":
        return float(known.mean())
    if missing == "most_frequent":  # of several, the smallest
        values, counts = np.unique(known, return_counts=True)
        return float(values[counts.argmax()])
    return float(np.median(known))  # of `interpolate` and `nearest` too


def learn_moments(scaled: np.ndarray) -> tuple[float, float]:
    """Returns mean and standard deviation; 1 for a constant."""
    std = float(scaled.std())
    is_constant = std <= _SMALLEST_DEVIATION * np.abs(scaled).max()
    return float(scaled.mean()), 1.0 if is_constant else std
