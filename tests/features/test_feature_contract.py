"""What every feature type keeps, ours and somebody else's."""

import dataclasses
import doctest
import importlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import keras
import numpy as np
import polars as pl
import pytest
import tensorflow as tf

from tfrec.config import Feature, parse_config
from tfrec.data.dataset import PreparedData
from tfrec.data.parsing.checks import Findings, RowChecks
from tfrec.data.preparing.prepare import prepare
from tfrec.data.reading.batch import RawBatch
from tfrec.data.reading.sources import RawTables
from tfrec.errors import ConfigError, DataError
from tfrec.features import LEARNED, FeatureInput, FeatureType, Number, load_feature
from tfrec.features.frame import declare, encode_frame
from tfrec.features.trial import check_feature
from tfrec.registry import FEATURE_TYPES
from tfrec.towers.features import FeatureEmbedding

NAN, INF = float("nan"), float("inf")
HERE = __name__


@dataclass(frozen=True)
class Flag(FeatureType):
    """Somebody else's: yes or no, and how often yes was seen."""

    yes: str = "yes"
    share: float = field(default=0.0, metadata=LEARNED)

    uses: ClassVar[frozenset[str]] = frozenset({"context"})
    column_type: ClassVar[Any] = pl.Boolean

    def parse(self, cells: Any) -> pl.Series:
        return cells.frame[self.name] == self.yes

    def fit(self, column: pl.Series) -> "Flag":
        return dataclasses.replace(self, share=float(column.mean() or 0.0))

    def encode_column(self, column: pl.Series) -> np.ndarray:
        told = np.array([[value is True, value is False] for value in column], np.float32)
        return told.reshape(-1, 2) - np.float32(self.share)

    def encode_tensor(self, tensor: tf.Tensor, table: Any) -> tf.Tensor:
        told = tf.stack([tensor == self.yes, (tensor != self.yes) & (tensor != "")], axis=-1)
        return tf.cast(told, tf.float32) - tf.cast(self.share, tf.float32)

    def layer(self, dim: int, name: str) -> keras.layers.Layer:
        layer = keras.layers.Dense(dim, name=name)
        layer.build((None, 2))
        return layer

    def signature(self) -> FeatureInput:
        return FeatureInput("string", [None], "Yes or no.", "")

    def request_values(self, column: pl.Series) -> np.ndarray:
        words = {True: self.yes, False: "no", None: ""}
        return np.array([words[value] for value in column], object)


KINDS = [*FEATURE_TYPES.ours, f"{HERE}:Flag"]
WORDS = ["", None, "É", "日本", "a\0b", "w1 ", "w1", "W1", "w2", "no", "yes"]


def draw(feature: FeatureType, seed: int, count: int = 60) -> pl.Series:
    """Draws odd values of a feature's typed column; fails for a column type it does not know."""
    rng = np.random.default_rng(seed)

    def words(number: int) -> list[str | None]:
        return [WORDS[n] for n in rng.integers(0, len(WORDS), number)]

    def numbers(number: int) -> list[float | None]:
        odd = [None, NAN, INF, -INF, 0.0, -0.0, 1e-40, 3e38, 1e39, 20_000.5]
        drawn = [*rng.normal(5, 3, number).tolist(), *odd]
        return [drawn[n] for n in rng.integers(0, len(drawn), number)]

    cells: dict[Any, Callable[[], list[Any]]] = {
        pl.String: lambda: words(count),
        pl.List(pl.String): lambda: [words(n) if n else None for n in rng.integers(0, 5, count)],
        pl.Float64: lambda: numbers(count),
        pl.List(pl.Float32): lambda: [
            numbers(2 if n else int(rng.integers(0, 4))) for n in rng.integers(0, 6, count)
        ],
        pl.Boolean: lambda: [[True, False, None][n] for n in rng.integers(0, 3, count)],
    }
    values = cells[feature.column_type]()
    return pl.Series(feature.name, values, dtype=feature.column_type, strict=False)


def make(kind: str, seed: int = 0) -> FeatureType:
    (feature,) = declare({"x": Feature(type=kind)})
    return feature.fit(draw(feature, seed))


def serve(feature: FeatureType, column: pl.Series, pad: int = 0) -> np.ndarray:
    """Encodes a column in the graph, written the way a request does, with more padding."""
    info, table = feature.signature(), feature.table()
    values = feature.request_values(column)
    if pad and info.shape == [None, None]:
        values = np.pad(values, ((0, 0), (0, pad)), constant_values=info.neutral)
    spec = tf.TensorSpec(info.shape, tf.as_dtype(info.dtype))
    graph = tf.function(lambda x: feature.encode_tensor(x, table), input_signature=[spec])
    return graph(tf.constant(values, spec.dtype)).numpy()


def assert_same_encoding(served: np.ndarray, trained: np.ndarray) -> None:
    assert served.dtype == trained.dtype
    if served.ndim == 2 and served.shape[1] > trained.shape[1]:  # a longer list
        assert not served[:, trained.shape[1] :].any()
        served = served[:, : trained.shape[1]]
    np.testing.assert_allclose(served, trained, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", KINDS)
def test_graph_encodes_odd_values_as_numpy_does(kind: str, seed: int):
    feature = make(kind, seed)
    column = draw(feature, seed + 100)
    trained = feature.encode_column(column)
    assert trained.dtype in (np.int32, np.float32)
    assert trained.ndim in (1, 2)
    assert len(trained) == len(column)
    assert np.isfinite(trained).all()
    assert_same_encoding(serve(feature, column), trained)
    assert_same_encoding(serve(feature, column, pad=3), trained)


@pytest.mark.parametrize("kind", KINDS)
def test_neutral_value_of_a_request_is_the_unknown_row(kind: str):
    feature = make(kind)
    info = feature.signature()
    shape = [1, *(1 if size is None else size for size in info.shape[1:])]
    table = feature.table()
    neutral = tf.fill(shape, tf.cast(info.neutral, tf.as_dtype(info.dtype)))
    np.testing.assert_array_equal(feature.encode_tensor(neutral, table), feature.unknown_row())


@pytest.mark.parametrize(
    "values", ["none", "all missing", "one"], ids=["empty", "all missing", "one value"]
)
@pytest.mark.parametrize("kind", KINDS)
def test_fit_on_hardly_anything_still_encodes_alike(kind: str, values: str):
    (feature,) = declare({"x": Feature(type=kind)})
    known = draw(feature, 0).drop_nulls()[:1]
    missing = pl.Series("x", [None, None], dtype=feature.column_type)
    feature = feature.fit({"none": known[:0], "all missing": missing, "one": known}[values])
    for column in (draw(feature, 1), missing, known[:0]):
        trained = feature.encode_column(column)
        assert np.isfinite(trained).all()
        assert_same_encoding(serve(feature, column), trained)
    facts = feature.describe(draw(feature, 1))
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts


@pytest.mark.parametrize("kind", KINDS)
def test_feature_is_read_back_from_json(kind: str):
    feature = make(kind)
    stored = json.loads(json.dumps(feature.to_dict(), allow_nan=False))
    assert stored["type"] == kind
    assert load_feature(stored) == feature


@pytest.mark.parametrize("kind", KINDS)
def test_layer_embeds_every_row_and_is_read_back(kind: str):
    feature = make(kind)
    encoded = feature.encode_column(draw(feature, 1))
    layer = feature.layer(5, "some")
    assert layer(encoded).shape == (len(encoded), 5)
    copy = type(layer).from_config(layer.get_config())
    copy.build(None if encoded.dtype == np.int32 else encoded.shape)
    copy.set_weights(layer.get_weights())
    np.testing.assert_allclose(copy(encoded), layer(encoded), atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_row_of_the_unknown_is_put_first(kind: str):
    feature = make(kind)
    frame = draw(feature, 1).to_frame()
    encoded = encode_frame([feature], frame, with_unknown_row=True)["x"]
    unknown = feature.unknown_row()
    np.testing.assert_array_equal(encoded[:1][..., : unknown.shape[-1]], unknown)
    np.testing.assert_array_equal(encoded[1:], feature.encode_column(frame["x"]))


def test_embedding_of_all_types_survives_saving(tmp_path: Path):
    features = [dataclasses.replace(make(kind), name=f"f{n}") for n, kind in enumerate(KINDS)]
    inputs = {f.name: tf.constant(f.encode_column(draw(f, 3))) for f in features}
    layer = FeatureEmbedding(features, 4)
    symbolic = {
        name: keras.Input(values.shape[1:], dtype=values.dtype.name, name=name)
        for name, values in inputs.items()
    }
    model = keras.Model(symbolic, keras.layers.Concatenate()(layer(symbolic)))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(inputs), model(inputs), atol=1e-6)
    (copy,) = [part for part in loaded.layers if isinstance(part, FeatureEmbedding)]
    assert copy.features == features


# Missing is not 0

NUMBERS: list[dict[str, Any]] = [
    {"missing": missing, "clip": clip, "scale": scale}
    for missing in (
        "unknown", "mean", "median", "most_frequent", "interpolate", "nearest",
        {"method": "constant", "value": -1.0},
    )
    for clip in (None, "quantile", "z_score")
    for scale in ("linear", "log")
]  # fmt: skip


@pytest.mark.parametrize("kind", ["number", "date"])
@pytest.mark.parametrize("options", NUMBERS, ids=str)
def test_number_of_zero_is_told_from_a_missing_one(options: dict[str, Any], kind: str):
    (feature,) = declare({"x": Feature.model_validate({"type": kind, **options})})
    feature = feature.fit(pl.Series([0.0, 0.0, 1.0, 1.0, 4.0, None]))
    column = pl.Series([0.0, -0.0, None, NAN, INF, -INF], dtype=pl.Float64)
    encoded = feature.encode_column(column)
    assert encoded[:, 1].tolist() == [0, 0, 1, 1, 1, 1]
    assert (encoded[2:] == encoded[2]).all()
    assert_same_encoding(serve(feature, column), encoded)


def test_number_without_indicator_tells_zero_by_its_place():
    feature = Number("x", indicator=False).fit(pl.Series([0.0, 2.0, None]))
    column = pl.Series([0.0, None])
    # Mean 1, deviation 1: 0 is -1, and what is missing is the mean.
    assert feature.encode_column(column).tolist() == [[-1, 0], [0, 0]]
    assert serve(feature, column).tolist() == [[-1, 0], [0, 0]]


def test_flag_of_zero_and_one_is_learned_from_both():
    feature = Number("x").fit(pl.Series([0.0, 0.0, 0.0, 1.0, None]))
    assert (feature.mean, feature.std) == (0.25, 0.1875**0.5)  # 1/4 * 3/4


# Somebody else's


class Odd(Number):
    """A number in all but what a test breaks."""


def broken(**methods: Any) -> FeatureType:
    """Returns a fitted number with other methods, that can be imported as `Odd`."""
    for name in ("encode_column", "encode_tensor", "layer", "request_values", "to_dict"):
        if name in vars(Odd):
            delattr(Odd, name)
    for name, method in methods.items():
        setattr(Odd, name, method)
    return Odd("x").fit(pl.Series([1.0, 3.0]))


@pytest.mark.parametrize(
    ("methods", "expected"),
    [
        (
            {"encode_column": lambda self, column: np.zeros((len(column), 2))},
            "wanted from encode_column int32 or float32 of shape [3] or [3, any], got float64 of "
            "shape [3, 2]",
        ),
        (
            {"encode_column": lambda self, column: np.zeros((1, 2), np.float32)},
            "got float32 of shape [1, 2]",
        ),
        ({"encode_column": lambda self, column: None}, "got NoneType of shape []"),
        (
            {"encode_tensor": lambda self, x, table: tf.zeros([tf.shape(x)[0], 2])},
            "wanted from encode_tensor what encode_column gives, [[-1.0, 0.0], [1.0, 0.0], "
            "[0.0, 1.0]], got [[0.0, 0.0], [0.0, 0.0], [0.0, 0.0]]",
        ),
        ({"encode_tensor": lambda self, x, table: tf.strings.length(x)}, "Odd: "),
        (
            {"layer": lambda self, dim, name: keras.layers.Dense(dim + 1)},
            "wanted from the layer numbers of shape [1, 3], got float32 of shape [1, 4]",
        ),
        (
            {"request_values": lambda self, column: np.array(["a"] * len(column), object)},
            "Odd: ",
        ),
        (
            {"to_dict": lambda self: {**Number.to_dict(self), "mean": NAN}},
            "Odd: Out of range float values are not JSON compliant",
        ),
        (
            {"to_dict": lambda self: {**Number.to_dict(self), "mean": 1.0}},
            "wanted the feature that `to_dict` wrote, Odd(name='x'",
        ),
    ],
    ids=[
        "other dtype", "other rows", "no array", "other in graph", "not traced", "other width",
        "other request", "no json", "not read back",
    ],
)  # fmt: skip
def test_type_that_breaks_the_contract_is_refused_in_one_line(methods: dict, expected: str):
    column = pl.Series([1.0, 3.0, None])
    check_feature(broken(), "data.items.features.x", column)  # nothing is wrong before
    with pytest.raises(ConfigError) as caught:
        check_feature(broken(**methods), "data.items.features.x", column)
    broken()
    text = str(caught.value)
    assert text.startswith("data.items.features.x: ")
    assert expected in text
    assert "\n" not in text


@pytest.mark.parametrize("kind", KINDS)
def test_feature_of_every_type_passes_its_trial(kind: str):
    feature = make(kind)
    check_feature(feature, "x", draw(feature, 1))


def test_type_of_ones_own_takes_its_options_and_learns_the_rest():
    own = {"type": f"{HERE}:Flag", "options": {"yes": "on"}}
    (feature,) = declare({"x": Feature.model_validate(own)}, "data.items.features")
    assert feature == Flag("x", yes="on")
    for options, expected in (
        ({"share": 0.5}, "'share' is learned, no option"),
        ({"yess": "on"}, "unknown option 'yess'. Did you mean 'yes'?"),
    ):
        with pytest.raises(ConfigError, match=expected):
            declare({"x": Feature.model_validate({**own, "options": options})})


def test_type_of_ones_own_that_gives_another_column_is_refused():
    class Wrong(Number):
        def parse(self, cells: Any) -> pl.Series:
            return cells.frame[self.name].cast(pl.Int64)

    from tfrec.data.parsing.features import type_features

    frame = pl.DataFrame({"x": [1.0, 2.0]})
    checks = RowChecks(RawBatch(frame, "t.csv", np.arange(2)), "items", Findings())
    expected = r"column 'x': wanted 2 values of Float64 from Wrong.parse, got 2 of Int64\."
    with pytest.raises(DataError, match=expected):
        type_features(checks, [Wrong("x")])


def prepare_log(kind: str, folder: Path) -> PreparedData:
    """Prepares a log whose requests have a column x of that type."""
    features = {"x": {"type": kind, "options": {"yes": "on"}}}
    events = {"context": features, "label": "label"}
    data = {"source": "tables", "events": events, "split": {"kind": "leave_one_out"}}
    config = parse_config({"name": "x", "data": data})
    log = pl.DataFrame(
        {
            "user_id": ["u"] * 5 + ["v"] * 5,
            "item_id": list("abcde") * 2,
            "time": [1_700_000_000 + 10 * n for n in range(10)],
            "label": [1] * 10,
            "x": ["on", "off", "on", None, "off"] * 2,
        }
    )
    batch = RawBatch(log, "log.csv", np.arange(1, log.height + 1))
    prepare(RawTables(lambda: iter([batch])), config, folder)
    return PreparedData.load(folder)


def test_type_of_ones_own_goes_through_preparation(tmp_path: Path):
    data = prepare_log(f"{HERE}:Flag", tmp_path)
    (feature,) = data.context_features
    of_train = data.contexts.filter(pl.col("split") == 0)["x"]
    assert feature == Flag("x", yes="on", share=of_train.mean())
    np.testing.assert_array_equal(
        data.context_inputs["x"], feature.encode_column(data.contexts["x"])
    )
    assert data.contexts["x"].null_count() == data.report["features"]["context"]["x"]["missing"]


class Forgetful(Flag):
    """Encodes in the graph what it does not in numpy."""

    def encode_tensor(self, tensor: tf.Tensor, table: Any) -> tf.Tensor:
        return tf.zeros([tf.shape(tensor)[0], 2])


def test_type_of_ones_own_that_breaks_the_contract_ends_preparation(tmp_path: Path):
    expected = r"data\.events\.context\.x: wanted from encode_tensor what encode_column gives"
    with pytest.raises(ConfigError, match=expected):
        prepare_log(f"{HERE}:Forgetful", tmp_path)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            {
                "data": {"source": "tables", "items": {"features": {"x": f"{HERE}:Flag"}}},
                "filters": {"attributes": ["x"]},
            },
            r"that works there \(none is declared\), got 'x'",
        ),
        (
            {"data": {"source": "tables", "relations": {"features": {"x": f"{HERE}:Flag"}}}},
            "wanted a feature of type category_list, got",
        ),
        (
            {"data": {"source": "tables", "events": {"context": {"x": "no_such.place:Flag"}}}},
            "cannot be imported: No module",
        ),
        (
            {"data": {"source": "tables", "events": {"context": {"x": f"{HERE}:RowChecks"}}}},
            "wanted a feature type, a class that",
        ),
    ],
    ids=["filter", "relation", "no module", "other class"],
)
def test_type_of_ones_own_is_refused_where_it_does_not_work(change: dict, expected: str):
    with pytest.raises(ConfigError, match=expected) as caught:
        parse_config({"name": "x", **change})
    assert "\n" not in str(caught.value)


MODULES = [
    "tfrec.features.feature_type",
    "tfrec.features.category",
    "tfrec.features.category_list",
    "tfrec.features.number",
    "tfrec.features.date",
    "tfrec.features.vector",
    "tfrec.features.mean_embedding",
    "tfrec.towers.features",
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_do_what_they_say(name: str):
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted
    assert not found.failed
