import numpy as np
import pytest
import tensorflow as tf

from tfrec.config import Ranking
from tfrec.features import Category, Number
from tfrec.models.build import ranking_model
from tfrec.models.ranking import NUM_POSITIONS, PairInputs, RankingModel, RequestInputs

DIM, NUM_ITEMS, LENGTH = 6, 12, 4
ITEM_FEATURES = [
    Category("brand", vocabulary=["a", "b"]),
    Number("price"),
]
REQUEST_FEATURES = [Category("device", vocabulary=["phone", "desk"])]
HEADS = {
    "cart": {"event": "cart"},
    "stars": {"value": "rating"},
    "minutes": {"value": "watch_time"},
}


def make_model(**changes: object) -> RankingModel:
    settings = {
        "hidden": [16, 8], "dropout": 0.5, "cross_layers": 2, "time_features": True, "heads": HEADS,
        **changes,
    }  # fmt: skip
    has_towers = settings.pop("has_towers", True)
    has_features = settings.pop("has_features", True)
    model = ranking_model(
        ITEM_FEATURES if has_features else [],
        REQUEST_FEATURES if has_features else [],
        Ranking.model_validate(settings),
        num_items=NUM_ITEMS,
        embedding_dim=DIM if has_towers else 0,
        max_history=LENGTH if has_towers else 0,
        num_statistics=1,
    )
    rng = np.random.default_rng(0)
    for weight in model.trainable_variables:
        weight.assign(rng.normal(0, 0.4, weight.shape))
    return model


@pytest.fixture(scope="module")
def model() -> RankingModel:
    return make_model()


def make_requests(count: int, seed: int = 0) -> dict[str, object]:
    rng = np.random.default_rng(seed)
    is_event = np.arange(LENGTH) >= rng.integers(0, LENGTH + 1, (count, 1))
    return {
        "user": np.arange(count, dtype=np.int32),
        "features": {"device": rng.integers(0, 3, count).astype(np.int32)},
        "embedding": rng.normal(size=(count, DIM)).astype(np.float32),
        "history": rng.normal(size=(count, LENGTH, DIM)).astype(np.float32),
        "is_event": is_event,
        "time": rng.integers(1, 2**31, count),
    }


def make_pairs(requests: np.ndarray, seed: int = 1) -> dict[str, object]:
    rng, rows = np.random.default_rng(seed), len(requests)
    return {
        "request": requests.astype(np.int32),
        "position": np.ones(rows, np.int32),
        "item_features": {
            "brand": rng.integers(0, 3, rows).astype(np.int32),
            "price": rng.normal(size=(rows, 2)).astype(np.float32),
        },
        "embedding": rng.normal(size=(rows, DIM)).astype(np.float32),
        "statistics": rng.normal(size=(rows, 1)).astype(np.float32),
    }


REQUESTS = np.array([0, 0, 0, 2, 2, 3, 3, 3, 3])  # none asks for request 1


def to_tensors(inputs: dict[str, object]) -> dict[str, object]:
    return {
        name: to_tensors(value) if isinstance(value, dict) else tf.constant(value)
        for name, value in inputs.items()
    }


def score(model: RankingModel, requests: dict, pairs: dict, training: bool = False) -> np.ndarray:
    outputs = model.score(
        RequestInputs(**to_tensors(requests)), PairInputs(**to_tensors(pairs)), training=training
    )
    return outputs.numpy()


@pytest.mark.parametrize("count", [0, 1, 4])
def test_each_pair_has_a_number_for_each_head_and_each_shallow_term(model, count):
    rows = REQUESTS[count > REQUESTS]
    outputs = score(model, make_requests(count), make_pairs(rows))
    assert outputs.shape == (len(rows), 4 + 2) == (len(rows), model.num_outputs)
    assert outputs.dtype == np.float32
    assert np.isfinite(outputs).all()


def test_pairs_are_scored_as_if_alone(model):
    requests, pairs = make_requests(4), make_pairs(REQUESTS)
    together = score(model, requests, pairs)
    for row, request in enumerate(REQUESTS):
        one = {
            n: {k: v[[request]] for k, v in value.items()} if n == "features" else value[[request]]
            for n, value in requests.items()
        }
        alone = {
            n: {k: v[[row]] for k, v in value.items()} if n == "item_features" else value[[row]]
            for n, value in pairs.items()
        } | {"request": np.zeros(1, np.int32)}
        np.testing.assert_allclose(score(model, one, alone)[0], together[row], atol=1e-4)


def test_position_shifts_clicks_equally_and_nothing_else(model):
    requests, pairs = make_requests(4), make_pairs(REQUESTS)
    first, bias = score(model, requests, pairs), model.position_bias.numpy()
    for position in (0, 2, NUM_POSITIONS - 1):
        moved = score(model, requests, pairs | {"position": np.full(len(REQUESTS), position)})
        shift = bias[position] - bias[1]
        np.testing.assert_allclose(moved[:, 0] - first[:, 0], shift, atol=1e-4)
        np.testing.assert_allclose(moved[:, 1:4], first[:, 1:4], atol=1e-5)


@pytest.mark.parametrize(
    ("position", "same_as"),
    [(NUM_POSITIONS, NUM_POSITIONS - 1), (5000, NUM_POSITIONS - 1), (-1, 0)],
)
def test_positions_out_of_the_table_share_its_ends(model, position, same_as):
    requests, pairs = make_requests(4), make_pairs(REQUESTS)
    got, wanted = (
        score(model, requests, pairs | {"position": np.full(len(REQUESTS), p, np.int64)})
        for p in (position, same_as)
    )
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("part", ["features", "embedding", "history", "time"])
def test_scores_depend_on_each_part_of_the_request(model, part):
    requests, pairs = make_requests(4), make_pairs(REQUESTS)
    changed = requests | {part: make_requests(4, seed=5)[part]}
    assert np.abs(score(model, changed, pairs) - score(model, requests, pairs)).max() > 1e-3


@pytest.mark.parametrize("part", ["item_features", "embedding", "statistics"])
def test_scores_depend_on_each_part_of_the_item(model, part):
    requests, pairs = make_requests(4), make_pairs(REQUESTS)
    changed = pairs | {part: make_pairs(REQUESTS, seed=5)[part]}
    assert np.abs(score(model, requests, changed) - score(model, requests, pairs)).max() > 1e-3


def test_dropout_acts_in_training_only(model):
    requests, pairs = make_requests(4), make_pairs(REQUESTS)
    np.testing.assert_array_equal(score(model, requests, pairs), score(model, requests, pairs))
    first, second = (score(model, requests, pairs, training=True) for _ in range(2))
    assert (first != second).any()


def test_model_without_towers_reads_tables_alone():
    tabular = make_model(has_towers=False)
    requests = make_requests(4) | {"embedding": np.zeros((4, 0)), "history": np.zeros((4, 0))}
    requests = {n: v for n, v in requests.items() if n in ("user", "features", "time")}
    pairs = {n: v for n, v in make_pairs(REQUESTS).items() if n != "embedding"}
    assert len(np.unique(score(tabular, requests, pairs)[:, 0])) == len(REQUESTS)


def test_model_without_any_feature_scores_by_the_past_of_items():
    bare = make_model(has_towers=False, has_features=False, time_features=False, cross_layers=0)
    pairs = make_pairs(REQUESTS)
    pairs = {n: pairs[n] for n in ("request", "position", "statistics")}
    assert np.isfinite(score(bare, {"user": np.arange(4)}, pairs)).all()


def test_new_model_starts_from_the_log_odds_of_items_alone():
    fresh = ranking_model([], [], Ranking(hidden=[4], dropout=0.0), num_items=3, num_statistics=1)
    fresh.pair_layer.kernel.assign(tf.zeros_like(fresh.pair_layer.kernel))
    past = np.array([[1.0], [-2.0]], np.float32)
    pairs = {"request": np.zeros(2, np.int32), "position": np.ones(2, np.int32), "statistics": past}
    outputs = score(fresh, {"user": np.zeros(1)}, pairs)
    np.testing.assert_allclose(outputs[:, :1], past, atol=1e-6)


def test_terms_of_a_click_are_the_layers_the_position_and_the_past_of_the_item(model):
    requests, pairs = make_requests(4), make_pairs(REQUESTS)
    outputs = score(model, requests, pairs)
    terms = model.terms(tf.constant(outputs), "click").numpy()
    np.testing.assert_allclose(terms.sum(axis=-1), outputs[:, 0], atol=1e-5)
    np.testing.assert_array_equal(terms[:, 1], np.full(len(REQUESTS), model.position_bias[1]))
    past = model.log_odds_weight.numpy() * pairs["statistics"][:, 0]
    np.testing.assert_allclose(terms[:, 2], past, rtol=1e-6)
    cart = model.terms(tf.constant(outputs), "cart").numpy()
    np.testing.assert_array_equal(cart, outputs[:, 1:2])


def test_answers_of_heads_are_log_odds_numbers_and_seconds(model):
    model.value_scale.assign([[0, 1], [0, 1], [3, 0.5], [2, 1]])
    outputs = np.array([[0.3, -1.0, 2.0, 0.0, 0.1, 0.4]], np.float32)
    answers = {name: float(v[0]) for name, v in model.predict(tf.constant(outputs)).items()}
    # stars: 3 + 0.5 * 2; minutes: exp(2 + 1 * 0) - 1
    assert answers == pytest.approx({"click": 0.3, "cart": -1, "stars": 4, "minutes": np.e**2 - 1})


def test_order_of_clicks_within_a_step_of_the_calibration_is_that_of_raw_logits():
    stepped = make_model(calibration={"kind": "isotonic"}, heads={})
    raw = np.linspace(-2, 2, 9).astype(np.float32)
    labels = (raw > 0).astype(np.float32)
    outputs = tf.constant(np.column_stack([raw, 0 * raw, 0 * raw]))
    assert stepped.calibrators["click"].fit(stepped.terms(outputs, "click").numpy(), labels)
    calibrated = stepped.predict(outputs)["click"].numpy()
    assert len(np.unique(calibrated[:4])) == 1
    assert (np.diff(stepped.click_order(outputs).numpy()) > 0).all()
