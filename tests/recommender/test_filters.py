"""Filtered answers against plain Python."""

import numpy as np
import pytest
import tensorflow as tf
from small_recommender import (
    CANDIDATES,
    ITEM_IDS,
    ITEMS,
    NUM_ITEMS,
    Compiled,
    K,
    make_mixed_requests,
    make_recommender,
    make_request,
)

from tfrec.candidates.build import loaded_sources
from tfrec.config import Candidates, Filters
from tfrec.recommender.filters import place_among_equals

ATTRIBUTES = ("brand", "tags")
FILTERS = Filters(
    attributes=[*ATTRIBUTES], available=["in_stock"], unsafe=["adult"], caps={"brand": 2}
)
NO_CAPS = FILTERS.model_copy(update={"caps": {}})
KEYS = [
    "exclude_item_ids",
    *(f"{word}_{name}" for name in ATTRIBUTES for word in ("allow", "deny")),
]


@pytest.fixture(scope="module")
def free() -> Compiled:
    """Answers all items in their order, nothing left out but the history."""
    return make_recommender(num_candidates=NUM_ITEMS, k=NUM_ITEMS)


@pytest.fixture(scope="module", params=["no caps", "caps", "no towers among the sources"])
def filtered(request) -> Compiled:
    sources = None
    if request.param == "no towers among the sources":
        few = {
            "items": np.array([[3, 8, 9, 11]], np.int32),
            "weights": np.ones((1, 4), np.float32),
        }
        config = Candidates.model_validate({"sources": {"popularity": {}}})
        sources = loaded_sources(config, {"popularity": few}, CANDIDATES)
    filters = NO_CAPS if request.param == "no caps" else FILTERS
    return make_recommender(filters=filters, sources=sources)


def values_of(name: str, row: int) -> list[str]:
    value = ITEMS[name][row]
    return value.to_list() if name == "tags" else [value]


def allowed_items(request: dict[str, np.ndarray], row: int) -> list[str]:
    """What a plain reading of the request leaves, in the order of the catalogue."""

    def cells(key: str) -> set[str]:
        return {cell.decode() for cell in request[key][row].numpy()} - {""}

    left = []
    for number, item in enumerate(ITEM_IDS):
        if item in cells("history") | cells("exclude_item_ids"):
            continue
        if not ITEMS["in_stock"][number] or ITEMS["adult"][number]:
            continue
        own = {name: set(values_of(name, number)) for name in ATTRIBUTES}
        if any(cells(f"allow_{n}") and not own[n] & cells(f"allow_{n}") for n in ATTRIBUTES):
            continue
        if any(own[n] & cells(f"deny_{n}") for n in ATTRIBUTES):
            continue
        left.append(item)
    return left


def random_requests(rows: int, seed: int) -> dict[str, tf.Tensor]:
    rng = np.random.default_rng(seed)
    values = {
        "exclude_item_ids": [*ITEM_IDS, "no such item"],
        "brand": ["b0", "b1", "b2", "rare", "no such brand"],
        "tags": ["new", "sale", "no such tag"],
    }
    request = make_mixed_requests(rows, seed)
    for key in KEYS:
        known = values.get(key) or values[key.split("_")[1]]
        width = rng.integers(1, 4)
        cells = rng.choice(known, (rows, width)).astype(object)
        cells[rng.random(rows) < 0.6] = ""
        request[key] = tf.constant(cells, tf.string)
    return request


@pytest.mark.parametrize("seed", range(4))
def test_answers_hold_as_many_allowed_items_as_there_are(filtered, seed):
    rows = 12
    request = random_requests(rows, seed)
    answer = filtered.eager.recommend(request)["item_id"].numpy()
    caps = filtered.eager.filters.caps
    for row in range(rows):
        found = [cell.decode() for cell in answer[row] if cell]
        allowed = allowed_items(request, row)
        assert len(set(found)) == len(found)
        assert set(found) <= set(allowed)
        assert all(not cell for cell in answer[row][len(found) :])
        brands = [ITEMS["brand"][ITEM_IDS.index(item)] for item in allowed]
        most = len(allowed)
        if caps:
            most = sum(min(caps["brand"], brands.count(brand)) for brand in set(brands))
            own = [ITEMS["brand"][ITEM_IDS.index(item)] for item in found]
            assert all(own.count(brand) <= caps["brand"] for brand in own)
        assert len(found) == min(K, most)


def test_allowed_items_keep_the_order_that_they_have_without_filters(free):
    filtered = make_recommender(num_candidates=NUM_ITEMS, k=NUM_ITEMS, filters=NO_CAPS)
    request = random_requests(20, 9)
    plain = {name: request[name] for name in make_request()}
    everything = free.eager.recommend(plain)["item_id"].numpy()
    answer = filtered.eager.recommend(request)["item_id"].numpy()
    for row in range(20):
        allowed = set(allowed_items(request, row))
        wanted = [cell for cell in everything[row] if cell.decode() in allowed]
        assert [cell for cell in answer[row] if cell] == wanted


def test_caps_keep_the_first_of_each_value(free):
    capped = make_recommender(
        num_candidates=NUM_ITEMS, k=NUM_ITEMS, filters=Filters(caps={"brand": 3})
    )
    request = make_mixed_requests(6)
    everything = free.eager.recommend(request)["item_id"].numpy()
    answer = capped.eager.recommend(request)["item_id"].numpy()
    for row in range(6):
        wanted, seen = [], []
        for cell in everything[row]:
            brand = ITEMS["brand"][ITEM_IDS.index(cell.decode())] if cell else None
            if cell and seen.count(brand) < 3:
                wanted.append(cell)
                seen.append(brand)
        assert [cell for cell in answer[row] if cell] == wanted


def test_everything_denied_answers_nothing(filtered):
    brands = tf.constant([["b0", "b1", "b2", "rare"]])
    request = make_request(deny_brand=brands) | {
        key: tf.constant([[""]]) for key in KEYS if key != "deny_brand"
    }
    answer = filtered.eager.recommend(request)
    assert not any(answer["item_id"].numpy()[0])
    assert not answer["probability"].numpy().any()


@pytest.mark.parametrize("seed", range(3))
def test_place_among_equals_counts_the_equal_ones_before(seed):
    codes = np.random.default_rng(seed).integers(-1, 4, (5, 13))
    wanted = [[list(row[:place]).count(code) for place, code in enumerate(row)] for row in codes]
    np.testing.assert_array_equal(place_among_equals(tf.constant(codes, tf.int32)), wanted)
