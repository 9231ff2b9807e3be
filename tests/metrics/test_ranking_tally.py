import numpy as np
import pytest

from tfrec.metrics.impressions import impression_values
from tfrec.metrics.ranking import ranking_metrics
from tfrec.metrics.ranking_tally import METRICS, tally_requests


def draw_rows(seed: int, rows: int = 400, decimals: int = 2):
    draw = np.random.default_rng(seed)
    probabilities = np.round(draw.random(rows), decimals)
    labels = (draw.random(rows) < probabilities).astype(int)
    return labels, probabilities, draw.integers(0, rows // 8, rows) * 3, draw.integers(1, 4, rows)


def mean_of_known(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def measure_all(labels, probabilities, requests, weights=None) -> dict[str, float]:
    lists = impression_values(labels, probabilities, requests)
    metrics = ranking_metrics(labels, probabilities, weights, requests) | {
        name: mean_of_known(lists[name]) for name in ("mrr", "ndcg_at_5", "ndcg_at_10")
    }
    return {name: metrics[name] for name in METRICS}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("decimals", [1, 6])
def test_each_request_once_gives_the_metrics(seed: int, decimals: int):
    labels, probabilities, requests, weights = draw_rows(seed, decimals=decimals)
    tally = tally_requests(labels, probabilities, requests, weights)
    found = {n: v[0] for n, v in tally.measure(np.ones((1, len(tally.weights)))).items()}
    assert found == pytest.approx(measure_all(labels, probabilities, requests, weights))


def test_a_drawn_set_gives_the_metrics_of_its_rows():
    labels, probabilities, requests, weights = draw_rows(0)
    names = np.unique(requests)
    times = np.random.default_rng(1).integers(0, 3, len(names))
    tally = tally_requests(labels, probabilities, requests, weights)
    found = {n: v[0] for n, v in tally.measure(times[None].astype(float)).items()}
    parts = [
        (np.flatnonzero(requests == name), copy)
        for name, number in zip(names, times, strict=True)
        for copy in range(number)
    ]
    rows = np.concatenate([at for at, _ in parts])
    drawn = np.concatenate([np.full(len(at), n) for n, (at, _) in enumerate(parts)])
    expected = measure_all(labels[rows], probabilities[rows], drawn, weights[rows])
    del found["ece"], expected["ece"]  # the bins of a set of its own lie elsewhere
    assert found == pytest.approx(expected)


def test_many_distinct_scores_share_columns_at_little_loss():
    draw = np.random.default_rng(0)
    probabilities = draw.random(30_000)
    labels = (draw.random(30_000) < probabilities).astype(int)
    tally = tally_requests(labels, probabilities, np.arange(30_000) // 10)
    assert tally.positives.shape[1] <= 4096
    found = {n: v[0] for n, v in tally.measure(np.ones((1, 3000))).items()}
    expected = measure_all(labels, probabilities, np.arange(30_000) // 10)
    assert found["auc"] == pytest.approx(expected["auc"], abs=1e-5)
    assert found["pr_auc"] == pytest.approx(expected["pr_auc"], abs=1e-4)


def test_resampled_auc_spreads_as_scipy_says():
    from scipy.stats import bootstrap
    from sklearn.metrics import roc_auc_score

    labels, probabilities, _, _ = draw_rows(0, rows=150)
    tally = tally_requests(labels, probabilities, np.arange(150))  # each row a request

    def auc(at: np.ndarray) -> float:
        return roc_auc_score(labels[at], probabilities[at])

    expected = bootstrap(
        (np.arange(150),), auc, n_resamples=600, vectorized=False, method="percentile", rng=0
    )
    drawn = tally.resample(3000, seed=0)[:, METRICS.index("auc")]
    assert drawn.std() == pytest.approx(expected.standard_error, rel=0.12)
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert [low, high] == pytest.approx(
        [expected.confidence_interval.low, expected.confidence_interval.high], abs=0.015
    )


def test_sets_of_one_class_have_no_auc():
    tally = tally_requests(np.array([1, 0]), np.array([0.4, 0.3]), np.array([0, 1]))
    found = tally.measure(np.array([[2.0, 0.0], [1.0, 1.0]]))
    assert np.isnan(found["auc"][0])
    assert found["auc"][1] == 1.0
    assert np.isnan(found["gauc"]).all()  # no request has both classes
    assert found["log_loss"][0] == pytest.approx(-np.log(0.4))


def test_nothing_to_measure_gives_no_numbers():
    nothing = np.zeros(0)
    assert np.isnan(tally_requests(nothing, nothing, nothing.astype(int)).resample(5, 0)).all()
