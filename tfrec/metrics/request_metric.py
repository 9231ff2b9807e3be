"""A metric of one's own for whole lists: what it must answer, and the trial of it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from tfrec.errors import ConfigError, place_of, reason_of


class RequestMetric(ABC):
    """One number for each request; the report shows its mean beside ours, with its interval.

    A metric of your own has a name and measures one request:

    >>> class AllFound(RequestMetric):
    ...     name = "all_found"
    ...     def measure(self, ranks, k):
    ...         return float(ranks[-1] <= k)
    >>> AllFound().measure(np.array([2, 9]), k=10)
    1.0

    Attributes:
        name: Of its column, which is ``<name>_at_<k>``.
    """

    name: str = ""

    @abstractmethod
    def measure(self, ranks: np.ndarray, k: int) -> float:
        """Measures one request.

        Args:
            ranks: int64 [num_targets], at least one: the ranks of the request's targets among the
                whole catalogue, from 1, ascending.
            k: Length of the list.

        Returns:
            Any finite number.
        """


def measure_requests(
    metrics: Sequence[RequestMetric], request: np.ndarray, ranks: np.ndarray, k: int
) -> dict[str, np.ndarray]:
    """Asks metrics about each request.

    Args:
        metrics: To be asked.
        request: int [num_targets], ascending from 0; every request has a target.
        ranks: int64 [num_targets], from 1.
        k: Length of the list.

    Returns:
        float64 [num_requests] by name.
    """
    ordered = ranks[np.lexsort((ranks, request))]
    of_request = np.split(ordered, np.flatnonzero(np.diff(request)) + 1) if len(request) else []
    return {
        metric.name: np.array([metric.measure(own, k) for own in of_request], np.float64)
        for metric in metrics
    }


def check_metric(metric: RequestMetric, key: str, taken: Sequence[str]) -> None:
    """Has a metric measure two small requests.

    Args:
        metric: To be tried.
        key: Of the configuration, for messages.
        taken: Names that other metrics have.

    Raises:
        ConfigError: It has no name of its own, fails, or answers something else than a number.
    """
    place = f"{key}: {place_of(metric)}"
    if not metric.name or metric.name in taken:
        raise ConfigError(
            f"{place}: wanted a name beside {', '.join(taken)}, got {metric.name!r}; set `name`."
        )
    for ranks in ([7], [1, 3, 12]):
        try:
            value = metric.measure(np.array(ranks), 5)
        except Exception as error:  # a metric of somebody else raises whatever it raises
            reason = reason_of(error)
            raise ConfigError(f"{place}.measure failed for the ranks {ranks}: {reason}") from error
        is_number = isinstance(value, float | int | np.number) and not isinstance(value, bool)
        if not is_number or not math.isfinite(value):
            raise ConfigError(
                f"{place}.measure: wanted a finite number for the ranks {ranks}, got {value!r}."
            )
