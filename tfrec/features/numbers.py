"""Numbers of one column: which are known, on what scale, and what is learned about them."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from tfrec.config import Clip, Feature

# What is nearer to 0 counts as 0: TensorFlow may flush it to 0, so numpy must too.
SMALLEST_NUMBER = float(np.finfo(np.float32).tiny)
# A smaller deviation, relative to the values, is rounding: the feature is a constant.
_SMALLEST_DEVIATION = 1e-9


def known_numbers(column: pl.Series) -> tuple[np.ndarray, np.ndarray]:
    """Reads numbers the way a request carries them, as float32.

    Returns:
        Values, float64 [n], 0 where unknown; is_known, bool [n]: neither null, NaN, infinite nor 0,
        the value with which a request says "unknown".
    """
    with np.errstate(over="ignore"):
        rounded = column.cast(pl.Float64).fill_null(0).to_numpy().astype(np.float32)
    values = rounded.astype(np.float64)
    is_known = np.isfinite(values) & (np.abs(values) >= SMALLEST_NUMBER)
    return np.where(is_known, values, 0.0), is_known


def finite_numbers(column: pl.Series) -> tuple[np.ndarray, np.ndarray]:
    """Reads numbers of which 0 is one.

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


def learn_numbers(declared: Feature, known: np.ndarray) -> dict[str, float | None]:
    """Learns the bounds of outliers, what stands for a missing value, and the moments.

    Args:
        declared: A feature of type number or date.
        known: float64 [n], n > 0, the known values of the training rows.

    Returns:
        low, high: Bounds of raw values, None without `clip`. fill: Raw value, None without one.
        mean, std: Of the values moved into the bounds, then scaled; std is 1 for a constant.
    """
    low, high = _learn_bounds(known, declared.clip)
    clipped = np.clip(known, low, high)
    scaled = scale_numbers(clipped, declared.scale)
    std = float(scaled.std())
    return {
        "low": low,
        "high": high,
        "fill": _learn_fill(declared, clipped),
        "mean": float(scaled.mean()),
        "std": std if std > _SMALLEST_DEVIATION * np.abs(scaled).max() else 1.0,
    }


def _learn_bounds(known: np.ndarray, clip: Clip | None) -> tuple[float | None, float | None]:
    if clip is None:
        return None, None
    if clip.method == "quantile":
        low, high = np.quantile(known, [clip.low, clip.high])
    else:
        spread = clip.limit * known.std()
        low, high = known.mean() - spread, known.mean() + spread
    return float(low), float(high)


def _learn_fill(declared: Feature, clipped: np.ndarray) -> float | None:
    method = declared.missing.method
    if method == "unknown":
        return None
    if method == "constant":
        return float(declared.missing.value or 0)
    if method == "mean":
        return float(clipped.mean())
    if method == "most_frequent":  # of several, the smallest
        values, counts = np.unique(clipped, return_counts=True)
        return float(values[counts.argmax()])
    return float(np.median(clipped))  # of `interpolate` and `nearest` too
