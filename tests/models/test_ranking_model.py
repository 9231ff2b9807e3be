import numpy as np
import pytest

from tfrec.config import Ranking
from tfrec.data.tabular import FeatureEncoder
from tfrec.models.ranking import NUM_POSITIONS, RankingModel

DIM, NUM_ITEMS = 6, 12
ITEM_FEATURES = [
    FeatureEncoder("brand", "category", vocabulary=["a", "b"]),
    FeatureEncoder("price", "number"),
]
REQUEST_FEATURES = [FeatureEncoder("device", "category", vocabulary=["phone", "desk"])]
POSITIONS = (0, 1, 2, 50, NUM_POSITIONS - 1)


def make_model(dropout: float = 0.0, with_features: bool = True) -> RankingModel:
    model = RankingModel(
        NUM_ITEMS,
        DIM,
        ITEM_FEATURES if with_features else [],
        REQUEST_FEATURES if with_features else [],
        Ranking(hidden=[16, 8], dropout=dropout),
    )
    rng = np.random.default_rng(0)
    for weight in model.trainable_variables:
        weight.assign(rng.normal(0, 0.4, weight.shape))
    model.item_log_odds.assign(rng.normal(size=NUM_ITEMS + 1))
    return model


@pytest.fixture(scope="module")
def model() -> RankingModel:
    return make_model(dropout=0.5)


def make_pairs(rows: int, seed: int = 0) -> list[object]:
    rng = np.random.default_rng(seed)
    users, items = rng.normal(size=(2, rows, DIM)).astype(np.float32)
    return [
        users / np.linalg.norm(users, axis=1, keepdims=True),
        items / np.linalg.norm(items, axis=1, keepdims=True),
        rng.integers(0, NUM_ITEMS + 1, rows).astype(np.int32),
        {"device": rng.integers(0, 3, rows).astype(np.int32)},
        {
            "brand": rng.integers(0, 3, rows).astype(np.int32),
            "price": rng.normal(size=(rows, 2)).astype(np.float32),
        },
    ]


def predict(model: RankingModel, pairs: list[object], position: object, **kwargs) -> np.ndarray:
    rows = len(pairs[0])
    return model(*pairs, np.broadcast_to(position, rows), **kwargs).numpy()


@pytest.mark.parametrize("rows", [0, 1, 9])
def test_logits_have_one_value_a_pair(model, rows):
    logits = predict(model, make_pairs(rows), 1)
    assert logits.shape == (rows,)
    assert logits.dtype == np.float32
    assert np.isfinite(logits).all()


def test_position_shifts_all_pairs_equally_and_keeps_their_order(model):
    pairs = make_pairs(40)
    first = predict(model, pairs, 1)
    bias = model.position_bias.numpy()
    for position in POSITIONS:
        shifted = predict(model, pairs, position)
        np.testing.assert_allclose(shifted - first, bias[position] - bias[1], atol=1e-5)
        np.testing.assert_array_equal(np.argsort(shifted), np.argsort(first))


def test_position_of_each_pair_is_its_own(model):
    pairs = make_pairs(len(POSITIONS))
    difference = predict(model, pairs, np.array(POSITIONS)) - predict(model, pairs, 0)
    bias = model.position_bias.numpy()
    np.testing.assert_allclose(difference, bias[list(POSITIONS)] - bias[0], atol=1e-5)


@pytest.mark.parametrize("position", [NUM_POSITIONS, 5000])
def test_positions_beyond_the_table_share_its_last_row(model, position):
    pairs = make_pairs(3)
    np.testing.assert_array_equal(
        predict(model, pairs, position), predict(model, pairs, NUM_POSITIONS - 1)
    )


def test_negative_position_counts_as_unknown(model):
    pairs = make_pairs(3)
    np.testing.assert_array_equal(predict(model, pairs, -1), predict(model, pairs, 0))


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.int64])
def test_position_of_any_integer_type_gives_the_same(model, dtype):
    pairs = make_pairs(3)
    wanted = predict(model, pairs, np.array([1, 2, 3], np.int32))
    np.testing.assert_array_equal(predict(model, pairs, np.array([1, 2, 3], dtype)), wanted)


@pytest.mark.parametrize("part", range(5))
def test_logit_depends_on_user_item_index_and_features(model, part):
    pairs = make_pairs(9, seed=0)
    pairs[part] = make_pairs(9, seed=1)[part]
    assert np.abs(predict(model, pairs, 1) - predict(model, make_pairs(9), 1)).max() > 1e-2


def test_logits_of_rows_in_other_order_are_permuted(model):
    pairs = make_pairs(9)
    order = np.random.default_rng(2).permutation(9)
    permuted = [
        {name: values[order] for name, values in part.items()}
        if isinstance(part, dict)
        else part[order]
        for part in pairs
    ]
    np.testing.assert_allclose(
        predict(model, permuted, 1), predict(model, pairs, 1)[order], atol=1e-5
    )


def test_dropout_acts_in_training_only(model):
    pairs = make_pairs(9)
    np.testing.assert_array_equal(predict(model, pairs, 1), predict(model, pairs, 1))
    first, second = (predict(model, pairs, 1, training=True) for _ in range(2))
    assert (first != second).any()


def test_model_without_features_predicts():
    pairs = [*make_pairs(4)[:3], {}, {}]
    logits = predict(make_model(with_features=False), pairs, 1)
    assert logits.shape == (4,)
    assert len(set(logits.tolist())) == 4


def test_new_model_starts_without_position_bias_popularity_and_calibration():
    fresh = RankingModel(NUM_ITEMS, DIM, [], [], Ranking(hidden=[4], dropout=0.0))
    users, items, rows, *_ = make_pairs(4)
    wanted = predict(fresh, [users, items, rows, {}, {}], 1)
    np.testing.assert_array_equal(predict(fresh, [users, items, rows, {}, {}], 70), wanted)
    np.testing.assert_array_equal(predict(fresh, [users, items, 0 * rows, {}, {}], 1), wanted)
    assert fresh.calibration.numpy().tolist() == [1.0, 0.0]


def test_calibration_scales_and_shifts_the_logits():
    model, pairs = make_model(), make_pairs(9)
    raw = predict(model, pairs, 3)
    model.calibration.assign([2.0, -0.5])
    np.testing.assert_allclose(predict(model, pairs, 3), 2 * raw - 0.5, atol=1e-5)
    assert id(model.calibration) not in {id(v) for v in model.trainable_variables}
