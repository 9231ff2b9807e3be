"""Own towers with a ranker: answers against a plain computation, exports against memory."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfrec.export.two_stage import export_two_stage
from tfrec.models.ranker import Ranker
from tfrec.models.two_tower import TwoTower
from tfrec.recommender.two_stage import TwoStage
from tfrec.serving.saved_recommender import SavedRecommender

USERS = [f"u{n}" for n in range(8)]
ITEMS = np.array([f"i{n}" for n in range(40)])
PRICES = np.linspace(-1, 1, 40).astype(np.float32)[:, None]
REQUESTS = {"user_id": np.array(USERS * 3), "hour": np.arange(24, dtype=np.float32)[:, None] / 24}


@keras.saving.register_keras_serializable("tests")
class Tower(keras.Layer):
    """An id and a number."""

    def __init__(self, ids: list[str], id_name: str, number: str, **kwargs):
        super().__init__(**kwargs)
        self.id_name, self.number = id_name, number
        self.lookup = keras.layers.StringLookup(vocabulary=list(ids))
        self.embedding = keras.layers.Embedding(len(ids) + 1, 6)
        self.dense = keras.layers.Dense(6)

    def call(self, features):
        return self.embedding(self.lookup(features[self.id_name])) + self.dense(
            features[self.number]
        )


@pytest.fixture(scope="module")
def towers() -> TwoTower:
    keras.utils.set_random_seed(3)
    return TwoTower(
        Tower(USERS, "user_id", "hour"),
        Tower(list(ITEMS), "item_id", "price"),
        user_inputs=["user_id", "hour"],
        item_inputs=["item_id", "price"],
    )


@pytest.fixture(scope="module")
def model(towers: TwoTower) -> TwoStage:
    ranker = Ranker(towers, hidden=[8], features=Price())
    items = {"item_id": ITEMS, "price": PRICES}
    return TwoStage(towers, items, REQUESTS, ranker=ranker, k=5, num_candidates=12)


@keras.saving.register_keras_serializable("tests")
class Price(keras.Layer):
    """What the ranker reads beside the towers."""

    def call(self, features):
        return features["price"] * features["hour"]


def request_of(count: int, **more) -> dict[str, tf.Tensor]:
    chosen = {name: tf.constant(values[:count]) for name, values in REQUESTS.items()}
    return {**chosen, **{name: tf.constant(values) for name, values in more.items()}}


def test_answers_are_the_best_candidates_in_the_order_of_the_ranker(model: TwoStage):
    excluded = [["i3", "i5"], ["", "no such item"], ["i7", ""]]
    answer = model.recommend(request_of(3, exclude_item_ids=excluded))
    users = model.towers.embed_users(request_of(3)).numpy()
    items = model.towers.embed_catalogue({"item_id": ITEMS, "price": PRICES})
    for row in range(3):
        scores = dict(zip(ITEMS, items @ users[row], strict=True))
        left = [item for item in ITEMS if item not in excluded[row]]
        candidates = sorted(left, key=lambda item: -scores[item])[:12]
        pairs = {name: np.repeat(v[row : row + 1], 12, axis=0) for name, v in REQUESTS.items()}
        at = [int(item[1:]) for item in candidates]
        output = model.ranker({**pairs, "item_id": ITEMS[at], "price": PRICES[at]}).numpy()[:, 0]
        best = np.argsort(-output)[:5]
        assert [i.decode() for i in answer["item_id"].numpy()[row]] == [candidates[b] for b in best]
        np.testing.assert_allclose(answer["probability"].numpy()[row], output[best], rtol=1e-5)
        wanted = [scores[candidates[b]] for b in best]
        np.testing.assert_allclose(answer["score"].numpy()[row], wanted, rtol=1e-4, atol=1e-6)


def test_all_but_two_items_excluded_leaves_two_and_padding(model: TwoStage):
    answer = model.recommend(request_of(1, exclude_item_ids=[ITEMS[2:].tolist()]))
    found = answer["item_id"].numpy()[0].tolist()
    assert sorted(found) == [b"", b"", b"", b"i0", b"i1"]
    assert (answer["probability"].numpy()[0][2:] == 0).all()


def test_rank_scores_given_items_and_knows_nothing_of_unknown_ones(model: TwoStage):
    answer = model.rank(request_of(2, item_id=[["i1", "nope"], ["i2", "i1"]]))
    assert answer["score"].shape == (2, 2)
    assert (answer["score"].numpy()[0, 1], answer["probability"].numpy()[0, 1]) == (0, 0)
    assert answer["probability"].numpy()[1].all()


def test_similar_items_are_the_nearest_and_never_the_item_itself(model: TwoStage):
    answer = model.similar_items({"item_id": tf.constant(["i4", "nope"])})
    items = model.towers.embed_catalogue({"item_id": ITEMS, "price": PRICES})
    order = [n for n in np.argsort(-(items @ items[4])) if n != 4][:5]
    assert answer["item_id"].numpy()[0].tolist() == [b"i%d" % n for n in order]
    assert answer["item_id"].numpy()[1].tolist() == [b""] * 5


def test_items_that_are_there_twice_are_refused(towers: TwoTower):
    items = {"item_id": np.array(["a", "a"]), "price": PRICES[:2]}
    with pytest.raises(ValueError, match="must name each 'item_id' once"):
        TwoStage(towers, items, REQUESTS)


def test_towers_that_give_no_numbers_are_refused(towers: TwoTower):
    prices = PRICES.copy()
    prices[7] = np.nan
    with pytest.raises(ValueError, match="NaN or infinity for 1 of 40 `items`"):
        TwoStage(towers, {"item_id": ITEMS, "price": prices}, REQUESTS)


@pytest.mark.slow
def test_both_exports_are_verified_and_answer_as_the_model_in_memory(model: TwoStage, tmp_path):
    versions = export_two_stage(model, tmp_path / "mine", titles={"i1": "A tent"})
    assert [v.relative_to(tmp_path).as_posix() for v in versions] == ["mine/1", "mine-portable/1"]
    request = {**{name: v[:4] for name, v in REQUESTS.items()}, "exclude_item_ids": [["i1"]] * 4}
    wanted = model.recommend({name: tf.constant(v) for name, v in request.items()})
    for version in versions:
        saved = SavedRecommender(version)
        found = saved.call("recommend", request)
        assert found["item_id"].tolist() == wanted["item_id"].numpy().tolist()
        np.testing.assert_allclose(found["probability"], wanted["probability"], atol=1e-5)
        assert saved.title("i1") == "A tent"
        assert saved.k == 5
    assert "scann" not in SavedRecommender(versions[1]).manifest["operations"]
    assert export_two_stage(model, tmp_path / "mine") == versions  # nothing has changed
