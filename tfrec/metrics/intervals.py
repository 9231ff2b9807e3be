"""Confidence intervals by the bootstrap over requests: pure functions, deterministic by seed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

_BLOCK_WEIGHTS = 2**22


def drawn_weights(num_requests: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Draws as many requests as there are, with replacement, again and again.

    The draws depend on the arguments alone, so resampled metrics of two models can be subtracted.

    Yields:
        float64 [block, num_requests], how often each request was drawn; all blocks together have
        `resamples` rows, none without requests.
    """
    rng = np.random.default_rng(seed)
    step = max(1, _BLOCK_WEIGHTS // max(num_requests, 2**12))
    for start in range(0, resamples if num_requests else 0, step):
        yield np.stack(
            [
                np.bincount(rng.integers(0, num_requests, num_requests), minlength=num_requests)
                for _ in range(min(step, resamples - start))
            ]
        ).astype(np.float64)


def resample_means(
    sums: np.ndarray, counts: np.ndarray | None = None, *, resamples: int = 1000, seed: int = 0
) -> np.ndarray:
    """Draws requests with replacement, again and again, and measures each drawn set.

    Two calls with the same seed and number of requests draw the same requests, so resampled metrics
    of two models can be subtracted.

    Source: Efron, Bootstrap Methods: Another Look at the Jackknife (1979), with requests as the
        units that are drawn (a request's targets stay together).

    Args:
        sums: float [num_requests, num_metrics], what each request adds to each metric.
        counts: float [num_requests], what it adds to the divisor, for metrics that are means over
            targets; 1 each by default.
        resamples: Number of sets.
        seed: Of the draws.

    Returns:
        float64 [resamples, num_metrics]; NaN where a set has nothing to divide by.
    """
    num_requests = len(sums)
    counts = np.ones(num_requests) if counts is None else counts
    columns = np.column_stack([sums, counts]).astype(np.float64)
    totals = np.full((resamples, columns.shape[1]), np.nan)
    start = 0
    for weights in drawn_weights(num_requests, resamples, seed):
        totals[start : start + len(weights)] = weights @ columns
        start += len(weights)
    with np.errstate(divide="ignore", invalid="ignore"):
        return totals[:, :-1] / totals[:, -1:]


def percentile_interval(values: np.ndarray, level: float = 0.95) -> np.ndarray:
    """Returns the range that holds the middle `level` of resampled values.

    Args:
        values: float [resamples, num_metrics]; NaN is left out.
        level: In (0, 1).

    Returns:
        float64 [num_metrics, 2]: low and high; NaN where there is no value.
    """
    tail = (1.0 - level) / 2.0
    bounds = np.full((values.shape[1], 2), np.nan)
    for column in np.flatnonzero(~np.isnan(values).all(axis=0)):
        bounds[column] = np.nanquantile(values[:, column], [tail, 1.0 - tail])
    return bounds


def paired_difference(
    first: np.ndarray,
    second: np.ndarray,
    counts: np.ndarray | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[np.ndarray, np.ndarray]:
    """Compares two models on the same requests.

    What is hard for both cancels out, so this interval is narrower than the two models' own
    intervals suggest. One that does not hold 0 tells the models apart.

    Args:
        first: float [num_requests, num_metrics], as for `resample_means`.
        second: Likewise, of the other model.
        counts: float [num_requests], the divisors of both.
        resamples: Number of drawn sets.
        seed: Of the draws.
        level: Of the interval.

    Returns:
        Difference first - second, float64 [num_metrics], and its interval [num_metrics, 2].
    """
    difference = first - second
    divisor = len(first) if counts is None else counts.sum()
    drawn = resample_means(difference, counts, resamples=resamples, seed=seed)
    return difference.sum(axis=0) / divisor, percentile_interval(drawn, level)
