"""Towers of any Keras layers: the loss against its definition and TFRS, fit, evaluate, save."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_recommenders as tfrs

from tfrec.models.ranker import Ranker
from tfrec.models.two_tower import TwoTower

USERS = [f"u{n}" for n in range(12)]
ITEMS = [f"i{n}" for n in range(30)]


def lookup_tower(ids: list[str], dim: int = 6) -> keras.Sequential:
    return keras.Sequential(
        [keras.layers.StringLookup(vocabulary=ids), keras.layers.Embedding(len(ids) + 1, dim)]
    )


def make_model(**settings) -> TwoTower:
    keras.utils.set_random_seed(1)
    settings = {"user_inputs": "user_id", "item_inputs": "item_id", **settings}
    return TwoTower(lookup_tower(USERS), lookup_tower(ITEMS), **settings)


def draw_pairs(count: int, seed: int = 0) -> dict[str, tf.Tensor]:
    """User n likes the items n, n + 12 and n + 24."""
    draw = np.random.default_rng(seed)
    user = draw.integers(0, len(USERS), count)
    item = (user + 12 * draw.integers(0, 3, count)) % len(ITEMS)
    return {
        "user_id": tf.constant([USERS[n] for n in user]),
        "item_id": tf.constant([ITEMS[n] for n in item]),
    }


def loss_of(model: TwoTower, pairs: dict[str, tf.Tensor], weight: tf.Tensor | None = None) -> float:
    return float(model.compute_loss(pairs, None, model(pairs), weight))


@pytest.mark.parametrize("temperature", [1.0, 0.1])
@pytest.mark.parametrize("is_weighted", [False, True])
def test_loss_equals_that_of_tensorflow_recommenders(temperature: float, is_weighted: bool):
    model, pairs = make_model(temperature=temperature), draw_pairs(40)
    weight = tf.random.stateless_uniform([40], [1, 2]) if is_weighted else None
    embedded = model(pairs)
    task = tfrs.tasks.Retrieval(temperature=temperature, remove_accidental_hits=True)
    wanted = tf.function(task, autograph=True)(
        embedded["user"],
        embedded["item"],
        candidate_ids=pairs["item_id"],
        sample_weight=weight,
        compute_metrics=False,
        compute_batch_metrics=False,
    )
    total = 40.0 if weight is None else float(tf.reduce_sum(weight))
    assert loss_of(model, pairs, weight) == pytest.approx(float(wanted) / total, rel=1e-5)


def test_adapted_loss_corrects_negatives_for_how_often_they_are_drawn():
    model, pairs = make_model(temperature=0.5), draw_pairs(25)
    model.adapt([pairs])
    ids = pairs["item_id"].numpy()
    embedded = {name: value.numpy() for name, value in model(pairs).items()}
    logits = embedded["user"] @ embedded["item"].T / 0.5
    share = np.array([np.mean(ids == item) for item in ids])
    losses = []
    for row in range(25):
        negatives = ids != ids[row]
        corrected = logits[row, negatives] - np.log(24 * share[negatives])
        positive = logits[row, row]
        losses.append(np.log(np.exp(positive) + np.exp(corrected).sum()) - positive)
    assert loss_of(model, pairs) == pytest.approx(np.mean(losses), rel=1e-5)


def test_fit_finds_what_each_user_likes_and_evaluation_counts_it():
    model = make_model(temperature=0.1, similarity="cosine")
    batches = tf.data.Dataset.from_tensor_slices(draw_pairs(2000)).batch(100)
    model.adapt(batches)
    model.compile(optimizer=keras.optimizers.Adam(0.03))
    untrained = model.evaluate_retrieval(draw_pairs(300, 5), {"item_id": np.array(ITEMS)}, ks=[3])
    history = model.fit(batches, epochs=6, verbose=0).history["loss"]
    assert history[-1] < history[0]
    for pairs in (draw_pairs(300, 5), tf.data.Dataset.from_tensors((draw_pairs(300, 5), 1))):
        measured = model.evaluate_retrieval(pairs, {"item_id": np.array(ITEMS)}, ks=[1, 3])
        assert measured["targets"] == 300
        assert untrained["recall_at_3"] < 0.3
        # Three items are equally right: the best list has all in the first three places.
        assert measured["recall_at_3"] > 0.95
        assert 0.2 < measured["recall_at_1"] < 0.5


def test_evaluation_counts_ties_against_the_target_and_leaves_unknown_items_out():
    model = make_model()
    model.item_tower.layers[1].build(None)
    model.item_tower.layers[1].set_weights([np.zeros((31, 6), np.float32)])  # all score the same
    pairs = {"user_id": np.array(["u1", "u2"]), "item_id": np.array(["i4", "new"])}
    measured = model.evaluate_retrieval(pairs, {"item_id": np.array(ITEMS)}, ks=[1, 29, 30])
    assert measured["targets"] == 1
    assert (measured["recall_at_29"], measured["recall_at_30"]) == (0.0, 1.0)
    assert measured["mrr"] == pytest.approx(1 / 30)


def test_heads_are_trained_beside_the_softmax_and_measured():
    head = keras.Sequential([keras.layers.Dense(8, activation="relu"), keras.layers.Dense(1)])
    model = make_model(heads={"rating": head}, temperature=0.2)
    pairs = draw_pairs(600)
    rating = (tf.strings.to_hash_bucket_fast(pairs["item_id"], 5) + 1)[:, None]
    batches = tf.data.Dataset.from_tensor_slices((pairs, {"rating": rating})).batch(100)
    model.compile(
        optimizer=keras.optimizers.Adam(0.01),
        loss={"rating": "mse"},
        metrics={"rating": [keras.metrics.RootMeanSquaredError(name="rmse")]},
    )
    history = model.fit(batches, epochs=8, verbose=0).history
    rmse = next(values for name, values in history.items() if name.endswith("rmse"))
    assert rmse[-1] < 0.8 * rmse[0]
    assert history["loss"][-1] < history["loss"][0]


def test_ranker_on_finished_towers_learns_and_leaves_them_alone():
    towers, pairs = make_model(), draw_pairs(800)
    label = tf.cast(tf.strings.to_hash_bucket_fast(pairs["item_id"], 2), tf.float32)
    ranker = Ranker(towers, hidden=[16])
    batches = tf.data.Dataset.from_tensor_slices((pairs, label)).batch(80)
    ranker.compile(optimizer=keras.optimizers.Adam(0.03), loss="binary_crossentropy",
                   metrics=[keras.metrics.AUC(name="auc")])  # fmt: skip
    before = towers.embed_items(pairs).numpy()
    history = ranker.fit(batches, epochs=20, verbose=0).history
    assert history["auc"][-1] > 0.95
    np.testing.assert_array_equal(towers.embed_items(pairs).numpy(), before)
    further = Ranker(towers, hidden=[16], trains_towers=True)
    further.compile(optimizer="adam", loss="binary_crossentropy")
    further.fit(batches, epochs=1, verbose=0)
    assert (towers.embed_items(pairs).numpy() != before).any()


@pytest.mark.parametrize("kind", ["towers", "ranker"])
def test_saved_model_is_read_back_and_answers_alike(kind: str, tmp_path):
    pairs = draw_pairs(20)
    head = keras.layers.Dense(1)
    model = make_model(heads={"rating": head}, similarity="cosine", temperature=0.3)
    if kind == "ranker":
        model = Ranker(model, hidden=[4], activation="linear")
    wanted = model(pairs)
    model.save(tmp_path / "model.keras")
    found = keras.saving.load_model(tmp_path / "model.keras")
    tf.nest.map_structure(np.testing.assert_array_equal, found(pairs), wanted)


@pytest.mark.parametrize("wrong", [{"temperature": 0.0}, {"similarity": "euclid"}])
def test_settings_that_make_no_sense_are_refused(wrong: dict):
    with pytest.raises(ValueError, match=f"`{next(iter(wrong))}` must be"):
        make_model(**wrong)
