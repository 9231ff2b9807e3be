from dataclasses import asdict

import numpy as np
import pytest
import tensorflow as tf

from tfrec.candidates.build import loaded_sources
from tfrec.candidates.lists import best_allowed, sum_by_item
from tfrec.candidates.source import Asked, IsAllowed
from tfrec.candidates.sources import CandidateSources
from tfrec.candidates.tables import CandidateTable
from tfrec.config import Candidates

NUM_ITEMS = 12


def random_table(seed: int, keys: int = NUM_ITEMS + 1, depth: int = 4) -> CandidateTable:
    draw = np.random.default_rng(seed)
    items = np.stack([draw.permutation(NUM_ITEMS)[:depth] + 1 for _ in range(keys)])
    weights = draw.random((keys, depth)).astype(np.float32) + 0.1
    if keys > 1:
        items[0], weights[0] = 0, 0
    return CandidateTable(items.astype(np.int32), weights)


TABLES = {
    "item_knn": random_table(1),
    "search": random_table(2, keys=30),
    "popularity": random_table(3, keys=1, depth=NUM_ITEMS),
}
WEIGHTS = {"two_tower": 1.0, "item_knn": 2.0, "search": 0.5, "popularity": 0.25}


def make_sources(num_candidates: int = 6, constant: float = 10.0) -> CandidateSources:
    config = Candidates.model_validate(
        {
            "sources": {name: {"weight": weight} for name, weight in WEIGHTS.items()}
            | {"popularity": {"weight": 0.25, "count": 3}},
            "rank_constant": constant,
        }
    )
    arrays = {name: asdict(table) for name, table in TABLES.items()}
    return loaded_sources(config, arrays, num_candidates)


def not_among(seen: tf.Tensor) -> IsAllowed:
    return lambda items: ~tf.reduce_any(items[:, :, None] == seen[:, None, :], axis=-1)


def ask(recent: tf.Tensor, query: tf.Tensor, seen: tf.Tensor) -> Asked:
    """Requests for which the towers find the items 1, 2, ..."""

    def nearest(k: int) -> tf.Tensor:
        return tf.repeat(tf.range(1, k + 1)[None], tf.shape(recent)[0], axis=0)

    return Asked(recent, query, not_among(seen), nearest)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("shape", [(5, 9), (1, 1), (3, 0), (0, 4)])
def test_sums_by_item_agree_with_a_loop(seed: int, shape: tuple[int, int]):
    draw = np.random.default_rng(seed)
    items = draw.integers(0, 5, shape).astype(np.int32)
    weights = draw.random(shape).astype(np.float32)
    found, sums = (values.numpy() for values in sum_by_item(items, weights))
    assert found.shape == sums.shape == shape
    for row in range(shape[0]):
        expected = {
            int(item): weights[row][items[row] == item].sum() for item in set(items[row]) - {0}
        }
        got = {int(i): s for i, s in zip(found[row], sums[row], strict=True) if i}
        assert got == pytest.approx(expected)
        assert (found[row] > 0).sum() == len(expected)
        assert not sums[row][found[row] == 0].any()


@pytest.mark.parametrize("seed", range(3))
def test_sources_propose_the_unseen_items_with_the_largest_sums(seed: int):
    draw = np.random.default_rng(seed)
    recent = draw.integers(0, NUM_ITEMS + 1, (4, 5)).astype(np.int32)
    query = draw.integers(0, 30, (4, 3)).astype(np.int32)
    seen = np.concatenate([recent, draw.integers(0, NUM_ITEMS + 1, (4, 2))], 1).astype(np.int32)
    sources = make_sources()
    compiled = tf.function(
        lambda recent, query, seen: sources.propose(ask(recent, query, seen)),
        autograph=False,
    )
    found = compiled(tf.constant(recent), tf.constant(query), tf.constant(seen))
    assert list(found) == list(WEIGHTS)
    assert found["two_tower"].numpy().tolist() == [list(range(1, 7))] * 4
    for name, keys in {
        "item_knn": recent,
        "search": query,
        "popularity": np.zeros((4, 1), int),
    }.items():
        for row in range(4):
            sums: dict[int, float] = {}
            for key in keys[row]:
                for item, weight in zip(
                    TABLES[name].items[key], TABLES[name].weights[key], strict=True
                ):
                    sums[int(item)] = sums.get(int(item), 0.0) + float(weight)
            left = set(sums) - {0} - set(seen[row].tolist())
            expected = sorted(left, key=lambda item: (-sums[item], item))[: sources.counts[name]]
            got = found[name].numpy()[row]
            assert got[got > 0].tolist() == expected


def test_nothing_known_of_a_request_leaves_what_is_the_same_for_all():
    nothing = tf.zeros([2, 0], tf.int32)
    found = make_sources().propose(ask(nothing, nothing, nothing))
    assert not found["item_knn"].numpy().any()
    assert not found["search"].numpy().any()
    assert found["popularity"].shape == (2, 3)
    assert found["popularity"].numpy().all()


def random_lists(seed: int) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(seed)
    lists = {}
    for name in WEIGHTS:
        rows = np.stack([draw.permutation(NUM_ITEMS)[:4] + 1 for _ in range(3)])
        rows[:, draw.integers(1, 5) :] = 0
        lists[name] = rows.astype(np.int32)
    return lists


@pytest.mark.parametrize("seed", range(4))
def test_fused_lists_and_their_ranks_agree_with_a_loop(seed: int):
    lists, constant = random_lists(seed), 10.0
    sources = make_sources(constant=constant)
    fused = sources.fuse(lists)
    ranks = sources.reciprocal_ranks(lists, fused).numpy()
    for row, got in enumerate(fused.numpy()):
        scores: dict[int, float] = {}
        for name, weight in WEIGHTS.items():
            for rank, item in enumerate(lists[name][row].tolist(), start=1):
                if item:
                    scores[item] = scores.get(item, 0.0) + weight / (constant + rank)
        expected = sorted(scores.values(), reverse=True)[:6]
        assert [scores[item] for item in got.tolist() if item] == pytest.approx(expected)
        for place, item in enumerate(got.tolist()):
            for column, name in enumerate(WEIGHTS):
                listed = lists[name][row].tolist()
                rank = listed.index(item) + 1 if item and item in listed else None
                share = (constant + 1) / (constant + rank) if rank else 0.0
                assert ranks[row, place, column] == pytest.approx(share)


def test_the_order_of_sources_in_a_mapping_does_not_matter_to_the_fused_list():
    lists = random_lists(9)
    turned = dict(reversed(lists.items()))
    np.testing.assert_array_equal(make_sources().fuse(lists), make_sources().fuse(turned))


def test_seen_items_are_left_out_and_the_best_of_the_others_picked():
    items = tf.constant([[3, 1, 4, 0, 5]], tf.int32)
    scores = tf.constant([[0.7, 0.8, 0.9, 0.6, 0.5]])
    is_new = not_among(tf.constant([[1, 0, 9]], tf.int32))
    for count, wanted in ((2, [4, 3]), (3, [4, 3, 5]), (9, [4, 3, 5, 0, 0])):
        found = best_allowed(items, scores, is_new(items), count)
        assert found.numpy().tolist() == [wanted]
    none = not_among(items)(items)
    assert best_allowed(items, scores, none, 3).numpy().tolist() == [[0, 0, 0]]
