"""What every layer registered with Keras keeps: it is built again, learns and is saved."""

import importlib
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfrec
from tfrec.encoders import AttentionPooling, BertEncoder, build_backbone
from tfrec.features import Category, Number
from tfrec.features.mean_embedding import MeanEmbedding
from tfrec.models.calibration import (
    IsotonicCalibrator,
    NoCalibration,
    PlattCalibrator,
    TemperatureCalibrator,
)
from tfrec.models.cross import Cross, CrossNetwork
from tfrec.models.ranking import RankingModel
from tfrec.models.ranking_head import NumberHead, ProbabilityHead
from tfrec.models.retrieval import RetrievalModel
from tfrec.models.target_attention import HistoryAttention
from tfrec.towers import (
    AttentionReader,
    ConcatFusion,
    FeatureEmbedding,
    GateFusion,
    ItemTower,
    MeanReader,
    NoHistory,
    SumFusion,
    TransformerReader,
    UserTower,
)

DIM, TEXT_DIM, ROWS = 4, 6, 5
FEATURES = [Category("brand", vocabulary=["a", "b"]), Number("price", mean=3.0)]
NEXT_TO_MODELS = ("features", "encoders", "towers", "models", "losses", "metrics")
# Keras models, which a user compiles and fits: tests/models/test_two_tower.py has these.
MODELS = {"TwoTower", "Ranker"}
# Not called alike: these have tests of their own at the end.
BELOW = {"HistoryAttention", "RankingModel", "RetrievalModel"}

Case = tuple[Callable[[], keras.layers.Layer], Callable[[], list[Any]]]


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def rows(limit: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, limit, shape).astype(np.int32)


def features() -> dict[str, np.ndarray]:
    return {"brand": rows(3, ROWS), "price": numbers(ROWS, 2)}


def make_encoder() -> BertEncoder:
    return BertEncoder(build_backbone("nano", 50, max_tokens=8, dropout=0.0), "attention")


def make_item_tower(text_dim: int = TEXT_DIM) -> ItemTower:
    return ItemTower(9, FEATURES, text_dim, DIM, fusion=GateFusion(), id_dropout=0.0)


def make_user_tower(text_dim: int) -> UserTower:
    reader = AttentionReader(DIM, 7)
    return UserTower(9, FEATURES, text_dim, DIM, history=reader, id_dropout=0.0, dropout=0.0)


def parts() -> list[Any]:
    return [[numbers(ROWS, DIM), numbers(ROWS, DIM, seed=1)]]


def history() -> list[Any]:
    return [numbers(ROWS, 3, DIM), np.sort(rows(2, ROWS, 3), axis=1)]


def tower_inputs() -> list[Any]:
    return [numbers(ROWS, TEXT_DIM), rows(9, ROWS), features()]


def terms() -> list[Any]:
    return [numbers(ROWS, 2)]


CASES: dict[str, Case] = {
    "Cross": (lambda: Cross(DIM, 2), lambda: [numbers(ROWS, DIM), numbers(ROWS, DIM, seed=1)]),
    "CrossNetwork": (lambda: CrossNetwork(2, 3), lambda: [numbers(ROWS, DIM)]),
    "IsotonicCalibrator": (lambda: IsotonicCalibrator(2), terms),
    "NoCalibration": (lambda: NoCalibration(2), terms),
    "PlattCalibrator": (lambda: PlattCalibrator(2), terms),
    "TemperatureCalibrator": (lambda: TemperatureCalibrator(2), terms),
    "AttentionPooling": (
        lambda: AttentionPooling(DIM),
        lambda: [numbers(ROWS, 3, DIM), np.ones((ROWS, 3), bool)],
    ),
    "AttentionReader": (lambda: AttentionReader(DIM, 7), history),
    "BertEncoder": (make_encoder, lambda: [rows(50, ROWS, 6)]),
    "ConcatFusion": (ConcatFusion, parts),
    "FeatureEmbedding": (lambda: FeatureEmbedding(FEATURES, DIM), lambda: [features()]),
    "GateFusion": (GateFusion, parts),
    "ItemTower": (make_item_tower, tower_inputs),
    "MeanEmbedding": (lambda: MeanEmbedding(5, DIM), lambda: [rows(5, ROWS, 3)]),
    "MeanReader": (lambda: MeanReader(DIM, 7), history),
    "NoHistory": (lambda: NoHistory(DIM, 7), history),
    "SumFusion": (SumFusion, parts),
    "TransformerReader": (lambda: TransformerReader(DIM, 7, layers=1), history),
    "UserTower": (
        lambda: UserTower(9, FEATURES, TEXT_DIM, DIM, id_dropout=0.0, dropout=0.0),
        lambda: [*tower_inputs(), numbers(ROWS, DIM)],
    ),
}
UNUSED = ("pooled_dense/kernel", "pooled_dense/bias")
"""Weights of keras-nlp's BERT that no output of ours needs."""
WITHOUT_WEIGHTS = {
    "IsotonicCalibrator",
    "NoCalibration",
    "NoHistory",
    "PlattCalibrator",
    "SumFusion",
    "TemperatureCalibrator",
}


def registered() -> dict[str, type]:
    """Returns the layers below `models` and in it that Keras knows by name."""
    for module in pkgutil.walk_packages(tfrec.__path__, "tfrec."):
        if module.name.split(".")[1] in NEXT_TO_MODELS:
            importlib.import_module(module.name)
    objects = keras.saving.get_custom_objects()
    return {
        name.removeprefix("tfrec>"): part
        for name, part in objects.items()
        if name.startswith("tfrec>") and issubclass(part, keras.layers.Layer)
    }


def answer(layer: keras.layers.Layer, inputs: list[Any], training: bool = False) -> list[tf.Tensor]:
    takes_training = layer._call_has_training_arg
    return tf.nest.flatten(layer(*inputs, **({"training": training} if takes_training else {})))


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> tuple[str, keras.layers.Layer, list[Any]]:
    make_layer, make_inputs = CASES[request.param]
    keras.utils.set_random_seed(3)
    layer, inputs = make_layer(), make_inputs()
    answer(layer, inputs)  # the weights of some are made now
    return request.param, layer, inputs


def rebuild(layer: keras.layers.Layer, inputs: list[Any]) -> keras.layers.Layer:
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    answer(copy, inputs)
    copy.set_weights(layer.get_weights())
    return copy


def test_every_registered_class_has_a_case():
    wanted = registered().keys() - MODELS - BELOW
    assert wanted - {name.split(">")[-1] for name in CASES} == set()


def test_layer_is_built_again_from_its_config_and_answers_alike(case):
    _, layer, inputs = case
    copy = rebuild(layer, inputs)
    assert copy.get_config() == layer.get_config()
    for wanted, got in zip(answer(layer, inputs), answer(copy, inputs), strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-6)


def test_layer_keeps_its_precision_when_built_again(case):
    name, _, inputs = case
    make_layer, _ = CASES[name]
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        layer = make_layer()
    finally:
        keras.config.set_dtype_policy(before)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    wanted = [tensor.dtype for tensor in answer(layer, inputs)]
    assert [tensor.dtype for tensor in answer(copy, inputs)] == wanted


def test_a_step_reaches_every_weight_and_lowers_the_loss(case):
    name, layer, inputs = case
    weights = [w for w in layer.trainable_variables if w.path not in UNUSED]
    assert bool(weights) == (name not in WITHOUT_WEIGHTS)
    if not weights:
        return
    targets = [numbers(*tensor.shape, seed=7) for tensor in answer(layer, inputs)]

    def loss() -> tf.Tensor:
        pairs = zip(answer(layer, inputs, training=True), targets, strict=True)
        return tf.add_n([tf.reduce_mean((got - wanted) ** 2) for got, wanted in pairs])

    optimizer = keras.optimizers.SGD(0.01)
    keras.utils.set_random_seed(5)
    with tf.GradientTape() as tape:
        before = loss()
    gradients = tape.gradient(before, [weight.value for weight in weights])
    assert not [w.path for w, g in zip(weights, gradients, strict=True) if g is None]
    optimizer.apply(gradients, weights)
    keras.utils.set_random_seed(5)
    assert loss() < before


def test_layer_is_saved_in_a_graph_and_reloaded(case, tmp_path: Path):
    _, layer, inputs = case
    specs = tf.nest.map_structure(lambda x: tf.TensorSpec([None, *x.shape[1:]], x.dtype), inputs)
    module = tf.Module()
    module.layer = layer
    module.call = tf.function(lambda *given: answer(layer, list(given)), specs, autograph=False)
    tf.saved_model.save(module, str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    for wanted, got in zip(answer(layer, inputs), loaded.call(*inputs), strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-5)


def test_retrieval_model_is_built_again_from_its_config():
    encoder = make_encoder()
    model = RetrievalModel(
        encoder,
        make_item_tower(encoder.hidden_dim),
        make_user_tower(encoder.hidden_dim),
        temperature=0.3,
        learn_temperature=True,
    )
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(model))
    assert copy.get_config() == model.get_config()
    assert [w.shape for w in copy.weights] == [w.shape for w in model.weights]
    copy.set_weights(model.get_weights())
    text, row = numbers(ROWS, encoder.hidden_dim), rows(9, ROWS)
    np.testing.assert_allclose(
        copy.item_tower(text, row, features()), model.item_tower(text, row, features()), atol=1e-6
    )


def test_ranking_model_is_built_again_from_its_config():
    model = RankingModel(
        FEATURES,
        [],
        num_items=9,
        embedding_dim=DIM,
        max_history=3,
        num_statistics=1,
        hidden=[5, 4],
        layers={"cross": CrossNetwork(2, 3)},
        heads={
            "cart": ProbabilityHead(event="cart", weight=0.5),
            "stars": NumberHead(value="rating"),
        },
        calibrators={"click": IsotonicCalibrator(3)},
        attention={"heads": 2, "units": 3},
    )
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(model))
    assert copy.get_config() == model.get_config()
    assert [type(head) for head in copy.heads.values()] == [ProbabilityHead, NumberHead]
    assert [w.shape for w in copy.weights] == [w.shape for w in model.weights]


def test_attention_to_the_history_is_built_again_from_its_config():
    layer = HistoryAttention(DIM, 3, heads=2, units=3)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    copy.set_weights(layer.get_weights())
    items, is_event = numbers(ROWS, 3, DIM), np.ones((ROWS, 3), bool)
    row = np.arange(ROWS, dtype=np.int32)
    wanted, got = (
        one(numbers(ROWS, DIM, seed=2), row, one.read(items, is_event)) for one in (layer, copy)
    )
    np.testing.assert_array_equal(got, wanted)
