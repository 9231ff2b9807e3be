import numpy as np
import pytest

from tfrec.errors import ConfigError
from tfrec.metrics.request_metric import RequestMetric, check_metric, measure_requests


class BestRank(RequestMetric):
    """The best rank, or k + 1 where nothing is found."""

    name = "best_rank"

    def measure(self, ranks, k):
        return float(min(ranks[0], k + 1))


class Nameless(BestRank):
    name = ""


class Taken(BestRank):
    name = "recall"


class Infinite(BestRank):
    def measure(self, ranks, k):
        return float("inf")


class OneArray(BestRank):
    def measure(self, ranks, k):
        return ranks


class Failing(BestRank):
    def measure(self, ranks, k):
        return ranks[5]


@pytest.mark.parametrize("seed", range(3))
def test_each_request_is_measured_with_its_own_ranks_in_ascending_order(seed: int):
    draw = np.random.default_rng(seed)
    request = np.repeat(np.arange(20), draw.integers(1, 5, 20))
    ranks = draw.integers(1, 40, len(request))
    found = measure_requests([BestRank()], request, ranks, k=10)
    wanted = [min(ranks[request == n].min(), 11) for n in range(20)]
    assert found["best_rank"].tolist() == wanted


def test_no_requests_give_no_values():
    nothing = np.zeros(0, np.int64)
    assert measure_requests([BestRank()], nothing, nothing, k=3)["best_rank"].tolist() == []


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (Nameless(), "wanted a name beside recall, got ''"),
        (Taken(), "wanted a name beside recall, got 'recall'"),
        (Infinite(), "wanted a finite number for the ranks .7., got inf"),
        (OneArray(), "wanted a finite number for the ranks .7., got array"),
        (Failing(), "failed for the ranks .7.: index 5 is out of bounds"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_broken_metric_is_refused_in_one_line(metric: RequestMetric, message: str):
    with pytest.raises(ConfigError, match=rf"^evaluation\.metrics\.0: .*{message}") as caught:
        check_metric(metric, "evaluation.metrics.0", ["recall"])
    assert "\n" not in str(caught.value)


def test_sound_metric_passes():
    check_metric(BestRank(), "evaluation.metrics.0", ["recall"])
