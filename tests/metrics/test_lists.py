import itertools
import math

import numpy as np
import pytest

from tfrec.metrics.lists import (
    average_popularity,
    catalogue_coverage,
    distinct_share,
    exposure_gini,
    intra_list_diversity,
    list_metrics,
    novelty,
)

TOP = np.array([[1, 2], [1, 3], [1, 0]])  # the last list is short
COUNTS = np.array([0, 5, 2, 0, 0])  # four items, two of them never chosen


def test_coverage_is_the_share_of_the_catalogue_that_is_shown():
    assert catalogue_coverage(TOP, 4) == 3 / 4
    assert catalogue_coverage(TOP, 30) == 3 / 30


def test_distinct_share_is_of_places_or_of_items_if_they_are_fewer():
    assert distinct_share(TOP, 30) == 3 / 5  # five places
    assert distinct_share(TOP, 4) == 3 / 4  # four items
    assert distinct_share(np.array([[1, 2], [3, 4]]), 30) == 1.0


def test_popularity_and_novelty_by_hand():
    # Shown: 1, 2, 1, 3, 1 with 5, 2, 5, 0, 5 training targets.
    assert average_popularity(TOP, COUNTS) == pytest.approx(17 / 5)
    # Counts plus one: 6, 3, 1, 1 of 11.
    bits = [-math.log2(share / 11) for share in (6, 3, 6, 1, 6)]
    assert novelty(TOP, COUNTS) == pytest.approx(sum(bits) / 5)


@pytest.mark.parametrize("seed", range(5))
def test_gini_is_half_the_mean_difference_of_exposures_by_their_mean(seed: int):
    top = np.random.default_rng(seed).integers(1, 13, (30, 4))
    shown = [int((top == item).sum()) for item in range(1, 16)]
    distance = np.mean([abs(a - b) for a, b in itertools.product(shown, shown)])
    assert exposure_gini(top, 15) == pytest.approx(distance / (2 * np.mean(shown)))


def test_gini_of_equal_exposure_is_zero_and_of_one_item_nearly_one():
    assert exposure_gini(np.array([[1, 2], [3, 4]]), 4) == pytest.approx(0)
    assert exposure_gini(np.ones((9, 1), int), 100) == pytest.approx(0.99)


@pytest.mark.parametrize("seed", range(5))
def test_diversity_agrees_with_a_loop_over_pairs(seed: int):
    draw = np.random.default_rng(seed)
    vectors = draw.normal(size=(21, 5)) * draw.uniform(0.1, 9, (21, 1))
    top = np.array([draw.permutation(20)[:6] + 1 for _ in range(8)])
    top[0, 3:] = 0
    top[1, 1:] = 0  # no pair: left out
    means = []
    for row in top:
        items = [item for item in row if item]
        cosines = [
            vectors[a] @ vectors[b] / np.linalg.norm(vectors[a]) / np.linalg.norm(vectors[b])
            for a, b in itertools.combinations(items, 2)
        ]
        if cosines:
            means.append(1 - np.mean(cosines))
    assert len(means) == 7
    assert intra_list_diversity(top, vectors) == pytest.approx(np.mean(means))


def test_empty_lists_have_no_numbers_but_coverage():
    metrics = list_metrics(np.zeros((2, 3), int), COUNTS, np.ones((5, 2)))
    assert metrics.pop("coverage") == 0
    assert all(math.isnan(value) for value in metrics.values())
