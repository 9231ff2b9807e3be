import json
from typing import Any

import numpy as np
import polars as pl
import pytest

from tfrec.config import Feature
from tfrec.data.tabular import FeatureEncoder, encode_frame, fit_features

NAN, INF = float("nan"), float("inf")
CATEGORY = FeatureEncoder("c", "category", vocabulary=["a", "b", "é"])
LIST = FeatureEncoder("l", "category_list", vocabulary=["a", "b", "é"])
NUMBER = FeatureEncoder("n", "number", mean=3.0, std=2.0)
LOG = FeatureEncoder("n", "number", scale="log", mean=1.0, std=0.5)
VECTOR = FeatureEncoder("v", "vector", size=2)
TEXT, TEXTS, FLOAT, FLOATS = pl.String, pl.List(pl.String), pl.Float64, pl.List(pl.Float32)

CASES = [
    (CATEGORY, ["b", "zz", None, "", "é", "A"], TEXT, [2, 0, 0, 0, 3, 0]),
    (LIST, [["b", "zz", "a"], [], None, ["é"]], TEXTS,
     [[2, 0, 1], [0, 0, 0], [0, 0, 0], [3, 0, 0]]),
    # (5 - 3) / 2 = 1; (-1 - 3) / 2 = -2; unknown is the mean and says so.
    (NUMBER, [5.0, -1.0, 3.0, 0.0, None, NAN], FLOAT,
     [[1, 0], [-2, 0], [0, 0], [0, 1], [0, 1], [0, 1]]),
    # log(1 + (e - 1)) = 1, and (1 - 1) / 0.5 = 0; log(1 + (e^2 - 1)) = 2, and (2 - 1) / 0.5 = 2;
    # of the negative number the sign stays: (-1 - 1) / 0.5 = -4.
    (LOG, [np.e - 1, np.e**2 - 1, 1 - np.e, 0.0, None], FLOAT,
     [[0, 0], [2, 0], [-4, 0], [0, 1], [0, 1]]),
    (VECTOR, [[1.0, -2.0], None, [0.0, 0.5]], FLOATS, [[1, -2], [0, 0], [0, 0.5]]),
    (VECTOR, [[1.0, NAN], [None, 3.0]], FLOATS, [[1, 0], [0, 3]]),
]  # fmt: skip


@pytest.mark.parametrize(("encoder", "values", "dtype", "expected"), CASES)
def test_encode_column_gives_the_numbers_by_hand(
    encoder: FeatureEncoder, values: list, dtype: Any, expected: list
):
    encoded = encoder.encode_column(pl.Series("x", values, dtype=dtype))
    assert encoded.dtype == (np.int32 if "category" in encoder.type else np.float32)
    np.testing.assert_allclose(encoded, expected, atol=1e-6)


def as_request(encoder: FeatureEncoder, values: list) -> Any:
    """Returns a column the way a request writes it: "" and 0 for unknown, "" pads."""
    if encoder.type == "category":
        return np.array([value or "" for value in values], object)
    if encoder.type == "category_list":
        rows = [value or [] for value in values]
        width = max(map(len, rows), default=0) + 1  # a request may pad further
        return np.array([row + [""] * (width - len(row)) for row in rows], object)
    if encoder.type == "number":
        return np.array([0.0 if value is None else value for value in values], np.float32)
    size = encoder.size
    return np.array(
        [[x if x is not None else NAN for x in value or [0.0] * size] for value in values],
        np.float32,
    )


@pytest.mark.parametrize(("encoder", "values", "dtype", "expected"), CASES)
def test_encode_tensor_in_graph_equals_encode_column(
    encoder: FeatureEncoder, values: list, dtype: Any, expected: list
):
    import tensorflow as tf

    from tfrec.recommender import _lookup

    vocabulary = encoder.vocabulary
    table = _lookup(vocabulary, range(1, len(vocabulary) + 1)) if vocabulary else None
    tensor = tf.constant(as_request(encoder, values))
    graph = tf.function(lambda x: encoder.encode_tensor(x, table))
    served = graph(tensor).numpy()
    trained = encoder.encode_column(pl.Series("x", values, dtype=dtype))
    assert served.dtype == trained.dtype
    if encoder.type == "category_list":
        np.testing.assert_array_equal(served[:, -1], 0)
        served = served[:, :-1]
    np.testing.assert_allclose(served, trained, atol=1e-6)
    assert served.shape == trained.shape


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("scale", ["linear", "log"])
def test_number_fitted_on_random_values_agrees_in_graph(scale: Any, seed: int):
    import tensorflow as tf

    draw = np.random.default_rng(seed)
    values = np.round(draw.lognormal(3, 0.8, 200) * draw.choice([1, 1, -1, 0], 200), 2)
    encoder = FeatureEncoder.fit("n", Feature(type="number", scale=scale), pl.Series(values))
    trained = encoder.encode_column(pl.Series(values))
    served = encoder.encode_tensor(tf.constant(values, tf.float32), None)
    np.testing.assert_allclose(served.numpy(), trained, rtol=1e-5, atol=1e-5)
    known = trained[trained[:, 1] == 0, 0]
    np.testing.assert_allclose([known.mean(), known.std()], [0, 1], atol=1e-5)


def test_absurd_number_is_bounded_alike_in_training_and_graph():
    import tensorflow as tf

    values = [1e30, -1e30, 1e6]
    encoder = FeatureEncoder.fit("n", Feature(type="number"), pl.Series([1.0, 2.0, 3.0]))
    trained = encoder.encode_column(pl.Series(values))
    np.testing.assert_array_equal(trained[:, 0], [10.0, -10.0, 10.0])
    np.testing.assert_array_equal(encoder.encode_tensor(tf.constant(values), None), trained)


@pytest.mark.parametrize("bad", [INF, -INF, NAN])
def test_encode_tensor_of_number_that_is_not_finite_is_unknown(bad: float):
    import tensorflow as tf

    for encoder in (NUMBER, LOG):
        assert encoder.encode_tensor(tf.constant([bad]), None).numpy().tolist() == [[0.0, 1.0]]
    assert VECTOR.encode_tensor(tf.constant([[bad, 2.0]]), None).numpy().tolist() == [[0.0, 2.0]]


def test_lookup_without_vocabulary_knows_nothing():
    import tensorflow as tf

    from tfrec.recommender import _lookup

    encoder = FeatureEncoder("c", "category")
    served = encoder.encode_tensor(tf.constant(["", "a"]), _lookup([], []))
    assert served.numpy().tolist() == encoder.encode_column(pl.Series(["", "a"])).tolist() == [0, 0]


# Learning


@pytest.mark.parametrize(
    ("min_count", "expected"), [(1, ["a", "b", "c"]), (2, ["a", "b"]), (3, ["b"]), (4, [])]
)
@pytest.mark.parametrize("kind", ["category", "category_list"])
def test_fit_of_category_leaves_out_rare_values(kind: Any, min_count: int, expected: list[str]):
    values = ["b", "a", "b", "c", "a", "b", "", "", "", "", None]
    column = pl.Series([None if v is None else [v] for v in values] if "list" in kind else values)
    encoder = FeatureEncoder.fit("c", Feature(type=kind, min_count=min_count), column)
    assert encoder.vocabulary == expected


def test_fit_of_category_does_not_depend_on_order():
    values = ["b", "a", "c", "a", "é", "B"]
    fitted = [
        FeatureEncoder.fit("c", Feature(type="category"), pl.Series(order))
        for order in (values, values[::-1], sorted(values))
    ]
    assert fitted[0] == fitted[1] == fitted[2]
    assert fitted[0].vocabulary == ["B", "a", "b", "c", "é"]


@pytest.mark.parametrize(
    ("values", "mean", "std"),
    [
        ([1.0, 3.0], 2.0, 1.0),
        ([1.0, None, 3.0, 0.0, 0.0], 2.0, 1.0),  # 0 is unknown
        ([5.0, 5.0], 5.0, 1.0),  # a constant
        ([None, None], 0.0, 1.0),
        ([], 0.0, 1.0),
        ([0.0], 0.0, 1.0),
    ],
)
def test_fit_of_number_measures_known_values(values: list, mean: float, std: float):
    column = pl.Series(values, dtype=pl.Float64)
    encoder = FeatureEncoder.fit("n", Feature(type="number"), column)
    assert (encoder.mean, encoder.std) == (mean, std)


def test_fit_of_number_on_log_scale_measures_scaled_values():
    # log(1 + x) is 1 and 3, so the mean is 2 and the deviation 1.
    column = pl.Series([np.e - 1, np.e**3 - 1])
    encoder = FeatureEncoder.fit("n", Feature(type="number", scale="log"), column)
    np.testing.assert_allclose([encoder.mean, encoder.std], [2.0, 1.0])
    assert encoder.scale == "log"


@pytest.mark.parametrize(
    ("values", "size"), [([None, [1.0, 2.0, 3.0]], 3), ([None], 0), ([], 0), ([[1.0]], 1)]
)
def test_fit_of_vector_learns_its_length(values: list, size: int):
    encoder = FeatureEncoder.fit("v", Feature(type="vector"), pl.Series(values, dtype=FLOATS))
    assert encoder.size == size
    assert encoder.encode_column(pl.Series([[4.0] * size, None], dtype=FLOATS)).shape == (2, size)


def test_vector_unseen_in_training_is_left_out():
    encoder = FeatureEncoder.fit("v", Feature(type="vector"), pl.Series([None], dtype=FLOATS))
    later = pl.Series([[1.0, 2.0], None], dtype=FLOATS)
    assert encoder.encode_column(later).shape == (2, 0)


# Rows of the unknown, frames, storage


@pytest.mark.parametrize(
    ("encoder", "expected"),
    [
        (CATEGORY, [0]),
        (LIST, [[0]]),
        (NUMBER, [[0.0, 1.0]]),
        (LOG, [[0.0, 1.0]]),
        (VECTOR, [[0.0, 0.0]]),
        (FeatureEncoder("v", "vector", size=0), [[]]),
    ],
)
def test_unknown_row_is_what_a_null_becomes(encoder: FeatureEncoder, expected: list):
    assert encoder.unknown_row().tolist() == expected


FRAME = pl.DataFrame(
    {
        "c": ["b", None],
        "l": [["a", "b"], []],
        "n": [5.0, None],
        "v": pl.Series([[1.0, 2.0], None], dtype=FLOATS),
    }
)


def test_encode_frame_with_unknown_row_puts_it_first():
    encoders = [CATEGORY, LIST, NUMBER, VECTOR]
    without = encode_frame(encoders, FRAME, with_unknown_row=False)
    having = encode_frame(encoders, FRAME, with_unknown_row=True)
    assert list(having) == ["c", "l", "n", "v"]
    for name in having:
        np.testing.assert_array_equal(having[name][1:], without[name])
        assert having[name].dtype == without[name].dtype
    assert [having[name][0].tolist() for name in having] == [0, [0, 0], [0, 1], [0, 0]]


def test_encode_frame_of_no_rows_holds_the_unknown_only():
    encoded = encode_frame([CATEGORY, LIST, NUMBER, VECTOR], FRAME.clear(), with_unknown_row=True)
    assert {name: array.tolist() for name, array in encoded.items()} == {
        "c": [0],
        "l": [[0]],
        "n": [[0, 1]],
        "v": [[0, 0]],
    }


def test_fitted_encoders_survive_json():
    declared = {
        "c": Feature(type="category"),
        "l": Feature(type="category_list"),
        "n": Feature(type="number", scale="log"),
        "v": Feature(type="vector"),
    }
    fitted = fit_features(declared, FRAME)
    stored = json.loads(json.dumps([encoder.to_dict() for encoder in fitted]))
    assert [FeatureEncoder(**saved) for saved in stored] == fitted
    assert [encoder.name for encoder in fitted] == list(declared)
