"""Negatives against plain loops over the prepared data, and draws against their frequencies."""

import dataclasses

import numpy as np
import polars as pl
import pytest
import tensorflow as tf

from tfrec.config import Negatives
from tfrec.errors import ConfigError
from tfrec.training.negatives import KnownPositives, PassedOver, mine
from tfrec.training.parts import new_negatives
from tfrec.training.samplers import NegativeSampler, PopularSampler, UniformSampler

NUM_DRAWS = 200_000


def drawn(seed: list[int], shape: list[int], shares: list[float] | None, num_items: int):
    counts = np.concatenate([[0], np.ones(num_items) if shares is None else shares])
    sampler = (UniformSampler if shares is None else PopularSampler)(counts)
    return sampler.draw(tf.constant(seed), tf.constant(shape)).numpy()


@pytest.mark.parametrize(
    "shares",
    [None, [0.5, 0.2, 0.0, 0.3, 0.0], [0.0, 0.0, 1.0, 0.0, 0.0]],
    ids=["uniform", "popular", "one item"],
)
def test_items_are_drawn_as_often_as_expected(shares):
    items = drawn([1, 2], [NUM_DRAWS], shares, 5)
    wanted = np.array(shares or [0.2] * 5)
    found = np.bincount(items, minlength=6)
    assert found[0] == 0
    # Five standard deviations of a count; exactly none where an item cannot be drawn.
    tolerance = 5 * np.sqrt(wanted * (1 - wanted) * NUM_DRAWS)
    assert (np.abs(found[1:] - wanted * NUM_DRAWS) <= tolerance).all()


@pytest.mark.parametrize("shares", [None, [0.5, 0.2, 0.0, 0.3, 0.0]])
def test_draws_depend_on_their_seed_alone(shares):
    first, again = (drawn([4, 7], [3, 100], shares, 5) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert first.shape == (3, 100)
    assert (first != drawn([4, 8], [3, 100], shares, 5)).mean() > 0.3


def test_shares_that_do_not_add_up_to_one_draw_no_item_of_probability_zero():
    # A running sum in float32 ends beside 1, and the last items have no share.
    counts = np.concatenate([[0], np.random.default_rng(0).integers(1, 9, 3000), [0, 0]])
    items = PopularSampler(counts).draw(tf.constant([0, 0]), tf.constant([NUM_DRAWS])).numpy()
    assert items.min() >= 1
    assert items.max() <= 3000


COUNTS = np.array([0, 6, 0, 3, 1])


def test_drawn_negatives_of_a_batch_are_uniform_ones_then_popular_ones():
    draw = new_negatives(Negatives(uniform=400, popular=300), COUNTS)
    items = draw(tf.constant([1, 1]), tf.constant(8)).numpy()
    assert items.shape == (700,)
    assert items.dtype == np.int32
    assert set(items[:400]) == {1, 2, 3, 4}
    assert set(items[400:]) == {1, 3, 4}


def test_drawn_negatives_per_target_have_a_row_for_each():
    draw = new_negatives(Negatives(uniform=40, popular=30, per_target=True), COUNTS)
    items = draw(tf.constant([1, 1]), tf.constant(8)).numpy()
    assert items.shape == (8, 70)
    assert len({tuple(row) for row in items}) == 8
    assert set(items[:, :40].ravel()) == {1, 2, 3, 4}
    assert set(items[:, 40:].ravel()) == {1, 3, 4}


@pytest.mark.parametrize(("per_target", "shape"), [(False, (0,)), (True, (8, 0))])
def test_nothing_to_draw_is_an_empty_tensor(per_target, shape):
    draw = new_negatives(Negatives(per_target=per_target), COUNTS)
    assert draw(tf.constant([1, 1]), tf.constant(8)).shape == shape


@pytest.fixture(scope="module")
def passed_over(data) -> dict[int, list[int]]:
    """Lists the ranked items of label 0 of each request, by a loop."""
    wanted: dict[int, list[int]] = {}
    columns = data.examples.select("context", "item_index", "label", "is_ranked")
    for context, item, label, is_ranked in columns.iter_rows():
        if is_ranked and label == 0:
            wanted.setdefault(context, []).append(item)
    return wanted


@pytest.mark.parametrize("limit", [1, 3, 50])
def test_passed_over_are_shown_items_of_the_same_request_without_repeats(limit, data, passed_over):
    contexts = np.arange(data.contexts.height)
    found = PassedOver(data).of_contexts(contexts, limit, np.random.default_rng(0))
    assert found.shape == (len(contexts), limit)
    assert found.dtype == np.int32
    for context, items in enumerate(found.tolist()):
        wanted = passed_over.get(context, [])
        count = min(limit, len(wanted))
        assert items[count:] == [0] * (limit - count)
        assert len(set(items[:count])) == count
        assert set(items[:count]) <= set(wanted)


def test_passed_over_change_with_the_draw_and_all_get_their_turn(data, passed_over):
    context = next(c for c, items in passed_over.items() if len(items) >= 3)
    negatives = PassedOver(data)
    rng = np.random.default_rng(0)
    found = {int(negatives.of_contexts(np.array([context]), 1, rng)[0, 0]) for _ in range(300)}
    assert found == set(passed_over[context])


def test_log_without_shown_items_has_no_passed_over_ones(data):
    unranked = data.examples.with_columns(pl.lit(False).alias("is_ranked"))
    negatives = PassedOver(dataclasses.replace(data, examples=unranked))
    found = negatives.of_contexts(np.arange(5), 2, np.random.default_rng(0))
    np.testing.assert_array_equal(found, np.zeros((5, 2), np.int32))


def test_known_positives_are_the_training_targets_of_each_user(data):
    contexts, items = (data.examples[name].to_numpy() for name in ("context", "item_index"))
    user_of = data.contexts["user_index"].to_numpy()
    users = np.random.default_rng(0).integers(0, data.num_users + 1, 60)
    users[7] = users[3]
    wanted = [
        (row, int(items[target]))
        for row, user in enumerate(users)
        for target in data.target_rows("train")
        if user_of[contexts[target]] == user
    ]
    rows, found = KnownPositives(data).pairs(users)
    assert rows.dtype == found.dtype == np.int32
    assert (np.diff(rows) >= 0).all()
    assert sorted(zip(rows.tolist(), found.tolist(), strict=True)) == sorted(wanted)
    assert len(wanted) > 60


def test_known_positives_of_nobody_are_none(data):
    rows, items = KnownPositives(data).pairs(np.zeros(0, np.int64))
    assert rows.shape == items.shape == (0,)


def candidates(scores: np.ndarray, excluded: set[int], depth: int) -> set[int]:
    """Ranks the items that can be right with all excluded ones at the end; best first."""
    order = sorted(range(1, len(scores)), key=lambda item: (item in excluded, -scores[item]))
    return set(order[:depth]) - excluded


@pytest.mark.parametrize("seed", range(5))
def test_mined_items_are_wrong_ones_of_the_first_ranks(seed, monkeypatch):
    monkeypatch.setattr("tfrec.training.negatives._BLOCK", 7)
    rng = np.random.default_rng(seed)
    requests = rng.normal(size=(20, 4)).astype(np.float32)
    catalogue = rng.normal(size=(31, 4)).astype(np.float32)
    catalogue[0] = 100 * requests.mean(axis=0)  # row 0 must not be found, whatever it holds
    is_right = rng.random((20, 31)) < 0.2
    is_right[:, 0] = False
    is_right[4, 1:] = True  # nothing is wrong here
    is_right[5, 3:] = True  # two items are
    rows, items = np.nonzero(is_right)
    found = mine(requests, catalogue, (rows, items), count=3, depth=8, rng=rng)
    assert found.shape == (20, 3)
    assert found.dtype == np.int32
    for row, mined in enumerate(found.tolist()):
        right = set(np.flatnonzero(is_right[row]).tolist())
        allowed = candidates(catalogue @ requests[row], right, depth=8)
        count = min(3, len(allowed))
        assert mined[count:] == [0] * (3 - count)
        assert len(set(mined[:count])) == count
        assert set(mined[:count]) <= allowed


def test_every_item_of_the_first_ranks_is_mined_in_turn():
    requests = np.ones((4000, 1), np.float32)
    catalogue = np.array([[9], [1], [5], [4], [3], [2]], np.float32)
    nothing = (np.zeros(0, np.int64), np.zeros(0, np.int64))
    rng = np.random.default_rng(0)
    found = mine(requests, catalogue, nothing, count=1, depth=3, rng=rng)
    counts = np.bincount(found.ravel(), minlength=6)
    assert counts[[0, 1, 5]].tolist() == [0, 0, 0]
    # Each of items 2, 3, 4 a third of the time: within five standard deviations.
    assert (np.abs(counts[2:5] - 4000 / 3) < 5 * np.sqrt(4000 * 2 / 9)).all()


def test_more_mined_than_the_depth_holds_is_padded():
    requests, catalogue = np.ones((1, 1), np.float32), np.arange(6, dtype=np.float32)[:, None]
    nothing = (np.zeros(0, np.int64), np.zeros(0, np.int64))
    found = mine(requests, catalogue, nothing, count=4, depth=2, rng=np.random.default_rng(0))
    assert sorted(found[0].tolist()) == [0, 0, 4, 5]
    everything = mine(requests, catalogue, nothing, count=4, depth=99, rng=np.random.default_rng(0))
    assert len(set(everything[0].tolist()) - {0}) == 4


# Samplers of somebody else


class FirstItems(NegativeSampler):
    """Draws the first so many items."""

    def __init__(self, item_counts: np.ndarray, items: int = 2):
        super().__init__(item_counts)
        self.items = items

    def draw(self, seed: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
        return tf.random.stateless_uniform(shape, seed, 1, self.items + 1, tf.int32)

    def probabilities(self) -> np.ndarray:
        share = np.zeros(self.num_items + 1, np.float32)
        share[1 : self.items + 1] = 1 / self.items
        return share


class Wide(FirstItems):
    def draw(self, seed: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
        return tf.cast(super().draw(seed, shape), tf.int64)


class Flat(FirstItems):
    def draw(self, seed: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
        return tf.reshape(super().draw(seed, shape), [-1])


class Beyond(FirstItems):
    def draw(self, seed: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
        return super().draw(seed, shape) + 9


class Short(FirstItems):
    def probabilities(self) -> np.ndarray:
        return super().probabilities()[1:]


class Unlikely(FirstItems):
    def probabilities(self) -> np.ndarray:
        return super().probabilities() / 2


HERE = __name__


def own_sampler(name: str, **settings) -> dict:
    return {"kind": f"{HERE}:{name}", "count": 50, **settings}


@pytest.mark.parametrize("per_target", [False, True])
def test_own_sampler_draws_beside_ours_and_is_expected_as_often(per_target: bool):
    settings = Negatives.model_validate(
        {
            "popular": 30,
            "samplers": [own_sampler("FirstItems", options={"items": 1})],
            "per_target": per_target,
        }
    )
    draw = new_negatives(settings, COUNTS)
    items = draw(tf.constant([1, 1]), tf.constant(8)).numpy()
    assert items.shape == ((8, 80) if per_target else (80,))
    assert set(items[..., 30:].ravel()) == {1}
    expected = sum(count * share.numpy() for count, share in draw.expected(tf.range(5)))
    np.testing.assert_allclose(expected, [0, 50 + 18, 0, 9, 3], rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Wide", "wanted items int32 (5,), got int64 (5,)."),
        ("Flat", "wanted items int32 (2, 3), got int32 (6,)."),
        ("Beyond", "wanted items from 1 to 4, got some from "),
        ("Short", "wanted probabilities float32 (5,), got float32 (4,)."),
        ("Unlikely", "wanted probabilities >= 0 that sum to 1, and 0 for row 0, got a sum of 0.5,"),
    ],
)
def test_sampler_that_breaks_the_contract_is_refused_in_one_line(name: str, expected: str):
    with pytest.raises(ConfigError) as caught:
        new_negatives(Negatives.model_validate({"samplers": [own_sampler(name)]}), COUNTS)
    key = "retrieval.loss.negatives.samplers.0.kind"
    assert str(caught.value).startswith(f"{key}: {HERE}:{name}: {expected}")
    assert "\n" not in str(caught.value)
