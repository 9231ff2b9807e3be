"""The protocols of benchmarks/retrieval_quality.py against their definitions, item by item."""

import importlib.util
import math
from pathlib import Path
from types import ModuleType

import numpy as np
import polars as pl
import pytest

from tfrec.config import load_config

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def quality() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "retrieval_quality", BENCHMARKS / "retrieval_quality.py"
    )
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rank_among(own: float, others: list[float]) -> int:
    """Returns 1 and one more for each other that is not worse."""
    return 1 + sum(not other < own for other in others)


def quantised(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Returns whole numbers, so that ties are common and dot products exact."""
    return rng.integers(-3, 4, shape).astype(np.float32)


@pytest.mark.parametrize("seed", range(3))
def test_ncf_hit_rate_with_ties_equals_counting(quality, seed):
    rng = np.random.default_rng(seed)
    target, negatives = quantised(rng, 40), quantised(rng, 40, 30)
    ranks = [rank_among(own, list(row)) for own, row in zip(target, negatives, strict=True)]

    measured = quality.ncf_hit_rate(target, negatives, k=10)

    hits = [rank <= 10 for rank in ranks]
    gains = [1 / math.log2(rank + 1) if rank <= 10 else 0.0 for rank in ranks]
    assert measured == pytest.approx({"HR@10": np.mean(hits), "NDCG@10": np.mean(gains)})


def test_ncf_hit_rate_negative_equal_to_target_ranks_before_it(quality):
    # 9 better ones leave rank 10, a hit of 1 / log2(11); the target itself among the negatives: 11.
    better = np.arange(1.0, 10.0)
    negatives = np.stack([np.append(better, -1.0), np.append(better, 0.0)])

    measured = quality.ncf_hit_rate(np.zeros(2), negatives, k=10)

    assert measured == pytest.approx({"HR@10": 0.5, "NDCG@10": 0.5 / math.log2(11)})


def test_ncf_hit_rate_target_without_number_is_no_hit(quality):
    measured = quality.ncf_hit_rate(np.array([np.nan]), np.zeros((1, 99)))

    assert measured == {"HR@10": 0.0, "NDCG@10": 0.0}


@pytest.mark.parametrize("seed", range(3))
def test_tfrs_top_100_accuracy_with_ties_equals_counting(quality, seed):
    rng = np.random.default_rng(seed)
    users, items = quantised(rng, 6, 3), quantised(rng, 31, 3)
    request = np.sort(rng.integers(0, 6, 20))
    target = rng.integers(1, 31, 20)

    measured = quality.tfrs_top_100_accuracy(users, items, request, target, k=5)

    hits = []
    for row, item in zip(request, target, strict=True):
        scores = [float(users[row] @ items[other]) for other in range(1, 31)]
        own = scores.pop(item - 1)
        hits.append(rank_among(own, scores) <= 5)
    assert 0 < sum(hits) < 20
    assert measured == pytest.approx({"top-5 accuracy": np.mean(hits)})


@pytest.mark.parametrize("seed", range(3))
def test_leave_one_out_without_seen_items_equals_counting(quality, seed):
    rng = np.random.default_rng(seed)
    users, items = quantised(rng, 60, 3), quantised(rng, 21, 3)
    target = rng.integers(1, 21, 60)
    seen = [set(rng.choice(np.arange(1, 21), 6, replace=False)) - {own} for own in target]

    def seen_pairs(block: slice) -> tuple[np.ndarray, np.ndarray]:
        pairs = [(row, item) for row, known in enumerate(seen[block]) for item in known]
        rows, known_items = np.array(pairs).T
        return rows, known_items

    measured = quality.leave_one_out(users, items, target, seen_pairs, k=4)

    ranks = []
    for user, own, known in zip(users, target, seen, strict=True):
        others = [other for other in range(1, 21) if other != own and other not in known]
        ranks.append(rank_among(float(user @ items[own]), [float(user @ items[o]) for o in others]))
    gains = [1 / math.log2(rank + 1) if rank <= 4 else 0.0 for rank in ranks]
    hits = [rank <= 4 for rank in ranks]
    assert 0 < sum(hits) < 60
    assert measured == pytest.approx({"HR@4": np.mean(hits), "NDCG@4": np.mean(gains)})


@pytest.mark.parametrize("name", ["ncf", "movielens_100k", "beauty_ids"])
def test_configuration_of_a_protocol_is_valid(quality, name):
    assert name in quality.PROTOCOLS
    assert load_config(BENCHMARKS / "retrieval" / f"{name}.yaml").name == name


def test_shuffled_ratings_are_parted_once_and_the_same_each_time(quality, data_folder, tmp_path):
    if not (data_folder / "ml-100k").is_dir():
        pytest.skip("TFREC_DATA holds no ml-100k")
    splits = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        folder = quality.link_shuffled_ratings(data_folder, tmp_path / name)
        splits.append(pl.read_csv(folder / "split.csv"))

    assert splits[0].equals(splits[1])
    assert splits[0].select("user_id", "item_id").n_unique() == 100_000
    assert (splits[0]["split"] == "train").sum() == 80_000
    is_test = splits[0]["split"] == "test"
    assert splits[0].filter(is_test)["place"].unique().to_list() == [80_000]
    assert splits[0].filter(~is_test)["place"].n_unique() == 80_000
