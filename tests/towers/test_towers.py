import numpy as np
import pytest
import tensorflow as tf

from tfrec.features import Category, CategoryList, Date, Number, Vector
from tfrec.towers import (
    AttentionReader,
    ConcatFusion,
    GateFusion,
    ItemTower,
    SumFusion,
    UserTower,
)
from tfrec.towers.features import FeatureEmbedding
from tfrec.towers.item import drop_ids

TEXT_DIM, DIM, MAX_HISTORY, NUM_IDS, ROWS = 6, 8, 5, 20, 7
ENCODERS = [
    Category("brand", vocabulary=["a", "b", "c"]),
    CategoryList("tags", vocabulary=["x", "y", "z"]),
    Number("price", mean=2.0, std=3.0),
    Vector("image", size=4),
]


def make_features(seed: int, rows: int = ROWS) -> dict[str, np.ndarray]:
    """Draws encoded features of all four types; row 0 is unknown in each."""
    rng = np.random.default_rng(seed)
    features = {
        "brand": rng.integers(1, 4, rows).astype(np.int32),
        "tags": rng.integers(0, 4, (rows, 3)).astype(np.int32),
        "price": np.stack([rng.normal(size=rows), np.zeros(rows)], axis=1).astype(np.float32),
        "image": rng.normal(size=(rows, 4)).astype(np.float32),
    }
    for values in features.values():
        values[:1] = 0
    features["price"][:1, 1] = 1.0
    return features


def take(values: object, order: np.ndarray) -> object:
    if isinstance(values, dict):
        return {name: value[order] for name, value in values.items()}
    return np.asarray(values)[order]


def randomize(layer: object, seed: int = 0) -> None:
    """Gives every weight, those that start at zero too, a value that matters."""
    rng = np.random.default_rng(seed)
    for weight in layer.trainable_variables:
        weight.assign(rng.normal(0, 0.5, weight.shape))


# FeatureEmbedding


@pytest.fixture(scope="module")
def embedding() -> FeatureEmbedding:
    layer = FeatureEmbedding(ENCODERS, DIM)
    randomize(layer)
    return layer


def test_features_of_all_types_give_one_embedding_each_in_order(embedding):
    features = make_features(0)
    embedded = [part.numpy() for part in embedding(features)]
    assert [part.shape for part in embedded] == [(ROWS, DIM)] * 4
    for number, encoder in enumerate(ENCODERS):
        other = make_features(0) | {encoder.name: make_features(9)[encoder.name]}
        changed = [part.numpy() for part in embedding(other)]
        for position in range(4):
            assert np.array_equal(changed[position], embedded[position]) == (position != number)


def test_features_of_unknown_values_are_finite(embedding):
    unknown = {name: values[:1] for name, values in make_features(0).items()}
    for part in embedding(unknown):
        assert np.isfinite(part.numpy()).all()


def test_category_list_is_the_mean_of_known_members(embedding):
    table = embedding.projections["tags"].embeddings.numpy()
    features = make_features(0, rows=3) | {
        "tags": np.array([[1, 3, 0], [0, 0, 2], [0, 0, 0]], np.int32)
    }
    embedded = embedding(features)[1].numpy()
    np.testing.assert_allclose(embedded[0], (table[1] + table[3]) / 2, atol=1e-6)
    np.testing.assert_allclose(embedded[1], table[2], atol=1e-6)
    np.testing.assert_array_equal(embedded[2], 0)


def test_category_list_with_more_padding_stays_equal(embedding):
    features = make_features(1)
    padded = features | {"tags": np.pad(features["tags"], ((0, 0), (2, 3)))}
    np.testing.assert_allclose(embedding(padded)[1], embedding(features)[1], atol=1e-6)


def test_unknown_number_is_told_from_the_mean(embedding):
    features = make_features(0, rows=2)
    features["price"] = np.array([[0, 0], [0, 1]], np.float32)  # the mean; unknown
    embedded = embedding(features)[2].numpy()
    assert np.abs(embedded[0] - embedded[1]).max() > 1e-3


def test_features_of_no_rows_give_no_rows(embedding):
    for part in embedding(make_features(0, rows=0)):
        assert part.shape == (0, DIM)


def test_table_of_a_category_has_rows_for_values_out_of_the_vocabulary():
    encoders = [
        Category("brand", vocabulary=["a", "b"], oov_buckets=3),
        CategoryList("tags", vocabulary=["x"], oov_buckets=2),
    ]
    layer = FeatureEmbedding(encoders, DIM)
    table = layer.projections["brand"].embeddings.numpy()
    tags = layer.projections["tags"].embeddings.numpy()
    assert (len(table), len(tags)) == (6, 4)
    embedded = layer({"brand": np.array([5, 0]), "tags": np.array([[3, 1], [0, 3]])})
    np.testing.assert_array_equal(embedded[0], table[[5, 0]])
    # A value out of the vocabulary is a member of the list like any other.
    np.testing.assert_allclose(embedded[1], [(tags[3] + tags[1]) / 2, tags[3]], atol=1e-6)


def test_date_is_embedded_like_a_number():
    layer = FeatureEmbedding([Date("added", mean=20000.0, std=50.0)], DIM)
    row = layer.features[0].unknown_row()
    assert layer({"added": row})[0].shape == (1, DIM)


def test_no_features_give_no_embeddings():
    assert FeatureEmbedding([], DIM)({}) == []


# ItemTower


def item_inputs(seed: int = 0) -> list[object]:
    rng = np.random.default_rng(seed)
    return [
        rng.normal(size=(ROWS, TEXT_DIM)).astype(np.float32),
        rng.integers(1, NUM_IDS + 1, ROWS).astype(np.int32),
        make_features(seed),
    ]


def make_item_tower(id_dropout: float = 0.0, seed: int = 0) -> ItemTower:
    tower = ItemTower(NUM_IDS, ENCODERS, TEXT_DIM, DIM, id_dropout=id_dropout)
    randomize(tower, seed)
    return tower


@pytest.fixture(scope="module")
def item_tower() -> ItemTower:
    return make_item_tower(id_dropout=0.5)


def test_item_has_length_one(item_tower):
    items = item_tower(*item_inputs()).numpy()
    assert items.shape == (ROWS, DIM)
    assert items.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(items, axis=1), 1, atol=1e-5)


def test_item_of_rows_in_other_order_is_permuted(item_tower):
    items = item_tower(*item_inputs()).numpy()
    order = np.random.default_rng(3).permutation(ROWS)
    permuted = item_tower(*(take(values, order) for values in item_inputs())).numpy()
    np.testing.assert_allclose(permuted, items[order], atol=1e-6)


@pytest.mark.parametrize("part", range(3))
def test_item_depends_on_text_id_and_features(item_tower, part):
    inputs = item_inputs(0)
    inputs[part] = item_inputs(1)[part]
    difference = np.abs(item_tower(*inputs).numpy() - item_tower(*item_inputs(0)).numpy())
    assert difference.max() > 1e-2


def test_item_of_which_nothing_is_known_is_finite():
    tower = ItemTower(NUM_IDS, [], TEXT_DIM, DIM, id_dropout=0.0)
    tower.id_embedding.embeddings.assign(np.zeros((NUM_IDS + 1, DIM)))
    assert np.isfinite(tower(np.zeros((2, TEXT_DIM), np.float32), np.array([0, 1]), {})).all()


def test_item_without_dropout_is_the_same_every_time(item_tower):
    np.testing.assert_array_equal(item_tower(*item_inputs()), item_tower(*item_inputs()))
    kept = make_item_tower(id_dropout=0.0)
    np.testing.assert_array_equal(
        kept(*item_inputs(), training=True), kept(*item_inputs(), training=False)
    )


def test_item_with_all_ids_dropped_does_not_depend_on_the_id():
    tower = make_item_tower(id_dropout=0.999999)
    text, _, features = item_inputs()
    unknown = tower(text, np.zeros(ROWS, np.int32), features).numpy()
    dropped = tower(text, np.full(ROWS, 3, np.int32), features, training=True).numpy()
    np.testing.assert_allclose(dropped, unknown, atol=1e-6)
    assert np.abs(tower(text, np.full(ROWS, 3, np.int32), features) - unknown).max() > 1e-2


@pytest.mark.parametrize("fusion", [SumFusion, ConcatFusion, GateFusion])
def test_item_without_ids_does_not_depend_on_the_id(fusion):
    tower = ItemTower(NUM_IDS, ENCODERS, TEXT_DIM, DIM, fusion=fusion(), use_id=False)
    randomize(tower, 0)
    text, id_row, features = item_inputs()
    unknown = tower(text, np.zeros(ROWS, np.int32), features).numpy()
    np.testing.assert_array_equal(tower(text, id_row, features).numpy(), unknown)
    assert tower.id_embedding.embeddings.shape == (1, DIM)


def test_item_of_dropped_features_is_made_from_the_id_alone():
    tower = ItemTower(NUM_IDS, ENCODERS, TEXT_DIM, DIM, id_dropout=0.0, feature_dropout=0.999999)
    randomize(tower, 0)
    text, id_row, features = item_inputs(0)
    first = tower(text, id_row, features, training=True).numpy()
    other_text, _, other_features = item_inputs(1)
    second = tower(other_text, id_row, other_features, training=True).numpy()
    np.testing.assert_allclose(first, second, atol=1e-5)
    table = tower.id_embedding.embeddings.numpy()[id_row]
    wanted = table / np.linalg.norm(table, axis=1, keepdims=True)
    np.testing.assert_allclose(first, wanted, atol=1e-5)


def test_tower_for_dot_products_keeps_lengths():
    tower = ItemTower(NUM_IDS, ENCODERS, TEXT_DIM, DIM, is_unit=False)
    randomize(tower, 0)
    lengths = np.linalg.norm(tower(*item_inputs()).numpy(), axis=1)
    assert lengths.std() > 0.1


def test_dropped_ids_are_about_the_rate_and_the_rest_stays(item_tower):
    ids = tf.range(1, 20_001)
    dropped = drop_ids(ids, 0.3, item_tower.seed_generator).numpy()
    is_dropped = dropped == 0
    np.testing.assert_array_equal(dropped[~is_dropped], ids.numpy()[~is_dropped])
    # Five standard deviations of a share of 20,000 draws: 5 sqrt(0.3 * 0.7 / 20000) = 0.0162.
    assert is_dropped.mean() == pytest.approx(0.3, abs=0.0162)


def test_dropout_draws_anew_in_each_step(item_tower):
    ids = tf.range(1, 1001)
    first, second = (drop_ids(ids, 0.5, item_tower.seed_generator).numpy() for _ in range(2))
    assert (first != second).any()


# UserTower


def user_inputs(seed: int = 0) -> list[object]:
    state = np.random.default_rng(seed + 9).normal(size=(ROWS, DIM)).astype(np.float32)
    return [*item_inputs(seed), state]


def make_user_tower(dropout: float = 0.0, num_ids: int = NUM_IDS) -> UserTower:
    tower = UserTower(
        num_ids,
        ENCODERS,
        TEXT_DIM,
        DIM,
        history=AttentionReader(DIM, MAX_HISTORY),
        use_id=num_ids > 0,
        id_dropout=dropout,
        dropout=dropout,
    )
    randomize(tower)
    return tower


@pytest.fixture(scope="module")
def user_tower() -> UserTower:
    return make_user_tower(dropout=0.5)


def test_user_has_length_one(user_tower):
    users = user_tower(*user_inputs()).numpy()
    assert users.shape == (ROWS, DIM)
    np.testing.assert_allclose(np.linalg.norm(users, axis=1), 1, atol=1e-5)


def test_user_of_rows_in_other_order_is_permuted(user_tower):
    users = user_tower(*user_inputs()).numpy()
    order = np.random.default_rng(4).permutation(ROWS)
    permuted = user_tower(*(take(values, order) for values in user_inputs())).numpy()
    np.testing.assert_allclose(permuted, users[order], atol=1e-5)


@pytest.mark.parametrize("part", range(4))
def test_user_depends_on_text_id_features_and_state(user_tower, part):
    inputs = user_inputs(0)
    inputs[part] = user_inputs(1)[part]
    difference = np.abs(user_tower(*inputs).numpy() - user_tower(*user_inputs(0)).numpy())
    assert difference.max() > 1e-2


def test_user_without_ids_has_one_shared_row():
    tower = make_user_tower(num_ids=0)
    assert tower.id_embedding.embeddings.shape == (1, DIM)
    text, _, *others = user_inputs()
    users = tower(text, np.zeros(ROWS, np.int32), *others).numpy()
    np.testing.assert_allclose(np.linalg.norm(users, axis=1), 1, atol=1e-5)


def test_user_without_dropout_is_the_same_every_time(user_tower):
    np.testing.assert_array_equal(user_tower(*user_inputs()), user_tower(*user_inputs()))
    kept = make_user_tower(dropout=0.0)
    np.testing.assert_array_equal(
        kept(*user_inputs(), training=True), kept(*user_inputs(), training=False)
    )


def test_user_with_everything_dropped_is_made_from_the_text_alone():
    tower = make_user_tower(dropout=0.999999)
    text, *others = user_inputs(0)
    first = tower(text, *others, training=True).numpy()
    second = tower(text, *user_inputs(1)[1:], training=True).numpy()
    np.testing.assert_allclose(first, second, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(first, axis=1), 1, atol=1e-5)
    other_text = tower(user_inputs(1)[0], *others, training=True).numpy()
    assert np.abs(other_text - first).max() > 1e-2


def test_towers_inside_a_function_equal_eager_towers(item_tower, user_tower):
    item = tf.function(lambda *inputs: item_tower(*inputs), autograph=False)
    user = tf.function(lambda *inputs: user_tower(*inputs), autograph=False)
    np.testing.assert_allclose(item(*item_inputs()), item_tower(*item_inputs()), atol=1e-5)
    np.testing.assert_allclose(user(*user_inputs()), user_tower(*user_inputs()), atol=1e-5)
